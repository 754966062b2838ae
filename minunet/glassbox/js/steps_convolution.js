// Convolution as a matrix product: im2col on the way there, col2im on the way back.

import { around, blank, cells, compared, panel, partOf, placeIn, producer, useBy, valueAt, whole } from "./steps.js";
import { parametersOf } from "./network.js";
import { at } from "./tensors.js";
import { named, shown } from "./words.js";

const tapsOf = (channels, kernel) => Array.from({ length: channels * kernel * kernel }, (_, tap) =>
  [Math.floor(tap / kernel ** 2), Math.floor(tap / kernel) % kernel, tap % kernel]);

export const im2col = {
  title: "im2col: a convolution becomes one matrix product",
  about: "Each output position becomes a column: the numbers that the kernel covers there, copied one under the other. " +
    "Then the weights, as one row, times this matrix are the outputs.",
  fits: (run, name) => producer(run, name)?.op === "conv2d",
  make(run, name, [n, o, h, w]) {
    const node = producer(run, name);
    const { padding, inputs: [source] } = node;
    const x = run.values[source];
    const { weight, bias } = parametersOf(node, run.values);
    const kernel = weight.shape[2];
    const to = around(run.values[name].shape, h, w, 1);
    const from = { top: to.top - padding, left: to.left - padding, height: to.height + kernel - 1, width: to.width + kernel - 1 };
    const [positions, taps, chosen] = [cells(to), tapsOf(weight.shape[1], kernel), placeIn(to, [h, w])];
    const labels = positions.map(([row, column]) => `${row},${column}`);

    const copy = (tap, position) => (state) => {
      const [c, i, j] = taps[tap];
      const [row, column] = positions[position];
      const place = [row + i - padding, column + j - padding];
      const value = valueAt(x, [n, c, ...place]);
      state.columns[tap * positions.length + position] = value;
      return { tap, position, place, value };
    };
    const multiply = (tap) => (state) => {
      const [factor, before] = [at(weight, [o, ...taps[tap]]), state.y[chosen]];
      for (let k = 0; k < positions.length; k++) state.y[k] += factor * state.columns[tap * positions.length + k];
      return { tap, factor, before };
    };
    // The rows of one channel: all of the matrix would be too many to see.
    const matrix = ({ columns }, tap, marks) => {
      const first = tap - (tap % kernel ** 2);
      return {
        title: `columns, the rows of channel ${taps[tap][0]}`,
        rows: taps.slice(first, first + kernel ** 2).map(([, i, j]) => `${i},${j}`),
        columns: labels,
        data: columns.subarray(first * positions.length, (first + kernel ** 2) * positions.length),
        marks: marks.map((place) => (tap - first) * positions.length + place),
      };
    };
    const everywhere = positions.map((_, k) => k);

    return {
      start: () => ({ columns: blank(taps.length * positions.length), y: new Float64Array(positions.length).fill(bias ? at(bias, [o]) : 0) }),
      steps: [
        ...taps.flatMap((_, tap) => positions.map((_, position) => copy(tap, position))),
        ...taps.map((_, tap) => multiply(tap)),
      ],
      view(state, now) {
        const tap = now?.tap ?? 0;
        const [c, i, j] = taps[tap];
        if (now?.factor !== undefined) {
          const product = `${shown(now.before)} + ${shown(now.factor)} · ${shown(state.columns[tap * positions.length + chosen])}`;
          return {
            caption: `weight[${o}, ${c}, ${i}, ${j}] = ${shown(now.factor)} times row (${c}, ${i}, ${j}) is added to y. ` +
              `${named("values", name, [n, o, h, w])}: ${product} = ${shown(state.y[chosen])}`,
            panels: [
              panel(`weight[${o}, ${c}]`, whole([kernel, kernel]), partOf(weight, [o, c], whole([kernel, kernel])), [tap % kernel ** 2]),
              matrix(state, tap, everywhere), panel(`y, channel ${o}`, to, state.y, everywhere),
            ],
          };
        }
        const picture = panel(`x, channel ${c}`, from, partOf(x, [n, c], from), now ? [placeIn(from, now.place)] : []);
        return {
          caption: now
            ? `${named("values", source, [n, c, ...now.place])} = ${shown(now.value)} is copied to row (${c}, ${i}, ${j}), the column of ` +
              `output (${positions[now.position]})${isPadding(x.shape, now.place) ? ": it lies outside, where padding is 0" : ""}`
            : `${taps.length} × ${positions.length} copies, then ${taps.length} rows times a weight each`,
          panels: [picture, matrix(state, tap, now ? [now.position] : [])],
        };
      },
      ends: ({ y }) => compared("y", y, run.values[name], [n, o], to),
    };
  },
};

