// Download buttons: the server answers with the file itself, which is saved from the page, so that
// no file of one person ever lies where another could fetch it.

import { save } from "./save.js";

export function mount(element, props, watch, trigger) {
  const host = element.querySelector(".r3-downloads");
  for (const { kind, name, hint } of props.kinds) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: name, title: hint });
    button.dataset.kind = kind;
    button.addEventListener("click", () => {
      button.disabled = true;
      trigger("select", { kind });
    });
    host.append(button);
  }
  let serial = props.value?.serial;
  watch("value", () => {
    for (const button of host.children) button.disabled = false;
    if (!props.value || props.value.serial === serial) return;
    serial = props.value.serial;
    const { name, type, data } = props.value;
    if (data) save(name, type, Uint8Array.from(atob(data), (c) => c.charCodeAt(0)));
  });
}
