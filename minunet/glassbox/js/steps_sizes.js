// Between two levels of the U: max pooling and where its gradient goes, up-convolution as scatter.

import { OPERATIONS } from "./operations.js";
import { parametersOf } from "./network.js";
import { around, blank, cells, compared, panel, partOf, placeIn, producer, useBy, whole } from "./steps.js";
import { at } from "./tensors.js";
import { named, shown } from "./words.js";

const WINDOW = [[0, 0], [0, 1], [1, 0], [1, 1]];

export const pool = {
  title: "max pool: the choice, and where the gradient goes",
  about: "Of each 2 × 2 window the largest number goes on, of equal ones the first. On the way back the whole gradient " +
    "goes to the one that was chosen, the other three get 0.",
  fits: (run, name) => producer(run, name)?.op === "max_pool2d" || Boolean(useBy(run, name, "max_pool2d")),
  make(run, name, [n, c, h, w]) {
    const own = producer(run, name);
    const node = own?.op === "max_pool2d" ? own : useBy(run, name, "max_pool2d");
    const [source, shape] = [node.inputs[0], run.values[node.name].shape];
    const [row, column] = node === own ? [h, w] : [h, w].map((place, k) => Math.min(shape[2 + k] - 1, Math.floor(place / 2)));
    const to = around(shape, row, column, 1);
    const from = { top: 2 * to.top, left: 2 * to.left, height: 2 * to.height, width: 2 * to.width };
    const [x, g] = [partOf(run.values[source], [n, c], from), partOf(run.gradients[node.name], [n, c], to)];
    const [windows, title] = [cells(to), { x: `${source}, channel ${c}`, y: `${node.name}, channel ${c}` }];
    const places = windows.map(([a, b]) => WINDOW.map(([i, j]) => placeIn(from, [2 * a + i, 2 * b + j])));

    const look = (k, corner) => ({ y, chosen }) => {
      const place = places[k][corner];
      const before = y[k];
      const taken = corner === 0 || x[place] > before;
      if (taken) [y[k], chosen[k]] = [x[place], place];
      return { k, place, before, taken };
    };
    const route = (k) => ({ dx, chosen }) => {
      dx[chosen[k]] += g[k];
      return { k, place: chosen[k], routed: true };
    };
    // What pooling alone gives back: a skip's tensor has another use, whose share is added to this.
    const share = OPERATIONS.max_pool2d.backward(node, run.gradients[node.name], [run.values[source]], {}, run.kept[node.name]).inputs[0];

    return {
      start: () => ({ y: blank(windows.length), chosen: new Int32Array(windows.length), dx: new Float64Array(x.length) }),
      steps: [...windows.flatMap((_, k) => WINDOW.map((_, corner) => look(k, corner))), ...windows.map((_, k) => route(k))],
      view({ y, dx }, now) {
        const before = [panel(title.x, from, x, now ? [now.place] : []), panel(title.y, to, y, now ? [now.k] : [])];
        if (!now) return { caption: `${windows.length} windows, four looks each; then a gradient each`, panels: before };
        const [source_, pooled] = [[n, c, ...cells(from)[now.place]], [n, c, ...windows[now.k]]];
        if (now.routed)
          return {
            caption: `${named("gradients", node.name, pooled)} = ${shown(g[now.k])} goes to ${named("values", source, source_)}, which had been chosen`,
            panels: [panel(`gradient of ${title.y}`, to, g, [now.k]), panel(`gradient of ${title.x}, pooling's share`, from, dx, [now.place])],
          };
        const value = shown(x[now.place]);
        const text = Number.isNaN(now.before) ? `${value} is the first of its window` : now.taken
          ? `${value} is larger than ${shown(now.before)} and takes its place`
          : `${value} is not larger than ${shown(now.before)}, which stays`;
        return { caption: `${named("values", source, source_)} = ${text}`, panels: before };
      },
      ends: ({ y, dx }) => [...compared("y", y, run.values[node.name], [n, c], to), ...compared("dx", dx, share, [n, c], from)],
    };
  },
};

export const scatter = {
  title: "up-convolution: every pixel paints a patch",
  about: "Each input number, times a small kernel, is painted onto its own patch of the output; the patches of all input " +
    "channels lie on each other and add up.",
  fits: (run, name) => producer(run, name)?.op === "conv_transpose2d",
  make(run, name, [n, o, h, w]) {
    const node = producer(run, name);
    const source = node.inputs[0];
    const { weight, bias } = parametersOf(node, run.values);
    const [channels, , s] = weight.shape;
    const from = around(run.values[source].shape, Math.floor(h / s), Math.floor(w / s), 1);
    const to = { top: s * from.top, left: s * from.left, height: s * from.height, width: s * from.width };
    const [pixels, patch, chosen] = [cells(from), whole([s, s]), placeIn(to, [h, w])];
    const patchOf = ([a, b]) => cells(patch).map(([i, j]) => placeIn(to, [s * a + i, s * b + j]));

    const paint = (c, k) => ({ y }) => {
      const value = at(run.values[source], [n, c, ...pixels[k]]);
      const before = y[chosen];
      const places = patchOf(pixels[k]);
      cells(patch).forEach(([i, j], one) => { y[places[one]] += value * at(weight, [c, o, i, j]); });
      return { c, k, value, before, places };
    };
    const start = at(bias, [o]);

    return {
      start: () => ({ y: new Float64Array(to.height * to.width).fill(start) }),
      steps: Array.from({ length: channels }, (_, c) => pixels.map((_, k) => paint(c, k))).flat(),
      view({ y }, now) {
        const c = now?.c ?? 0;
        const kernel = partOf(weight, [c, o], patch);
        const corner = now && now.places.indexOf(chosen);
        return {
          caption: now
            ? `${named("values", source, [n, c, ...pixels[now.k]])} = ${shown(now.value)} times the kernel from channel ${c} to ${o}` +
              (corner >= 0 ? `. ${named("values", name, [n, o, h, w])}: ${shown(now.before)} + ${shown(now.value)} · ${shown(kernel[corner])} = ${shown(y[chosen])}` : "")
            : `It begins with bias[${o}] = ${shown(start)} everywhere`,
          panels: [panel(`${source}, channel ${c}`, from, partOf(run.values[source], [n, c], from), now ? [now.k] : []),
            panel(`weight[${c}, ${o}]`, patch, kernel, now ? cells(patch).map((_, k) => k) : []),
            panel(`${name}, channel ${o}`, to, y, now ? now.places : [chosen])],
        };
      },
      ends: ({ y }) => compared("y", y, run.values[name], [n, o], to),
    };
  },
};
