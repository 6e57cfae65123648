"use strict";

/** The number that a cell stands for, or its text where it is none. */
function valueOf(cell) {
  const given = cell.dataset.value ?? cell.textContent.trim();
  const number = parseFloat(given.replaceAll(",", "").replace("−", "-"));
  return Number.isNaN(number) ? given.toLowerCase() : number;
}

/** Empty cells and dashes come last, whichever way a table is sorted. */
function compare(a, b, direction) {
  const [missingA, missingB] = [a, b].map((value) => value === "–" || value === "");
  if (missingA || missingB) return missingA - missingB;
  if (typeof a === "number" && typeof b === "number") return direction * (a - b);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return direction * a.localeCompare(b, "en", { numeric: true });
}

function sort(header) {
  const table = header.closest("table");
  const column = [...header.parentNode.children].indexOf(header);
  const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of header.parentNode.children) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [valueOf(row.cells[column]), row]);
  keyed.sort((a, b) => compare(a[0], b[0], direction));
  body.append(...keyed.map(([, row]) => row));
}

for (const header of document.querySelectorAll("th")) header.addEventListener("click", () => sort(header));

const form = document.querySelector(".filters");
const rows = [...document.querySelectorAll("#all tbody tr")];

function filter() {
  const words = form.querySelector("[type=search]").value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = [...form.querySelectorAll("select")].filter((select) => select.value);
  const metric = chosen.some((select) => select.dataset.filter === "metric");
  const headline = form.querySelector("[data-headline]").checked && !metric;
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden =
      !words.every((word) => text.includes(word)) ||
      !chosen.every((select) => row.dataset[select.dataset.filter] === select.value) ||
      (headline && !("head" in row.dataset));
    shown += !row.hidden;
  }
  form.querySelector("output").textContent = shown ? `${shown} of ${rows.length} rows` : "no row fits: choose less";
}

for (const change of ["input", "change"]) form.addEventListener(change, filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(filter));
filter();

// A link into a folded part unfolds it.
addEventListener("hashchange", () => document.querySelector(location.hash)?.querySelector("details")?.setAttribute("open", ""));
