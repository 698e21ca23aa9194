"use strict";
// Sizes of a convolution: minidl/geometry once more, for the page. Knows integers and texts only.
//
// settings: {H, W, C, OC, kernel: [KH, KW], stride: [h, w], padding: [h, w] | "same" | "valid", mode, dilation: [h, w],
// groups}. A problem is {what, formula, numbers, cure}: the rule that does not hold, and the rule with the numbers in it.

const SIDES = [
  { name: "height", size: "H", kernel: "KH", output: "OH", before: "top", after: "bottom", line: "row" },
  { name: "width", size: "W", kernel: "KW", output: "OW", before: "left", after: "right", line: "column" },
];

// Pixels from the first to the last that a kernel sees.
function kernelSpan(kernel, dilation) {
  return dilation * (kernel - 1) + 1;
}

// [before, after] on one side; an odd total of "same" has the larger part at the end.
function paddingOf(padding, side, span) {
  if (padding === "valid") return [0, 0];
  if (padding === "same") return [Math.floor((span - 1) / 2), Math.floor(span / 2)];
  return [padding[side], padding[side]];
}

function outputSize(size, before, after, span, stride) {
  return Math.floor((size + before + after - span) / stride) + 1;
}

// The geometry {OH, OW, top, left, bottom, right, span, sides, weightShape} or {problems: [...]}.
function convGeometry(settings) {
  const problems = [...optionProblems(settings), ...channelProblems(settings)];
  if (problems.length) return { problems };
  const sides = SIDES.map((names, i) => sideGeometry(settings, names, i));
  problems.push(...sides.flatMap((side) => sideProblems(settings, side)));
  if (problems.length) return { problems };
  const [rows, columns] = sides;
  return {
    problems, sides, OH: rows.output, OW: columns.output,
    top: rows.before, bottom: rows.after, left: columns.before, right: columns.after,
    weightShape: [settings.OC, settings.C / settings.groups, ...settings.kernel],
  };
}

function sideGeometry(settings, names, i) {
  const size = i ? settings.W : settings.H;
  const kernel = settings.kernel[i], dilation = settings.dilation[i], stride = settings.stride[i];
  const span = kernelSpan(kernel, dilation);
  const [before, after] = paddingOf(settings.padding, i, span);
  const room = size + before + after - span;
  const output = outputSize(size, before, after, span, stride);
  return { names, size, kernel, dilation, stride, span, before, after, room, output, rest: room - (output - 1) * stride };
}

function optionProblems({ kernel, stride, padding, dilation, groups, H, W, C, OC }) {
  const problems = [];
  const least = [["kernel_size", kernel, 1], ["stride", stride, 1], ["dilation", dilation, 1], ["groups", [groups], 1],
    ["in_channels", [C], 1], ["out_channels", [OC], 1], ["the input", [H, W], 1]];
  if (Array.isArray(padding)) least.push(["padding", padding, 0]);
  for (const [name, values, bound] of least) {
    if (values.every((value) => Number.isInteger(value) && value >= bound)) continue;
    problems.push({
      what: `${name} must be ${bound ? "at least 1" : "0 or more"}`,
      formula: `${name} ≥ ${bound}, a whole number`,
      numbers: `${name} = ${values.map((value) => (Number.isNaN(value) ? "nothing" : withMinus(value))).join(", ")}`,
      cure: `Set ${name} to ${bound} or more.`,
    });
  }
  if (padding === "same" && Math.max(...stride) > 1) {
    problems.push({
      what: "padding='same' works only with stride 1",
      formula: "‘same’ means: the output is as large as the input, which a stride above 1 cannot give",
      numbers: `stride = ${stride.join(", ")}`,
      cure: "Give the padding in numbers, or set the stride to 1.",
    });
  }
  return problems;
}

