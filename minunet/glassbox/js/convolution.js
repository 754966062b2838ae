// Convolution and transposed convolution, as loops over rows: their speed is that of the page.

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

// Every row of y with every channel of the padded x that it is made of: visit(tap, x, y), where tap is the place of
// weight[o, c, 0, 0], and x and y are those of the first numbers.
function eachRow(x, y, kernel, visit) {
  const [n, channels, height, width] = x.shape;
  const [, outputs, rows, columns] = y.shape;
  for (let image = 0; image < n; image++)
    for (let o = 0; o < outputs; o++)
      for (let c = 0; c < channels; c++) {
        const tap = (o * channels + c) * kernel * kernel;
        const from = (image * channels + c) * height * width;
        const to = (image * outputs + o) * rows * columns;
        for (let h = 0; h < rows; h++) visit(tap, from + h * width, to + h * columns);
      }
}

// y[n,o,h,w] += sum over c, i, j of x[n,c,h+i,w+j] weight[o,c,i,j], x padded; the nine taps of a kernel of 3 at once.
function correlate(x, weight, y) {
  const kernel = weight.shape[2];
  const [width, length] = [x.shape[3], y.shape[3]];
  const [from, to, w] = [x.data, y.data, weight.data];
  eachRow(x, y, kernel, kernel === 3
    ? (tap, xStart, yStart) => {
      const [a, b, c] = [w[tap], w[tap + 1], w[tap + 2]];
      const [d, e, f] = [w[tap + 3], w[tap + 4], w[tap + 5]];
      const [p, q, r] = [w[tap + 6], w[tap + 7], w[tap + 8]];
      for (let k = 0; k < length; k++) {
        const one = xStart + k;
        const two = one + width;
        const three = two + width;
        to[yStart + k] += a * from[one] + b * from[one + 1] + c * from[one + 2] + d * from[two] + e * from[two + 1] +
          f * from[two + 2] + p * from[three] + q * from[three + 1] + r * from[three + 2];
      }
    }
    : (tap, xStart, yStart) => eachTap(kernel, width, (one, place) => {
      for (let k = 0; k < length; k++) to[yStart + k] += w[tap + one] * from[xStart + place + k];
    }));
}

// dw[o,c,i,j] += sum over n, h, w of g[n,o,h,w] x[n,c,h+i,w+j], x padded.
function correlateWeights(x, g, dw) {
  const kernel = dw.shape[2];
  const [width, length] = [x.shape[3], g.shape[3]];
  const [from, upstream, sums] = [x.data, g.data, dw.data];
  eachRow(x, g, kernel, kernel === 3
    ? (tap, xStart, yStart) => {
      for (let i = 0; i < 3; i++) {
        let [a, b, c] = [0, 0, 0];
        const start = xStart + i * width;
        for (let k = 0; k < length; k++) {
          const value = upstream[yStart + k];
          a += value * from[start + k];
          b += value * from[start + k + 1];
          c += value * from[start + k + 2];
        }
        sums[tap + 3 * i] += a;
        sums[tap + 3 * i + 1] += b;
        sums[tap + 3 * i + 2] += c;
      }
    }
    : (tap, xStart, yStart) => eachTap(kernel, width, (one, place) => {
      for (let k = 0; k < length; k++) sums[tap + one] += upstream[yStart + k] * from[xStart + place + k];
    }));
}

// Every tap of a kernel: its number, and where it reads from the first number on.
function eachTap(kernel, width, visit) {
  for (let i = 0; i < kernel; i++)
    for (let j = 0; j < kernel; j++) visit(i * kernel + j, i * width + j);
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

export const conv2d = {
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

// Every pixel of a channel of x paints its own s x s patch of a channel of y. visit(tap, x, y) for every row of x and each
// of the taps; y[n,o,sh+i,sw+j] lies at y + s w.
function eachPaintedRow(xShape, outputs, stride, visit) {
  const [n, channels, height, width] = xShape;
  for (let image = 0; image < n; image++)
    for (let o = 0; o < outputs; o++)
      for (let c = 0; c < channels; c++)
        for (let i = 0; i < stride; i++)
          for (let j = 0; j < stride; j++) {
            const tap = ((c * outputs + o) * stride + i) * stride + j;
            for (let h = 0; h < height; h++) {
              const from = ((image * channels + c) * height + h) * width;
              visit(tap, from, ((image * outputs + o) * stride * height + stride * h + i) * stride * width + j);
            }
          }
}

export const conv_transpose2d = {
  forward(node, [x], { weight, bias }) {
    const [, outputs, stride] = weight.shape;
    const width = x.shape[3];
    const y = zeros([x.shape[0], outputs, stride * x.shape[2], stride * width]);
    addBias(y, bias);
    const [from, to, w] = [x.data, y.data, weight.data];
    eachPaintedRow(x.shape, outputs, stride, (tap, xStart, yStart) => {
      for (let k = 0; k < width; k++) to[yStart + stride * k] += w[tap] * from[xStart + k];
    });
    return y;
  },
  backward(node, g, [x], { weight }) {
    const [, outputs, stride] = weight.shape;
    const width = x.shape[3];
    const [dx, dw] = [zerosLike(x), zerosLike(weight)];
    const [from, upstream, w, share, sums] = [x.data, g.data, weight.data, dx.data, dw.data];
    eachPaintedRow(x.shape, outputs, stride, (tap, xStart, yStart) => {
      let sum = 0;
      for (let k = 0; k < width; k++) {
        const value = upstream[yStart + stride * k];
        share[xStart + k] += w[tap] * value;
        sum += from[xStart + k] * value;
      }
      sums[tap] += sum;
    });
    return { inputs: [dx], parameters: { weight: dw, bias: channelSums(g) } };
  },
};
