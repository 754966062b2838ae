// Every operation of the network: forward, and backward as vector-Jacobian products. minunet/functional.py derives them.
//
// forward(node, inputs, parameters, state) -> output.   inputs: tensors; parameters: {weight, bias, ...} or {}.
// backward(node, g, inputs, parameters, kept, output) -> {inputs: [...], parameters: {...}}, gradients of both.
// state.keep(x) stores what backward and formulas need; state.held is what an earlier run kept, if its choices hold.

import { zeros, zerosLike } from "./tensors.js";

// Zeros around every picture, so that no tap of a kernel has to look where the border is.
function padded(x, margin) {
  if (margin === 0) return x;
  const [n, channels, height, width] = x.shape;
  const y = zeros([n, channels, height + 2 * margin, width + 2 * margin]);
  for (let row = 0; row < n * channels * height; row++) {
    const [plane, h] = [Math.floor(row / height), row % height];
    const start = (plane * y.shape[2] + h + margin) * y.shape[3] + margin;
    y.data.set(x.data.subarray(row * width, (row + 1) * width), start);
  }
  return y;
}

// Every row of y and, for each row i of the kernel, the row of the padded x that it reads: visit(tap, x, y), where
// tap is the place of weight[o, c, i, 0], and x and y are those of the first numbers.
function eachRow(x, y, kernel, visit) {
  const [n, channels, height, width] = x.shape;
  const [, outputs, rows, columns] = y.shape;
  for (let image = 0; image < n; image++)
    for (let o = 0; o < outputs; o++)
      for (let c = 0; c < channels; c++)
        for (let i = 0; i < kernel; i++) {
          const tap = ((o * channels + c) * kernel + i) * kernel;
          const from = ((image * channels + c) * height + i) * width;
          const to = (image * outputs + o) * rows * columns;
          for (let h = 0; h < rows; h++) visit(tap, from + h * width, to + h * columns);
        }
}

// y[n,o,h,w] += sum over c, i, j of x[n,c,h+i,w+j] weight[o,c,i,j], x padded; three taps of a row at once.
function correlate(x, weight, y) {
  const kernel = weight.shape[2];
  const length = y.shape[3];
  const [from, to, w] = [x.data, y.data, weight.data];
  eachRow(x, y, kernel, kernel === 3
    ? (tap, xStart, yStart) => {
      const [a, b, c] = [w[tap], w[tap + 1], w[tap + 2]];
      for (let k = 0; k < length; k++)
        to[yStart + k] += a * from[xStart + k] + b * from[xStart + k + 1] + c * from[xStart + k + 2];
    }
    : (tap, xStart, yStart) => {
      for (let j = 0; j < kernel; j++)
        for (let k = 0; k < length; k++) to[yStart + k] += w[tap + j] * from[xStart + j + k];
    });
}

// dw[o,c,i,j] += sum over n, h, w of g[n,o,h,w] x[n,c,h+i,w+j], x padded.
function correlateWeights(x, g, dw) {
  const kernel = dw.shape[2];
  const length = g.shape[3];
  const [from, upstream, sums] = [x.data, g.data, dw.data];
  eachRow(x, g, kernel, kernel === 3
    ? (tap, xStart, yStart) => {
      let [a, b, c] = [0, 0, 0];
      for (let k = 0; k < length; k++) {
        const value = upstream[yStart + k];
        a += value * from[xStart + k];
        b += value * from[xStart + k + 1];
        c += value * from[xStart + k + 2];
      }
      sums[tap] += a;
      sums[tap + 1] += b;
      sums[tap + 2] += c;
    }
    : (tap, xStart, yStart) => {
      for (let j = 0; j < kernel; j++)
        for (let k = 0; k < length; k++) sums[tap + j] += upstream[yStart + k] * from[xStart + j + k];
    });
}

