"use strict";
// The network, layer by layer: what each layer made of the image, all of it computed by minidl.

const network = { step: 0, channel: 0, row: Infinity, column: Infinity };   // the pixel: at first the middle
const MOST_MAPS = 64, MOST_LINES = 12;

const WORDS = {
  Conv2d: ({ shape, from }) => `${times(shape[0], "filter")} slide over ${times(from[0], "map")} and sum up: one new map each.`,
  ConvTranspose2d: ({ shape }) => `Every input pixel paints a kernel, times its value, into ${times(shape[0], "map")}.`,
  ReLU: () => "What is negative becomes 0; everything else stays as it is.",
  Tanh: () => "Every number is pressed into −1 to 1.",
  Sigmoid: () => "Every number is pressed into 0 to 1.",
  MaxPool2d: ({ window }) => `Of every window${window ? ` of ${window.kernel.join(" × ")}` : ""}, the largest number stays.`,
  AvgPool2d: ({ window }) => `Of every window${window ? ` of ${window.kernel.join(" × ")}` : ""}, the mean stays.`,
  BatchNorm2d: () => "Each channel is shifted and scaled by the mean and the spread that it had in training.",
  Dropout: () => "Only in training: there it sets some numbers to 0. Here nothing changes.",
  Flatten: ({ from, shape }) => `The maps ${sizes(from)} become one row of ${shape.join(" × ")} numbers: channel after channel, row after row.`,
  Linear: ({ from, shape }) => `Each of the ${shape.at(-1)} outputs is a weighted sum of all ${from.at(-1)} inputs, plus a bias.`,
  input: () => "The image as the network gets it.",
  between: () => "Computed between two layers, in the network's own forward.",
};

const isMap = (shape) => shape.length === 3;

function showStep(index) {
  const { steps } = DATA.network;
  network.step = Math.min(Math.max(index, 0), steps.length - 1);
  const step = steps[network.step], channels = isMap(step.shape) ? step.shape[0] : 1;
  if (network.channel >= Math.min(channels, step.kept ?? channels)) network.channel = 0;
  selectStep(network.step);
  const chosen = byId("step-list").children[network.step];
  const list = byId("step-list");
  list.scrollTo({ left: chosen.offsetLeft - list.clientWidth / 3, top: list.scrollTop });
  byId("step-title").textContent = step.path;
  const { from } = step;
  byId("step-text").textContent = WORDS[step.kind]?.(step) ?? "";
  const parameters = step.parameters ? `, ${step.parameters.toLocaleString("en")} parameters` : "";
  byId("step-code").textContent = step.kind === "input" ? `input  # ${sizes(step.shape)}` : `${step.text}  # ${sizes(from)} → ${sizes(step.shape)}${parameters}`;
  byId("step-open").hidden = step.layer === null;
  byId("back").disabled = network.step === 0;
  byId("forth").disabled = network.step === steps.length - 1;
  byId("step-note").textContent = step.note ?? "";
  const maps = isMap(step.shape);
  byId("step-bars").hidden = maps;
  byId("step-maps").hidden = byId("step-channels").hidden = byId("step-result").hidden = !maps;
  if (maps) showMaps(step, network.step ? steps[network.step - 1] : null);
  else showBars(step);
}

const stepValues = (step) => imageOf(given(step.values), state.sample);

// -- maps: all channels small, one of them large, and beside it the same channel one layer before

function showMaps(step, before) {
  const { shape, values } = stepValues(step), [C, H, W] = shape;
  const scale = scaleOf(values);
  const host = byId("step-channels");
  const focused = host.contains(document.activeElement);
  host.hidden = C === 1;
  host.replaceChildren(...Array.from({ length: Math.min(C, MOST_MAPS) }, (_, c) => {
    const map = new PixelMap();
    map.canvas.setAttribute("aria-hidden", "true");
    map.draw({ rows: H, columns: W, value: (r, col) => values[(c * H + r) * W + col], scale, width: 76, most: 12 });
    return element("button", { role: "radio", "data-value": c, "aria-label": `channel ${c}` }, map.canvas, String(c));
  }));
  selectMap(network.channel);
  if (focused) host.querySelector("[aria-checked=true]")?.focus();

  const maps = byId("step-maps");
  maps.replaceChildren();
  const source = before && isMap(before.shape) && step.window && before.every === 1 && step.every === 1 && before.shape[0] === step.shape[0] ? before : null;
  const windowMap = source && new PixelMap(`${source.path}, channel ${network.channel}`);
  if (source) maps.append(figure(source.path, `[${network.channel}]`, windowMap), element("span", { class: "arrow", "aria-hidden": "true" }, "→"));
  const map = new PickMap(`${step.path}, channel ${network.channel}, ${times(H, "row")}, ${times(W, "column")}`, (r, c) => {
    Object.assign(network, { row: r, column: c });
    paint();
  });
  maps.append(figure(step.path, C > 1 ? `[${network.channel}]` : "", map));
  if (network.row >= H || network.column >= W) Object.assign(network, { row: H >> 1, column: W >> 1 });

  function paint() {
    const { row, column, channel } = network, at = (r, c) => values[(channel * H + r) * W + c];
    map.place = [row, column];
    map.draw({ rows: H, columns: W, value: at, scale, frames: [{ r: row, c: column, kind: "window" }], width: () => Math.min(map.canvas.parentElement.clientWidth, 360) });
    const value = at(row, column);
    byId("step-result").replaceChildren(`${step.path}[${channel}, ${row * step.every}, ${column * step.every}] = `, strong(value),
      element("span", { class: "muted" }, source ? ` ${paintSource(source, step)}` : ""));
  }

  function paintSource(source, { window: { kernel, stride, padding, dilation }, kind }) {
    const { shape: [, SH, SW], values: all } = stepValues(source), { row, column, channel } = network;
    const at = (r, c) => all[(channel * SH + r) * SW + c];
    const r = row * stride[0] - padding[0], c = column * stride[1] - padding[1];
    windowMap.draw({
      rows: SH, columns: SW, value: at, scale: scaleOf(all), width: () => Math.min(windowMap.canvas.parentElement.clientWidth, 360),
      frames: [{ r, c, rows: kernelSpan(kernel[0], dilation[0]), columns: kernelSpan(kernel[1], dilation[1]), kind: "window" }],
    });
    if (kernel[0] * kernel[1] === 1) return `from ${shown(at(row, column))}`;
    const seen = [];
    for (let kh = 0; kh < kernel[0]; kh++) {
      for (let kw = 0; kw < kernel[1]; kw++) {
        const h = r + kh * dilation[0], w = c + kw * dilation[1];
        if (h >= 0 && w >= 0 && h < SH && w < SW) seen.push(shown(at(h, w)));
      }
    }
    return kernel[0] * kernel[1] > 9 || (kind !== "MaxPool2d" && Math.max(...padding)) ? "" : `${kind === "MaxPool2d" ? "the largest" : "the mean"} of ${seen.join(", ")}`;
  }
  paint();
}

