// What brings pictures to each other's size, and joins them: crop, pad, bilinear resize, concat.

import { zeros, zerosLike } from "./tensors.js";

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

export const center_crop = {
  forward: (node, [x]) => cut(x, node.size),
  backward: (node, g, [x]) => ({ inputs: [surround(g, x.shape.slice(2))], parameters: {} }),
};

export const center_pad = {
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

export const resize = {
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

export const concat = {
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
