// Any element as a sum: the terms, each a product of factors with their indices, whose sum is the element's value.
//
// formula(run, kind, name, index) -> {law, terms, value}.   kind: "values" or "gradients".
// A term is {value, factors: [factor]}; a factor {text, value} or, where it is an element itself, {kind, name, index, value}.

import { EPS } from "./normalization.js";
import { corners, mixture } from "./resampling.js";
import { diceSlope, isOfClass, pixelFactor } from "./losses.js";
import { at, indexOf, offset } from "./tensors.js";
import { parametersOf } from "./network.js";

export function formula(run, kind, name, index) {
  const tensor = kind === "values" ? run.values[name] : run.gradients[name];
  const { law, terms } = kind === "values" ? valueTerms(run, name, index) : gradientTerms(run, name, index);
  return { law, terms, value: at(tensor, index) };
}

// ------------------------------------------------------------------------------------------------ factors

function element(run, kind, name, index) {
  return { kind, name, index, value: at(run[kind][name], index) };
}

const x = (run, node, k, index) => element(run, "values", node.inputs[k], index);
const g = (run, node, index) => element(run, "gradients", node.name, index);
const p = (run, node, kind, index) => element(run, "values", node.parameters[kind], index);
const number = (text, value) => ({ text, value });

function term(...factors) {
  return { value: factors.reduce((product, factor) => product * factor.value, 1), factors };
}

// ------------------------------------------------------------------------------- values: one law an operation

function valueTerms(run, name, index) {
  const node = run.nodes.find((other) => other.name === name);
  if (node) return VALUES[node.op](run, node, index);
  const law = name === "input" ? "given: the image, preprocessed" : "given: a parameter or buffer of the model";
  return { law, terms: [{ value: at(run.values[name], index), factors: [element(run, "values", name, index)] }] };
}