function figure(name, index, map) {
  return element("figure", { class: "maps" }, element("figcaption", {}, element("b", {}, name), element("span", { class: "muted" }, ` ${index}`)),
    element("div", { class: "plane" }, map.canvas));
}

// -- vectors: a bar for each number

function showBars(step) {
  const { values } = stepValues(step), scale = scaleOf(values);
  const last = network.step === DATA.network.steps.length - 1;
  if (values.length <= MOST_LINES) return showLines(step, values, last && DATA.network.probabilities !== null);
  const map = new BarMap(`${step.path}, ${values.length} numbers as bars`, (r, i) => tell(i));
  const live = element("output", { class: "result", "aria-live": "polite" });
  function tell(i) {
    map.place = [0, i];
    map.draw({ rows: 1, columns: values.length, value: (k) => values[k], scale, width: () => map.canvas.parentElement.clientWidth });
    live.replaceChildren(`${step.path}[${i}] = `, strong(values[i]));
  }
  byId("step-bars").replaceChildren(live, element("div", { class: "plane" }, map.canvas),
    element("p", { class: "note" }, `${values.length} numbers, from ${shown(Math.min(...values))} to ${shown(Math.max(...values))}`));
  tell(0);
}

// Few numbers: one line each, and where they are the answer, its probability.
function showLines(step, values, answers) {
  const beliefs = answers ? imageOf(given(DATA.network.probabilities), state.sample).values : null;
  const most = Math.max(...values.map(Math.abs)) || 1, best = values.indexOf(Math.max(...values));
  const rows = Array.from(values, (value, i) => element("tr", { class: answers && i === best ? "chosen" : null },
    element("th", { scope: "row" }, DATA.network.classes?.[i] ?? String(i)),
    element("td", { class: "stroke" }, element("span", {
      class: value < 0 ? "negative" : "positive", style: `width:${50 * Math.abs(value) / most}%;${value < 0 ? "right" : "left"}:50%`,
    })),
    element("td", { "data-value": value }, shown(value)),
    beliefs && element("td", { "data-value": beliefs[i] }, `${(100 * beliefs[i]).toFixed(1)} %`)));
  const heads = ["output", "", "value", ...(beliefs ? ["softmax"] : [])];
  const truth = DATA.labels?.[state.sample];
  const verdict = beliefs && element("p", { class: "answer-line" }, `Says ${DATA.network.classes?.[best] ?? best}`
    + `${truth === undefined ? "" : `, is ${truth}`}`);
  byId("step-bars").replaceChildren(...[verdict, element("table", { class: "bars" },
    element("caption", { class: "hidden" }, `${step.path}, ${times(values.length, "number")}`),
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))), element("tbody", {}, ...rows))].filter(Boolean));
}

// -- listening

const selectStep = choices(byId("step-list"), (value) => { runner.stop(); showStep(Number(value)); });
const selectMap = choices(byId("step-channels"), (value) => { network.channel = Number(value); showStep(network.step); });

function nextLayer() {
  const last = DATA.network.steps.length - 1;
  showStep(network.step >= last ? 0 : network.step + 1);
  return network.step < last;
}

const runner = new Player(byId("run"), nextLayer, () => 1600);

function startNetwork() {
  const steps = DATA.network.steps.map(({ path, kind, shape }, i) => element("button", { role: "radio", "data-value": i },
    element("b", {}, path), element("span", { class: "muted" }, kind === "input" || kind === "between" ? "" : kind), element("span", { class: "muted shape" }, shape.join(" × "))));
  byId("step-list").append(...steps);
  byId("back").addEventListener("click", () => { runner.stop(); showStep(network.step - 1); });
  byId("forth").addEventListener("click", () => { runner.stop(); showStep(network.step + 1); });
  byId("step-open").addEventListener("click", () => {
    setPreset(`own:${DATA.network.steps[network.step].layer}`);
    showView("layer");
    byId("preset").focus();
  });
}
