"use strict";
function save(name, text, kind) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
function sortBy(table, column) {
  const head = table.tHead.rows[0].cells[column];
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const numeric = head.classList.contains("n");
  const rows = Array.from(table.tBodies[0].rows);
  rows.sort((a, b) => {
    const x = a.cells[column].dataset.key, y = b.cells[column].dataset.key;
    if (x === "" || y === "") return (x === "") - (y === "");
    return (numeric ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
  });
  table.tBodies[0].append(...rows);
}
function asCsv(table) {
  const quote = (text) => (/[",\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text);
  return Array.from(table.rows, (row) => Array.from(row.cells, (cell) => quote(cell.textContent.trim())).join(",")).join("\n") + "\n";
}
for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => sortBy(table, column));
  });
  const csv = table.querySelector("button.csv");
  csv.addEventListener("click", () => save(csv.dataset.name, asCsv(table), "text/csv"));
}
document.getElementById("all-data").addEventListener("click", () => {
  save(JSON.parse(document.getElementById("data").textContent).name + ".json", document.getElementById("data").textContent, "application/json");
});
