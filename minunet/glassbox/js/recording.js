// A pass of which only some numbers are known, as minunet/glassbox/recording.py has kept them: opened so that formulas
// read it like a whole one. A tensor's data is then an object of those elements that were recorded, by their places.

import { build } from "./graph.js";
import { formula } from "./formulas.js";
import { count, unpack } from "./tensors.js";

const LONG = ["cross_entropy", "bce_with_logits"]; // their values are sums over all pixels

// recorded: {places, numbers} -> an object that is read like an array
function opened({ places, numbers }, length) {
  const [where, what] = [unpack(places).data, unpack(numbers).data];
  const data = { length };
  where.forEach((place, k) => { data[place] = what[k]; });
  return data;
}

function tensorsOf(recording, kind) {
  return Object.fromEntries(Object.entries(recording.numbers[kind]).map(([name, recorded]) => {
    const shape = recording.shapes[name];
    return [name, { shape, data: opened(recorded, count(shape)) }];
  }));
}

// -> {run, chosen: {name: index}, maps: {values, gradients}}; maps are tensors of one plane, `full` is their true shape.
export function openRecording(recording) {
  const { shapes, chosen, pixel, loss, architecture } = recording;
  const training = recording.mode === "train";
  const place = pixel[0] * shapes.final_conv[3] + pixel[1];
  const known = (value) => ({ shape: [1, ...shapes.final_conv.slice(2)], data: { length: recording.pixels, [place]: value } });
  const masks = training ? Object.fromEntries(Object.keys(recording.kept).map((name) => [name, {}])) : {};
  const subject = { target: known(recording.target), weight: recording.weight === null ? null : known(recording.weight), masks };
  const nodes = build(architecture, loss, training, shapes.input, subject);
  const values = tensorsOf(recording, "values");
  const kept = { ...recording.kept };
  for (const node of nodes) Object.assign(kept, keptOf(node, values, recording, place));
  const run = { nodes, values, gradients: tensorsOf(recording, "gradients"), kept };
  const maps = Object.fromEntries(["values", "gradients"].map((kind) => [kind, pictures(recording, kind)]));
  return { run, chosen, maps };
}

function keptOf(node, values, recording, place) {
  if (node.op === "relu") {
    const { data } = values[node.inputs[0]];
    return { [node.name]: { passes: Object.fromEntries(Object.keys(data).map((k) => [k, data[k] > 0 ? 1 : 0])) } };
  }
  if (LONG.includes(node.op)) {
    const shape = recording.shapes.final_conv;
    const plane = shape[2] * shape[3];
    const data = Object.fromEntries(recording.p.map((value, c) => [c * plane + place, value]));
    return { [node.name]: { p: { shape, data } } };
  }
  return node.op === "dice" ? { [node.name]: { overlap: recording.overlap, size: recording.size } } : {};
}

function pictures(recording, kind) {
  return Object.fromEntries(Object.entries(recording.maps[kind]).map(([name, { most, picture }]) => {
    const { shape, data } = unpack(picture);
    return [name, { shape: [1, 1, ...shape], data: data.map((shade) => (shade - 128) * (most / 127)), full: recording.shapes[name] }];
  }));
}

// What a formula can be shown of: [kind, name].
export function recordedFormulas({ run, chosen }) {
  const scalars = run.nodes.filter(({ side }) => side === "loss").map(({ name }) => name);
  const summed = (name) => !LONG.includes(run.nodes.find((node) => node.name === name)?.op);
  return [...Object.keys(chosen), ...scalars.filter((name) => run.values[name].shape.length === 0)].flatMap((name) =>
    ["values", "gradients"].filter((kind) => kind === "gradients" || summed(name)).map((kind) => [kind, name]));
}

// Every recorded formula: the largest difference between its sum and the element, as a share of the sum of its terms' sizes.
export function recordingVerdict(recording) {
  const found = recordedFormulas(recording).map(([kind, name]) => {
    const { terms, value } = formula(recording.run, kind, name, recording.chosen[name] ?? []);
    const [sum, size] = terms.reduce(([a, b], term) => [a + term.value, b + Math.abs(term.value)], [0, 0]);
    return { kind, name, error: sum === value ? 0 : Math.abs(sum - value) / size };
  });
  return found.sort((a, b) => (b.error > a.error || Number.isNaN(b.error) ? 1 : -1));
}
