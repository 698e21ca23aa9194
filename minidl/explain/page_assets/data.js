"use strict";
// What the page was given by minidl, and the inputs and weights that it can make up itself.

const DATA = JSON.parse(document.getElementById("data").textContent);
const decoded = new Map();

// The flat array number `index`, {shape, values}; decoded when it is first asked for.
function given(index) {
  if (!decoded.has(index)) {
    const { shape, type, data } = DATA.arrays[index];
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    decoded.set(index, { shape, values: type === "f8" ? new Float64Array(bytes.buffer) : new Float32Array(bytes.buffer) });
  }
  return decoded.get(index);
}

// Image number n of an array (N, ...): {shape, values} without the N.
function imageOf(array, n) {
  const shape = array.shape.slice(1), size = shape.reduce((a, b) => a * b, 1);
  return { shape, values: array.values.subarray(n * size, (n + 1) * size) };
}

// Always the same whole numbers from 0 to below - 1 that look random.
function scrambled(i, below) {
  let z = (i + 1) * 0x9e3779b1;
  z = Math.imul(z ^ (z >>> 15), 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  return ((z ^ (z >>> 16)) >>> 0) % below;
}

const INPUTS = {
  random: ["small numbers", (c, h, w, C, H, W) => scrambled((c * H + h) * W + w, 5)],
  count: ["counting 1, 2, 3 …", (c, h, w, C, H, W) => (c * H + h) * W + w + 1],
  edge: ["an edge", (c, h, w, C, H, W) => Number(c % 2 ? h >= H / 2 : w >= W / 2)],
  dot: ["a single 1", (c, h, w, C, H, W) => Number(h === (H - 1) >> 1 && w === (W - 1) >> 1)],
};

const WEIGHTS = {
  random: ["small numbers", (oc, cg, kh, kw, OC, CG, KH, KW) => scrambled(977 + ((oc * CG + cg) * KH + kh) * KW + kw, 5) - 2],
  edges: ["edge finder", (oc, cg, kh, kw, OC, CG, KH, KW) => Math.sign(oc % 2 ? 2 * kh - KH + 1 : 2 * kw - KW + 1)
    * (2 * (oc % 2 ? kw : kh) === (oc % 2 ? KW : KH) - 1 ? 2 : 1)],
  blur: ["mean", (oc, cg, kh, kw, OC, CG, KH, KW) => 1 / (CG * KH * KW)],
  identity: ["copy", (oc, cg, kh, kw, OC, CG, KH, KW) => Number(cg === oc % CG && kh === (KH - 1) >> 1 && kw === (KW - 1) >> 1)],
  count: ["counting 1, 2, 3 …", (oc, cg, kh, kw, OC, CG, KH, KW) => (cg * KH + kh) * KW + kw + 1],
};

function madeInput(kind, C, H, W) {
  const values = new Float64Array(C * H * W);
  for (let i = 0; i < values.length; i++) {
    values[i] = INPUTS[kind][1](Math.floor(i / (H * W)), Math.floor(i / W) % H, i % W, C, H, W);
  }
  return values;
}

function madeWeights(kind, OC, CG, KH, KW) {
  const values = new Float64Array(OC * CG * KH * KW);
  for (let i = 0; i < values.length; i++) {
    const kw = i % KW, kh = Math.floor(i / KW) % KH, cg = Math.floor(i / (KH * KW)) % CG;
    values[i] = WEIGHTS[kind][1](Math.floor(i / (CG * KH * KW)), cg, kh, kw, OC, CG, KH, KW);
  }
  return values;
}

function madeBias(kind, OC) {
  return Float64Array.from({ length: OC }, (_, oc) => (kind === "random" ? scrambled(31 + oc, 5) - 2 : 0));
}

// The image in C channels: its own, or where it has fewer, copies of them, each moved on by two rows and columns.
function spreadChannels(values, [OWN, H, W], C) {
  const spread = new Float64Array(C * H * W);
  for (let c = 0; c < C; c++) {
    const shift = 2 * Math.floor(c / OWN);
    for (let h = 0; h < H; h++) {
      for (let w = 0; w < W; w++) {
        spread[(c * H + h) * W + w] = values[((c % OWN) * H + ((h + shift) % H)) * W + ((w + shift) % W)];
      }
    }
  }
  return spread;
}

// Whole numbers whole, where sums of fractions have missed them by a rounding.
function tidied(value) {
  const whole = Math.round(value);
  return Math.abs(value - whole) < 1e-12 * Math.max(Math.abs(value), 1) ? whole : value;
}

// A number as people read it: whole numbers whole, others with three or four digits that count.
function shown(value) {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value < 0 ? "−∞" : "∞";
  const size = Math.abs(tidied(value));
  let text;
  if (Number.isInteger(size) && size < 1e5) text = String(size);
  else if (size >= 1e5 || size < 0.0005) text = size.toExponential(1);
  else text = size.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3);
  return (value < 0 && size ? "−" : "") + text.replace("e-", "e−").replace("e+", "e");
}