// weight (O, C, k, k) -> (C, O, k, k), every kernel turned by 180 degrees: what the way back correlates g with.
function turned({ shape: [outputs, channels, kernel], data }) {
  const each = kernel * kernel;
  const weight = zeros([channels, outputs, kernel, kernel]);
  for (let o = 0; o < outputs; o++)
    for (let c = 0; c < channels; c++)
      for (let k = 0; k < each; k++) weight.data[(c * outputs + o) * each + k] = data[(o * channels + c + 1) * each - 1 - k];
  return weight;
}

function channelSums(g) {
  const [n, channels, height, width] = g.shape;
  const sums = zeros([channels]);
  for (let image = 0; image < n; image++)
    for (let c = 0; c < channels; c++) {
      const start = (image * channels + c) * height * width;
      for (let k = start; k < start + height * width; k++) sums.data[c] += g.data[k];
    }
  return sums;
}

function addBias(y, bias) {
  const [n, channels, height, width] = y.shape;
  const plane = height * width;
  for (let k = 0; k < n * channels; k++) y.data.fill(bias.data[k % channels], k * plane, (k + 1) * plane);
}

const conv2d = {
  forward(node, [x], { weight, bias }) {
    const grown = 2 * node.padding - weight.shape[2] + 1;
    const y = zeros([x.shape[0], weight.shape[0], x.shape[2] + grown, x.shape[3] + grown]);
    if (bias) addBias(y, bias);
    correlate(padded(x, node.padding), weight, y);
    return y;
  },
  backward(node, g, [x], { weight, bias }) {
    const [dx, dw] = [zerosLike(x), zerosLike(weight)];
    correlate(padded(g, weight.shape[2] - 1 - node.padding), turned(weight), dx);
    correlateWeights(padded(x, node.padding), g, dw);
    return { inputs: [dx], parameters: bias ? { weight: dw, bias: channelSums(g) } : { weight: dw } };
  },
};

// Every pixel of a channel of x paints its own s x s patch of a channel of y: visit(tap, x, y) for each pair.
function eachPainted(xShape, outputs, stride, visit) {
  const [n, channels, height, width] = xShape;
  for (let image = 0; image < n; image++)
    for (let o = 0; o < outputs; o++)
      for (let c = 0; c < channels; c++)
        for (let i = 0; i < stride; i++)
          for (let j = 0; j < stride; j++) {
            const tap = ((c * outputs + o) * stride + i) * stride + j;
            for (let h = 0; h < height; h++) {
              const x = ((image * channels + c) * height + h) * width;
              const y = ((image * outputs + o) * stride * height + stride * h + i) * stride * width + j;
              for (let k = 0; k < width; k++) visit(tap, x + k, y + stride * k);
            }
          }
}

const conv_transpose2d = {
  forward(node, [x], { weight, bias }) {
    const [, outputs, stride] = weight.shape;
    const y = zeros([x.shape[0], outputs, stride * x.shape[2], stride * x.shape[3]]);
    addBias(y, bias);
    eachPainted(x.shape, outputs, stride, (tap, from, to) => { y.data[to] += weight.data[tap] * x.data[from]; });
    return y;
  },
  backward(node, g, [x], { weight }) {
    const [, outputs, stride] = weight.shape;
    const [dx, dw] = [zerosLike(x), zerosLike(weight)];
    eachPainted(x.shape, outputs, stride, (tap, from, to) => {
      dx.data[from] += weight.data[tap] * g.data[to];
      dw.data[tap] += x.data[from] * g.data[to];
    });
    return { inputs: [dx], parameters: { weight: dw, bias: channelSums(g) } };
  },
};

// y = x m with a factor for each element, that relu and dropout choose: dL/dx = g m.
function scaled(x, factors) {
  const y = zerosLike(x);
  for (let k = 0; k < y.data.length; k++) y.data[k] = factors[k] === 0 ? 0 : x.data[k] * factors[k];
  return y;
}

