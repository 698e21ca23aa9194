"use strict";
// The three maps of the explorer: input, kernel, output; backward their gradients. Drawn for the place in `state`.

const MOST_PLANES = 12;   // channels that are drawn side by side
const LOSSES = {
  output: "grad_output is the output itself.",
  ones: "grad_output is 1 everywhere.",
  pixel: "grad_output is 1 at the pixel that is pointed at, 0 elsewhere.",
};
const stageMaps = { key: "", inputs: [], kernels: [], output: null };

const backward = () => state.direction === "backward";

function drawStage() {
  const inputs = shownChannels(conv.C, conv.firstChannel(state.oc)), kernels = shownChannels(conv.CG, 0);
  const key = `${state.direction} ${inputs} ${kernels}`;
  if (stageMaps.key !== key) buildStage(key, inputs, kernels);
  writeTitles(inputs.length);
  stageMaps.inputs.forEach((entry) => drawInput(entry));
  stageMaps.kernels.forEach((entry) => drawKernel(entry));
  drawOutput();
}

// The channels that are drawn: all, or where they are many those from `first` on.
function shownChannels(channels, first) {
  const start = channels <= MOST_PLANES ? 0 : Math.min(first, channels - MOST_PLANES);
  return Array.from({ length: Math.min(channels, MOST_PLANES) }, (_, i) => start + i);
}

function buildStage(key, inputs, kernels) {
  stageMaps.key = key;
  stageMaps.inputs = inputs.map((c) => {
    const map = backward() ? new PickMap("", (h, w) => pointAtInput(c, h, w)) : new PixelMap("");
    return { c, map, figure: plane(map, conv.C > 1 ? `c = ${c}` : "") };
  });
  stageMaps.kernels = kernels.map((cg) => {
    const map = backward() ? new PickMap("", (kh, kw) => pointAt({ picked: "weight", cg, kh, kw })) : new PixelMap("");
    return { cg, map, figure: plane(map, "") };
  });
  fill("inputs", stageMaps.inputs, conv.C);
  fill("kernels", stageMaps.kernels, conv.CG);
  stageMaps.output = new PickMap("", (oh, ow) => pointAt({ picked: "output", oh, ow }));
  byId("output").replaceChildren(stageMaps.output.canvas);
}

// On the padded input the arrow keys and the mouse only stop at pixels of the input.
function pointAtInput(c, ph, pw) {
  const inside = (p, before, size) => Math.min(Math.max(p - before, 0), size - 1);
  pointAt({ picked: "input", c, h: inside(ph, conv.top, conv.H), w: inside(pw, conv.left, conv.W) });
}

const plane = (map, name) => element("div", { class: "plane" }, map.canvas, name ? element("span", { class: "muted" }, name) : null);

function fill(id, entries, channels) {
  const host = byId(id), more = channels - entries.length;
  const across = entries.length === 1 ? 1 : entries.length <= 4 || id === "kernels" ? 2 : 3;
  host.style.setProperty("--across", id === "kernels" && entries.length <= 4 ? 1 : across);
  host.replaceChildren(...entries.map(({ figure }) => figure));
  if (more) host.append(element("p", { class: "note" }, `and ${times(more, "more channel")}`));
}

function writeTitles(planes) {
  const of = (name) => (backward() ? `grad_${name}` : name);
  const frame = conv.paddedH > conv.H || conv.paddedW > conv.W ? ` in a frame: ${conv.paddedH} × ${conv.paddedW}` : "";
  byId("input-title").textContent = of("input");
  byId("input-shape").textContent = ` ${sizes([conv.C, conv.H, conv.W])}${frame}`;
  byId("kernel-title").textContent = of("weight");
  byId("kernel-shape").textContent = ` [${state.oc}]${state.flip ? ", turned" : ""}`;
  byId("output-title").textContent = of("output");
  byId("output-shape").textContent = ` ${sizes([conv.OC, conv.OH, conv.OW])}`;
  byId("flow").classList.toggle("backward", backward());
  byId("loss").hidden = !backward();
  byId("loss-note").textContent = LOSSES[state.gradient];
  byId("apart-title").textContent = backward() ? "One gradient, taken apart" : "One number, taken apart";
}

// The room for a map: its part of the figure.
const roomIn = (map) => () => map.canvas.parentElement.clientWidth || 100;

function windowFrames() {
  const rows = windowLines(state.oh, conv.sides[0]), columns = windowLines(state.ow, conv.sides[1]);
  const frames = [{ r: rows[0], c: columns[0], rows: conv.sides[0].span, columns: conv.sides[1].span, kind: "window" }];
  if (Math.max(...conv.dilation) > 1) {
    frames.push(...rows.flatMap((r) => columns.map((c) => ({ r, c, kind: "tap" }))));
  }
  return frames;
}

