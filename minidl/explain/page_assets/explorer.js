"use strict";
// The explorer of one layer: its settings, and what follows from them. stage.js draws the maps, apart.js the sums.

const state = {
  preset: "", ...PLAIN, sample: 0, square: true, direction: "forward", gradient: "output",
  oc: 0, oh: 0, ow: 0,                        // the output pixel
  picked: "output", c: 0, h: 0, w: 0,         // backward: which map was pointed at, and the input pixel
  cg: 0, kh: 0, kw: 0,                        // or the weight
  filled: Infinity,                           // while playing: how many output pixels are there
};
let conv = null;   // the Convolution of the settings, or null where they do not fit
let flow = null;   // its Backward

const PAIRS = ["kernel", "stride", "dilation", "padding", "size"];
const NAMES = { kernel: "kernel size", stride: "stride", dilation: "dilation", padding: "padding", size: "input size" };

const ownLayer = () => (state.layer === null ? null : DATA.layers[state.layer]);

function currentSettings() {
  const own = state.source === "own" ? ownLayer().settings.size : state.size;
  return {
    H: own[0], W: own[1], C: state.C, OC: state.OC, kernel: state.kernel, stride: state.stride, dilation: state.dilation,
    groups: state.groups, mode: state.mode, padding: state.paddingKind === "number" ? state.padding : state.paddingKind,
  };
}

function hasOwnWeights({ C, OC, groups, kernel }) {
  if (state.weights !== "own") return false;
  const own = ownLayer().settings;
  return own.OC === OC && own.C / own.groups === C / groups && own.kernel[0] === kernel[0] && own.kernel[1] === kernel[1];
}

function isOwnLayer(settings) {
  const own = ownLayer()?.settings;
  if (!own || state.source !== "own" || !hasOwnWeights(settings) || state.flip || state.bias !== own.bias) return false;
  return ["C", "groups", "mode", "stride", "dilation", "padding"].every((name) => String(own[name]) === String(settings[name]));
}

function inputValues({ C, H, W }) {
  if (state.source !== "own") return madeInput(state.source, C, H, W);
  const image = imageOf(given(ownLayer().input), state.sample);
  return spreadChannels(image.values, image.shape, C);
}

function weightValues(settings) {
  const { C, OC, groups, kernel } = settings;
  if (hasOwnWeights(settings)) {
    const { weight, bias } = ownLayer();
    return [Float64Array.from(given(weight).values), bias === null ? new Float64Array(OC) : Float64Array.from(given(bias).values)];
  }
  const kind = state.weights === "own" ? "random" : state.weights;
  return [madeWeights(kind, OC, C / groups, ...kernel), madeBias(kind, OC)];
}

// Settings have changed: work out everything anew.
function rebuild() {
  const settings = currentSettings(), geometry = convGeometry(settings);
  conv = null;
  if (!geometry.problems.length) {
    const [w, b] = weightValues(settings);
    conv = new Convolution(settings, geometry, inputValues(settings), w, state.bias ? b : null, state.flip);
    const limit = (name, size) => { state[name] = Math.min(state[name], size - 1); };
    limit("oc", conv.OC); limit("oh", conv.OH); limit("ow", conv.OW);
    limit("c", conv.C); limit("h", conv.H); limit("w", conv.W);
    limit("cg", conv.CG); limit("kh", conv.KH); limit("kw", conv.KW);
  }
  writeControls(settings);
  writeCode(settings);
  showProblems(geometry.problems);
  if (conv) {
    writeFacts();
    showPlace();
  }
}

// grad_output of one output channel, by the loss that is chosen; while playing, only what has flowed so far.
function gradOutput(oc) {
  let grads;
  if (state.gradient === "output") grads = conv.plane(oc).slice();
  else if (state.gradient === "ones") grads = new Float64Array(conv.OH * conv.OW).fill(1);
  else {
    grads = new Float64Array(conv.OH * conv.OW);
    if (oc === state.oc) grads[state.oh * conv.OW + state.ow] = 1;
  }
  return grads;
}

