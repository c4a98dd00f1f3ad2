// A tour in three steps for who comes for the first time. Skipped or seen, it does not come back: one
// word in the browser says so, the only thing that this page leaves there.

const SEEN = "rad3d-tour";
const STEPS = [
  ["#report .r3-report:not(.empty)", "A finished example",
    "A sample scan, and the report that a model wrote on it. The bars are the classifier’s probabilities, which this model was given."],
  ["#source", "Your turn", "Choose a sample, whose card says what to try, or upload a chest CT. Nothing of it is kept after you leave."],
  [".r3-choice:has(#generate)", "Choose, generate, compare",
    "Pick a language model and how it was adapted, then press Generate. The Evaluation tab measures them all."],
];
const USED = "#generate, .r3-sample, .r3-drop, [role=tab]"; // who presses these needs no tour

class Tour {
  #at = -1;
  #target = null;

  constructor(card) {
    this.card = card;
    card.innerHTML = `<p class="r3-tour-text" role="status"><strong></strong><span></span></p>
      <p class="r3-tour-foot"><small></small><button type="button" data-tour="skip">Skip</button>
      <button type="button" data-tour="next"></button></p>`;
    card.addEventListener("click", ({ target }) => {
      if (target.dataset.tour === "next") this.next();
      if (target.dataset.tour === "skip") this.end();
    });
    this.onUse = ({ key, target }) => {
      if (key === "Escape" || (!key && target.closest(USED))) this.end();
    };
    for (const kind of ["keydown", "click"]) document.addEventListener(kind, this.onUse);
    this.next();
  }

  next() {
    this.#target?.classList.remove("r3-toured");
    const from = this.#at;
    do {
      this.#at += 1;
      this.#target = STEPS[this.#at] && document.querySelector(STEPS[this.#at][0]);
    } while (STEPS[this.#at] && !this.#target?.checkVisibility());
    if (!STEPS[this.#at]) return this.end();
    const [, title, text] = STEPS[this.#at];
    const last = this.#at === STEPS.length - 1;
    this.card.querySelector("strong").textContent = title;
    this.card.querySelector("span").textContent = text;
    this.card.querySelector("small").textContent = `${this.#at + 1} of ${STEPS.length}`;
    this.card.querySelector("[data-tour=next]").textContent = last ? "Done" : "Next";
    this.card.hidden = false;
    this.#target.classList.add("r3-toured");
    if (from >= 0) this.#target.scrollIntoView({ block: "nearest" });
  }

  end() {
    this.card.hidden = true;
    this.#target?.classList.remove("r3-toured");
    for (const kind of ["keydown", "click"]) document.removeEventListener(kind, this.onUse);
    localStorage.setItem(SEEN, "seen");
  }
}

/** Starts the tour once the page has its first answer, where the browser can keep that it was seen. */
export function mount(element) {
  try {
    if (localStorage.getItem(SEEN)) return;
  } catch {
    return; // it would come back each time
  }
  const timer = setInterval(() => {
    if (!document.querySelector(".r3-viewer")?.viewer?.state.key) return;
    clearInterval(timer);
    new Tour(element.querySelector(".r3-tour"));
  }, 400);
}
