"use strict";

// What a cell sorts by: its first number in a column of numbers, or where it is nothing but a number; else its text.
function keyOf(cell) {
  const text = cell.textContent.trim();
  const found = /^\[?([-+]?(\d[\d,]*\.?\d*|\.\d+)(e[-+]?\d+)?)/i.exec(text);
  const isNumber = found && (cell.classList.contains("number") || found[0].length === text.length);
  return isNumber ? Number(found[1].replaceAll(",", "")) : text;
}

// Numbers before words; cells without either stay at the end, whichever way the others go.
function compare(one, other, up) {
  if (one === "" || other === "") return (one === "") - (other === "");
  if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
  const order = typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true });
  return up ? order : -order;
}

function sort(table, column, head) {
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [keyOf(row.cells[column]), row]);
  rows.sort(([one], [other]) => compare(one, other, up));
  body.append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table")) {
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, column, head));
  });
}

// A link to something inside a closed part opens it; on paper everything is open.
function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();

let closed = [];
addEventListener("beforeprint", () => {
  closed = Array.from(document.querySelectorAll("details:not([open])"));
  for (const each of closed) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of closed) each.open = false;
});
