// The step: stochastic gradient descent with momentum on one parameter, over several updates.

import { compute, sgdStep } from "./network.js";
import { blank, panel, planeAround, producer } from "./steps.js";
import { norm, offset } from "./tensors.js";
import { named, shown } from "./words.js";

const UPDATES = 3;

// What clipping multiplies all gradients with: 1 where their common norm is within the limit.
function clipFactor(gradients, names, clip) {
  if (clip === null) return 1;
  const total = Math.sqrt(names.reduce((sum, name) => sum + norm(gradients[name].data) ** 2, 0));
  return total > clip ? clip / total : 1;
}

// The parameter `name` over some updates of all: [{loss, value, gradient, factor}], the last without a gradient.
export function descend(run, given, name, optimizer) {
  const rounds = [];
  let [values, velocities, now] = [given, {}, run];
  for (let k = 0; k < UPDATES; k++) {
    const names = Object.keys(given).filter((other) => other !== "input" && now.gradients[other]);
    const factor = clipFactor(now.gradients, names, optimizer.clip);
    rounds.push({ loss: now.values.loss.data[0], value: values[name], gradient: now.gradients[name], factor });
    const clipped = Object.fromEntries(names.map((other) => {
      const { shape, data } = now.gradients[other];
      return [other, { shape, data: data.map((value) => value * factor) }];
    }));
    ({ values, velocities } = sgdStep(values, clipped, velocities, optimizer));
    now = compute(run.nodes, values);
  }
  return [...rounds, { loss: now.values.loss.data[0], value: values[name] }];
}

export const sgd = {
  title: "the SGD update, with momentum",
  about: "The gradient is added to a velocity that remembers the earlier ones, and the parameter moves against it. After " +
    "each update the whole pass is computed again, and with it the gradient.",
  fits: (run, name) => name !== "input" && !producer(run, name) && Boolean(run.gradients[name]),
  // rounds: as `descend` gives them; optimizer: {lr, momentum, nesterov, weightDecay, clip}.
  make(run, name, index, { rounds, optimizer }) {
    const { lr, momentum, nesterov, weightDecay } = optimizer;
    const shape = rounds[0].value.shape;
    const { start, part, chosen } = planeAround(shape, offset(shape, index));
    const cut = ({ data }) => data.slice(start, start + part.height * part.width);

    const change = (round, kind, visit) => (state) => {
      const before = state[kind][chosen];
      if (kind === "g") state.g = cut(rounds[round].gradient);
      for (let k = 0; k < state[kind].length; k++) state[kind][k] = visit(state, k);
      return { round, kind, before };
    };
    const steps = rounds.slice(0, -1).flatMap(({ factor }, round) => [
      change(round, "g", ({ g, p }, k) => factor * g[k] + weightDecay * p[k]),
      change(round, "v", ({ v, g }, k) => momentum * v[k] + g[k]),
      change(round, "p", ({ p, v, g }, k) => p[k] - lr * (nesterov ? g[k] + momentum * v[k] : v[k])),
    ]);
    const title = `${name}${shape.length === 4 ? `[${index.slice(0, 2).join(", ")}]` : ""}`;

    return {
      start: () => ({ g: blank(part.height * part.width), v: new Float64Array(part.height * part.width), p: cut(rounds[0].value) }),
      steps,
      view({ g, v, p }, now) {
        const marks = (kind) => (now?.kind === kind ? Array.from(p, (_, k) => k) : [chosen]);
        return {
          caption: now ? sentence({ g, v, p }, now)
            : `lr ${lr}, momentum ${momentum}${nesterov ? " in Nesterov's form" : ""}, weight decay ${weightDecay}; the velocity begins at 0`,
          panels: [panel(`gradient of ${title}`, part, g, marks("g")), panel("velocity v", part, v, marks("v")),
            panel(title, part, p, marks("p"))],
        };
      },
      ends: ({ p }) => Array.from(cut(rounds[rounds.length - 1].value), (expected, k) => ({ label: "p", found: p[k], expected })),
    };

    function sentence({ g, v, p }, { round, kind, before }) {
      const { factor, gradient } = rounds[round];
      if (kind === "g") {
        const clipped = factor === 1 ? "" : `${shown(factor)} · `;
        const decay = weightDecay ? ` + ${weightDecay} · ${shown(p[chosen])}` : "";
        const why = factor === 1 ? "" : `; the gradient of all parameters was longer than ${optimizer.clip} and is shortened`;
        return `Update ${round + 1}, loss ${shown(rounds[round].loss)}: g = ${clipped}${shown(gradient.data[start + chosen])}${decay} = ${shown(g[chosen])}${why}`;
      }
      if (kind === "v") return `Update ${round + 1}: v = ${momentum} · ${shown(before)} + ${shown(g[chosen])} = ${shown(v[chosen])}`;
      const move = nesterov ? `(${shown(g[chosen])} + ${momentum} · ${shown(v[chosen])})` : shown(v[chosen]);
      return `Update ${round + 1}: ${named("values", name, index)} = ${shown(before)} − ${lr} · ${move} = ${shown(p[chosen])}; ` +
        `with all parameters moved so, the loss becomes ${shown(rounds[round + 1].loss)}`;
    }
  },
};
