// Where a skip joins, and where its gradient meets the other one: a concat is split, and gradients add.

import { OPERATIONS } from "./operations.js";
import { parametersOf } from "./network.js";
import { around, blank, cells, compared, panel, producer, row, useBy, usesOf } from "./steps.js";
import { at } from "./tensors.js";
import { named, shown } from "./words.js";

const numbers = (from, length) => Array.from({ length }, (_, k) => String(from + k));

export const concat = {
  title: "concat: channels side by side, and the gradient split",
  about: "At every pixel the skip's channels come first, then those of the up path. The gradient goes back the same way: " +
    "each channel's to where the channel came from, unchanged.",
  fits: (run, name) => producer(run, name)?.op === "concat" || Boolean(useBy(run, name, "concat")),
  make(run, name, index) {
    const own = producer(run, name);
    const node = own?.op === "concat" ? own : useBy(run, name, "concat");
    const [n, , h, w] = index;
    const [skip, up] = node.inputs;
    const [first, second] = node.inputs.map((input) => run.values[input].shape[1]);
    const from = (channel) => (channel < first ? { k: 0, input: skip, c: channel } : { k: 1, input: up, c: channel - first });

    const copy = (channel) => (state) => {
      const { k, input, c } = from(channel);
      const value = at(run.values[input], [n, c, h, w]);
      state.y[channel] = value;
      return { channel, k, input, c, value };
    };
    const split = (channel) => (state) => {
      const { k, input, c } = from(channel);
      const value = at(run.gradients[node.name], [n, channel, h, w]);
      state.shares[k][c] = value;
      return { channel, k, input, c, value, back: true };
    };
    const channels = Array.from({ length: first + second }, (_, channel) => channel);
    const parts = (values) => [values.slice(0, first), values.slice(first)];
    const all = (kind) => Float64Array.from(channels, (channel) => at(run[kind][node.name], [n, channel, h, w]));
    const inputs = parts(Float64Array.from(channels, (channel) => at(run.values[from(channel).input], [n, from(channel).c, h, w])));
    const share = OPERATIONS.concat.backward(node, run.gradients[node.name], node.inputs.map((input) => run.values[input])).inputs;
    const where = `at row ${h}, column ${w}`;

    return {
      start: () => ({ y: blank(first + second), shares: [blank(first), blank(second)] }),
      steps: [...channels.map(copy), ...channels.map(split)],
      view({ y, shares }, now) {
        const marked = (k) => (now && now.k === k ? [now.c] : []);
        const sources = (values, prefix) => [row(`${prefix}${skip}, its channels`, numbers(0, first), values[0], marked(0)),
          row(`${prefix}${up}, its channels`, numbers(0, second), values[1], marked(1))];
        const joint = (prefix, values) => row(`${prefix}${node.name}, its channels`, numbers(0, first + second), values, now ? [now.channel] : []);
        if (!now) return { caption: `${first} + ${second} channels ${where}, then as many gradients`, panels: [...sources(inputs, ""), joint("", y)] };
        const [source, target] = [[n, now.c, h, w], [n, now.channel, h, w]];
        if (now.back)
          return {
            caption: `${named("gradients", node.name, target)} = ${shown(now.value)} goes to ${now.input}, channel ${now.c}`,
            panels: [joint("gradient of ", all("gradients")), ...sources(shares, "share of ")],
          };
        return {
          caption: `${named("values", now.input, source)} = ${shown(now.value)} becomes channel ${now.channel} of ${node.name}`,
          panels: [...sources(inputs, ""), joint("", y)],
        };
      },
      ends({ y, shares }) {
        const expected = all("values");
        const given = shares.flatMap((values, k) => Array.from(values, (value, c) =>
          ({ label: "share", found: value, expected: at(share[k], [n, c, h, w]) })));
        return [...channels.map((channel) => ({ label: "y", found: y[channel], expected: expected[channel] })), ...given];
      },
    };
  },
};

export const skip = {
  title: "the gradients add: a result that is used twice",
  about: "What is used twice, as the last result of a level is by its pooling and by the skip, moves the loss in two ways. " +
    "So its gradient is the sum of what both uses hand back.",
  fits: (run, name) => usesOf(run, name).length > 1 && run.values[name].shape.length === 4 && Boolean(run.gradients[name]),
  make(run, name, [n, c, h, w]) {
    const part = around(run.values[name].shape, h, w, 1);
    const uses = usesOf(run, name).reverse(); // as the walk meets them
    const shares = uses.map(({ node, k }) => OPERATIONS[node.op].backward(node, run.gradients[node.name],
      node.inputs.map((input) => run.values[input]), parametersOf(node, run.values), run.kept[node.name], run.values[node.name]).inputs[k]);
    const places = cells(part);

    const add = (use, k) => (state) => {
      const [before, value] = [state.sum[k], at(shares[use], [n, c, ...places[k]])];
      state.given[use][k] = value;
      state.sum[k] += value;
      return { use, k, before, value };
    };

    return {
      start: () => ({ given: uses.map(() => blank(places.length)), sum: new Float64Array(places.length) }),
      steps: uses.flatMap((_, use) => places.map((_, k) => add(use, k))),
      view({ given, sum }, now) {
        return {
          caption: now
            ? `${uses[now.use].node.name} hands back ${shown(now.value)}. ${named("gradients", name, [n, c, ...places[now.k]])}: ` +
              `${shown(now.before)} + ${shown(now.value)} = ${shown(sum[now.k])}`
            : `${uses.length} uses: ${uses.map(({ node }) => node.name).join(", ")}`,
          panels: [...uses.map(({ node }, use) => panel(`share from ${node.name}`, part, given[use], now?.use === use ? [now.k] : [])),
            panel(`gradient of ${name}, channel ${c}`, part, sum, now ? [now.k] : [])],
        };
      },
      ends: ({ sum }) => compared("gradient", sum, run.gradients[name], [n, c], part),
    };
  },
};
