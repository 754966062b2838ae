// Softmax and sigmoid, and the losses: cross entropy of many classes and of one logit, Dice, and their sum.

import { zerosLike } from "./tensors.js";

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

export const softmax = {
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

export const sigmoid = {
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

export const cross_entropy = {
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

export const bce_with_logits = {
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

export const dice = {
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

export const add = {
  forward: (node, [a, b]) => ({ shape: [...a.shape], data: a.data.map((value, k) => value + b.data[k]) }),
  backward: (node, g) => ({ inputs: [g, g], parameters: {} }),
};