function drawInput({ c, map, figure }) {
  const used = conv.inGroup(c, state.oc);
  figure.classList.toggle("unused", !used && !(backward() && state.picked === "input"));
  const values = backward() ? flow.inputPlane(c) : null;
  const at = (r, col) => (backward() ? paddedGrad(values, r, col) : conv.padded(c, r, col));
  const frames = [{ r: conv.top, c: conv.left, rows: conv.H, columns: conv.W, kind: "edge" }];
  if (backward() && state.picked === "input") {
    if (c === state.c) frames.push({ r: conv.top + state.h, c: conv.left + state.w, kind: "window" });
  } else if (used) {
    frames.push(...(state.picked === "weight" && backward() ? [] : windowFrames()));
  }
  map.place = [conv.top + state.h, conv.left + state.w];
  map.draw({
    rows: conv.paddedH, columns: conv.paddedW, value: at, padding: (r, col) => conv.isPadding(r, col), frames,
    scale: scaleOf(backward() ? values : planeOf(c)), width: roomIn(map),
  });
  const name = backward() ? "grad_input" : "input";
  map.canvas.setAttribute("aria-label", `${name}, channel ${c}, ${times(conv.H, "row")}, ${times(conv.W, "column")}`
    + `${conv.paddedH > conv.H || conv.paddedW > conv.W ? `, with padding ${conv.paddedH} by ${conv.paddedW}` : ""}`
    + `${used ? "" : ", not in the group of this output channel"}`);
}

const planeOf = (c) => conv.x.subarray(c * conv.H * conv.W, (c + 1) * conv.H * conv.W);

// The frame has no gradient of its own: what flows there is lost (zeros) or belongs to the pixel that was copied.
function paddedGrad(values, r, c) {
  return conv.isPadding(r, c) ? 0 : values[(r - conv.top) * conv.W + c - conv.left];
}

function drawKernel({ cg, map }) {
  const values = backward() ? flow.kernelGrad(state.oc, cg)
    : Float64Array.from({ length: conv.KH * conv.KW }, (_, i) => conv.weight(state.oc, cg, Math.floor(i / conv.KW), i % conv.KW));
  const frames = backward() && state.picked === "weight" && cg === state.cg ? [{ r: state.kh, c: state.kw, kind: "window" }] : [];
  map.place = [state.kh, state.kw];
  map.draw({
    rows: conv.KH, columns: conv.KW, value: (r, c) => values[r * conv.KW + c], frames, most: 34,
    scale: backward() ? scaleOf(values) : weightScale(), width: roomIn(map),
  });
  map.canvas.setAttribute("aria-label", `${backward() ? "gradient of the kernel" : "kernel"} of output channel ${state.oc} for input channel `
    + `${conv.firstChannel(state.oc) + cg}, ${conv.KH} by ${conv.KW}`);
}

function weightScale() {
  return { ...scaleOf(conv.w), signed: true };
}

function drawOutput() {
  const { output } = stageMaps, grads = backward() ? flow.grad(state.oc) : null;
  const values = grads ?? conv.plane(state.oc);
  const frames = [];
  if (backward() && state.picked === "input") {
    const group = Math.floor(state.c / conv.CG) === Math.floor(state.oc / conv.OCG);
    if (group) frames.push(...lookingPixels().map(([r, c]) => ({ r, c, kind: "tap" })));
  } else if (!(backward() && state.picked === "weight")) {
    frames.push({ r: state.oh, c: state.ow, kind: "window" });
  }
  output.place = [state.oh, state.ow];
  output.draw({
    rows: conv.OH, columns: conv.OW, value: (r, c) => values[r * conv.OW + c], frames, scale: scaleOf(values),
    blank: (r, c) => !backward() && r * conv.OW + c >= state.filled, width: () => byId("output").clientWidth,
  });
  output.canvas.setAttribute("aria-label", `${backward() ? "grad_output" : "output"}, channel ${state.oc}, ${times(conv.OH, "row")}, `
    + `${times(conv.OW, "column")}; the arrow keys move the window`);
}

// The output pixels whose windows hold the input pixel that was pointed at.
function lookingPixels() {
  const found = new Map();
  for (const [oh] of flow.rowLookers[state.h]) {
    for (const [ow] of flow.columnLookers[state.w]) found.set(oh * conv.OW + ow, [oh, ow]);
  }
  return [...found.values()];
}

// -- what depends on the settings alone

function writeFacts() {
  writeThumbs();
  writeAgreement();
  byId("derivation").replaceChildren(...conv.sides.map(derivationList));
  writeCount();
}