const VALUES = {
  conv2d(run, node, [n, o, h, w]) {
    const { weight, bias } = parametersOf(node, run.values);
    const [, channels, kernel] = weight.shape;
    const [height, width] = run.values[node.inputs[0]].shape.slice(2);
    const terms = bias ? [term(p(run, node, "bias", [o]))] : [];
    for (let c = 0; c < channels; c++)
      for (let i = 0; i < kernel; i++)
        for (let j = 0; j < kernel; j++) {
          const [a, b] = [h + i - node.padding, w + j - node.padding];
          if (a >= 0 && b >= 0 && a < height && b < width)
            terms.push(term(x(run, node, 0, [n, c, a, b]), p(run, node, "weight", [o, c, i, j])));
        }
    const shift = node.padding ? `−${node.padding}` : "";
    const start = bias ? "bias[o] + " : "";
    return { law: `y[n,o,h,w] = ${start}Σ_c,i,j x[n,c,h+i${shift},w+j${shift}] · weight[o,c,i,j]`, terms };
  },
  conv_transpose2d(run, node, [n, o, h, w]) {
    const { weight } = parametersOf(node, run.values);
    const [channels, , s] = weight.shape;
    const terms = [term(p(run, node, "bias", [o]))];
    for (let c = 0; c < channels; c++)
      terms.push(term(x(run, node, 0, [n, c, Math.floor(h / s), Math.floor(w / s)]),
        p(run, node, "weight", [c, o, h % s, w % s])));
    return { law: `y[n,o,${s}h+i,${s}w+j] = bias[o] + Σ_c x[n,c,h,w] · weight[c,o,i,j]`, terms };
  },
  relu(run, node, index) {
    const from = x(run, node, 0, index);
    const passes = run.kept[node.name].passes[offset(run.values[node.name].shape, index)];
    return { law: "y = x where x > 0, else 0", terms: [term(from, number("x > 0", passes))] };
  },
  dropout(run, node, index) {
    const factor = run.kept[node.name].factors[offset(run.values[node.name].shape, index)];
    const law = node.mask ? "y = x · m / (1 − p), m the frozen mask" : "y = x (nothing is dropped in evaluation mode)";
    return { law, terms: [term(x(run, node, 0, index), number(node.mask ? "m / (1 − p)" : "1", factor))] };
  },
  max_pool2d(run, node, index) {
    const place = run.kept[node.name].places[offset(run.values[node.name].shape, index)];
    const from = indexOf(run.values[node.inputs[0]].shape, place);
    return { law: "y[n,c,h,w] = largest x[n,c,2h+i,2w+j], the first of equal ones", terms: [term(x(run, node, 0, from))] };
  },
  batch_norm(run, node, index) {
    const c = index[1];
    const { mean, r } = run.kept[node.name];
    const [scale, weight] = [number("1 / √(var + ε)", r[c]), p(run, node, "weight", [c])];
    const source = node.training ? "the batch's" : "the running";
    return {
      law: `y = weight · (x − mean) / √(var + ε) + bias, with ${source} mean and var of the channel, ε = ${EPS}`,
      terms: [
        term(x(run, node, 0, index), scale, weight),
        term(number("−mean", -mean[c]), scale, weight),
        term(p(run, node, "bias", [c])),
      ],
    };
  },
  center_crop(run, node, [n, c, h, w]) {
    const [top, left] = margins(node.size, run.values[node.inputs[0]].shape);
    return { law: "y[n,c,h,w] = x[n,c,h+top,w+left]", terms: [term(x(run, node, 0, [n, c, h + top, w + left]))] };
  },
  center_pad(run, node, [n, c, h, w]) {
    const shape = run.values[node.inputs[0]].shape;
    const [top, left] = margins(shape.slice(2), [n, c, ...node.size]);
    const from = [n, c, h - top, w - left];
    const law = "y[n,c,h,w] = x[n,c,h−top,w−left], 0 around it";
    return { law, terms: isInside(from, shape) ? [term(x(run, node, 0, from))] : [] };
  },
  resize(run, node, [n, c, h, w]) {
    const shape = run.values[node.inputs[0]].shape;
    const [row, column] = [2, 3].map((axis) => mixture(shape[axis], node.size[axis - 2], node.corners)[axis === 2 ? h : w]);
    const terms = corners(row, column)
      .map(([a, b, share]) => term(number("share", share), x(run, node, 0, [n, c, a, b])));
    const how = node.corners ? "outer pixels on each other" : "half-pixel centres";
    return { law: `y = Σ share · x over the four nearest pixels (bilinear, ${how})`, terms };
  },
  concat(run, node, [n, c, h, w]) {
    const first = run.values[node.inputs[0]].shape[1];
    const from = c < first ? x(run, node, 0, [n, c, h, w]) : x(run, node, 1, [n, c - first, h, w]);
    return { law: `y[n,c] = skip[n,c] for c < ${first}, else up[n,c−${first}]`, terms: [term(from)] };
  },
  softmax(run, node, [n, c, h, w]) {
    const z = run.values[node.inputs[0]];
    let others = 0;
    for (let k = 0; k < z.shape[1]; k++) others += Math.exp(at(z, [n, k, h, w]) - at(z, [n, c, h, w]));
    return { law: "p_k = 1 / Σ_j exp(z_j − z_k)", terms: [term(number("1 / Σ_j exp(z_j − z_k)", 1 / others))] };
  },
  sigmoid(run, node, index) {
    const z = x(run, node, 0, index);
    return { law: "p = 1 / (1 + exp(−z))", terms: [term(number("1 / (1 + exp(−z))", 1 / (1 + Math.exp(-z.value))))] };
  },
  cross_entropy: (run, node) => ({
    law: "L = Σ w · (log Σ_k exp(z_k) − z_target) / number of pixels",
    terms: pixelLosses(run, node),
  }),
  bce_with_logits: (run, node) => ({
    law: "L = Σ w · (max(z, 0) − z t + log(1 + exp(−|z|))) / number of pixels",
    terms: pixelLosses(run, node),
  }),
  dice(run, node) {
    const { overlap, size } = run.kept[node.name];
    const share = number("1 / K", 1 / size.length);
    const each = [...size].map((total, c) => {
      const [over, under] = [2 * overlap[c] + 1, total + 1];
      return term(number("−1", -1), number(`2 Σ p t + 1 of class ${c}`, over), number("1 / (Σ p + Σ t + 1)", 1 / under), share);
    });
    return { law: "L = 1 − mean over the K classes of (2 Σ p t + 1) / (Σ p + Σ t + 1)", terms: [term(number("1", 1)), ...each] };
  },
  add: (run, node, index) => ({
    law: "y = a + b",
    terms: [term(x(run, node, 0, index)), term(x(run, node, 1, index))],
  }),
};