// The place that is pointed at has changed: draw it and take it apart.
function showPlace() {
  if (state.direction === "backward") {
    const kept = new Map();
    flow = new Backward(conv, (oc) => {
      if (!kept.has(oc)) kept.set(oc, gradOutput(oc).map((value, i) => (i < state.filled ? value : 0)));
      return kept.get(oc);
    });
  }
  drawStage();
  takeApart();
  if (byId("tables").open) writeTables();
}

function pointAt(change) {
  player.stop();
  Object.assign(state, change, { filled: Infinity });
  showPlace();
}

// -- the settings

function writeControls(settings) {
  byId("preset").value = state.preset;
  byId("lesson").textContent = lessonText(state.preset);
  byId("in-channels").value = state.C;
  byId("out-channels").value = state.OC;
  byId("groups").value = state.groups;
  byId("bias").checked = state.bias;
  byId("square").checked = state.square;
  for (const name of PAIRS) {
    const values = name === "size" ? [settings.H, settings.W] : state[name];
    ["h", "w"].forEach((side, i) => {
      const field = byId(`${name}-${side}`);
      if (Number(field.value) !== values[i] || field.value === "") field.value = Number.isNaN(values[i]) ? "" : values[i];
      field.setAttribute("aria-label", state.square && i === 0 ? NAMES[name] : `${NAMES[name]}, ${i ? "columns" : "rows"}`);
      field.disabled = (name === "size" && state.source === "own") || (name === "padding" && state.paddingKind !== "number");
    });
    byId(`${name}-w`).hidden = state.square && name !== "size";
  }
  byId("padding-kind").value = state.paddingKind;
  byId("mode").value = state.mode;
  byId("source").value = state.source;
  byId("weights").value = state.weights;
  for (const id of ["source", "weights"]) byId(id).querySelector("[value=own]").hidden = state.layer === null;
  selectDirection(state.direction);
  selectFlip(state.flip ? "convolution" : "correlation");
  selectGradient(state.gradient);
  writeSettingsNote(settings);
}

function writeSettingsNote(settings) {
  const notes = [], own = ownLayer()?.settings;
  if (state.weights === "own" && !hasOwnWeights(settings)) {
    notes.push(`The layer's own weights are ${sizes([own.OC, own.C / own.groups, ...own.kernel])}; with these settings others are needed, so small numbers stand in.`);
  }
  if (state.source === "own" && settings.C > own.C) {
    notes.push(`The image has ${times(own.C, "channel")}; the others are copies of it, moved by two pixels each.`);
  }
  byId("settings-note").textContent = notes.join(" ");
}

function readControls() {
  const number = (id) => (byId(id).value === "" ? NaN : Number(byId(id).value));
  state.C = number("in-channels");
  state.OC = number("out-channels");
  state.groups = number("groups");
  state.bias = byId("bias").checked;
  state.square = byId("square").checked;
  for (const name of PAIRS) {
    if (name === "size" && state.source === "own") continue;
    const h = number(`${name}-h`);
    state[name] = [h, state.square && name !== "size" ? h : number(`${name}-w`)];
  }
  state.paddingKind = byId("padding-kind").value;
  state.mode = byId("mode").value;
  state.source = byId("source").value;
  state.weights = byId("weights").value;
}

// What a user would write in Python for these settings.
function writeCode({ C, OC, kernel, stride, padding, dilation, groups, mode, H, W }) {
  const pair = ([h, w]) => (h === w ? h : `(${h}, ${w})`);
  const parts = [C, OC, `kernel_size=${pair(kernel)}`];
  if (String(stride) !== "1,1") parts.push(`stride=${pair(stride)}`);
  if (typeof padding === "string") parts.push(`padding='${padding}'`);
  else if (String(padding) !== "0,0") parts.push(`padding=${pair(padding)}`);
  if (String(dilation) !== "1,1") parts.push(`dilation=${pair(dilation)}`);
  if (groups !== 1) parts.push(`groups=${groups}`);
  if (!state.bias) parts.push("bias=False");
  if (mode !== "zeros") parts.push(`padding_mode='${mode}'`);
  const shapes = conv ? `  # (${C}, ${H}, ${W}) → (${OC}, ${conv.OH}, ${conv.OW})` : "";
  byId("code").textContent = `nn.Conv2d(${parts.join(", ")})${shapes}`;
  byId("kind-note").textContent = state.flip
    ? "The convolution of mathematics turns the kernel by 180° before it slides it. Conv2d does not; a learned kernel comes out turned, and nothing is lost."
    : "What deep learning calls a convolution: the kernel lies on the window as it is. Mathematics calls this a cross-correlation.";
}

