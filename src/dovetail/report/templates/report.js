"use strict";
(() => {
  const table = document.getElementById("all"), body = table.tBodies[0], rows = [...body.rows];
  const text = document.getElementById("filter"), fate = document.getElementById("fate"), shown = document.getElementById("shown");

  const filter = () => {
    const wanted = text.value.toLowerCase();
    let n = 0;
    for (const row of rows) {
      const keep = (!fate.value || row.dataset.fate === fate.value) && row.textContent.toLowerCase().includes(wanted);
      row.hidden = !keep;
      n += keep;
    }
    shown.textContent = `${n} of ${rows.length} shown`;
  };
  text.addEventListener("input", filter);
  fate.addEventListener("change", filter);
  filter();

  // An unknown value (empty data-v) stays last in both directions.
  const compare = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const numbers = a !== undefined && !isNaN(a) && !isNaN(b);
    return sign * (numbers ? a - b : String(a).localeCompare(String(b)));
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
    rows.sort((a, b) => compare(value(a), value(b), sign));
    body.append(...rows);
  }));

  const tip = document.getElementById("tip");
  for (const title of document.querySelectorAll(".plot g > title, .plot text > title")) {
    const mark = title.parentNode, words = title.textContent;
    mark.setAttribute("aria-label", words);
    title.remove();
    mark.addEventListener("mousemove", (event) => {
      tip.textContent = words;
      tip.hidden = false;
      const left = Math.min(event.pageX + 14, scrollX + document.documentElement.clientWidth - tip.offsetWidth - 8);
      tip.style.left = `${Math.max(scrollX + 8, left)}px`;
      tip.style.top = `${event.pageY + 16}px`;
    });
    mark.addEventListener("mouseleave", () => { tip.hidden = true; });
  }
})();
