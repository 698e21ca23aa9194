"use strict";
// The arithmetic of the page: a convolution and its three gradients, one number at a time, each written as its sum.
//
// A Convolution holds x (C, H, W), w (OC, C/groups, KH, KW), b (OC) or null, flat arrays in double precision, and the
// geometry. With flip the kernel is turned by 180 degrees first, as in the convolution of mathematics.

class Convolution {
  constructor(settings, geometry, x, w, b, flip) {
    Object.assign(this, settings, geometry);
    Object.assign(this, { x, w, b, flip });
    [this.KH, this.KW] = settings.kernel;
    this.CG = settings.C / settings.groups;
    this.OCG = settings.OC / settings.groups;
    this.rowSource = this.sources(0);
    this.columnSource = this.sources(1);
    this.planes = new Map();
  }

  // For each line of the padded input, the line of the input that it repeats, or -1.
  sources(i) {
    const { size, before, after } = this.sides[i];
    return Array.from({ length: before + size + after }, (_, p) => sourceOf(p, before, size, this.mode));
  }

  get paddedH() { return this.rowSource.length; }
  get paddedW() { return this.columnSource.length; }

  firstChannel(oc) { return Math.floor(oc / this.OCG) * this.CG; }
  inGroup(c, oc) { return Math.floor(c / this.CG) === Math.floor(oc / this.OCG); }

  // Where the weight lies in w that meets tap (kh, kw) of the window.
  weightIndex(oc, cg, kh, kw) {
    if (this.flip) [kh, kw] = [this.KH - 1 - kh, this.KW - 1 - kw];
    return ((oc * this.CG + cg) * this.KH + kh) * this.KW + kw;
  }

  weight(oc, cg, kh, kw) { return this.w[this.weightIndex(oc, cg, kh, kw)]; }

  // The value of the padded input, and whether it is padding.
  padded(c, ph, pw) {
    const h = this.rowSource[ph], w = this.columnSource[pw];
    return h < 0 || w < 0 ? 0 : this.x[(c * this.H + h) * this.W + w];
  }

  isPadding(ph, pw) {
    return ph < this.top || ph >= this.top + this.H || pw < this.left || pw >= this.left + this.W;
  }

  row(oh, kh) { return oh * this.stride[0] + kh * this.dilation[0]; }
  column(ow, kw) { return ow * this.stride[1] + kw * this.dilation[1]; }

  // One output number taken apart: {value, bias, channels: [{c, sum, taps: [{x, w, product, padding, ph, pw}]}]}.
  pixel(oc, oh, ow) {
    const channels = [];
    const bias = this.b ? this.b[oc] : 0;
    let value = bias;
    for (let cg = 0; cg < this.CG; cg++) {
      const c = this.firstChannel(oc) + cg, taps = [];
      let sum = 0;
      for (let kh = 0; kh < this.KH; kh++) {
        for (let kw = 0; kw < this.KW; kw++) {
          const ph = this.row(oh, kh), pw = this.column(ow, kw);
          const x = this.padded(c, ph, pw), w = this.weight(oc, cg, kh, kw);
          taps.push({ x, w, product: x * w, padding: this.isPadding(ph, pw), ph, pw });
          sum += x * w;
        }
      }
      channels.push({ c, sum, taps });
      value += sum;
    }
    return { value, bias, channels };
  }

  // The output (OH, OW) of one output channel, kept.
  plane(oc) {
    if (!this.planes.has(oc)) this.planes.set(oc, this.computePlane(oc));
    return this.planes.get(oc);
  }

  computePlane(oc) {
    const plane = new Float64Array(this.OH * this.OW).fill(this.b ? this.b[oc] : 0);
    for (let cg = 0; cg < this.CG; cg++) {
      const c = this.firstChannel(oc) + cg;
      for (let kh = 0; kh < this.KH; kh++) {
        for (let kw = 0; kw < this.KW; kw++) {
          const w = this.weight(oc, cg, kh, kw);
          for (let oh = 0; oh < this.OH; oh++) {
            for (let ow = 0; ow < this.OW; ow++) {
              plane[oh * this.OW + ow] += w * this.padded(c, this.row(oh, kh), this.column(ow, kw));
            }
          }
        }
      }
    }
    return plane;
  }
}

// What flows back: `grad(oc)` gives grad_output (OH, OW) of one output channel.
class Backward {
  constructor(conv, grad) {
    this.conv = conv;
    this.grad = grad;
    // For each line of the input, the pairs (output line, kernel line) that look at it.
    this.rowLookers = this.lookers(conv.rowSource, conv.sides[0], conv.OH, conv.H);
    this.columnLookers = this.lookers(conv.columnSource, conv.sides[1], conv.OW, conv.W);
  }

  lookers(source, { stride, dilation, kernel }, outputs, size) {
    const found = Array.from({ length: size }, () => []);
    for (let o = 0; o < outputs; o++) {
      for (let k = 0; k < kernel; k++) {
        const i = source[o * stride + k * dilation];
        if (i >= 0) found[i].push([o, k]);
      }
    }
    return found;
  }

  // grad_input[c, h, w] taken apart: one term {oc, oh, ow, kh, kw, grad, w, product} for each tap that looked at the pixel.
  inputPixel(c, h, w) {
    const { conv } = this, terms = [];
    const group = Math.floor(c / conv.CG), cg = c % conv.CG;
    let value = 0;
    for (let oc = group * conv.OCG; oc < (group + 1) * conv.OCG; oc++) {
      const grads = this.grad(oc);
      for (const [oh, kh] of this.rowLookers[h]) {
        for (const [ow, kw] of this.columnLookers[w]) {
          const grad = grads[oh * conv.OW + ow], weight = conv.weight(oc, cg, kh, kw);
          terms.push({ oc, oh, ow, kh, kw, grad, w: weight, product: grad * weight });
          value += grad * weight;
        }
      }
    }
    return { value, terms };
  }

  // grad_input (H, W) of one input channel.
  inputPlane(c) {
    const { H, W } = this.conv;
    return Float64Array.from({ length: H * W }, (_, i) => this.inputPixel(c, Math.floor(i / W), i % W).value);
  }

  // grad_weight of the weight that meets tap (kh, kw): one term {oh, ow, grad, x, product, padding} per output pixel.
  weightEntry(oc, cg, kh, kw) {
    const { conv } = this, terms = [], grads = this.grad(oc), c = conv.firstChannel(oc) + cg;
    let value = 0;
    for (let oh = 0; oh < conv.OH; oh++) {
      for (let ow = 0; ow < conv.OW; ow++) {
        const ph = conv.row(oh, kh), pw = conv.column(ow, kw);
        const grad = grads[oh * conv.OW + ow], x = conv.padded(c, ph, pw);
        terms.push({ oh, ow, ph, pw, grad, x, product: grad * x, padding: conv.isPadding(ph, pw) });
        value += grad * x;
      }
    }
    return { value, terms };
  }

  // grad_weight (KH, KW) of one kernel, in the order in which the taps lie on the window (turned, where conv.flip).
  kernelGrad(oc, cg) {
    const { KH, KW } = this.conv;
    return Float64Array.from({ length: KH * KW }, (_, i) => this.weightEntry(oc, cg, Math.floor(i / KW), i % KW).value);
  }

  biasGrad(oc) { return this.grad(oc).reduce((sum, value) => sum + value, 0); }
}
