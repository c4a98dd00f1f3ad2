// The list of cases: a press, or the arrow keys, chooses one; the chosen one stays in sight.

export function mount(element, watch, trigger) {
  const options = () => [...element.querySelectorAll("[data-case]")];
  let focused = false; // the list is drawn anew: whoever was in it stays in it
  const choose = (option) => {
    focused = true;
    trigger("select", { case: option.dataset.case });
  };
  element.addEventListener("click", ({ target }) => {
    const option = target.closest("[data-case]");
    if (option) choose(option);
  });
  element.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const next = options()[options().indexOf(document.activeElement) + step];
    if (!step || !next) return;
    event.preventDefault();
    next.focus();
  });
  const reveal = () => {
    const chosen = element.querySelector("[aria-selected=true]");
    const list = element.querySelector(".r3-cases");
    if (!chosen || !list) return;
    list.scrollTop = chosen.offsetTop - list.clientHeight / 2;
    if (focused) chosen.focus({ preventScroll: true });
    focused = false;
  };
  watch("value", () => requestAnimationFrame(reveal));
}
