// Cross entropy at one pixel: from logits to probabilities, to the loss, to the gradient p − [target].

import { OPERATIONS } from "./operations.js";
import { pixelFactor } from "./losses.js";
import { blank, row } from "./steps.js";
import { at, offset } from "./tensors.js";
import { shown } from "./words.js";

const lossOf = (run) => run.nodes.find(({ op }) => op === "cross_entropy" || op === "bce_with_logits");

export const cross_entropy = {
  title: "cross entropy at a pixel: softmax, loss, gradient",
  about: "Logits become probabilities, the loss is −log of the right class's, and the gradient is what was foretold less " +
    "what is true: p − 1 for the right class, p for all others, times the pixel's weight.",
  fits: (run, name) => lossOf(run)?.inputs[0] === name,
  make(run, name, [n, , h, w]) {
    const node = lossOf(run);
    const z = run.values[name];
    const pixel = offset(node.target.shape, [n, h, w]);
    const [target, factor] = [node.target.data[pixel], pixelFactor(node, pixel)];
    const single = node.op === "bce_with_logits"; // a second logit of 0 would give the same
    const K = single ? 2 : z.shape[1];
    const logits = Float64Array.from({ length: K }, (_, k) => (single ? (k ? at(z, [n, 0, h, w]) : 0) : at(z, [n, k, h, w])));
    const top = Math.max(...logits);
    const classes = Array.from({ length: K }, (_, k) => k);

    const fill = (kind, k, visit) => (state) => {
      state[kind][k] = visit(state, k);
      return { kind, k };
    };
    const reach = (kind, visit) => (state) => {
      state[kind] = visit(state);
      return { kind };
    };
    const TEXT = {
      shifted: ({ shifted }, k) => `z_${k} − max z = ${shown(logits[k])} − ${shown(top)} = ${shown(shifted[k])}: nothing can overflow now`,
      powers: ({ powers, shifted }, k) => `exp(${shown(shifted[k])}) = ${shown(powers[k])}`,
      sum: ({ sum }) => `The sum of the exponentials is ${shown(sum)}`,
      p: ({ p, powers, sum }, k) => `p_${k} = ${shown(powers[k])} / ${shown(sum)} = ${shown(p[k])}`,
      loss: ({ loss, sum, shifted }) => `l = log ${shown(sum)} − (${shown(shifted[target])}) = −log p_${target} = ${shown(loss)}`,
      share: ({ share, loss }) => `Times weight / number of pixels, ${shown(factor)} · ${shown(loss)} = ${shown(share)}: the pixel's share of the loss`,
      gradient: ({ gradient, p }, k) => `∂L/∂z_${k} = ${shown(factor)} · (${shown(p[k])} − ${k === target ? 1 : 0}) = ${shown(gradient[k])}`,
    };
    const labels = classes.map((k) => `class ${k}${k === target ? " (target)" : ""}`);
    // Of the whole loss: where Dice is added, cross entropy is handed 1 like Dice.
    const upstream = run.gradients[node.name].data[0];
    const expected = OPERATIONS[node.op].backward(node, run.gradients[node.name], [z], {}, run.kept[node.name]).inputs[0];

    return {
      start: () => ({ shifted: blank(K), powers: blank(K), sum: NaN, p: blank(K), loss: NaN, share: NaN, gradient: blank(K) }),
      steps: [
        ...classes.map((k) => fill("shifted", k, () => logits[k] - top)),
        ...classes.map((k) => fill("powers", k, ({ shifted }) => Math.exp(shifted[k]))),
        reach("sum", ({ powers }) => powers.reduce((a, b) => a + b, 0)),
        ...classes.map((k) => fill("p", k, ({ powers, sum }) => powers[k] / sum)),
        reach("loss", ({ sum, shifted }) => Math.log(sum) - shifted[target]),
        reach("share", ({ loss }) => factor * loss),
        ...classes.map((k) => fill("gradient", k, ({ p }) => upstream * factor * (p[k] - (k === target ? 1 : 0)))),
      ],
      view(state, now) {
        const vector = (title, kind) => row(title, labels, state[kind], now?.kind === kind && now.k !== undefined ? [now.k] : []);
        const scalars = ["sum", "loss", "share"];
        return {
          caption: now ? TEXT[now.kind](state, now.k)
            : `Pixel (${h}, ${w}): its class is ${target}, its weight ${shown(node.weight ? node.weight.data[pixel] : 1)}` +
              (single ? "; one logit is two of which the first is 0" : ""),
          panels: [row("logits z", labels, logits, now?.kind === "shifted" ? [now.k] : []), vector("z − max z", "shifted"),
            vector("exp(z − max z)", "powers"), vector("p = softmax", "p"),
            row("in sum", ["Σ exp", "loss l", "share of L"], Float64Array.from(scalars, (kind) => state[kind]),
              scalars.includes(now?.kind) ? [scalars.indexOf(now.kind)] : []),
            vector("gradient of z", "gradient")],
        };
      },
      ends({ loss, gradient }) {
        const found = single ? [gradient[1]] : [...gradient];
        return [{ label: "l", found: loss, expected: run.kept[node.name].each[pixel] },
          ...found.map((value, k) => ({ label: "dz", found: value, expected: at(expected, [n, k, h, w]) }))];
      },
    };
  },
};
