// Batch norm, by the statistics of the batch or by the running ones.

import { zerosLike } from "./tensors.js";

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

export const batch_norm = {
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