function margins(inner, outer) {
  return [0, 1].map((axis) => Math.floor((outer[2 + axis] - inner[axis]) / 2));
}

function isInside(index, shape) {
  return index.every((place, axis) => place >= 0 && place < shape[axis]);
}

function pixelLosses(run, node) {
  const { each } = run.kept[node.name];
  return [...each].map((loss, k) => {
    const [n, h, w] = indexOf(node.target.shape, k);
    return term(number("w / number of pixels", pixelFactor(node, k)), number(`l of pixel (${n}, ${h}, ${w})`, loss));
  });
}

// ------------------------------------------------------------------ gradients: a share from every use, added

function gradientTerms(run, name, index) {
  if (name === "loss") return { law: "dL/dL = 1", terms: [term(number("1", 1))] };
  const shares = [];
  for (const node of run.nodes) {
    node.inputs.forEach((input, k) => { if (input === name) shares.push(SHARES[node.op](run, node, k, index)); });
    for (const [kind, parameter] of Object.entries(node.parameters))
      if (parameter === name) shares.push(PARAMETERS[node.op](run, node, kind, index));
  }
  const law = shares.map((share) => share.law).join("   +   ");
  return { law, terms: shares.flatMap((share) => share.terms) };
}

// dL/dx of one use of x, its input number k.
const SHARES = {
  conv2d(run, node, k, [n, c, a, b]) {
    const { weight } = parametersOf(node, run.values);
    const [outputs, , kernel] = weight.shape;
    const shape = run.values[node.name].shape;
    const terms = [];
    for (let o = 0; o < outputs; o++)
      for (let i = 0; i < kernel; i++)
        for (let j = 0; j < kernel; j++) {
          const to = [n, o, a - i + node.padding, b - j + node.padding];
          if (isInside(to, shape)) terms.push(term(g(run, node, to), p(run, node, "weight", [o, c, i, j])));
        }
    const shift = node.padding ? `+${node.padding}` : "";
    return { law: `Σ_o,i,j g[n,o,a−i${shift},b−j${shift}] · weight[o,c,i,j]`, terms };
  },
  conv_transpose2d(run, node, k, [n, c, h, w]) {
    const { weight } = parametersOf(node, run.values);
    const [, outputs, s] = weight.shape;
    const terms = [];
    for (let o = 0; o < outputs; o++)
      for (let i = 0; i < s; i++)
        for (let j = 0; j < s; j++)
          terms.push(term(g(run, node, [n, o, s * h + i, s * w + j]), p(run, node, "weight", [c, o, i, j])));
    return { law: `Σ_o,i,j g[n,o,${s}h+i,${s}w+j] · weight[c,o,i,j]`, terms };
  },
  relu(run, node, k, index) {
    const passes = run.kept[node.name].passes[offset(run.values[node.name].shape, index)];
    return { law: "g where x > 0, else 0", terms: [term(g(run, node, index), number("x > 0", passes))] };
  },
  dropout(run, node, k, index) {
    const factor = run.kept[node.name].factors[offset(run.values[node.name].shape, index)];
    return { law: "g · m / (1 − p)", terms: [term(g(run, node, index), number(node.mask ? "m / (1 − p)" : "1", factor))] };
  },
  max_pool2d(run, node, k, [n, c, h, w]) {
    const to = [n, c, Math.floor(h / 2), Math.floor(w / 2)];
    const shape = run.values[node.name].shape;
    const law = "g of the window where x was the largest, else 0";
    if (!isInside(to, shape)) return { law, terms: [] };
    const place = offset(run.values[node.inputs[0]].shape, [n, c, h, w]);
    const chosen = run.kept[node.name].places[offset(shape, to)] === place;
    return { law, terms: [term(g(run, node, to), number("was the largest", chosen ? 1 : 0))] };
  },
  batch_norm(run, node, k, index) {
    const c = index[1];
    const { mean, r } = run.kept[node.name];
    const shape = run.values[node.name].shape;
    const [scale, weight] = [number("1 / √(var + ε)", r[c]), p(run, node, "weight", [c])];
    const terms = [term(g(run, node, index), scale, weight)];
    if (!node.training) return { law: "g · weight / √(var + ε)", terms };
    const share = number("−1 / m", -1 / (shape[0] * shape[2] * shape[3]));
    const normalized = number("x̂", (at(run.values[node.inputs[0]], index) - mean[c]) * r[c]);
    const sum = (kind) => element(run, "gradients", node.parameters[kind], [c]);
    terms.push(term(sum("bias"), share, scale, weight), term(sum("weight"), normalized, share, scale, weight));
    return { law: "weight / √(var + ε) · (g − Σg / m − x̂ Σ(g x̂) / m); Σg = dL/dbias, Σ(g x̂) = dL/dweight", terms };
  },
  center_crop(run, node, k, [n, c, h, w]) {
    const [top, left] = margins(node.size, run.values[node.inputs[0]].shape);
    const to = [n, c, h - top, w - left];
    const terms = isInside(to, run.values[node.name].shape) ? [term(g(run, node, to))] : [];
    return { law: "g in the middle that the crop kept, else 0", terms };
  },
  center_pad(run, node, k, [n, c, h, w]) {
    const shape = run.values[node.inputs[0]].shape;
    const [top, left] = margins(shape.slice(2), run.values[node.name].shape);
    return { law: "g[n,c,h+top,w+left]", terms: [term(g(run, node, [n, c, h + top, w + left]))] };
  },
  resize(run, node, k, [n, c, h, w]) {
    const shape = run.values[node.inputs[0]].shape;
    const rows = touching(mixture(shape[2], node.size[0], node.corners), h);
    const columns = touching(mixture(shape[3], node.size[1], node.corners), w);
    const terms = [];
    for (const row of rows)
      for (const column of columns)
        for (const [a, b, share] of corners(row.mixed, column.mixed))
          if (a === h && b === w) terms.push(term(number("share", share), g(run, node, [n, c, row.position, column.position])));
    return { law: "Σ share · g over the pixels that x was mixed into", terms };
  },
  concat(run, node, k, [n, c, h, w]) {
    const first = k === 0 ? 0 : run.values[node.inputs[0]].shape[1];
    const law = k === 0 ? "g[n,c], the skip's own channels" : `g[n,c+${first}], the channels behind the skip's`;
    return { law, terms: [term(g(run, node, [n, c + first, h, w]))] };
  },
  softmax(run, node, k, [n, c, h, w]) {
    const own = element(run, "values", node.name, [n, c, h, w]);
    const terms = [];
    for (let j = 0; j < run.values[node.name].shape[1]; j++) {
      const other = at(run.values[node.name], [n, j, h, w]);
      terms.push(term(g(run, node, [n, j, h, w]), own, number(`[j = k] − p_j for j = ${j}`, (j === c ? 1 : 0) - other)));
    }
    return { law: "Σ_j g_j · p_k ([j = k] − p_j)", terms };
  },
  sigmoid(run, node, k, index) {
    const own = element(run, "values", node.name, index);
    return { law: "g · p (1 − p)", terms: [term(g(run, node, index), own, number("1 − p", 1 - own.value))] };
  },
  cross_entropy(run, node, k, [n, c, h, w]) {
    const pixel = offset(node.target.shape, [n, h, w]);
    const wanted = node.target.data[pixel] === c ? 1 : 0;
    return pixelShare(run, node, pixel, number(`p − ${wanted}`, at(run.kept[node.name].p, [n, c, h, w]) - wanted));
  },
  bce_with_logits(run, node, k, [n, , h, w]) {
    const pixel = offset(node.target.shape, [n, h, w]);
    const wanted = node.target.data[pixel];
    return pixelShare(run, node, pixel, number(`p − ${wanted}`, run.kept[node.name].p.data[pixel] - wanted));
  },
  dice(run, node, k, [n, c, h, w]) {
    const classes = run.values[node.inputs[0]].shape[1];
    const wanted = isOfClass(node, classes, offset(node.target.shape, [n, h, w]), c);
    const slope = number("((2 Σ p t + 1) − 2 t (Σ p + Σ t + 1)) / (K (Σ p + Σ t + 1)²)",
      diceSlope(run.kept[node.name], classes, c, wanted));
    return { law: `the slope of Dice at a pixel with t = ${wanted}`, terms: [term(g(run, node, []), slope)] };
  },
  add: (run, node, k, index) => ({ law: "g", terms: [term(g(run, node, index))] }),
};

