"use strict";
const controls = document.querySelector(".controls");
const fields = ["method", "metric", "shot", "protocol"].map((name) => controls.elements[name]);

function filter() {
  const [method, metric, shot, protocol] = fields.map((field) => field.value.toLowerCase());
  for (const row of document.querySelectorAll("tr[data-method]")) {
    const { method: name, metric: ownMetric, main, shot: ownShot, protocol: ownProtocol } = row.dataset;
    const fits = metric === "main" ? main === "yes" : !metric || ownMetric === metric;
    const asked = fits && (!shot || ownShot === shot) && (!protocol || ownProtocol === protocol);
    row.hidden = !(name.toLowerCase().includes(method) && asked);
  }
  for (const section of document.querySelectorAll("section[data-protocol]")) {
    section.hidden = Boolean(protocol) && !section.dataset.protocol.split(" ").includes(protocol);
  }
}

function sortBy(button) {
  const head = button.closest("th");
  const descending = head.getAttribute("aria-sort") === "ascending";
  const column = [...head.parentNode.children].indexOf(head);
  const body = head.closest("table").tBodies[0];
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if ((x === "") !== (y === "")) return x === "" ? 1 : -1; // without a value: last, whichever the order
    const order = x !== "" && !isNaN(x) && !isNaN(y) ? x - y : x.localeCompare(y);
    return descending ? -order : order;
  };
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  body.append(...[...body.rows].sort(compare));
}

function makeButton(text, label, action) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.setAttribute("aria-label", label);
  button.addEventListener("click", () => action(button));
  return button;
}

async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(code); // a page from a file may not write to the clipboard
    button.textContent = "selected: press Ctrl-C";
  }
}

for (const head of document.querySelectorAll("table.sortable thead th")) {
  const text = head.textContent;
  head.replaceChildren(makeButton(text, `sort by ${text}`, sortBy));
}
for (const code of document.querySelectorAll(".commands code")) {
  code.after(" ", makeButton("copy", `copy the command of ${code.dataset.row}`, (button) => copy(code, button)));
}
for (const entry of document.querySelectorAll(".legend li")) {
  const line = document.getElementById(entry.dataset.line);
  const button = makeButton("", `show ${entry.textContent}`, () => {
    const shown = line.style.display === "none";
    line.style.display = shown ? "" : "none";
    button.setAttribute("aria-pressed", shown);
  });
  button.setAttribute("aria-pressed", true);
  button.append(...entry.childNodes);
  entry.append(button);
}
for (const field of fields) field.addEventListener("input", filter);
controls.addEventListener("submit", (event) => event.preventDefault());
controls.elements.metric.value = "main";
controls.elements.shot.value = "all";
controls.hidden = false;
filter();
