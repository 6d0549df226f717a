"use strict";
const value = (cell) => {
  const text = cell.firstChild ? cell.firstChild.textContent.trim() : "";
  const number = parseFloat(text.replaceAll("\u2212", "-"));
  return Number.isNaN(number) ? text : number;
};

// Missing values stay last; numbers come before text.
const compare = (a, b) => {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number") return -1;
  if (typeof b === "number") return 1;
  return a.localeCompare(b);
};

const sortBy = (table, column, descending) => {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [value(row.cells[column]), row]);
  const known = rows.filter(([key]) => key !== "\u2013" && key !== "");
  const missing = rows.filter(([key]) => key === "\u2013" || key === "");
  known.sort((a, b) => (descending ? compare(b[0], a[0]) : compare(a[0], b[0])));
  body.append(...known.concat(missing).map(([, row]) => row));
};

for (const table of document.querySelectorAll(".scroll > table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBy(table, column, descending);
    });
  });
  table.addEventListener("mouseover", (event) => {
    const cell = event.target.closest("td");
    if (!cell || cell.title) return;
    const names = [...cell.parentElement.querySelectorAll("th")].map((name) => name.textContent);
    const lines = [...cell.childNodes].map((line) => line.textContent.trim());
    cell.title = `${names.join(", ")}: ${heads[cell.cellIndex].textContent} ${lines.join(" ")}`;
  });
}

const hint = () => {
  for (const box of document.querySelectorAll(".scroll")) {
    box.classList.toggle("more", box.scrollWidth > box.clientWidth + 1);
  }
};
addEventListener("resize", hint);
addEventListener("toggle", hint, true);
hint();

const open = () => {
  const section = location.hash && document.getElementById(location.hash.slice(1));
  const fold = section && section.querySelector(":scope > details");
  if (fold) fold.open = true;
};
addEventListener("hashchange", open);
open();
