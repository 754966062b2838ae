// The steppers by their names, and the elements that each can begin with.

import { col2im, im2col } from "./steps_convolution.js";
import { cross_entropy } from "./steps_loss.js";
import { batch_norm } from "./steps_norm.js";
import { sgd } from "./steps_sgd.js";
import { pool, scatter } from "./steps_sizes.js";
import { concat, skip } from "./steps_skip.js";

export const STEPPERS = { im2col, col2im, pool, scatter, concat, skip, batch_norm, cross_entropy, sgd };

// Tensors that a stepper can take apart, in the order of the pass: those of parameters last.
export function subjectsOf(run, kind) {
  const names = ["input", ...run.nodes.map((node) => node.name), ...run.nodes.flatMap((node) => Object.values(node.parameters))];
  return names.filter((name) => run.values[name] && STEPPERS[kind].fits(run, name));
}
