"use strict";
// Small parts of the page: elements, rows of choices, tables of numbers, the player.

const byId = (id) => document.getElementById(id);

// A new element: `attributes` are attributes, or with "on..." listeners; children are elements or texts.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

const times = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
const sizes = (shape) => `(${shape.join(", ")})`;

// A radiogroup of buttons with role radio in `host`: the arrow keys change the choice. Returns `select(value)`.
function choices(host, chosen) {
  const buttons = () => [...host.querySelectorAll("[role=radio]:not([hidden])")];
  host.addEventListener("click", (event) => {
    const button = event.target.closest("[role=radio]");
    if (button && host.contains(button)) chosen(button.dataset.value);
  });
  host.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.matches("[role=radio]")) return;
    event.preventDefault();
    const all = buttons(), next = all[(all.indexOf(event.target) + step + all.length) % all.length];
    chosen(next.dataset.value);
    [...host.querySelectorAll("[role=radio]")].find((button) => button.dataset.value === next.dataset.value)?.focus();
  });
  return (value) => {
    for (const button of host.querySelectorAll("[role=radio]")) {
      const is = button.dataset.value === String(value);
      button.setAttribute("aria-checked", is);
      button.tabIndex = is ? 0 : -1;
    }
  };
}

// A table of numbers, coloured by `scale`; cell(r, c) gives {value, padding, mark, text}.
function numberTable(caption, rows, columns, cell, scale, { heads = false, kind = "numbers" } = {}) {
  const body = element("tbody");
  let longest = 2;
  if (heads) {
    body.append(element("tr", {}, element("td"), ...Array.from({ length: columns }, (_, c) => element("th", { scope: "col" }, String(c)))));
  }
  for (let r = 0; r < rows; r++) {
    const line = element("tr");
    if (heads) line.append(element("th", { scope: "row" }, String(r)));
    for (let c = 0; c < columns; c++) {
      const look = cell(r, c);
      longest = Math.max(longest, shown(look.value).length);
      line.append(numberCell(look, scale));
    }
    body.append(line);
  }
  return element("table", { class: columns < 5 ? kind : `${kind} small`, style: `--digits:${longest}` }, element("caption", {}, caption), body);
}

function numberCell({ value, padding, mark, text }, scale) {
  const background = colourOf(value, scale);
  return element("td", {
    "data-value": value,
    class: [padding && "padding", mark && "mark"].filter(Boolean).join(" ") || null,
    style: `background-color:${css(background)};color:${css(colourForText(background))}`,
  }, text ?? shown(value), padding ? element("span", { class: "hidden" }, " padding") : null);
}

// A button that plays: `step()` moves on by one and returns whether there is more.
class Player {
  constructor(button, step, pause) {
    Object.assign(this, { button, step, pause, timer: 0 });
    button.addEventListener("click", () => this.toggle());
    this.stop();
  }

  get playing() { return this.timer !== 0; }

  toggle() {
    if (this.playing) this.stop();
    else this.go();
  }

  go() {
    this.timer = setTimeout(() => {
      if (this.step()) this.go();
      else this.stop();
    }, this.pause());
    this.button.setAttribute("aria-pressed", "true");
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.button.setAttribute("aria-pressed", "false");
  }
}

const calm = matchMedia("(prefers-reduced-motion: reduce)");
