// The page of a reader study: one report after the other, its answers, and the time it was in view.
//
// The secret of the study, and behind a dot the reader's code, stand in the address's fragment,
// which goes to no server by itself. Nothing is stored in the browser.

import { Viewer } from "./viewer.js";

const ROOT = new URL("./", document.baseURI);
const SECTIONS = ["welcome", "reading", "paused", "finished"];
const find = (id) => document.getElementById(id);
const form = find("answers");

let [secret, code] = key();
let study = null;
let screen = null; // what is shown, as the server described it
let viewer = null;
let openCase = 0; // whose scan the viewer shows or is loading
let opened = 0;

function key() {
  const [first = "", second = ""] = location.hash.slice(1).replace(/[^\w.-]/g, "").split(".");
  return [first, second];
}

function address() {
  return `#${secret}${code && `.${code}`}`;
}

// -- time in view ----------------------------------------------------------------------------

const clock = {
  total: 0,
  since: null,
  restart() {
    this.total = 0;
    this.since = null;
    this.follow();
  },
  /** Runs while a report is in view, and at no other time. */
  follow() {
    const now = performance.now();
    if (this.since !== null) this.total += now - this.since;
    this.since = document.visibilityState === "visible" && !find("reading").hidden ? now : null;
  },
  get seconds() {
    this.follow();
    return this.total / 1000;
  },
};
document.addEventListener("visibilitychange", () => clock.follow());

// -- what is shown ---------------------------------------------------------------------------

function show(name) {
  for (const each of SECTIONS) find(each).hidden = each !== name;
  find("pause").hidden = name !== "reading";
  clock.follow();
}

function tell(problem) {
  find("problem").hidden = !problem;
  find("problem").textContent = problem;
}