function isPadding(shape, [row, column]) {
  return row < 0 || column < 0 || row >= shape[2] || column >= shape[3];
}

export const col2im = {
  title: "col2im: the gradient of a convolution's input",
  about: "Transposed weights times the outputs' gradients are the gradients of the columns. Each goes back to where " +
    "im2col had copied from; what was copied several times gets a sum.",
  fits: (run, name) => Boolean(useBy(run, name, "conv2d")) && Boolean(run.gradients[name]),
  make(run, name, [n, c, a, b]) {
    const node = useBy(run, name, "conv2d");
    const { weight } = parametersOf(node, run.values);
    const [outputs, , kernel] = weight.shape;
    const g = run.gradients[node.name];
    const to = around(run.values[name].shape, a, b, 1);
    const from = touching(to, kernel, node.padding, g.shape);
    const [positions, chosen] = [cells(from), placeIn(to, [a, b])];
    const columnGradient = (i, j, [h, w]) => {
      let sum = 0;
      for (let o = 0; o < outputs; o++) sum += at(weight, [o, c, i, j]) * at(g, [n, o, h, w]);
      return sum;
    };
    const rows = tapsOf(1, kernel).map(([, i, j]) => Float64Array.from(positions, (position) => columnGradient(i, j, position)));

    const add = (i, j, position, place) => ({ dx }) => {
      const value = rows[i * kernel + j][position];
      const before = dx[place];
      dx[place] += value;
      return { i, j, position, place, value, before };
    };
    const steps = tapsOf(1, kernel).flatMap(([, i, j]) => positions.flatMap(([h, w], position) => {
      const place = placeIn(to, [h + i - node.padding, w + j - node.padding]);
      return place < 0 ? [] : [add(i, j, position, place)];
    }));

    return {
      start: () => ({ dx: new Float64Array(to.height * to.width) }),
      steps,
      view({ dx }, now) {
        const { i, j } = now ?? { i: 0, j: 0 };
        const title = `row (${c}, ${i}, ${j}) of weightᵀ · g, by output position`;
        return {
          caption: now
            ? `Σ_o weight[o, ${c}, ${i}, ${j}] · g[${n}, o, ${positions[now.position].join(", ")}] = ${shown(now.value)} is added to ` +
              `${named("gradients", name, [n, c, ...cells(to)[now.place]])}: ${shown(now.before)} + ${shown(now.value)} = ${shown(dx[now.place])}`
            : `${steps.length} numbers of the columns' gradients are added to ${dx.length} of the input's`,
          panels: [panel(title, from, rows[i * kernel + j], now ? [now.position] : []),
            panel(`gradient of ${name}, channel ${c}`, to, dx, [now ? now.place : chosen])],
        };
      },
      ends: ({ dx }) => compared("dx", dx, run.gradients[name], [n, c], to),
    };
  },
};

// The outputs that a part of the input takes part in.
function touching({ top, left, height, width }, kernel, padding, shape) {
  const span = (start, length, side) => [Math.max(0, start + padding - kernel + 1), Math.min(side, start + length + padding)];
  const [[firstRow, endRow], [firstColumn, endColumn]] = [span(top, height, shape[2]), span(left, width, shape[3])];
  return { top: firstRow, left: firstColumn, height: endRow - firstRow, width: endColumn - firstColumn };
}
