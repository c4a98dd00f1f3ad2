// Copy, download and revision of the report: none is written to the server's disk.

import { Draft } from "./draft.js";
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

const FILES = {
  txt: ["txt", "text/plain", (report) => report.text],
  json: ["json", "application/json", (report) => report.json],
  fhir: ["fhir.json", "application/fhir+json", (report) => report.fhir],
  page: ["html", "text/html", page], // made by the server, which has the scan
};

async function page() {
  const viewer = document.querySelector(".r3-viewer").viewer;
  return (await viewer.ask("rad3d/page")).text();
}

/** Does what a button of the report says; its text tells how that went. */
async function press(button, report) {
  const name = button.textContent;
  const say = (text) => {
    button.textContent = text;
    setTimeout(() => (button.textContent = name), 1600);
  };
  if (button.dataset.report === "copy") return say((await copy(report.text)) ? "Copied" : "Copy failed");
  const [ending, type, make] = FILES[button.dataset.report];
  button.disabled = true;
  try {
    save(`${report.name}.${ending}`, type, await make(report));
  } catch (error) {
    document.querySelector("#announcement").textContent = error.message;
    say("Failed");
    button.title = error.message;
  }
  button.disabled = false;
}

/** Shows a text whose report has gone from the server, until the person lets it go. */
function keepText(element, text, drop) {
  element.querySelector(".r3-unsaved")?.remove();
  const box = document.createElement("section");
  box.className = "r3-card r3-draft r3-unsaved";
  box.innerHTML = `<label>The report that you revised is not open any more. Your text:<textarea
    rows="6" readonly></textarea></label><div class="r3-actions"><button type="button">Copy</button><button
    type="button">Close</button></div>`;
  const [copies, closes] = box.querySelectorAll("button");
  box.querySelector("textarea").value = text;
  copies.addEventListener("click", () => copy(text));
  closes.addEventListener("click", () => (drop(), box.remove()));
  element.append(box);
}

const REPLACES = "#generate, #anyway, .r3-sample";
/** What begins another report, or opens another scan. */

export function mount(element, props, watch, trigger) {
  let draft = null, unsaved = "";
  announce(props, watch);
  watch("value", () => {
    document.dispatchEvent(new Event("rad3d-report")); // what was shown of another goes
    if (draft?.isSaving) setTimeout(() => element.querySelector('[data-report="revise"]')?.focus());
    else if (draft && !draft.isClosed && draft.isChanged) unsaved = draft.text;
    draft = null;
    if (unsaved) setTimeout(() => keepText(element, unsaved, () => (unsaved = "")));
  });
  for (const [on, off] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
    element.addEventListener(on, ({ target }) => target.matches("mark") && trace(element, target));
    element.addEventListener(off, ({ target }) => target.matches("mark") && trace(element, null));
  }
  const isRevised = () => draft?.isOpen || (props.value.draft ?? {}).text !== (props.value.draft ?? {}).original;
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.(REPLACES) || !isRevised()) return;
    if (!confirm("The report that you revised will be gone. Go on?")) event.stopPropagation();
  }, true);
  window.addEventListener("beforeunload", (event) => isRevised() && event.preventDefault());
  element.addEventListener("click", ({ target }) => {
    const button = target.closest("[data-report]");
    const report = props.value;
    if (!button || !report?.text) return;
    if (button.dataset.report !== "revise") return void press(button, report);
    if (draft?.isOpen) draft.close();
    else if (report.draft) draft = new Draft(element.querySelector(".r3-report"), report.draft, (sent) => trigger("submit", sent));
  });
}
