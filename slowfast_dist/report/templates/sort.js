"use strict";
// Headers of sortable tables become buttons: they work by click and by keyboard.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const texts = [...body.rows].map((row) => [row, row.cells[column].textContent.trim()]);
      const value = (text) => parseFloat(text.replace(/,/g, ""));
      const numeric = texts.some(([, text]) => /^[-\d]/.test(text)) &&
        texts.every(([, text]) => text === "–" || text === "" || /^-?[\d.,]+(e[-+]\d+)?( |$|%)/.test(text));
      // Numbers begin with the greatest, words with A.
      const now = head.getAttribute("aria-sort");
      const order = now === "none" ? (numeric ? "descending" : "ascending")
        : now === "ascending" ? "descending" : "ascending";
      const sign = order === "ascending" ? 1 : -1;
      texts.sort(([, a], [, b]) => {
        if (!numeric) return sign * a.localeCompare(b, undefined, { numeric: true });
        const [x, y] = [value(a), value(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return sign * (x - y);
      });
      body.append(...texts.map(([row]) => row));
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", order);
    });
  });
}
