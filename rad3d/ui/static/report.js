// Copy and download of the report, in the browser: no report is written to the server's disk.

import { save } from "./save.js";

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy"); // where the page has no secure context
    area.remove();
    return copied;
  }
}

/** Says what stands behind the words that are pointed at, and lights their row of the chart. */
function trace(element, mark) {
  const line = element.querySelector(".r3-trace");
  if (!line) return;
  line.dataset.asked ??= line.textContent;
  line.textContent = mark ? mark.title : line.dataset.asked;
  const label = mark?.dataset.label;
  for (const name of document.querySelectorAll("#chart .annotation-text")) {
    name.classList.toggle("lit", Boolean(label) && name.textContent.replace(/^≠ /, "") === label);
  }
}

/** Tells a screen reader that a report is being written, and reads it once it is: words that come
 * one by one could not be followed. */
function announce(props, watch) {
  const line = document.querySelector("#announcement");
  let told = "";
  watch("value", () => {
    const { text, html } = props.value;
    const now = text || (html.includes('aria-busy="true"') ? "A report is being written." : "");
    if (now !== told) line.textContent = told = now;
  });
}

export function mount(element, props, watch) {
  announce(props, watch);
  watch("value", () => document.dispatchEvent(new Event("rad3d-report"))); // what was shown of another goes
  for (const [on, off] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
    element.addEventListener(on, ({ target }) => target.matches("mark") && trace(element, target));
    element.addEventListener(off, ({ target }) => target.matches("mark") && trace(element, null));
  }
  element.addEventListener("click", async ({ target }) => {
    const button = target.closest("[data-report]");
    const report = props.value;
    if (!button || !report?.text) return;
    if (button.dataset.report === "txt") save(`${report.name}.txt`, "text/plain", report.text);
    if (button.dataset.report === "json") save(`${report.name}.json`, "application/json", report.json);
    if (button.dataset.report !== "copy") return;
    const done = await copy(report.text);
    button.textContent = done ? "Copied" : "Copy failed";
    setTimeout(() => (button.textContent = "Copy"), 1600);
  });
}
