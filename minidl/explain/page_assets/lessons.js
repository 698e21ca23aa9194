"use strict";
// What the explorer can start from: the layers that the page was given, and examples small enough to follow by hand.

const PLAIN = {
  layer: null, source: "random", weights: "random", size: [6, 6], C: 1, OC: 1, groups: 1, bias: true,
  kernel: [3, 3], stride: [1, 1], dilation: [1, 1], padding: [0, 0], paddingKind: "number", mode: "zeros", flip: false,
};

const LESSONS = {
  numbers: ["Small numbers, by hand", {}, "Whole numbers: follow one window, multiply, add, compare."],
  colour: ["3 channels in, 6 out: 6 kernels or 18?", { C: 3, OC: 6, padding: [1, 1] },
    "Every output channel has a kernel of its own for every input channel, and adds up what they give."],
  stride: ["Stride 2, and what is left over", { stride: [2, 2], size: [8, 8] },
    "The window moves by two: the output is half as large, and the last row and column are never looked at."],
  same: ["Padding that keeps the size", { padding: [1, 1], kernel: [3, 3] },
    "(kernel − 1) / 2 rows and columns of zeros on each side: as many windows as pixels."],
  modes: ["Padding without zeros", { padding: [2, 2], mode: "reflect", source: "count", size: [5, 5], weights: "blur", bias: false },
    "Zeros darken the border. reflect mirrors, replicate repeats the edge, circular goes on from the other side."],
  dilation: ["Dilation: a wide kernel with gaps", { dilation: [2, 2], size: [8, 8] },
    "The same nine weights look at every second pixel: a 3 × 3 kernel spans 5 × 5."],
  groups: ["Groups: every channel for itself", { C: 4, OC: 4, groups: 4, padding: [1, 1] },
    "With groups = in_channels no output channel sees more than one input channel (depthwise)."],
  flip: ["Correlation or convolution?", { source: "dot", weights: "count", size: [5, 5], padding: [1, 1], bias: false },
    "A single 1 shows the difference: Conv2d's cross-correlation paints the kernel turned around, a convolution as it is."],
  uneven: ["Everything uneven", { kernel: [2, 3], stride: [1, 2], padding: [1, 0], size: [6, 9], C: 2, OC: 2 },
    "Rows and columns are counted apart: kernel, stride, padding and dilation may each be a pair."],
  error: ["When it does not fit", { kernel: [5, 5], dilation: [2, 2], size: [6, 6] },
    "The most frequent mistakes, with the rule that they break and the numbers in it."],
};

// The state that a choice stands for: "own:0" is the first layer of the page, anything else a lesson.
function startFrom(choice) {
  if (!choice.startsWith("own:")) return { ...PLAIN, ...LESSONS[choice][1] };
  const layer = Number(choice.slice(4)), given = DATA.layers[layer].settings;
  const words = typeof given.padding === "string";
  return {
    ...PLAIN, layer, source: "own", weights: "own", C: given.C, OC: given.OC, groups: given.groups, bias: given.bias,
    kernel: given.kernel, stride: given.stride, dilation: given.dilation, mode: given.mode,
    padding: words ? [0, 0] : given.padding, paddingKind: words ? given.padding : "number",
  };
}

function lessonText(choice) {
  if (!choice.startsWith("own:")) return LESSONS[choice][2];
  const { path, settings } = DATA.layers[Number(choice.slice(4))];
  return `${path}, with its own weights on its own input, ${times(settings.C, "channel")} of ${settings.size.join(" × ")}.`;
}