/** The server's answer; rejects with its sentence. */
async function ask(path, sent) {
  const headers = { "X-Rad3d-Key": code ? `${secret}.${code}` : secret };
  const options = sent && { method: "POST", body: JSON.stringify(sent) };
  let response;
  try {
    response = await fetch(new URL(`read/${path}`, ROOT), { headers, cache: "no-store", ...options });
  } catch {
    throw new Error("The server cannot be reached. Your answers are still here: try again.");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const error = new Error(answer.problem ?? answer.detail ?? `The server answered ${response.status}. Try again.`);
  throw Object.assign(error, { code: answer.code });
}

function element(tag, text, ...children) {
  const made = document.createElement(tag);
  made.append(text, ...children);
  return made;
}

function fill(article, { name, parts }, note) {
  article.setAttribute("aria-label", name);
  article.replaceChildren(
    element("h2", name, element("small", note)),
    ...parts.flatMap(([heading, text]) => [element("h3", heading), element("p", text)]),
  );
}

function showScan() {
  find("viewer").hidden = Boolean(screen.reference);
  find("reference").hidden = !screen.reference;
  find("reference").lastElementChild.textContent = screen.reference;
  if (screen.reference) return;
  viewer ??= new Viewer(find("viewer"), {
    presets: JSON.parse(find("viewer").dataset.windows), root: ROOT, encoder: { id: "", name: "" },
  });
  find("viewer").viewer = viewer;
  if (openCase === screen.case && (viewer.source || viewer.loading)) return;
  openCase = screen.case;
  opened += 1;
  viewer.root = new URL(`read/${screen.position}/`, ROOT);
  viewer.update({ scan: opened, id: `case ${opened}`, key: `${secret}.${code}` });
}

/** Has the server read the scan of the next case, so that nobody waits for it. */
function prepareNext() {
  const next = screen.position + (study.per_case - (screen.position % study.per_case));
  if (next >= screen.total || screen.reference) return;
  const headers = { "X-Rad3d-Key": `${secret}.${code}` };
  fetch(new URL(`read/${next}/rad3d/geometry`, ROOT), { headers }).catch(() => {});
}

function showScreen(described) {
  screen = described;
  find("progress").textContent = `Report ${screen.position + 1} of ${screen.total} · case ${screen.case} of ${screen.cases}`;
  Object.assign(find("bar"), { max: screen.total, value: screen.done, hidden: false });
  fill(find("report"), screen.report, "to rate");
  find("before").hidden = !screen.before;
  if (screen.before) fill(find("before"), screen.before, "rated before");
  const preference = form.querySelector("[data-question=preference]");
  preference.hidden = !screen.before;
  preference.disabled = !screen.before;
  if (screen.before) {
    const names = [screen.before.name, "no difference", screen.report.name];
    preference.querySelector("small").textContent = "Which of the two reports on this scan is better?";
    preference.querySelectorAll("span").forEach((span, i) => span.lastChild.replaceWith(` ${names[i]}`));
  }
  form.reset();
  const { answer } = screen;
  const values = answer ? { ...answer.scores, preference: answer.preference } : {};
  for (const [name, value] of Object.entries(values)) {
    const radio = form.querySelector(`[name=${name}][value="${value}"]`);
    if (radio) radio.checked = true;
  }
  find("comment").value = answer?.comment ?? "";
  find("back").disabled = screen.position === 0;
  document.querySelectorAll(".reading-code").forEach((each) => each.replaceChildren(code));
  show("reading");
  clock.restart();
  showScan();
  prepareNext();
  mark();
  scrollTo(0, 0);
  find("report").focus({ preventScroll: true });
}

async function open(position, push = true) {
  const described = await ask(`screen/${position}`);
  if (described.finished) {
    find("progress").textContent = `All ${described.total} reports are rated`;
    Object.assign(find("bar"), { max: 1, value: 1, hidden: false });
    find("last").onclick = () => attempt(() => open(described.total - 1));
    show("finished");
    if (push) history.pushState({ position: "next" }, "", address());
    return;
  }
  if (push) history.pushState({ position: described.position }, "", address());
  showScreen(described);
}

// -- answers ---------------------------------------------------------------------------------

const questions = () => [...form.querySelectorAll("fieldset")].filter((each) => !each.hidden);
const isOpen = (fieldset) => !fieldset.querySelector(":checked");

/** The question that a digit answers: the one with the focus, or the first without an answer. */
function current() {
  const focused = document.activeElement.closest?.("#answers fieldset");
  return focused ?? questions().find(isOpen) ?? null;
}

function mark() {
  for (const each of questions()) each.classList.toggle("open", each === questions().find(isOpen));
}

function answerWith(digit) {
  const fieldset = current();
  const radio = fieldset?.querySelectorAll("input")[digit - 1];
  if (!radio) return;
  radio.checked = true;
  mark();
  const all = questions();
  const next = all.slice(all.indexOf(fieldset) + 1).find(isOpen) ?? all.find(isOpen);
  (next?.querySelector("input") ?? find("save")).focus();
}

async function save() {
  const missing = questions().find(isOpen);
  if (missing) {
    tell(`Not answered yet: ${missing.querySelector("legend").firstChild.textContent}.`);
    missing.querySelector("input").focus();
    return;
  }
  const given = new FormData(form);
  const scores = Object.fromEntries(questions().map(({ dataset }) => dataset.question)
    .filter((name) => name !== "preference").map((name) => [name, Number(given.get(name))]));
  const sent = {
    scores, preference: given.get("preference") ?? "", comment: given.get("comment"),
    seconds: clock.seconds, changes: screen.changes,
  };
  const { position } = screen;
  try {
    await ask(`screen/${position}`, sent);
  } catch (error) {
    if (error.code === "conflict") await open(position, false);
    throw error;
  }
  await open("next");
}

let busy = false;

/** Runs one step at a time and says what went wrong: a second press waits for nothing. */
async function attempt(step) {
  if (busy) return;
  busy = true;
  find("save").disabled = true;
  tell("");
  try {
    await step();
  } catch (error) {
    tell(error.message);
    if (error.code === "no_study") SECTIONS.forEach((each) => (find(each).hidden = true));
    if (error.code === "no_reader") welcome();
  }
  busy = false;
  find("save").disabled = false;
}

function onKey(event) {
  const { key: pressed, target } = event;
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || find("reading").hidden) return;
  if (target.closest("textarea, canvas, input:not([type=radio])")) return;
  if (/^[1-5]$/.test(pressed)) answerWith(Number(pressed));
  else if (pressed === "Enter" && !target.closest("button, a, summary")) attempt(save);
  else return;
  event.preventDefault();
}

// -- beginning and going on ------------------------------------------------------------------

function welcome() {
  code = "";
  find("amount").textContent = `There are ${study.total} reports on ${study.cases} scans.`;
  find("progress").textContent = "";
  show("welcome");
}

async function begin(known) {
  code = known || (await ask("join", {})).code;
  history.replaceState({ position: "next" }, "", address());
  await open("next", false);
  history.replaceState({ position: screen?.position ?? "next" }, "", address());
}

async function start() {
  [secret, code] = key();
  if (!secret) throw new Error("This page shows a reader study. Open the whole link that you were sent.");
  const known = code;
  code = "";
  openCase = 0;
  study = await ask("study");
  find("title").textContent = document.title = study.title;
  find("simulated").hidden = !study.simulated;
  if (known) await begin(known);
  else welcome();
}

find("begin").addEventListener("click", () => attempt(() => begin("")));
find("resume").addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = find("code").value.toUpperCase().replace(/[^\w-]/g, "");
  if (typed) attempt(() => begin(typed));
});
find("pause").addEventListener("click", () => {
  tell("");
  show("paused");
  find("unpause").focus();
});
find("unpause").addEventListener("click", () => show("reading"));
find("back").addEventListener("click", () => attempt(() => open(screen.position - 1)));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(save);
});
form.addEventListener("change", mark);
document.addEventListener("keydown", onKey);
addEventListener("popstate", ({ state }) => {
  if (state?.position !== undefined && code) attempt(() => open(state.position, false));
});
addEventListener("hashchange", () => {
  if (location.hash !== address()) attempt(start);
});
attempt(start);
