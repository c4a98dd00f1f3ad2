// The report as a draft that a person revises in the page. What is typed goes to the server whenever
// it is quiet, so that what the draft says of the diagnosis follows, and nothing typed is lost.

const QUIET_MS = 600, TICK_MS = 250, ANSWER_MS = 4000;

const MARKUP = `<div class="r3-draft">
  <label>Revise the report<textarea rows="8" maxlength="20000" spellcheck="true"></textarea></label>
  <div class="r3-actions"><button type="button" data-draft="done">Done</button><button type="button"
  data-draft="original">Original text</button><button type="button" data-draft="discard">Discard
  changes</button><span role="timer"></span></div></div>`;

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

export class Draft {
  #quiet = 0;
  #sent;

  /**
   * @param sheet the report's card, whose text the draft stands in for.
   * @param given `of`, `text`, `original` and `seconds` of the report that is revised.
   * @param send receives `of`, `text`, `seconds` and whether the person is `done`.
   */
  constructor(sheet, given, send) {
    Object.assign(this, { sheet, given, send, seconds: given.seconds });
    this.#sent = given.text;
    sheet.classList.add("r3-revising");
    sheet.querySelector(".r3-text").insertAdjacentHTML("afterend", MARKUP);
    this.box = sheet.querySelector(".r3-draft");
    this.area = this.box.querySelector("textarea");
    this.area.value = given.text;
    this.area.addEventListener("input", () => this.#typed());
    this.box.addEventListener("click", ({ target }) => this.#press(target.dataset.draft));
    this.box.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#press("done");
    });
    this.timer = setInterval(() => this.#tick(), TICK_MS);
    this.#tick();
    this.area.focus();
    this.area.setSelectionRange(0, 0);
  }

  get text() {
    return this.area.value.trim();
  }

  get isChanged() {
    return this.text !== this.given.text;
  }

  get isOpen() {
    return this.box.isConnected;
  }

  /** Only time counts in which the person could see the draft. */
  #tick() {
    if (!this.isOpen) return this.#stop();
    const now = performance.now();
    if (document.visibilityState === "visible") this.seconds += (now - (this.at ?? now)) / 1000;
    this.at = now;
    this.box.querySelector("[role=timer]").textContent = `Time: ${clock(this.seconds)}`;
  }

  #stop() {
    clearInterval(this.timer);
    clearTimeout(this.#quiet);
  }

  #typed() {
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => this.isOpen && this.#tell(false), QUIET_MS);
  }

  #tell(done) {
    const { text } = this;
    if (!text || (!done && text === this.#sent)) return;
    this.#sent = text;
    this.send({ of: this.given.of, text, seconds: this.seconds, done });
  }

  #press(what) {
    if (what === "original") {
      this.area.value = this.given.original;
      this.#typed();
    }
    if (what === "discard") {
      this.area.value = this.given.text;
      this.seconds = this.given.seconds;
    }
    if (what !== "done" && what !== "discard") return;
    if (!this.text) return void this.area.focus();
    clearTimeout(this.#quiet);
    this.#tell(true);
    if (this.isChanged) this.#wait();
    else this.close();
  }

  /** The answer replaces the sheet. Where none comes, or a refusal, the text stays to be copied. */
  #wait() {
    const done = this.box.querySelector('[data-draft="done"]');
    this.isSaving = true;
    done.disabled = true;
    done.textContent = "Saving …";
    setTimeout(() => {
      this.isSaving = done.disabled = false;
      done.textContent = "Done";
    }, ANSWER_MS);
  }

  /** Shows the report again as it was. */
  close() {
    this.isClosed = true;
    this.#stop();
    this.box.remove();
    this.sheet.classList.remove("r3-revising");
    this.sheet.querySelector('[data-report="revise"]').focus();
  }
}
