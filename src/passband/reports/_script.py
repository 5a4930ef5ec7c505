"""The page's only script: heads of sortable tables become buttons. Without it the tables are read as they are."""

import base64
import hashlib

SCRIPT = """
"use strict";
const NEXT = {none: "ascending", ascending: "descending", descending: "none"};
function compare(column, sign) {
  return (first, second) => {
    const [a, b] = [first, second].map(row => row.cells[column].dataset.sort);
    if (a === "" || b === "") return (a === "") - (b === "");
    const [x, y] = [Number(a), Number(b)];
    return sign * (isNaN(x) || isNaN(y) ? a.localeCompare(b, "en", {numeric: true}) : x - y);
  };
}
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], given = [...body.rows], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = NEXT[head.getAttribute("aria-sort") || "none"];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order !== "none") head.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      body.append(...(order === "none" ? given : [...body.rows].sort(compare(column, sign))));
    });
  });
}
"""
# The policy of the page allows this text and no other.
SOURCE = f"'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'"
