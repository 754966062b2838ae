// Operations that let some elements through: relu and max pooling by their size, dropout by its mask.

import { zeros, zerosLike } from "./tensors.js";

// y = x m with a factor for each element, that relu and dropout choose: dL/dx = g m.
function scaled(x, factors) {
  const y = zerosLike(x);
  for (let k = 0; k < y.data.length; k++) y.data[k] = factors[k] === 0 ? 0 : x.data[k] * factors[k];
  return y;
}

function positive(data) {
  const passes = new Uint8Array(data.length);
  for (let k = 0; k < data.length; k++) passes[k] = data[k] > 0 ? 1 : 0;
  return passes;
}

export const relu = {
  forward(node, [x], parameters, state) {
    const passes = state.held ? state.held.passes : positive(x.data);
    state.keep({ passes });
    return scaled(x, passes);
  },
  backward: (node, g, inputs, parameters, { passes }) => ({ inputs: [scaled(g, passes)], parameters: {} }),
};

export const dropout = {
  forward(node, [x], parameters, state) {
    const factors = node.mask
      ? Float64Array.from(node.mask.data, (kept) => kept / (1 - node.p))
      : new Float64Array(x.data.length).fill(1);
    state.keep({ factors });
    return scaled(x, factors);
  },
  backward: (node, g, inputs, parameters, { factors }) => ({ inputs: [scaled(g, factors)], parameters: {} }),
};

export const max_pool2d = {
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