const relu = {
  forward(node, [x], parameters, state) {
    const passes = state.held ? state.held.passes : Uint8Array.from(x.data, (value) => (value > 0 ? 1 : 0));
    state.keep({ passes });
    return scaled(x, passes);
  },
  backward: (node, g, inputs, parameters, { passes }) => ({ inputs: [scaled(g, passes)], parameters: {} }),
};

const dropout = {
  forward(node, [x], parameters, state) {
    const factors = node.mask
      ? Float64Array.from(node.mask.data, (kept) => kept / (1 - node.p))
      : new Float64Array(x.data.length).fill(1);
    state.keep({ factors });
    return scaled(x, factors);
  },
  backward: (node, g, inputs, parameters, { factors }) => ({ inputs: [scaled(g, factors)], parameters: {} }),
};

const max_pool2d = {
  forward(node, [x], parameters, state) {
    const [n, channels, height, width] = x.shape;
    const y = zeros([n, channels, Math.floor(height / 2), Math.floor(width / 2)]);
    const places = state.held ? state.held.places : chosenPlaces(x, y.shape);
    for (let k = 0; k < places.length; k++) y.data[k] = x.data[places[k]];
    state.keep({ places });
    return y;
  },
  backward(node, g, [x], parameters, { places }) {
    const dx = zerosLike(x);
    for (let k = 0; k < places.length; k++) dx.data[places[k]] += g.data[k];
    return { inputs: [dx], parameters: {} };
  },
};

// For each 2 x 2 window, where in x its largest value lies; of equal ones the first. Odd sides are floored.
function chosenPlaces(x, [n, channels, rows, columns]) {
  const [height, width] = x.shape.slice(2);
  const places = new Int32Array(n * channels * rows * columns);
  let k = 0;
  for (let plane = 0; plane < n * channels; plane++)
    for (let h = 0; h < rows; h++)
      for (let w = 0; w < columns; w++) {
        const first = (plane * height + 2 * h) * width + 2 * w;
        let best = first;
        for (const other of [first + 1, first + width, first + width + 1])
          if (x.data[other] > x.data[best]) best = other;
        places[k++] = best;
      }
  return places;
}

export const EPS = 1e-5; // what batch norm adds to the variance

// Means over N, H, W of each channel of values(k), k being a place in the data.
function channelMeans(shape, values) {
  const [n, channels, height, width] = shape;
  const means = new Float64Array(channels);
  for (let image = 0; image < n; image++)
    for (let c = 0; c < channels; c++) {
      const start = (image * channels + c) * height * width;
      let sum = 0;
      for (let k = start; k < start + height * width; k++) sum += values(k, c);
      means[c] += sum;
    }
  return means.map((sum) => sum / (n * height * width));
}

const batch_norm = {
  forward(node, [x], { weight, bias, running_mean, running_var }, state) {
    const [, channels, height, width] = x.shape;
    const mean = node.training ? channelMeans(x.shape, (k) => x.data[k]) : running_mean.data;
    const variance = node.training ? channelMeans(x.shape, (k, c) => (x.data[k] - mean[c]) ** 2) : running_var.data;
    const r = Float64Array.from(variance, (v) => 1 / Math.sqrt(v + EPS));
    const y = zerosLike(x);
    for (let k = 0; k < y.data.length; k++) {
      const c = Math.floor(k / (height * width)) % channels;
      y.data[k] = weight.data[c] * (x.data[k] - mean[c]) * r[c] + bias.data[c];
    }
    state.keep({ mean, variance, r });
    return y;
  },
  backward(node, g, [x], { weight }, { mean, r }) {
    const [n, channels, height, width] = x.shape;
    const each = n * height * width;
    const normalized = (k, c) => (x.data[k] - mean[c]) * r[c];
    const meanG = channelMeans(x.shape, (k) => g.data[k]);
    const meanGX = channelMeans(x.shape, (k, c) => g.data[k] * normalized(k, c));
    const dx = zerosLike(x);
    for (let k = 0; k < dx.data.length; k++) {
      const c = Math.floor(k / (height * width)) % channels;
      const common = node.training ? meanG[c] + normalized(k, c) * meanGX[c] : 0;
      dx.data[k] = weight.data[c] * r[c] * (g.data[k] - common);
    }
    const sums = (means) => ({ shape: [channels], data: means.map((value) => value * each) });
    return { inputs: [dx], parameters: { weight: sums(meanGX), bias: sums(meanG) } };
  },
};

