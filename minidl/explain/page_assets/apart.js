"use strict";
// The sums of the explorer, written out: for one output number, or backward for one gradient.

const MOST_ROWS = 8, MOST_TERMS = 12;

function takeApart() {
  const parts = !backward() ? pixelParts() : { output: flowParts, input: inputParts, weight: weightParts }[state.picked]();
  byId("result").replaceChildren(...parts.result);
  byId("apart").replaceChildren(...parts.rows);
}

const strong = (value) => element("b", { "data-value": value }, shown(value));
const sign = (text) => element("span", { class: "sign", "aria-hidden": "true" }, text);

// A sum in one line: its terms with their signs, then what it is.
function equation(terms, value) {
  const line = element("p", { class: "equation" });
  terms.forEach(([number, name], i) => {
    line.append(i ? ` ${number < 0 ? "−" : "+"} ` : number < 0 ? "−" : "",
      element("span", { class: "term" }, shown(Math.abs(number)), name ? element("small", {}, ` ${name}`) : null));
  });
  line.append(" = ", strong(value));
  return line;
}

// -- forward

function pixelParts() {
  const { value, bias, channels } = conv.pixel(state.oc, state.oh, state.ow);
  const rows = channels.slice(0, MOST_ROWS).map(channelRow);
  const left = channels.slice(MOST_ROWS);
  if (left.length) rows.push(element("p", { class: "note" }, `and ${times(left.length, "more channel")}, in the same way`));
  const terms = channels.length > 12
    ? [[channels.reduce((sum, channel) => sum + channel.sum, 0), `sum of ${channels.length} channels`]]
    : channels.map(({ c, sum }) => [sum, channels.length > 1 ? `channel ${c}` : "sum"]);
  if (conv.b) terms.push([bias, "bias"]);
  rows.push(equation(terms, value));
  const taps = conv.KH * conv.KW;
  const padded = channels[0].taps.filter((tap) => tap.padding).length;
  return {
    result: [`output[${state.oc}, ${state.oh}, ${state.ow}] = `, strong(value), element("span", { class: "muted" },
      ` ${times(taps, "product")}${channels.length > 1 ? ` in each of ${channels.length} channels` : ""}`
      + `${conv.b ? ", and the bias" : ""}${padded ? `; ${padded} of the window's ${times(taps, "pixel")} ${padded === 1 ? "is" : "are"} padding` : ""}`)],
    rows,
  };
}

function channelRow({ c, sum, taps }) {
  const xScale = scaleOf(planeOf(c)), products = { ...scaleOf(taps.map((tap) => tap.product)), signed: true };
  const table = (name, key, scale) => numberTable(name, conv.KH, conv.KW, (r, col) => {
    const tap = taps[r * conv.KW + col];
    return { value: tap[key], padding: key !== "w" && tap.padding };
  }, scale);
  return element("div", { class: "row", "data-channel": c },
    conv.C > 1 ? element("h3", {}, `channel ${c}`) : null,
    table("window", "x", xScale), sign("×"), table(state.flip ? "kernel, turned" : "kernel", "w", weightScale()), sign("="),
    table("products", "product", products), element("p", { class: "sum" }, sign("Σ"), element("span", { class: "hidden" }, "their sum: "), strong(sum)));
}

// -- backward

// From one entry of grad_output: to the window in grad_input, to the kernel in grad_weight, to the bias.
function flowParts() {
  const { oc, oh, ow } = state, grad = flow.grad(oc)[oh * conv.OW + ow];
  const { channels } = conv.pixel(oc, oh, ow);
  const rows = channels.slice(0, MOST_ROWS).map(({ c, taps }) => {
    const scale = (key) => ({ ...scaleOf(taps.map((tap) => tap[key] * grad)), signed: true });
    const table = (name, key) => numberTable(name, conv.KH, conv.KW, (r, col) => {
      const tap = taps[r * conv.KW + col];
      return { value: tap[key] * grad, padding: tap.padding };
    }, scale(key));
    return element("div", { class: "row", "data-channel": c }, conv.C > 1 ? element("h3", {}, `channel ${c}`) : null,
      table("kernel × gradient, to grad_input", "w"), table("window × gradient, to grad_weight", "x"));
  });
  if (channels.length > MOST_ROWS) rows.push(element("p", { class: "note" }, `and ${times(channels.length - MOST_ROWS, "more channel")}, in the same way`));
  const lost = conv.mode === "zeros" && channels[0].taps.some((tap) => tap.padding);
  rows.push(element("p", { class: "note" }, `It adds itself to grad_bias[${oc}], which is `, strong(flow.biasGrad(oc)),
    lost ? ". What falls on the padding (hatched) is lost: the zeros have no gradient." : "."));
  return {
    result: [`grad_output[${oc}, ${oh}, ${ow}] = `, strong(grad), element("span", { class: "muted" },
      " adds the kernel, times itself, to its window in grad_input, and the window, times itself, to grad_weight")],
    rows,
  };
}

// One entry of grad_input: every window that held the pixel gives back its gradient, times the weight that met the pixel.
function inputParts() {
  const { value, terms } = flow.inputPixel(state.c, state.h, state.w);
  const heads = ["output pixel", "kernel tap", "grad_output", "weight", "product"];
  return {
    result: [`grad_input[${state.c}, ${state.h}, ${state.w}] = `, strong(value), element("span", { class: "muted" },
      terms.length ? ` from ${times(terms.length, "product")}: each window that holds this pixel, times the weight that lay on it` : " no window holds this pixel")],
    rows: [termTable(heads, terms, ({ oc, oh, ow, kh, kw, grad, w, product }) => [`[${oc}, ${oh}, ${ow}]`, `[${kh}, ${kw}]`, grad, w, product])],
  };
}

// One entry of grad_weight: over all windows, the pixel that the weight met, times the window's gradient.
function weightParts() {
  const { oc, cg, kh, kw } = state, { value, terms } = flow.weightEntry(oc, cg, kh, kw);
  const stored = state.flip ? [conv.KH - 1 - kh, conv.KW - 1 - kw] : [kh, kw];
  const map = new PixelMap("the products, one for each window");
  const scale = { ...scaleOf(terms.map((term) => term.product)), signed: true };
  const picture = element("div", { class: "plane products" }, map.canvas);
  map.draw({ rows: conv.OH, columns: conv.OW, value: (r, c) => terms[r * conv.OW + c].product, padding: (r, c) => terms[r * conv.OW + c].padding, scale, width: 300, most: 34 });
  return {
    result: [`grad_weight[${[oc, cg, ...stored].join(", ")}] = `, strong(value), element("span", { class: "muted" },
      ` from ${times(terms.length, "window")}: the pixel that this weight met, times the window's gradient`)],
    rows: [element("p", { class: "note" }, "The products, each at its output pixel:"), picture,
      termTable(["output pixel", "input pixel", "grad_output", "input", "product"], terms, ({ oh, ow, ph, pw, grad, x, padding, product }) => [
        `[${oc}, ${oh}, ${ow}]`, padding ? "padding" : `[${conv.firstChannel(oc) + cg}, ${ph - conv.top}, ${pw - conv.left}]`, grad, x, product])],
  };
}

// The largest terms first.
function termTable(heads, terms, cells) {
  const sorted = [...terms].sort((a, b) => Math.abs(b.product) - Math.abs(a.product)), few = sorted.slice(0, MOST_TERMS);
  const scale = { ...scaleOf(terms.map((term) => term.product)), signed: true };
  const body = few.map((term) => element("tr", {}, ...cells(term).map((cell, i) => (typeof cell === "string" ? element("td", {}, cell)
    : i === heads.length - 1 ? numberCell({ value: cell }, scale) : element("td", { "data-value": cell }, shown(cell))))));
  const rest = sorted.slice(MOST_TERMS);
  const together = rest.reduce((sum, term) => sum + term.product, 0);
  return element("div", { class: "scroll" }, element("table", { class: "terms" },
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))), element("tbody", {}, ...body),
    rest.length ? element("tfoot", {}, element("tr", {}, element("th", { scope: "row", colspan: heads.length - 1 },
      `${times(rest.length, "smaller product")}, together`), element("td", { "data-value": together }, shown(together)))) : null));
}

