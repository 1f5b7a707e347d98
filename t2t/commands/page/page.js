"use strict";
// All that the page runs. Whatever comes from data is set as text, never as markup; without scripts the page is whole.

// Tables of class "sorts": a click on a column's head sorts by it, a second one turns the order round.
function value(row, column) {
  const text = row.children[column].dataset.value ?? row.children[column].textContent.trim();
  const number = Number(text.replace(/[,%]/g, "").replace("\u2212", "-"));
  return text === "" || text === "\u2013" ? null : Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en");
}

function sort(table, head, column) {
  const down = head.getAttribute("aria-sort") === "descending";
  // Names go up first, numbers down: the largest ones are what people look for.
  const first = head.classList.contains("n") ? -1 : 1;
  const way = head.hasAttribute("aria-sort") ? (down ? 1 : -1) : first;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].filter((row) => !row.classList.contains("stays"));
  const keyed = rows.map((row) => [value(row, column), row]);
  // What has no value stands last, either way.
  keyed.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : way * compare(a, b)));
  body.prepend(...keyed.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sorts")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, head, column));
    head.append(button);
  });
}

// A box that leaves only the rows in which its words stand.
for (const table of document.querySelectorAll("table[data-search]")) {
  const box = document.createElement("input");
  box.type = "search";
  box.placeholder = table.dataset.search;
  box.setAttribute("aria-label", table.dataset.search);
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/);
    for (const row of table.tBodies[0].rows) {
      const text = row.cells[0].textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
  table.parentElement.before(box);
}

// Pictures with data-hover: a line at the place under the mouse (or by the arrow keys), and what each curve has there.
function answer(picture) {
  const told = JSON.parse(picture.dataset.hover);
  const svg = picture.querySelector("svg");
  const make = (name) => svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
  const line = make("line");
  const dots = told.lines.map(() => make("circle"));
  const tip = picture.appendChild(document.createElement("div"));
  const width = svg.viewBox.baseVal.width;
  let at = -1;
  line.setAttribute("class", "cursor");
  line.setAttribute("y1", told.top);
  line.setAttribute("y2", told.bottom);
  tip.className = "tip";
  tip.setAttribute("role", "status");

  function show(place) {
    at = Math.max(0, Math.min(told.x.length - 1, place));
    line.setAttribute("x1", told.x[at]);
    line.setAttribute("x2", told.x[at]);
    const title = document.createElement("strong");
    title.textContent = told.titles[at];
    tip.replaceChildren(title);
    told.lines.forEach((curve, index) => {
      const y = curve.y[at];
      dots[index].setAttribute("r", y === null ? 0 : 3.5);
      dots[index].setAttribute("cx", told.x[at]);
      dots[index].setAttribute("cy", y ?? 0);
      dots[index].style.fill = curve.colour;
      if (!curve.text[at]) return;
      const row = tip.appendChild(document.createElement("span"));
      const mark = row.appendChild(document.createElement("i"));
      mark.style.background = curve.colour;
      row.append(`${curve.text[at]}  ${curve.name}`);
    });
    picture.classList.add("asked");
    // Beside the line, on the side that has more room.
    const x = (told.x[at] / width) * svg.clientWidth;
    const left = x > svg.clientWidth / 2 ? Math.max(0, x - tip.offsetWidth - 12) : x + 12;
    tip.style.transform = `translate(${left}px, 0)`;
  }

  function hide() {
    picture.classList.remove("asked");
    at = -1;
  }

  function follow(event) {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    let nearest = 0;
    told.x.forEach((place, index) => {
      if (Math.abs(place - x) < Math.abs(told.x[nearest] - x)) nearest = index;
    });
    show(nearest);
  }

  picture.tabIndex = 0;
  picture.addEventListener("pointermove", follow);
  picture.addEventListener("pointerdown", follow);
  picture.addEventListener("pointerleave", hide);
  picture.addEventListener("blur", hide);
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (step === undefined) return;
    event.preventDefault();
    show(at < 0 ? 0 : at + step * Math.ceil(told.x.length / 50));
  });
}

document.querySelectorAll("[data-hover]").forEach(answer);
