// Forward and backward over the list of nodes, central differences, and the step.

import { OPERATIONS } from "./operations.js";
import { copyOf, indexOf, zerosLike } from "./tensors.js";

// The tensors that an operation of this node owns: {weight, bias, ...}.
export function parametersOf(node, values) {
  return Object.fromEntries(Object.entries(node.parameters).map(([kind, name]) => [kind, values[name]]));
}

// given: {name: tensor} of the input and all parameters -> {nodes, values, kept}.
// held: what an earlier run kept: then its choices of relu and pooling hold, whatever the numbers say.
export function forward(nodes, given, held = null) {
  const values = { ...given };
  const kept = {};
  for (const node of nodes) {
    const chooses = node.op === "relu" || node.op === "max_pool2d";
    const state = {
      keep: (what) => { kept[node.name] = what; },
      held: held && chooses ? held[node.name] : null,
    };
    const inputs = node.inputs.map((name) => values[name]);
    values[node.name] = OPERATIONS[node.op].forward(node, inputs, parametersOf(node, values), state);
  }
  return { nodes, values, kept };
}

// What is used twice, as a skip is, gets the sum of the gradients of both uses.
function sumOf(first, share) {
  const sum = copyOf(first);
  for (let k = 0; k < sum.data.length; k++) sum.data[k] += share.data[k];
  return sum;
}

// How backpropagation goes: each node after all that use it, shares added. faults.js changes one of these.
const RIGHT = { order: (nodes) => [...nodes].reverse(), sum: sumOf, shares: (node, right) => right };

// Gradients of the loss, {name: tensor}, for every tensor of a run that it depends on.
export function backward({ nodes, values, kept }, ways = {}) {
  const { order, sum, shares } = { ...RIGHT, ...ways };
  const gradients = { loss: { shape: [], data: Float64Array.of(1) } };
  const give = (name, share) => { gradients[name] = gradients[name] ? sum(gradients[name], share) : share; };
  for (const node of order(nodes)) {
    const [g, inputs, parameters] = [gradients[node.name], node.inputs.map((name) => values[name]), parametersOf(node, values)];
    const right = OPERATIONS[node.op].backward(node, g, inputs, parameters, kept[node.name], values[node.name]);
    const found = shares(node, right, g, inputs, parameters);
    node.inputs.forEach((name, k) => give(name, found.inputs[k]));
    for (const [kind, share] of Object.entries(found.parameters)) give(node.parameters[kind], share);
  }
  return gradients;
}

export function compute(nodes, given) {
  const run = forward(nodes, given);
  return { ...run, gradients: backward(run) };
}

// Steps of the differences. Where choices are held the loss is smooth: of the first, the error of fourth order is far
// below rounding's. Where they are free, and one changes within the first, the second passes fewer kinks.
const STEPS = [1e-3, 1e-4];

// dL/d(element) by central differences of fourth order: (8 (L(h) - L(-h)) - (L(2h) - L(-2h))) / 12 h.
// held: the choices of relu and pooling stay those of `run`; else `changed` names those that do not.
export function centralDifference(run, given, name, place, held) {
  const first = difference(run, given, name, place, held, STEPS[0]);
  return first.changed.length ? difference(run, given, name, place, held, STEPS[1]) : first;
}

function difference(run, given, name, place, held, step) {
  const changed = new Map();
  const lossAt = (shift) => {
    const moved = copyOf(given[name]);
    moved.data[place] += shift;
    const other = forward(run.nodes, { ...given, [name]: moved }, held ? run.kept : null);
    if (!held) for (const choice of changedChoices(run, other)) changed.set(`${choice.name} ${choice.place}`, choice);
    return other.values.loss.data[0];
  };
  const near = lossAt(step) - lossAt(-step);
  const far = lossAt(2 * step) - lossAt(-2 * step);
  return { slope: (8 * near - far) / (12 * step), step, changed: [...changed.values()] };
}

// Every relu that opened or shut and every pooling that chose otherwise: [{name, op, place, index}].
export function changedChoices(run, other) {
  const found = [];
  for (const node of run.nodes) {
    const field = { relu: "passes", max_pool2d: "places" }[node.op];
    if (!field) continue;
    const [before, after] = [run.kept[node.name][field], other.kept[node.name][field]];
    for (let place = 0; place < before.length; place++)
      if (before[place] !== after[place])
        found.push({ name: node.name, op: node.op, place, index: indexOf(run.values[node.name].shape, place) });
  }
  return found;
}

// Stochastic gradient descent as minunet/optim.py has it -> {values, velocities}, new tensors; buffers stay.
export function sgdStep(given, gradients, velocities, { lr, momentum, nesterov = false, weightDecay = 0 }) {
  const after = { values: { ...given }, velocities: { ...velocities } };
  for (const [name, parameter] of Object.entries(given)) {
    if (name === "input" || !gradients[name]) continue;
    const value = copyOf(parameter);
    const velocity = velocities[name] ? copyOf(velocities[name]) : zerosLike(parameter);
    for (let k = 0; k < value.data.length; k++) {
      const g = gradients[name].data[k] + weightDecay * value.data[k];
      velocity.data[k] = momentum * velocity.data[k] + g;
      value.data[k] -= lr * (nesterov ? g + momentum * velocity.data[k] : velocity.data[k]);
    }
    after.values[name] = value;
    after.velocities[name] = velocity;
  }
  return after;
}
