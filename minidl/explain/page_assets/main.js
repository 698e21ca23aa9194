"use strict";
// The page as a whole: its two views, the choice of an image, the space bar.

const VIEWS = ["layer", "network"];
const narrow = matchMedia("(max-width: 1000px)");
let view = "";

function showView(name) {
  view = name;
  player.stop();
  runner.stop();
  for (const id of VIEWS) {
    byId(id).hidden = id !== name;
    byId(`tab-${id}`).setAttribute("aria-selected", id === name);
    byId(`tab-${id}`).tabIndex = id === name ? 0 : -1;
  }
  refresh();
}

// Everything that the view shows, drawn anew.
function refresh() {
  if (view === "network") showStep(network.step);
  else rebuild();
}

function chooseImage(n) {
  state.sample = n;
  selectImage(n);
  player.stop();
  state.filled = Infinity;
  refresh();
}

const selectImage = choices(byId("image-choice"), (value) => chooseImage(Number(value)));

// The first channel of an image, small; null where it is no image.
function thumbnail({ shape, values }) {
  if (!isMap(shape)) return null;
  const [, H, W] = shape, map = new PixelMap();
  map.canvas.setAttribute("aria-hidden", "true");
  map.draw({ rows: H, columns: W, value: (r, c) => values[r * W + c], scale: scaleOf(values.subarray(0, H * W)), width: 34 });
  return map.canvas;
}

function offerImages() {
  const host = byId("image-choice");
  host.replaceChildren();
  host.hidden = DATA.samples < 2;
  if (host.hidden) return;
  const pictures = given(DATA.pictures);
  for (let n = 0; n < DATA.samples; n++) {
    const name = DATA.labels ? DATA.labels[n] : `image ${n}`;
    host.append(element("button", { role: "radio", "data-value": n, "aria-label": name }, thumbnail(imageOf(pictures, n)) ?? name));
  }
  selectImage(state.sample);
}

// Maps know the colours and the width of the moment.
function redraw() {
  palette = null;
  byId("all-settings").open ||= !narrow.matches;
  offerImages();
  refresh();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let resizing = 0, widthBefore = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === widthBefore) return;   // on a phone the address bar comes and goes
  widthBefore = innerWidth;
  clearTimeout(resizing);
  resizing = setTimeout(redraw, 120);
});

document.addEventListener("keydown", (event) => {
  if (event.key !== " " || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.closest("button, input, select, textarea, summary, a")) return;
  event.preventDefault();
  if (view === "network") runner.toggle();
  else if (conv) player.toggle();
});

function start() {
  document.title = DATA.title;
  byId("subtitle").textContent = DATA.subtitle;
  byId("origin").textContent = DATA.origin;
  state.sample = DATA.first;
  byId("all-settings").open = !narrow.matches;
  offerImages();
  startExplorer();
  const tabs = byId("tab-layer").parentElement;
  tabs.hidden = DATA.network === null;
  if (DATA.network) startNetwork();
  for (const id of VIEWS) {
    byId(`tab-${id}`).addEventListener("click", () => showView(id));
    byId(`tab-${id}`).addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      const other = VIEWS[1 - VIEWS.indexOf(id)];
      showView(other);
      byId(`tab-${other}`).focus();
    });
  }
  setPreset(DATA.layers.length ? `own:${DATA.begin}` : "numbers");
  showView(DATA.start);
}

start();
