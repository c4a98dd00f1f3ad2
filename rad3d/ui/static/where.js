// A press on a finding shows where in the scan the classifier found its evidence.
//
// Whatever has data-where="<label>" can be pressed, and so can the bar of that label in the chart.
// Pressed again, or with Escape, the region goes; another scan or another report removes it too.

import { OverlayPainter, makeOverlay } from "./overlay.js";

export const WHERE_MARKUP = `<div class="r3-where" hidden>
  <p role="status"><strong></strong> <span></span></p>
  <div class="r3-where-scale" aria-hidden="true"><i></i><small></small></div>
  <button type="button" aria-label="Hide the evidence">Hide</button>
  <small class="r3-where-how"></small></div>`;

const pressable = (label) => document.querySelectorAll(`[data-where="${CSS.escape(label)}"]`);

/** The label whose row of the chart lies under a pointer, if it can be pressed. */
function chartLabel(event) {
  if (!event.target.closest?.("#chart .js-plotly-plot")) return "";
  const rows = [...document.querySelectorAll("#chart .annotation-text")].filter((text) => !/^\d+ %$/.test(text.textContent));
  const tops = rows.map((text) => ({ name: text.textContent, top: text.getBoundingClientRect().top }));
  const above = tops.filter(({ top }) => top <= event.clientY).sort((a, b) => b.top - a.top)[0];
  const label = above?.name.replace(/^[≠∅] /, "").replace(/ · edited$/, "") ?? "";
  return label && pressable(label).length ? label : "";
}

export class Where {
  #ticket = 0;

  /** @param viewer offers element, state, source, ask, goTo and redraw; its overlay is set here. */
  constructor(viewer) {
    this.viewer = viewer;
    this.box = viewer.element.querySelector(".r3-where");
    this.label = "";
    this.box.querySelector("button").addEventListener("click", () => this.hide(true));
    document.addEventListener("click", (event) => this.#onClick(event));
    document.addEventListener("keydown", (event) => this.#onKey(event));
    document.addEventListener("rad3d-report", () => this.hide());
    document.addEventListener("pointermove", (event) => {
      const chart = event.target.closest?.("#chart");
      if (chart) chart.classList.toggle("r3-pressable", Boolean(chartLabel(event)));
    });
  }

  #onClick(event) {
    const target = event.target.closest?.("[data-where]");
    const label = target?.dataset.where ?? chartLabel(event);
    if (label) this.toggle(label, target);
  }

  #onKey(event) {
    const { key, target } = event;
    if (key === "Escape" && this.label) this.hide(true);
    else if ((key === "Enter" || key === " ") && target.matches?.("mark[data-where]")) {
      event.preventDefault(); // a mark is no button to the browser
      this.toggle(target.dataset.where, target);
    }
  }

  toggle(label, from = null) {
    if (label === this.label) this.hide();
    else this.#show(label, from);
  }

  /** @param returns whether the focus goes back to what was pressed. */
  hide(returns = false) {
    this.#ticket++;
    if (returns && this.box.contains(document.activeElement)) this.from?.focus();
    this.#press(false);
    this.label = "";
    this.box.hidden = true;
    this.viewer.overlay = null;
    this.viewer.redraw();
  }

  #press(isPressed) {
    for (const each of this.label ? pressable(this.label) : []) each.setAttribute("aria-pressed", String(isPressed));
  }

  async #show(label, from) {
    this.hide();
    const ticket = this.#ticket;
    this.label = label;
    this.from = from;
    this.#press(true);
    this.#tell(label, "is looked for …");
    this.box.scrollIntoView({ block: "nearest" });
    try {
      const query = new URLSearchParams({ label });
      const found = await (await this.viewer.ask(`rad3d/where?${query}`)).json();
      if (ticket === this.#ticket) this.#draw(found);
    } catch (error) {
      if (ticket === this.#ticket) this.#tell("", error.message);
    }
  }

  /** @param found the evidence that is shown, or null. */
  #tell(label, text, found = null) {
    const [line, scale, , how] = this.box.children;
    line.children[0].textContent = label;
    line.children[1].textContent = text;
    scale.hidden = !found;
    scale.lastElementChild.textContent = found ? `${Math.round(100 * found.threshold)} to 100 %` : "";
    how.textContent = found?.sentence ?? "";
    this.box.hidden = false;
  }

  #draw(found) {
    const overlay = makeOverlay(found);
    this.viewer.overlay = new OverlayPainter(overlay);
    this.viewer.goTo(overlay.peak);
    this.#tell(found.label, "Where the classifier found its evidence; not a segmentation.", found);
    this.viewer.element.querySelector(".r3-panes").scrollIntoView({ block: "nearest" });
  }
}
