// Backpropagation gone wrong, in five ways that are easily programmed: what each does to the gradients.

import { backward } from "./network.js";
import { OPERATIONS } from "./operations.js";
import { norm, zerosLike } from "./tensors.js";

// Each changes one thing in `backward`: the order of the walk, how shares are added, or the shares of an operation.
export const FAULTS = {
  order: {
    title: "walk in the wrong order",
    why: "Operations are taken by their distance from the logits. A skip is near, so what feeds the skip hands its " +
      "gradient on before the share that comes the long way, through the bottleneck, has arrived.",
    ways: { order: byDistance },
  },
  overwritten: {
    title: "accumulation overwritten",
    why: "Where a result is used twice, the second share takes the place of the first instead of being added.",
    ways: { sum: (first, share) => share },
  },
  unflipped: {
    title: "kernel not flipped",
    why: "The gradient of a convolution's input is taken with the kernel as it is, not turned by 180 degrees.",
    ways: {
      shares(node, right, g, inputs, parameters) {
        if (node.op !== "conv2d") return right;
        const turned = { ...parameters, weight: turnedKernel(parameters.weight) };
        return { ...right, inputs: OPERATIONS.conv2d.backward(node, g, inputs, turned).inputs };
      },
    },
  },
  skip: {
    title: "skip gradient dropped",
    why: "Where skip and up path are joined, only the up path gets its part of the gradient.",
    ways: {
      shares: (node, right) =>
        node.op === "concat" ? { ...right, inputs: [zerosLike(right.inputs[0]), right.inputs[1]] } : right,
    },
  },
  twice: {
    title: "bias backward run twice",
    why: "The gradient of every bias is added to itself once.",
    ways: {
      shares(node, right) {
        if (!right.parameters.bias) return right;
        const { shape, data } = right.parameters.bias;
        return { ...right, parameters: { ...right.parameters, bias: { shape, data: data.map((value) => 2 * value) } } };
      },
    },
  },
};

// The parts of the loss, then nodes by the fewest steps that lead from the logits to them.
function byDistance(nodes) {
  const owners = new Map(nodes.map((node) => [node.name, node]));
  const order = [owners.get("final_conv")];
  for (const node of order)
    for (const name of node.inputs) {
      const owner = owners.get(name);
      if (owner && !order.includes(owner)) order.push(owner);
    }
  return [...nodes.filter((node) => node.side === "loss").reverse(), ...order];
}

function turnedKernel({ shape, data }) {
  const each = shape[2] * shape[3];
  return { shape, data: data.map((_, k) => data[k - (k % each) + each - 1 - (k % each)]) };
}

function product(a, b) {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += a[k] * b[k];
  return sum;
}

// A run with right gradients, and a fault ->
// gradients: the wrong ones
// wrong: parameters whose gradient is wrong, [{name, right, wrong, cosine}] with both norms, the most wrong first
// rate: how fast the loss falls along the wrong direction, as a share of the right one of the same length; below 0 it rises
export function broken(run, fault) {
  const gradients = backward(run, FAULTS[fault].ways);
  const names = [...new Set(run.nodes.flatMap((node) => Object.values(node.parameters)))].filter((name) => run.gradients[name]);
  const rows = [];
  let [along, rightSquares, wrongSquares] = [0, 0, 0];
  for (const name of names) {
    const [a, b] = [run.gradients[name].data, gradients[name].data];
    const [right, wrong, common] = [norm(a), norm(b), product(a, b)];
    [along, rightSquares, wrongSquares] = [along + common, rightSquares + right ** 2, wrongSquares + wrong ** 2];
    const apart = norm(a.map((value, k) => value - b[k]));
    if (apart > 1e-9 * Math.max(right, wrong)) rows.push({ name, right, wrong, cosine: common / (right * wrong), apart });
  }
  rows.sort((a, b) => b.apart / b.right - a.apart / a.right);
  return { gradients, wrong: rows, parameters: names.length, rate: along / Math.sqrt(rightSquares * wrongSquares) };
}