// Copies the middle of the larger picture to or from the smaller one: visit(small, large), places in their data.
function eachMiddle(small, large, visit) {
  const [top, left] = [2, 3].map((axis) => Math.floor((large[axis] - small[axis]) / 2));
  const [height, width] = small.slice(2);
  for (let plane = 0; plane < small[0] * small[1]; plane++)
    for (let h = 0; h < height; h++)
      for (let w = 0; w < width; w++)
        visit((plane * height + h) * width + w, (plane * large[2] + top + h) * large[3] + left + w);
}

function cut(x, size) {
  const y = zeros([...x.shape.slice(0, 2), ...size]);
  eachMiddle(y.shape, x.shape, (small, large) => { y.data[small] = x.data[large]; });
  return y;
}

function surround(x, size) {
  const y = zeros([...x.shape.slice(0, 2), ...size]);
  eachMiddle(x.shape, y.shape, (small, large) => { y.data[large] = x.data[small]; });
  return y;
}

const center_crop = {
  forward: (node, [x]) => cut(x, node.size),
  backward: (node, g, [x]) => ({ inputs: [surround(g, x.shape.slice(2))], parameters: {} }),
};

const center_pad = {
  forward: (node, [x]) => surround(x, node.size),
  backward: (node, g, [x]) => ({ inputs: [cut(g, x.shape.slice(2))], parameters: {} }),
};

// For each output position of one axis, the two it is mixed of and the share of the second; half-pixel centres, or with
// `corners` the outer positions on each other.
export function mixture(sizeIn, sizeOut, corners) {
  const scale = corners ? (sizeIn - 1) / Math.max(sizeOut - 1, 1) : sizeIn / sizeOut;
  return Array.from({ length: sizeOut }, (_, position) => {
    const source = corners ? position * scale : Math.max((position + 0.5) * scale - 0.5, 0);
    const low = Math.min(Math.floor(source), sizeIn - 1);
    return { low, high: Math.min(low + 1, sizeIn - 1), share: source - low };
  });
}

// The (up to) four pixels that pixel (h, w) of a resized picture is mixed of: [row, column, share].
export function corners(row, column) {
  return [
    [row.low, column.low, (1 - row.share) * (1 - column.share)],
    [row.low, column.high, (1 - row.share) * column.share],
    [row.high, column.low, row.share * (1 - column.share)],
    [row.high, column.high, row.share * column.share],
  ];
}

function eachMixed(from, to, aligned, visit) {
  const [rows, columns] = [mixture(from[2], to[2], aligned), mixture(from[3], to[3], aligned)];
  let k = 0;
  for (let plane = 0; plane < to[0] * to[1]; plane++)
    for (const row of rows)
      for (const column of columns) {
        for (const [h, w, share] of corners(row, column)) visit((plane * from[2] + h) * from[3] + w, k, share);
        k++;
      }
}

const resize = {
  forward(node, [x]) {
    const y = zeros([...x.shape.slice(0, 2), ...node.size]);
    eachMixed(x.shape, y.shape, node.corners, (from, to, share) => { y.data[to] += share * x.data[from]; });
    return y;
  },
  backward(node, g, [x]) {
    const dx = zerosLike(x);
    eachMixed(x.shape, g.shape, node.corners, (from, to, share) => { dx.data[from] += share * g.data[to]; });
    return { inputs: [dx], parameters: {} };
  },
};

