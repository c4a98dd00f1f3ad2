// Models beside each other: which are picked, the press that compares them, and what they write.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const FEWEST = 2;
const SETTLED_MS = 400; // by then a page that has just been opened has its height

export function mount(element, props, watch, trigger) {
  const box = element.querySelector(".r3-versus");
  const result = make("div", { class: "r3-compared" });
  const told = make("small", { role: "status" });
  let picked = new Set(), isOwn = false, asked = 0, scan = null, html = null, wasRunning = false;

  const button = (text, act, attributes = {}) => {
    const made = make("button", { type: "button", class: "r3-button", ...attributes }, text);
    made.addEventListener("click", act);
    return made;
  };

  async function copyLink() {
    const link = new URL(location.pathname, location.href);
    link.search = `compare=${[...picked].join(",")}${props.value.sample ? `&sample=${props.value.sample}` : ""}`;
    try {
      await navigator.clipboard.writeText(link.href);
      told.textContent = "The link is copied. It holds no scan of yours.";
    } catch {
      told.textContent = link.href;
    }
  }

  const start = button("Compare", () => trigger("submit", { variants: [...picked] }), { class: "r3-go" });
  const stop = button("Cancel", () => trigger("stop"));
  const link = button("Copy link", copyLink);

  const boxes = new Map(); // id of a variant -> its checkbox
  const models = props.models.map(({ name, modes }) => make("fieldset", {}, make("legend", {}, name),
    ...modes.map(({ id, name: mode }) => {
      const tick = make("input", { type: "checkbox", value: id, "aria-label": `${name}, ${mode}` });
      tick.addEventListener("change", () => {
        isOwn = true;
        if (tick.checked) picked.add(id);
        else picked.delete(id);
        refresh();
      });
      boxes.set(id, tick);
      return make("label", {}, tick, mode);
    })));

  box.append(
    make("summary", {}, make("h2", {}, "Compare models on this scan")),
    make("p", {}, `Pick ${FEWEST} to ${props.most} models. They write at the same time, from the same scan and the same diagnosis.`),
    make("div", { class: "r3-models-offered" }, ...models),
    make("div", { class: "r3-versus-run" }, start, stop, link, told),
    result);

  function refresh() {
    const isRunning = Boolean(props.value?.running), n = picked.size;
    for (const [id, tick] of boxes) {
      tick.checked = picked.has(id);
      tick.disabled = n >= props.most && !tick.checked;
    }
    start.disabled = isRunning || n < FEWEST;
    stop.disabled = !isRunning;
    link.disabled = n < FEWEST;
    start.textContent = isRunning ? "Comparing …" : n < FEWEST ? "Pick two models" : `Compare ${n} models`;
    told.textContent = n >= props.most ? "No more than these can be compared at once." : "";
  }

  function follow() {
    const { value } = props;
    box.hidden = !value?.scan;
    if (!value?.scan) return;
    if (value.asked !== asked) isOwn = false;
    if (!isOwn) picked = new Set(value.picked);
    if (value.asked !== asked) {
      asked = value.asked;
      box.open = true;
      setTimeout(() => box.scrollIntoView({ block: "start" }), SETTLED_MS);
    }
    if (value.html !== html) {
      const at = result.querySelector(".r3-beside")?.scrollLeft; // of a phone that was swiped
      result.innerHTML = html = value.html;
      if (at) result.querySelector(".r3-beside").scrollLeft = at;
    }
    if (value.scan !== scan || value.running !== wasRunning) {
      if (value.scan === scan && wasRunning) document.querySelector("#announcement").textContent = "The comparison has ended.";
      [scan, wasRunning] = [value.scan, value.running];
    }
    refresh();
  }

  watch("value", follow);
  follow();
}