function pixelShare(run, node, pixel, slope) {
  const factor = number("w / number of pixels", pixelFactor(node, pixel));
  return { law: "g · w (p − [target]) / number of pixels", terms: [term(g(run, node, []), factor, slope)] };
}

// Output positions that an input position is mixed into.
function touching(mixtures, input) {
  return mixtures
    .map((mixed, position) => ({ mixed, position }))
    .filter(({ mixed }) => mixed.low === input || mixed.high === input);
}

function everyPixel(shape, channel, visit) {
  const terms = [];
  for (let n = 0; n < shape[0]; n++)
    for (let h = 0; h < shape[2]; h++)
      for (let w = 0; w < shape[3]; w++) {
        const found = visit([n, channel, h, w]);
        if (found) terms.push(found);
      }
  return terms;
}

function biasShare(run, node, [o]) {
  return { law: "Σ_n,h,w g[n,o,h,w]", terms: everyPixel(run.values[node.name].shape, o, (index) => term(g(run, node, index))) };
}

// dL/d(parameter) of the node that owns it.
const PARAMETERS = {
  conv2d(run, node, kind, index) {
    if (kind === "bias") return biasShare(run, node, index);
    const [o, c, i, j] = index;
    const shape = run.values[node.inputs[0]].shape;
    const terms = everyPixel(run.values[node.name].shape, o, ([n, , h, w]) => {
      const from = [n, c, h + i - node.padding, w + j - node.padding];
      return isInside(from, shape) && term(g(run, node, [n, o, h, w]), x(run, node, 0, from));
    });
    const shift = node.padding ? `−${node.padding}` : "";
    return { law: `Σ_n,h,w g[n,o,h,w] · x[n,c,h+i${shift},w+j${shift}]`, terms };
  },
  conv_transpose2d(run, node, kind, index) {
    if (kind === "bias") return biasShare(run, node, index);
    const [c, o, i, j] = index;
    const s = run.values[node.parameters.weight].shape[2];
    const terms = everyPixel(run.values[node.inputs[0]].shape, c, ([n, , h, w]) =>
      term(g(run, node, [n, o, s * h + i, s * w + j]), x(run, node, 0, [n, c, h, w])));
    return { law: `Σ_n,h,w g[n,o,${s}h+i,${s}w+j] · x[n,c,h,w]`, terms };
  },
  batch_norm(run, node, kind, index) {
    if (kind === "bias") return biasShare(run, node, index);
    const [c] = index;
    const { mean, r } = run.kept[node.name];
    const input = run.values[node.inputs[0]];
    const terms = everyPixel(input.shape, c, (place) =>
      term(g(run, node, place), number("x̂", (at(input, place) - mean[c]) * r[c])));
    return { law: "Σ_n,h,w g · x̂,  x̂ = (x − mean) / √(var + ε)", terms };
  },
};

// Long sums are read in pages: the largest terms first, of equal ones the first.
export function byMagnitude(terms) {
  return terms
    .map((one, position) => ({ ...one, position }))
    .sort((a, b) => Math.abs(b.value) - Math.abs(a.value) || a.position - b.position);
}