const concat = {
  forward(node, [a, b]) {
    const [n, first, height, width] = a.shape;
    const y = zeros([n, first + b.shape[1], height, width]);
    const [own, other] = [first * height * width, b.shape[1] * height * width];
    for (let image = 0; image < n; image++) {
      y.data.set(a.data.subarray(image * own, (image + 1) * own), image * (own + other));
      y.data.set(b.data.subarray(image * other, (image + 1) * other), image * (own + other) + own);
    }
    return y;
  },
  backward(node, g, [a, b]) {
    const [own, other] = [a, b].map((x) => x.shape[1] * x.shape[2] * x.shape[3]);
    const [da, db] = [zerosLike(a), zerosLike(b)];
    for (let image = 0; image < a.shape[0]; image++) {
      const start = image * (own + other);
      da.data.set(g.data.subarray(start, start + own), image * own);
      db.data.set(g.data.subarray(start + own, start + own + other), image * other);
    }
    return { inputs: [da, db], parameters: {} };
  },
};

export function sigmoidOf(value) {
  const small = Math.exp(-Math.abs(value));
  return (value >= 0 ? 1 : small) / (1 + small);
}

// Softmax over the channels of (N, K, H, W), and the logarithm of the sum of exponentials of each pixel.
export function softmaxOf(z) {
  const [n, classes, height, width] = z.shape;
  const plane = height * width;
  const p = zerosLike(z);
  const logSums = new Float64Array(n * plane);
  for (let image = 0; image < n; image++)
    for (let k = 0; k < plane; k++) {
      const start = image * classes * plane + k;
      let top = -Infinity;
      for (let c = 0; c < classes; c++) top = Math.max(top, z.data[start + c * plane]);
      let sum = 0;
      for (let c = 0; c < classes; c++) sum += p.data[start + c * plane] = Math.exp(z.data[start + c * plane] - top);
      for (let c = 0; c < classes; c++) p.data[start + c * plane] /= sum;
      logSums[image * plane + k] = top + Math.log(sum);
    }
  return { p, logSums };
}

const softmax = {
  forward: (node, [z]) => softmaxOf(z).p,
  backward(node, g, [z], parameters, kept, p) {
    const [n, classes, height, width] = z.shape;
    const plane = height * width;
    const dz = zerosLike(z);
    for (let image = 0; image < n; image++)
      for (let k = 0; k < plane; k++) {
        const start = image * classes * plane + k;
        let sum = 0;
        for (let c = 0; c < classes; c++) sum += g.data[start + c * plane] * p.data[start + c * plane];
        for (let c = 0; c < classes; c++) {
          const place = start + c * plane;
          dz.data[place] = p.data[place] * (g.data[place] - sum);
        }
      }
    return { inputs: [dz], parameters: {} };
  },
};

const sigmoid = {
  forward: (node, [z]) => ({ shape: [...z.shape], data: z.data.map(sigmoidOf) }),
  backward(node, g, inputs, parameters, kept, p) {
    const dz = zerosLike(g);
    for (let k = 0; k < dz.data.length; k++) dz.data[k] = g.data[k] * p.data[k] * (1 - p.data[k]);
    return { inputs: [dz], parameters: {} };
  },
};

// What pixel k of a loss that is a mean over pixels counts: its weight, or 1, divided by the number of pixels.
export function pixelFactor(node, k) {
  return (node.weight ? node.weight.data[k] : 1) / node.target.data.length;
}