function showProblems(problems) {
  const host = byId("problems");
  host.hidden = !problems.length;
  byId("working").hidden = problems.length > 0;
  byId("play").disabled = byId("step").disabled = problems.length > 0;
  if (problems.length) player.stop();
  host.replaceChildren(...problems.map(({ what, formula, numbers, cure }) => element("div", { class: "problem" },
    element("h2", {}, what), element("p", { class: "rule" }, formula), element("p", { class: "rule numbers-in" }, numbers),
    element("p", {}, cure))));
}

// -- playing

// Moves the window on by one, from left to right and from top to bottom; whether there is more.
function nextWindow() {
  const last = conv.OH * conv.OW - 1, here = state.oh * conv.OW + state.ow;
  const next = here >= last || (state.filled === Infinity && player.playing) ? 0 : here + 1;
  Object.assign(state, { picked: "output", oh: Math.floor(next / conv.OW), ow: next % conv.OW });
  state.filled = player.playing && next < last ? next + 1 : Infinity;
  showPlace();
  return next < last;
}

const PAUSES = [900, 350, 120, 40], SPEEDS = ["slow", "normal", "fast", "very fast"];
const player = new Player(byId("play"), nextWindow, () => Math.max(PAUSES[byId("speed").value], calm.matches ? 500 : 0));

// -- listening

const selectDirection = choices(byId("direction"), (value) => {
  player.stop();
  Object.assign(state, { direction: value, picked: "output", filled: Infinity });
  rebuild();
});
const selectFlip = choices(byId("flip"), (value) => { state.flip = value === "convolution"; rebuild(); });
const selectGradient = choices(byId("gradient-choice"), (value) => { state.gradient = value; rebuild(); });
const selectChannel = choices(byId("output-channels"), (value) => chooseChannel(Number(value)));

function chooseChannel(oc) {
  state.oc = oc;
  if (state.picked !== "input") state.c = conv.firstChannel(oc) + state.cg;
  rebuild();
}

function setPreset(choice) {
  player.stop();
  const start = startFrom(choice);
  Object.assign(state, start, { preset: choice, filled: Infinity, picked: "output", oc: 0, oh: 0, ow: 0, layer: start.layer ?? state.layer });
  state.square = ["kernel", "stride", "dilation", "padding"].every((name) => state[name][0] === state[name][1]);
  const geometry = convGeometry(currentSettings());
  if (["own", "dot"].includes(state.source) && !geometry.problems.length) {
    state.oh = Math.floor(geometry.OH / 2);
    state.ow = Math.floor(geometry.OW / 2);
  }
}

function startExplorer() {
  const preset = byId("preset");
  const own = DATA.layers.map(({ path, text }, i) => element("option", { value: `own:${i}` }, `${path} (${text.split("(")[0]})`));
  const lessons = Object.entries(LESSONS).map(([value, [name]]) => element("option", { value }, name));
  if (own.length) preset.append(element("optgroup", { label: DATA.name }, ...own));
  preset.append(element("optgroup", { label: "Examples" }, ...lessons));
  preset.addEventListener("change", () => { setPreset(preset.value); rebuild(); });
  for (const [id, kinds, label] of [["source", INPUTS, "its own"], ["weights", WEIGHTS, "its own"]]) {
    byId(id).append(element("option", { value: "own" }, label),
      ...Object.entries(kinds).map(([value, [name]]) => element("option", { value }, name)));
  }
  byId("settings").addEventListener("input", (event) => {
    if (event.target === preset) return;
    player.stop();
    state.filled = Infinity;
    readControls();
    rebuild();
  });
  byId("step").addEventListener("click", () => { player.stop(); nextWindow(); });
  byId("speed").addEventListener("input", () => byId("speed").setAttribute("aria-valuetext", SPEEDS[byId("speed").value]));
  byId("tables").addEventListener("toggle", () => byId("tables").open && conv && writeTables());
}