function channelProblems({ C, OC, groups }) {
  if (!(groups >= 1)) return [];
  return [["in_channels", C], ["out_channels", OC]].filter(([, channels]) => channels % groups).map(([name, channels]) => ({
    what: `groups=${groups} does not divide ${name}=${channels}`,
    formula: `${name} / groups must be whole: each group takes the same number of channels`,
    numbers: `${channels} / ${groups} = ${Math.floor(channels / groups)}, remainder ${channels % groups}`,
    cure: `Choose groups among ${divisors(C).filter((d) => OC % d === 0).join(", ")}, or ${name} among the multiples of ${groups}.`,
  }));
}

function sideProblems({ mode }, { names, size, kernel, dilation, stride, span, before, after, room }) {
  const line = names.line, problems = [];
  if (mode === "reflect" && Math.max(before, after) >= size) {
    problems.push({
      what: `reflect padding of ${Math.max(before, after)} is too much for ${size} ${line}s`,
      formula: `padding < ${names.size}: the mirror image has no more than ${names.size} − 1 ${line}s to give, for the edge itself is not repeated`,
      numbers: `${Math.max(before, after)} < ${size} does not hold`,
      cure: `Use a padding of at most ${size - 1}, or another mode.`,
    });
  } else if (mode === "circular" && Math.max(before, after) > size) {
    problems.push({
      what: `circular padding of ${Math.max(before, after)} is too much for ${size} ${line}s`,
      formula: `padding ≤ ${names.size}: further out, the input would be wrapped around more than once`,
      numbers: `${Math.max(before, after)} ≤ ${size} does not hold`,
      cure: `Use a padding of at most ${size}, or another mode.`,
    });
  } else if (room < 0) {
    const spread = dilation > 1 ? `, spread over ${dilation} · (${kernel} − 1) + 1 = ${span}` : "";
    problems.push({
      what: `The output would be empty: a kernel of ${kernel} ${line}s${spread}, is larger than the padded input of ${size + before + after}`,
      formula: `dilation · (${names.kernel} − 1) + 1 ≤ ${names.size} + padding, or no window fits and ${names.output} is less than 1`,
      numbers: `${dilation} · (${kernel} − 1) + 1 = ${span} ≤ ${size} + ${before + after} = ${size + before + after} does not hold: `
        + `${names.output} = ⌊(${size + before + after} − ${span}) / ${stride}⌋ + 1 = ${withMinus(outputSize(size, before, after, span, stride))}`,
      cure: `Use a larger input, more padding${dilation > 1 ? ", less dilation" : ""} or a smaller kernel.`,
    });
  }
  return problems;
}

const withMinus = (number) => String(number).replace("-", "−");

function divisors(number) {
  return Array.from({ length: number }, (_, i) => i + 1).filter((d) => number % d === 0);
}

// The row (or column) of the input whose value lies at p of the padded one, or -1 where that is a zero of the padding.
function sourceOf(p, before, size, mode) {
  const i = p - before;
  if (i >= 0 && i < size) return i;
  if (mode === "replicate") return i < 0 ? 0 : size - 1;
  if (mode === "circular") return ((i % size) + size) % size;
  if (mode === "reflect") return i < 0 ? -i : 2 * (size - 1) - i;
  return -1;
}

// The derivation of the output size on one side: lines of [left, right].
function derivation({ names, size, kernel, dilation, stride, before, after, room, output, span, rest }) {
  const { size: S, kernel: K, output: O } = names;
  return [
    [O, `⌊(${S} + padding − dilation · (${K} − 1) − 1) / stride⌋ + 1`],
    ["", `⌊(${size} + (${before} + ${after}) − ${dilation} · (${kernel} − 1) − 1) / ${stride}⌋ + 1`],
    ["", `⌊(${size + before + after} − ${span}) / ${stride}⌋ + 1 = ⌊${room} / ${stride}⌋ + 1`],
    ["", `${output}`],
    ["left over", rest ? `${room} − ${output - 1} · ${stride} = ${rest} ${names.line}${rest > 1 ? "s" : ""} at the ${names.after}`
      + " that no window reaches" : "nothing: the last window ends at the edge"],
  ];
}

// The lines of the padded input that a window sees that begins with output line o, one for each line of the kernel.
function windowLines(o, { stride, dilation, kernel }) {
  return Array.from({ length: kernel }, (_, k) => o * stride + k * dilation);
}
