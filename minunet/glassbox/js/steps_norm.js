// Batch norm of one channel: two statistics, then every number by them; on the way back two sums, then every gradient.

import { EPS } from "./normalization.js";
import { parametersOf } from "./network.js";
import { around, blank, cells, compared, panel, partOf, producer, row } from "./steps.js";
import { named, shown } from "./words.js";

export const batch_norm = {
  title: "batch norm: statistics of a channel, and their gradient",
  about: "In training the mean and the variance of all numbers of a channel make it (x − mean) / √(var + ε), then weight and " +
    "bias follow. Each number moves both statistics, so two sums come back to every gradient.",
  fits: (run, name) => producer(run, name)?.op === "batch_norm",
  make(run, name, [n, c, h, w]) {
    const node = producer(run, name);
    const [x, g] = [run.values[node.inputs[0]], run.gradients[name]];
    const own = Object.fromEntries(Object.entries(parametersOf(node, run.values)).map(([kind, { data }]) => [kind, data[c]]));
    const [images, , height, width] = x.shape;
    const each = images * height * width;
    const part = around(x.shape, h, w, 1);
    const places = cells(part);
    const [xs, gs] = [partOf(x, [n, c], part), partOf(g, [n, c], part)];
    const lines = Array.from({ length: images * height }, (_, k) => [Math.floor(k / height), k % height]);
    const lineOf = (tensor, [image, line]) => {
      const start = ((image * x.shape[1] + c) * height + line) * width;
      return tensor.data.subarray(start, start + width);
    };
    const sum = (values, visit) => values.reduce((total, value, k) => total + visit(value, k), 0);
    const hat = (state, value) => (value - state.mean) * state.r;

    // A row of the plane goes into a sum, a step each.
    const gather = (kind, line, visit) => (state) => {
      const before = state[kind];
      state[kind] += visit(state, line);
      return { kind, line, before };
    };
    const finish = (kind, text, visit) => (state) => {
      state[kind] = visit(state);
      return { kind, text };
    };
    const statistics = [
      ...lines.map((line) => gather("sum", line, () => sum(lineOf(x, line), (value) => value))),
      finish("mean", `the sum divided by ${each} is the mean`, (state) => state.sum / each),
      ...lines.map((line) => gather("squares", line, (state) => sum(lineOf(x, line), (value) => (value - state.mean) ** 2))),
      finish("var", `the squares' sum divided by ${each} is the variance`, (state) => state.squares / each),
    ];
    const sums = [
      ...lines.map((line) => gather("sumG", line, () => sum(lineOf(g, line), (value) => value))),
      ...lines.map((line) => gather("sumGX", line,
        (state) => sum(lineOf(g, line), (value, k) => value * hat(state, lineOf(x, line)[k])))),
    ];
    const normalize = (k) => (state) => {
      state.y[k] = own.weight * hat(state, xs[k]) + own.bias;
      return { k, value: state.y[k], text: `${shown(own.weight)} · (${shown(xs[k])} − ${shown(state.mean)}) · ${shown(state.r)} + ${shown(own.bias)}` };
    };
    const back = (k) => (state) => {
      const common = node.training ? (state.sumG + hat(state, xs[k]) * state.sumGX) / each : 0;
      state.dx[k] = own.weight * state.r * (gs[k] - common);
      const less = node.training ? ` − (${shown(state.sumG)} + ${shown(hat(state, xs[k]))} · ${shown(state.sumGX)}) / ${each}` : "";
      return { k, back: true, value: state.dx[k], text: `${shown(own.weight)} · ${shown(state.r)} · (${shown(gs[k])}${less})` };
    };

    const LABELS = { sum: "Σ x", mean: "mean", squares: "Σ (x − mean)²", var: "var", r: "1 / √(var + ε)", sumG: "Σ g", sumGX: "Σ g x̂" };
    return {
      start: () => ({
        sum: 0, squares: 0, sumG: 0, sumGX: 0, r: NaN, y: blank(places.length), dx: blank(places.length),
        mean: node.training ? NaN : own.running_mean, var: node.training ? NaN : own.running_var,
      }),
      steps: [
        ...(node.training ? statistics : []),
        finish("r", `1 / √(var + ε), ε = ${EPS}`, (state) => 1 / Math.sqrt(state.var + EPS)),
        ...places.map((_, k) => normalize(k)), ...sums, ...places.map((_, k) => back(k)),
      ],
      view(state, now) {
        const kinds = Object.keys(LABELS);
        const table = row(`channel ${c}`, Object.values(LABELS), Float64Array.from(kinds, (kind) => state[kind]),
          now?.kind ? [kinds.indexOf(now.kind)] : []);
        const marks = now?.k === undefined ? [] : [now.k];
        const wayBack = now?.back || now?.kind === "sumG" || now?.kind === "sumGX";
        const panels = [table, ...(wayBack
          ? [panel(`gradient of ${name}`, part, gs, marks), panel(`gradient of ${node.inputs[0]}`, part, state.dx, marks)]
          : [panel(node.inputs[0], part, xs, marks), panel(name, part, state.y, marks)])];
        return { caption: sentence(state, now), panels };
      },
      ends({ y, dx, sumG, sumGX }) {
        const parameters = { bias: sumG, weight: sumGX };
        return [
          ...compared("y", y, run.values[name], [n, c], part), ...compared("dx", dx, run.gradients[node.inputs[0]], [n, c], part),
          ...Object.entries(parameters).map(([kind, found]) =>
            ({ label: `d${kind}`, found, expected: run.gradients[node.parameters[kind]].data[c] })),
        ];
      },
    };

    function sentence(state, now) {
      if (!now) return node.training ? `${each} numbers of channel ${c}, a row a step` : "Evaluation mode: mean and variance are the running ones";
      if (now.k !== undefined) {
        const place = [n, c, ...places[now.k]];
        return `${now.back ? named("gradients", node.inputs[0], place) : named("values", name, place)} = ${now.text} = ${shown(now.value)}`;
      }
      if (now.text) return `${LABELS[now.kind]} = ${shown(state[now.kind])}: ${now.text}`;
      const [image, line] = now.line;
      const ends = { sumG: ", in the end the gradient of bias", sumGX: ", in the end the gradient of weight" }[now.kind] ?? "";
      return `Row ${line}${images > 1 ? ` of image ${image}` : ""} is added to ${LABELS[now.kind]}: ${shown(now.before)} + ` +
        `${shown(state[now.kind] - now.before)} = ${shown(state[now.kind])}${ends}`;
    }
  },
};
