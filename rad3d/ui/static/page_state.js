// Hands the newest snapshot of what a tab shows over to its components.
//
// Answers of the server may come late and in any order. Each holds everything that was shown at its
// time, and a number: the highest one counts, and a component is set only where its value differs.
// Two answers that come at once may leave the older one as the value, so as soon as it is quiet the
// page asks whether there is a newer one than it has.

const QUIET_MS = 700;

export function mount(element, props, watch, trigger) {
  let newest = { serial: 0, values: {} };
  let timer = 0;
  const shown = new Map(); // name of a component -> its value as JSON

  function changed(name) {
    const text = JSON.stringify(newest.values[name]);
    if (text === undefined || shown.get(name) === text) return undefined; // leaves it as it is
    shown.set(name, text);
    return JSON.parse(text);
  }

  function follow() {
    const { value } = props;
    clearTimeout(timer);
    if (!value?.values || value.serial === newest.serial) return;
    if (value.serial > newest.serial) {
      newest = value;
      trigger("select");
    }
    timer = setTimeout(() => trigger("submit", { serial: newest.serial }), QUIET_MS);
  }

  element.querySelector(".r3-state").pageState = { take: () => props.names.map(changed) };
  watch("value", follow);
  follow();
}
