// The page of a recording: pictures of every layer, and the formulas of one element of each; nothing is computed anew.

import { formula } from "./formulas.js";
import { openRecording, recordedFormulas, recordingVerdict } from "./recording.js";
import { Chart } from "./chart.js";
import { Maps } from "./maps.js";
import { Terms } from "./terms.js";
import { make } from "./make.js";
import { named, shown } from "./words.js";

const byId = (id) => document.getElementById(id);
const LEFT = ["edit", "compare", "index", "about-stepping", "about-breaking", "undo"]; // what takes a whole pass

export class Recorded {
  constructor(contents) {
    this.recording = contents.recording;
    this.opened = openRecording(this.recording);
    this.formulas = recordedFormulas(this.opened).map(([kind, name]) => `${kind} ${name}`);
    this.trail = [];
    this.chart = new Chart(byId("chart"), this.opened.run.nodes, (name) => this.chooseInChart(name));
    this.maps = new Maps(byId("maps"), (kind) => this.choose(kind, this.chosen.name));
    this.terms = new Terms(byId("formula"), (kind, name, index) => this.follow(kind, name, index));
  }

  start() {
    for (const id of LEFT) (byId(id).closest("section:not(#element):not(#network)") ?? byId(id)).hidden = true;
    byId("which").textContent = "the channel of the recorded element. Choose one, and below are its sums.";
    const { run, maps } = this.opened;
    byId("loss").textContent = shown(run.values.loss.data[0]);
    this.judge();
    const names = ["input", ...run.nodes.map((node) => node.name)].filter((name) => this.isKnown("gradients", name));
    byId("tensor").replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    byId("tensor").addEventListener("change", (event) => this.choose(this.chosen.kind, event.target.value));
    byId("kind").addEventListener("change", (event) => this.choose(event.target.value, this.chosen.name));
    byId("back").addEventListener("click", () => this.show(this.trail.pop()));
    const scalars = (kind) => Object.fromEntries(Object.entries(run[kind]).filter(([, { shape }]) => shape.length === 0)
      .map(([name, { data }]) => [name, { shape: [], data: Float64Array.of(data[0]) }]));
    this.pictures = { values: { ...maps.values, ...scalars("values") }, gradients: { ...maps.gradients, ...scalars("gradients") } };
    this.copyProbabilities();
    this.chart.update(this.pictures);
    this.show({ kind: "gradients", name: "final_conv" });
    byId("status").textContent = "recorded";
  }

  // Probabilities are a step of the loss and have no picture of their own: they are drawn as the logits.
  copyProbabilities() {
    for (const kind of ["values", "gradients"])
      if (this.opened.run[kind].probabilities) this.pictures[kind].probabilities = this.pictures[kind].final_conv;
  }

  judge() {
    const found = recordingVerdict(this.opened);
    const wrong = found.filter(({ error }) => !(error <= 1e-9));
    byId("verdict").textContent = wrong.length
      ? `${wrong.length} of ${found.length} recorded formulas do not give their element. Do not trust this page.`
      : `A recording of the Python run. All ${found.length} recorded formulas give their element: the largest difference is ` +
        `${shown(found[0].error)} of the sum of a formula's terms.`;
    byId("verdict").classList.toggle("wrong", wrong.length > 0);
  }

  isKnown(kind, name) {
    return this.formulas.includes(`${kind} ${name}`);
  }

  // An operand: if it is the recorded element of its tensor it has a formula of its own.
  follow(kind, name, index) {
    const own = this.opened.chosen[name];
    if (own && this.isKnown(kind, name) && own.every((place, axis) => place === index[axis])) this.choose(kind, name);
    else byId("difference").textContent = `Of ${named(kind, name, index)} only the value is recorded, not its own sum.`;
  }

  chooseInChart(name) {
    this.choose("values", name);
    byId("element").scrollIntoView({ block: "start" });
  }

  choose(kind, name) {
    const known = this.isKnown(kind, name) ? kind : "gradients";
    if (!this.isKnown(known, name)) return;
    this.trail.push(this.chosen);
    this.show({ kind: known, name });
  }

  show(chosen) {
    this.chosen = chosen;
    const { kind, name } = chosen;
    const index = this.opened.chosen[name] ?? [];
    byId("tensor").value = name;
    byId("kind").value = kind;
    byId("kind").options[0].disabled = !this.isKnown("values", name);
    byId("back").disabled = !this.trail.length;
    byId("difference").textContent = "";
    this.chart.mark(name);
    const { step } = this.recording;
    const seen = index.length ? [0, 0, Math.floor(index[2] / step), Math.floor(index[3] / step)] : [];
    this.maps.update(this.pictures, kind, name, seen);
    this.terms.show(kind, name, index, formula(this.opened.run, kind, name, index));
  }
}
