"use strict";
// Maps drawn on canvas: colours by value, hatched padding, frames around windows, numbers where there is room.

let palette = null;   // set to null again when the colour scheme changes

// The colours of the style sheet, as [r, g, b].
function colours() {
  if (!palette) {
    const style = getComputedStyle(document.documentElement);
    palette = {};
    for (const name of ["surface", "ink", "muted", "line", "negative", "positive", "window"]) {
      const hex = style.getPropertyValue(`--${name}`).trim().slice(1);
      palette[name] = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
    }
  }
  return palette;
}

const css = ([r, g, b], alpha = 1) => `rgb(${r} ${g} ${b} / ${alpha})`;
const mixed = (from, to, share) => from.map((value, i) => Math.round(value + (to[i] - value) * share));

// How values become colours: {most, signed}. Without negative numbers 0 is paper and the largest value ink.
function scaleOf(values) {
  let most = 0, signed = false;
  for (const value of values) {
    if (Math.abs(value) > most && Number.isFinite(value)) most = Math.abs(value);
    if (value < 0) signed = true;
  }
  return { most: most || 1, signed };
}

function colourOf(value, scale) {
  const { surface, ink, negative, positive } = colours();
  const share = Math.min(Math.abs(value) / scale.most, 1) || 0;
  if (!scale.signed) return mixed(surface, ink, 0.88 * share);
  return mixed(surface, value < 0 ? negative : positive, share ** 0.8);
}

// Black or white, whichever stands out more: at least 4.5 to 1 on any colour.
function colourForText(background) {
  const [r, g, b] = background.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? [0, 0, 0] : [255, 255, 255];
}

const FONT = 'ui-sans-serif, system-ui, "Segoe UI", Roboto, Arial, sans-serif';

// A number in as few characters as a cell has room for.
function brief(value) {
  if (Number.isInteger(tidied(value)) || !Number.isFinite(value)) return shown(value);
  const text = Math.abs(value).toFixed(Math.abs(value) < 10 ? 2 : 0);
  return (value < 0 && Number(text) ? "−" : "") + text.replace(/^0\./, ".");
}

// One map on a canvas. `look` is {rows, columns, value(r, c), padding(r, c), blank(r, c), scale, frames, width, most}:
// frames are {r, c, rows, columns, kind: "window" | "tap" | "edge"}; width is the room in CSS pixels, most the largest cell.
class PixelMap {
  constructor(label) {
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    if (label) this.canvas.setAttribute("aria-label", label);
  }

  draw(look) {
    this.look = look;
    this.paint();
    return this;
  }

  // The cell under a pointer event, or null.
  at(event) {
    const box = this.canvas.getBoundingClientRect(), { rows, columns } = this.look;
    const r = Math.floor((event.clientY - box.top) / box.height * rows);
    const c = Math.floor((event.clientX - box.left) / box.width * columns);
    return r >= 0 && c >= 0 && r < rows && c < columns ? [r, c] : null;
  }

  paint() {
    const { rows, columns, width, most = 40 } = this.look;
    const room = typeof width === "function" ? width() : width;
    const ratio = devicePixelRatio || 1;
    const free = Math.min(room / columns, most);
    const cell = free >= 3 ? Math.floor(free * ratio) / ratio : free;
    const { canvas } = this;
    canvas.width = Math.round(columns * cell * ratio);
    canvas.height = Math.round(rows * cell * ratio);
    canvas.style.width = `${columns * cell}px`;
    canvas.style.height = `${rows * cell}px`;
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.paintCells(pen, cell);
    for (const frame of this.look.frames ?? []) this.paintFrame(pen, cell, frame);
  }

