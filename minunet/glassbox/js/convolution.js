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

export const conv_transpose2d = {
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