// -- everything as tables, for those who read or copy numbers

function writeTables() {
  const full = (name, H, W, values, padding) => {
    const scale = scaleOf(Float64Array.from({ length: H * W }, (_, i) => values(Math.floor(i / W), i % W)));
    return element("div", { class: "scroll" }, numberTable(name, H, W, (r, c) => ({ value: values(r, c), padding: padding?.(r, c) }), scale,
      { heads: true, kind: "numbers full" }));
  };
  const flat = (name, H, W, plane) => full(name, H, W, (r, c) => plane[r * W + c]);
  const { oc } = state, seen = Array.from({ length: conv.CG }, (_, cg) => [conv.firstChannel(oc) + cg, cg]);
  const turned = state.flip ? ", turned" : "";
  const tables = [];
  for (const [c, cg] of seen) {
    tables.push(full(`input[${c}] with its padding`, conv.paddedH, conv.paddedW, (r, col) => conv.padded(c, r, col), (r, col) => conv.isPadding(r, col)));
    tables.push(full(`weight[${oc}, ${cg}]${turned}`, conv.KH, conv.KW, (r, col) => conv.weight(oc, cg, r, col)));
  }
  if (conv.b) tables.push(flat("bias", 1, conv.OC, conv.b));
  tables.push(flat(`output[${oc}]`, conv.OH, conv.OW, conv.plane(oc)));
  if (backward()) {
    tables.push(flat(`grad_output[${oc}]`, conv.OH, conv.OW, flow.grad(oc)));
    for (const [c, cg] of seen) {
      tables.push(flat(`grad_input[${c}]`, conv.H, conv.W, flow.inputPlane(c)));
      tables.push(flat(`grad_weight[${oc}, ${cg}]${turned}`, conv.KH, conv.KW, flow.kernelGrad(oc, cg)));
    }
  }
  byId("table-body").replaceChildren(...tables);
}
