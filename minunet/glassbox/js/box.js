// What travels in the page -> nodes and tensors to compute with; and the check against the numbers of the Python run.

import { build } from "./graph.js";
import { count, norm, unpack } from "./tensors.js";

// contents: as minunet/glassbox/box.py makes them. -> {nodes, given}
export function open(contents, training) {
  const given = Object.fromEntries(Object.entries(contents.tensors).map(([name, packed]) => [name, unpack(packed)]));
  const masks = Object.fromEntries(Object.entries(contents.masks).map(([name, packed]) => [name, unpack(packed)]));
  const subject = {
    target: unpack(contents.target),
    weight: contents.weight && unpack(contents.weight),
    masks,
  };
  return { nodes: build(contents.architecture, contents.loss, training, given.input.shape, subject), given };
}

export const TOLERANCE = 1e-10; // of a tensor's largest magnitude: both runs round in float64, in other orders

// Every tensor that Python computed, held against this run: [{kind, name, error}], the largest error first.
// error: the largest difference among samples (and of the norm, a value), as a share of the tensor's scale (its largest magnitude).
export function verdict(run, numbers) {
  const found = [];
  for (const kind of ["values", "gradients"])
    for (const [name, expected] of Object.entries(numbers[kind]))
      found.push({ kind, name, error: difference(run[kind][name], expected) });
  return found.sort((a, b) => b.error - a.error);
}

function difference(tensor, expected) {
  if (!tensor) return Infinity;
  const samples = unpack(expected.samples).data;
  const total = count(tensor.shape);
  let worst = Math.abs(norm(tensor.data) - expected.norm) / Math.sqrt(total);
  for (let k = 0; k < samples.length; k++) {
    const place = Math.floor((k * total) / samples.length);
    const apart = Math.abs(tensor.data[place] - samples[k]);
    if (!(apart <= worst)) worst = apart;
  }
  if (worst === 0) return 0;
  return expected.scale === 0 ? Infinity : worst / expected.scale;
}