  paintCells(pen, cell) {
    const { rows, columns, value, padding, blank, scale } = this.look, { surface, line } = colours();
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    const size = this.textSize(pen, cell);
    pen.font = `${size}px ${FONT}`;
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        const isBlank = blank?.(r, c), number = value(r, c);
        const colour = isBlank ? surface : colourOf(number, scale);
        pen.fillStyle = css(colour);
        pen.fillRect(c * cell, r * cell, cell + 0.5, cell + 0.5);
        if (padding?.(r, c)) this.hatch(pen, c * cell, r * cell, cell);
        if (size && !isBlank) {
          pen.fillStyle = css(colourForText(colour), padding?.(r, c) ? 0.75 : 1);
          pen.fillText(brief(number), (c + 0.5) * cell, (r + 0.53) * cell);
        }
      }
    }
    if (cell >= 5) {
      pen.strokeStyle = css(line, cell < 10 ? 0.6 : 1);
      pen.lineWidth = 1;
      pen.beginPath();
      for (let r = 1; r < rows; r++) { pen.moveTo(0, r * cell); pen.lineTo(columns * cell, r * cell); }
      for (let c = 1; c < columns; c++) { pen.moveTo(c * cell, 0); pen.lineTo(c * cell, rows * cell); }
      pen.stroke();
    }
  }

  // The largest size at which every number fits into its cell, or 0 where one could not be read.
  textSize(pen, cell) {
    if (cell < 20) return 0;
    const { rows, columns, value } = this.look;
    pen.font = `10px ${FONT}`;
    let widest = 1;
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) widest = Math.max(widest, pen.measureText(brief(value(r, c))).width);
    }
    const size = Math.min(13, cell * 0.5, 10 * (cell - 3) / widest);
    return size < 8.5 ? 0 : size;
  }

  hatch(pen, x, y, cell) {
    pen.save();
    pen.beginPath();
    pen.rect(x, y, cell, cell);
    pen.clip();
    pen.strokeStyle = css(colours().muted, 0.45);
    pen.lineWidth = 1;
    pen.beginPath();
    const gap = cell > 14 ? 6 : Math.max(cell / 2, 3);
    for (let d = -cell; d < cell; d += gap) { pen.moveTo(x + d, y + cell); pen.lineTo(x + d + cell, y); }
    pen.stroke();
    pen.restore();
  }

  paintFrame(pen, cell, { r, c, rows = 1, columns = 1, kind }) {
    const { window, ink } = colours();
    const wide = kind === "window" ? Math.max(2, Math.min(3, cell / 5)) : cell < 14 ? 0.75 : 1.5;
    pen.lineWidth = wide;
    pen.strokeStyle = css(kind === "edge" ? ink : window);
    if (kind === "tap") {
      pen.fillStyle = css(window, 0.22);
      pen.fillRect(c * cell, r * cell, columns * cell, rows * cell);
    }
    if (kind === "edge") pen.setLineDash([3, 3]);
    const inset = kind === "edge" ? 0 : wide / 2;
    pen.strokeRect(c * cell + inset, r * cell + inset, columns * cell - 2 * inset, rows * cell - 2 * inset);
    pen.setLineDash([]);
  }
}

// A map that is pointed at with the mouse, a finger or the arrow keys. `picked(r, c)` is told.
class PickMap extends PixelMap {
  constructor(label, picked) {
    super(label);
    const { canvas } = this;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-roledescription", "map of pixels");
    canvas.tabIndex = 0;
    canvas.classList.add("pick");
    this.place = [0, 0];
    const point = (event) => {
      const cell = this.at(event);
      if (cell && (event.type === "pointerdown" || event.pointerType === "mouse")) picked(...cell);
    };
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("pointerdown", point);
    canvas.addEventListener("keydown", (event) => {
      const { rows, columns } = this.look, [r, c] = this.place;
      const to = {
        ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1],
        Home: event.ctrlKey ? [0, 0] : [r, 0], End: event.ctrlKey ? [rows - 1, columns - 1] : [r, columns - 1],
        PageUp: [0, c], PageDown: [rows - 1, c],
      }[event.key];
      if (!to || event.altKey || event.metaKey) return;
      event.preventDefault();
      picked(Math.min(Math.max(to[0], 0), rows - 1), Math.min(Math.max(to[1], 0), columns - 1));
    });
  }
}

// A bar up or down for each of many numbers. `look` is {columns, value(i), scale, width}; the place is [0, i].
class BarMap extends PickMap {
  paint() {
    const { columns, value, scale, width } = this.look, room = width(), height = 150;
    const ratio = devicePixelRatio || 1, { canvas } = this, { line, negative, positive, window } = colours();
    canvas.width = Math.round(room * ratio);
    canvas.height = height * ratio;
    canvas.style.width = `${room}px`;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d"), step = room / columns, chosen = this.place[1];
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const base = scale.signed ? height / 2 : height - 4, reach = scale.signed ? height / 2 - 4 : height - 8;
    pen.fillStyle = css(window, 0.22);
    pen.fillRect(chosen * step - 1, 0, Math.max(step, 1) + 2, height);
    pen.fillStyle = css(line);
    pen.fillRect(0, base, room, 1);
    for (let i = 0; i < columns; i++) {
      const long = value(i) / scale.most * reach;
      pen.fillStyle = css(long < 0 ? negative : positive);
      pen.fillRect(i * step, Math.min(base, base - long), Math.max(step > 4 ? step - 1 : step, 0.5), Math.abs(long));
    }
  }
}