function writeThumbs() {
  const host = byId("output-channels"), most = Math.min(conv.OC, 32);
  host.hidden = conv.OC === 1;
  const focused = host.contains(document.activeElement);
  host.replaceChildren(...(conv.OC === 1 ? [] : Array.from({ length: most }, (_, oc) => {
    const map = new PixelMap(), values = conv.plane(oc);
    map.canvas.setAttribute("aria-hidden", "true");
    map.draw({ rows: conv.OH, columns: conv.OW, value: (r, c) => values[r * conv.OW + c], scale: scaleOf(values), width: 40, most: 8 });
    return element("button", { role: "radio", "data-value": oc, "aria-label": `output channel ${oc}` }, map.canvas, String(oc));
  })));
  if (conv.OC > most) host.append(element("p", { class: "note" }, `and ${times(conv.OC - most, "more channel")}`));
  selectChannel(state.oc);
  if (focused) host.querySelector("[aria-checked=true]")?.focus();
}

// Where the page shows a layer that minidl has computed too, both are compared.
function writeAgreement() {
  const note = byId("agreement");
  note.textContent = "";
  if (!isOwnLayer(currentSettings())) return;
  const theirs = imageOf(given(ownLayer().output), state.sample).values;
  let largest = 0;
  for (let oc = 0; oc < conv.OC; oc++) {
    const ours = conv.plane(oc);
    for (let i = 0; i < ours.length; i++) largest = Math.max(largest, Math.abs(ours[i] - theirs[oc * ours.length + i]));
  }
  note.dataset.value = largest;
  note.textContent = `minidl computed this layer too: the largest difference is ${shown(largest)}.`;
}

function derivationList(side) {
  const lines = derivation(side).flatMap(([left, right], i, all) => [
    element("dt", {}, left || "="), element("dd", { class: i === all.length - 2 ? "answer" : null }, right)]);
  return element("div", { class: "side" }, element("h3", {}, side.names.name[0].toUpperCase() + side.names.name.slice(1)),
    element("dl", { class: "derivation" }, ...lines));
}

// "6 kernels or 18?": a row per output channel, a column per input channel, a kernel where they are connected.
function writeCount() {
  const { OC, C, CG, KH, KW } = conv, kernels = OC * CG, bias = conv.b ? OC : 0;
  byId("kernels-title").textContent = CG > 1 ? `${OC} kernels or ${kernels}?` : `How many kernels?`;
  const each = CG > 1 ? ` × ${CG} kernels each = ${kernels} kernels` : `, one kernel each: ${times(kernels, "kernel")}`;
  const why = CG > 1
    ? `Both are said. ${OC} counts the filters: each makes one output channel. But a filter has a kernel of its own for each of the ${CG} input channels that it sees, and adds up what they give.`
    : "Each filter sees a single input channel and makes one output channel.";
  byId("count").replaceChildren(
    element("p", { class: "answer-line" }, `${times(OC, "filter")}${each} of ${KH} × ${KW}`),
    element("p", {}, why, C === CG ? "" : ` With groups = ${conv.groups}, it sees ${CG} of ${C}.`),
    kernelMatrix(),
    element("p", { class: "note" }, `weight ${sizes([OC, CG, KH, KW])}: ${kernels * KH * KW} numbers`
      + `${bias ? `, bias ${sizes([OC])}: ${bias}` : ", no bias"}; ${kernels * KH * KW + bias} parameters, `
      + `${(kernels * KH * KW * conv.OH * conv.OW).toLocaleString("en")} multiplications for one image.`),
  );
}

function kernelMatrix() {
  const most = 16, rows = Math.min(conv.OC, most), columns = Math.min(conv.C, most), scale = weightScale();
  const room = rows <= 6 ? 42 : rows <= 10 ? 30 : 20;
  const head = element("tr", {}, element("td"), ...Array.from({ length: columns }, (_, c) => element("th", { scope: "col" }, `c ${c}`)));
  const body = Array.from({ length: rows }, (_, oc) => {
    const line = element("tr", { class: oc === state.oc ? "chosen" : null });
    line.append(element("th", { scope: "row" }, element("button", {
      class: "link", onclick: () => chooseChannel(oc), "aria-pressed": oc === state.oc, "aria-label": `filter ${oc}`,
    }, `filter ${oc}`)));
    for (let c = 0; c < columns; c++) line.append(element("td", {}, conv.inGroup(c, oc) ? kernelPicture(oc, c, scale, room) : "·"));
    return line;
  });
  const left = conv.OC > rows || conv.C > columns ? element("caption", {}, `the first ${rows} × ${columns} of ${conv.OC} × ${conv.C}`) : null;
  return element("div", { class: "scroll" }, element("table", { class: "matrix" }, left, element("thead", {}, head), element("tbody", {}, ...body)));
}

function kernelPicture(oc, c, scale, room) {
  const map = new PixelMap(`kernel of filter ${oc} for channel ${c}`), cg = c - conv.firstChannel(oc);
  return map.draw({ rows: conv.KH, columns: conv.KW, value: (r, col) => conv.weight(oc, cg, r, col), scale, width: room, most: room / Math.max(conv.KH, 3) }).canvas;
}
