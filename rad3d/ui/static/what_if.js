// The diagnosis as sliders: what a person sets, and the press that writes the report again from it.

const ABSENT = 0.01, PRESENT = 0.99; // of the presets

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const percent = (share) => Math.round(100 * share);

/** A finding: its name, a slider with the threshold's mark, a number, and the way back. */
class Row {
  constructor(given, changed) {
    Object.assign(this, given);
    this.own = percent(this.probability);
    const name = this.label;
    const limits = { min: 0, max: 100, step: 1 };
    this.note = make("small");
    this.slider = make("input", { type: "range", ...limits, "aria-label": `${name}, percent` });
    this.number = make("input", { type: "number", ...limits, "aria-label": `${name}, percent as a number` });
    this.back = make("button", { type: "button", "aria-label": `Reset ${name}`, title: "Reset" }, "↺");
    const track = make("span", { class: "r3-track" }, this.slider);
    track.style.setProperty("--threshold", this.threshold);
    track.style.setProperty("--own", this.probability);
    this.element = make("li", {}, make("span", { class: "r3-name" }, name, this.note), track, this.number, this.back);
    for (const input of [this.slider, this.number]) {
      input.addEventListener("input", () => changed(this, Number(input.value), input));
    }
    this.number.addEventListener("change", () => this.show(this.set));
    this.back.addEventListener("click", () => { changed(this, this.own); this.slider.focus(); });
  }

  /** @param set probability that a person set, or undefined; @param typing a field to leave alone. */
  show(set, typing) {
    this.set = set;
    const value = set === undefined ? this.own : percent(set);
    for (const input of [this.slider, this.number]) if (input !== typing) input.value = value;
    this.slider.setAttribute("aria-valuetext", `${value} %${set === undefined ? "" : ", edited"}`);
    this.slider.style.setProperty("--at", value / 100);
    this.element.classList.toggle("present", (set ?? this.probability) >= this.threshold);
    this.element.classList.toggle("edited", set !== undefined);
    this.note.textContent = set === undefined ? "" : `edited, classifier ${this.own} %`;
    this.back.disabled = set === undefined;
  }
}

export function mount(element, props, watch, trigger) {
  const box = element.querySelector(".r3-what-if");
  let of = null, edits = {}, rows = [];

  const button = (text, act, attributes = {}) => {
    const made = make("button", { type: "button", class: "r3-button", ...attributes }, text);
    made.addEventListener("click", act);
    return made;
  };
  const isShown = () => Object.keys(props.value?.edits ?? {}).length > 0;
  function send() {
    trigger("submit", { edits });
    const report = document.querySelector("#report"), { top } = report.getBoundingClientRect();
    if (top < 0 || top > innerHeight / 2) report.scrollIntoView();
  }

  function refresh(typing) {
    for (const row of rows) row.show(edits[row.label], typing);
    const write = box.querySelector(".r3-write"), n = Object.keys(edits).length;
    write.disabled = !n && !isShown();
    write.textContent = n || !isShown() ? "Write the report again" : "Show the classifier’s report";
  }

  function changed(row, value, typing) {
    const set = Math.min(Math.max(Math.round(value), 0), 100);
    if (set === row.own || typing?.value === "") delete edits[row.label];
    else edits[row.label] = set / 100;
    refresh(typing);
  }

  /** Every finding as the classifier says, but those that it sees absent, and one present. */
  function only(label) {
    edits = {};
    for (const { label: name, probability, threshold } of rows) {
      const seen = probability >= threshold;
      if (name === label ? !seen : seen) edits[name] = name === label ? PRESENT : ABSENT;
    }
    refresh();
  }

  function classifiers() {
    edits = {};
    refresh();
    if (isShown()) send();
  }

  function build({ variant, listens }) {
    rows = props.value.rows.map((row) => new Row(row, changed));
    const chosen = make("select", { class: "r3-button", "aria-label": "Only this finding" },
      make("option", { value: "" }, "Only this one …"),
      ...rows.map(({ label }) => make("option", {}, label)));
    chosen.addEventListener("change", () => { if (chosen.value) only(chosen.value); chosen.value = ""; });
    const presets = make("div", { class: "r3-presets", role: "group", "aria-label": "Presets" },
      button("As the classifier says", classifiers), button("All negative", () => only()), chosen);
    const list = make("ul", {}, ...rows.map((row) => row.element));
    list.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.type === "number") send(); });
    const hint = listens
      ? `Set what the classifier should have said. ${variant} then writes the report again from it.`
      : `${variant} does not read the diagnosis. Try it: its report stays as it is.`;
    box.replaceChildren(
      make("summary", {}, "What if the classifier had said something else?"),
      make("p", {}, hint), presets, list, button("", send, { class: "r3-write" }));
  }

  function follow() {
    const { value } = props;
    const isSame = value?.of === of;
    box.hidden = !value?.of && !value?.reason;
    if (!isSame || !of) {
      of = value?.of;
      edits = { ...value?.edits };
      if (of) build(value);
      else {
        box.open = false;
        box.replaceChildren(make("summary", {}, "What if the classifier had said something else?"), make("p", {}, value?.reason ?? ""));
      }
    }
    if (of) refresh();
  }

  // The chart is hidden while the sliders are open, and must learn how wide it is afterwards.
  box.addEventListener("toggle", () => {
    window.dispatchEvent(new Event("resize"));
    if (box.open && of) trigger("expand");
  });
  watch("value", follow);
  follow();
}