const cross_entropy = {
  forward(node, [z], parameters, state) {
    const { p, logSums } = softmaxOf(z);
    const [, classes, height, width] = z.shape;
    const plane = height * width;
    const each = logSums.map((logSum, k) => {
      const [image, pixel] = [Math.floor(k / plane), k % plane];
      return logSum - z.data[(image * classes + node.target.data[k]) * plane + pixel];
    });
    state.keep({ p, each });
    let loss = 0;
    for (let k = 0; k < each.length; k++) loss += pixelFactor(node, k) * each[k];
    return { shape: [], data: Float64Array.of(loss) };
  },
  backward(node, g, [z], parameters, { p }) {
    const [n, classes, height, width] = z.shape;
    const plane = height * width;
    const dz = zerosLike(z);
    for (let image = 0; image < n; image++)
      for (let c = 0; c < classes; c++)
        for (let k = 0; k < plane; k++) {
          const [place, pixel] = [(image * classes + c) * plane + k, image * plane + k];
          const wanted = node.target.data[pixel] === c ? 1 : 0;
          dz.data[place] = g.data[0] * pixelFactor(node, pixel) * (p.data[place] - wanted);
        }
    return { inputs: [dz], parameters: {} };
  },
};

const bce_with_logits = {
  forward(node, [z], parameters, state) {
    const each = z.data.map((x, k) => Math.max(x, 0) - x * node.target.data[k] + Math.log1p(Math.exp(-Math.abs(x))));
    state.keep({ p: { shape: z.shape, data: z.data.map(sigmoidOf) }, each });
    let loss = 0;
    for (let k = 0; k < each.length; k++) loss += pixelFactor(node, k) * each[k];
    return { shape: [], data: Float64Array.of(loss) };
  },
  backward(node, g, [z], parameters, { p }) {
    const dz = zerosLike(z);
    for (let k = 0; k < dz.data.length; k++)
      dz.data[k] = g.data[0] * pixelFactor(node, k) * (p.data[k] - node.target.data[k]);
    return { inputs: [dz], parameters: {} };
  },
};

// Whether the pixel's class is c; of one logit the only class is the foreground, 1.
export function isOfClass(node, classes, pixel, c) {
  return node.target.data[pixel] === (classes === 1 ? 1 : c) ? 1 : 0;
}

const dice = {
  forward(node, [p], parameters, state) {
    const [n, classes, height, width] = p.shape;
    const plane = height * width;
    const overlap = new Float64Array(classes);
    const size = new Float64Array(classes);
    for (let image = 0; image < n; image++)
      for (let c = 0; c < classes; c++)
        for (let k = 0; k < plane; k++) {
          const value = p.data[(image * classes + c) * plane + k];
          const wanted = isOfClass(node, classes, image * plane + k, c);
          overlap[c] += value * wanted;
          size[c] += value + wanted;
        }
    state.keep({ overlap, size });
    let loss = 1;
    for (let c = 0; c < classes; c++) loss -= (2 * overlap[c] + 1) / (size[c] + 1) / classes;
    return { shape: [], data: Float64Array.of(loss) };
  },
  backward(node, g, [p], parameters, kept) {
    const [n, classes, height, width] = p.shape;
    const plane = height * width;
    const dp = zerosLike(p);
    for (let image = 0; image < n; image++)
      for (let c = 0; c < classes; c++)
        for (let k = 0; k < plane; k++)
          dp.data[(image * classes + c) * plane + k] =
            g.data[0] * diceSlope(kept, classes, c, isOfClass(node, classes, image * plane + k, c));
    return { inputs: [dp], parameters: {} };
  },
};

// d(dice)/dp of a pixel whose coding for class c is `wanted`:  ((2 O + 1) - 2 t (S + 1)) / (K (S + 1)^2).
export function diceSlope({ overlap, size }, classes, c, wanted) {
  return (2 * overlap[c] + 1 - 2 * wanted * (size[c] + 1)) / (classes * (size[c] + 1) ** 2);
}

const add = {
  forward: (node, [a, b]) => ({ shape: [...a.shape], data: a.data.map((value, k) => value + b.data[k]) }),
  backward: (node, g) => ({ inputs: [g, g], parameters: {} }),
};

export const OPERATIONS = {
  conv2d, conv_transpose2d, relu, dropout, max_pool2d, batch_norm, center_crop, center_pad, resize, concat,
  softmax, sigmoid, cross_entropy, bce_with_logits, dice, add,
};
