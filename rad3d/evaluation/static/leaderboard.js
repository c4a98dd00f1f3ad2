// Sorts a leaderboard by the pressed column, systems, baselines and ablations apart, and leads from a system's
// name to its cases.

const value = (row, column) => {
  const cell = row.cells[column];
  if (cell.dataset.value === undefined) return cell.textContent.trim();
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
};

function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null); // unknown ones stay last
  const order = typeof a === "string" ? a.localeCompare(b) : a - b;
  return sign * order;
}

function sort(header) {
  const table = header.closest("table");
  const turned = header.ariaSort === "ascending" ? "descending" : "ascending";
  const next = header.ariaSort === "none" ? header.dataset.first : turned;
  for (const other of table.tHead.rows[0].cells) other.ariaSort = "none";
  header.ariaSort = next;
  const sign = next === "ascending" ? 1 : -1;
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains("r3-rule"));
    rows.sort((a, b) => compare(value(a, header.cellIndex), value(b, header.cellIndex), sign));
    body.append(...rows);
  }
}

export function mount(element, trigger) {
  element.addEventListener("click", ({ target }) => {
    const header = target.closest("thead th");
    if (header) sort(header);
    const fold = target.closest("[data-fold]");
    if (fold) {
      const folded = fold.closest("tbody").classList.toggle("folded");
      fold.ariaExpanded = String(!folded);
    }
    const { system } = target.closest("[data-system]")?.dataset ?? {};
    if (system) trigger("select", { system, set: "", label: "" });
  });
}
