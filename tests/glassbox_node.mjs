// What the tests run in Node: node glassbox_node.mjs JOB.json OUT.json, the modules of the page without its drawing.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const from = (name) => import(join(job.modules, `${name}.js`));
const { open, verdict } = await from("box");
const { FAULTS, broken } = await from("faults");
const { centralDifference, compute, forward, sgdStep } = await from("network");
const { formula } = await from("formulas");
const { STEPPERS, subjectsOf } = await from("steppers");
const { frameAfter, stateAfter } = await from("steps");
const { descend } = await from("steps_sgd");
const { openRecording, recordedFormulas, recordingVerdict } = await from("recording");
const { indexOf, norm } = await from("tensors");

// A small generator of our own, so that draws are the same in every version of Node (mulberry32).
function generator(seed) {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * below);
  };
}

function plain(tensors) {
  return Object.fromEntries(Object.entries(tensors).map(([name, { shape, data }]) =>
    [name, { shape, base64: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64") }]));
}

// Random elements of all tensors in turn: is the sum of the terms the value, within 1e-9 of the sum of their sizes?
function formulas(run, count, draw) {
  const names = ["values", "gradients"].flatMap((kind) => Object.keys(run[kind]).map((name) => [kind, name]));
  const wrong = [];
  let longest = 0;
  for (let k = 0; k < count; k++) {
    const [kind, name] = names[k % names.length];
    const { shape, data } = run[kind][name];
    const index = indexOf(shape, draw(data.length));
    const { terms, value, law } = formula(run, kind, name, index);
    const [sum, size] = terms.reduce(([a, b], { value: t }) => [a + t, b + Math.abs(t)], [0, 0]);
    const products = terms.every((t) => t.value === t.factors.reduce((product, { value: f }) => product * f, 1));
    longest = Math.max(longest, terms.length);
    if (!(Math.abs(sum - value) <= 1e-9 * size) || !products || !law) wrong.push({ kind, name, index, sum, value, size });
  }
  return { count, tensors: names.length, wrong, longest };
}

// Random weights and pixels: analytic beside central difference, as a share of the tensor's scale.
function differences(run, given, { count, scales }, draw) {
  const names = Object.keys(given).filter((name) => run.gradients[name]);
  const found = { held: [], free: [] };
  for (let k = 0; k < count; k++) {
    const name = names[k % names.length];
    const gradient = run.gradients[name].data;
    const place = draw(gradient.length);
    for (const way of ["held", "free"]) {
      const { slope, changed } = centralDifference(run, given, name, place, way === "held");
      found[way].push({ name, place, error: Math.abs(slope - gradient[place]) / (scales[name].scale || 1), changed: changed.length });
    }
  }
  return found;
}

// Every fault: its wrong gradients, and what one small step along them does to the loss, as a share of the right step.
function faults(run, given) {
  const step = (gradients) => {
    const names = Object.keys(given).filter((name) => name !== "input" && gradients[name]);
    const length = Math.sqrt(names.reduce((sum, name) => sum + norm(gradients[name].data) ** 2, 0));
    const { values } = sgdStep(given, gradients, {}, { lr: 1e-6 / length, momentum: 0 });
    return forward(run.nodes, values, run.kept).values.loss.data[0] - run.values.loss.data[0];
  };
  const right = step(run.gradients);
  return Object.fromEntries(Object.keys(FAULTS).map((fault) => {
    const { gradients, wrong, rate } = broken(run, fault);
    return [fault, { gradients: plain(gradients), wrong, rate, stepped: step(gradients) / right }];
  }));
}

// Every stepper at random elements of tensors that it fits: its last state beside the pass, and frames on the way.
function steppers(run, given, { each, optimizer }, draw) {
  return Object.entries(STEPPERS).flatMap(([kind, { fits, make }]) => {
    const names = subjectsOf(run, kind);
    return Array.from({ length: names.length ? each : 0 }, () => {
      const name = names[draw(names.length)];
      const { shape, data } = run.values[name];
      const index = indexOf(shape, draw(data.length));
      const rounds = kind === "sgd" ? descend(run, given, name, optimizer) : null;
      const stepper = make(run, name, index, { rounds, optimizer });
      const last = stepper.steps.length;
      const ends = stepper.ends(stateAfter(stepper, last).state);
      const frames = [0, 1, last, ...Array.from({ length: 5 }, () => draw(last + 1))].map((k) => frameAfter(stepper, k));
      const sound = frames.every(({ caption, panels }) => caption && !/NaN|undefined/.test(caption) && panels.every(
        ({ rows, columns, data: numbers, marks }) => numbers.length === rows.length * columns.length
          && marks.every((place) => place >= 0 && place < numbers.length)));
      const size = Math.max(...ends.map(({ expected }) => Math.abs(expected)));
      const apart = Math.max(...ends.map(({ found, expected }) => Math.abs(found - expected)));
      const done = frames[2].panels.every(({ data: numbers }) => !numbers.some(Number.isNaN));
      return { kind, name, index, steps: last, count: ends.length, apart, size, sound, done, fits: fits(run, name) };
    });
  });
}

// A recording: every formula of it beside its value, and which those are.
function recorded(recording) {
  const opened = openRecording(recording);
  return { verdict: recordingVerdict(opened), formulas: recordedFormulas(opened), nodes: opened.run.nodes.map(({ name }) => name) };
}

const results = job.boxes.map((box) => {
  if (box.recording) return recorded(box.recording);
  const { nodes, given } = open(box.contents, box.training);
  const start = performance.now();
  const run = compute(nodes, given);
  const answer = { milliseconds: performance.now() - start, names: nodes.map((node) => node.name) };
  const draw = generator(box.seed ?? 0);
  if (box.tensors) Object.assign(answer, { values: plain(run.values), gradients: plain(run.gradients) });
  if (box.numbers) answer.verdict = verdict(run, box.numbers);
  if (box.formulas) answer.formulas = formulas(run, box.formulas, draw);
  if (box.differences) answer.differences = differences(run, given, { count: box.differences, scales: box.numbers.gradients }, draw);
  if (box.faults) answer.faults = faults(run, given);
  if (box.steppers) answer.steppers = steppers(run, given, box.steppers, draw);
  if (box.steps) {
    let state = { values: given, velocities: {} };
    for (let k = 0; k < box.steps; k++)
      state = sgdStep(state.values, compute(nodes, state.values).gradients, state.velocities, box.sgd);
    answer.after = plain(state.values);
  }
  return answer;
});
writeFileSync(process.argv[3], JSON.stringify(results));
