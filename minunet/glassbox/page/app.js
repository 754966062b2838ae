// The page: what is chosen, what was edited, and everything that is drawn anew when one of these changes.

import { TOLERANCE, open, verdict } from "./box.js";
import { formula } from "./formulas.js";
import { pixelFactor } from "./losses.js";
import { offset } from "./tensors.js";
import { Work } from "./work.js";
import { Breaking } from "./breaking.js";
import { Chart } from "./chart.js";
import { Maps } from "./maps.js";
import { Recorded } from "./recorded.js";
import { Stepping } from "./stepping.js";
import { Terms } from "./terms.js";
import { make } from "./make.js";
import { count, named, shown } from "./words.js";
import { axesOf, placeIn, planeOf, withPlace } from "./planes.js";

const byId = (id) => document.getElementById(id);

// Questions to a worker, made of the page's own script; where a browser allows none, they are answered here.
class Asker {
  constructor(contents, script) {
    this.waiting = new Map();
    this.asked = 0;
    try {
      const source = `${script}\nMODULES.work.serve(self);`;
      this.worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
      this.worker.onmessage = ({ data }) => this.settle(data);
      this.worker.postMessage(contents);
    } catch {
      this.work = new Work(contents);
    }
  }

  settle({ id, answer, error }) {
    const { resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    if (error) reject(new Error(error));
    else resolve(answer);
  }

  ask(question) {
    if (this.work) return Promise.resolve(this.work.answer(question));
    const id = this.asked++;
    this.worker.postMessage({ id, ...question });
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }
}

class App {
  constructor(contents, script) {
    this.contents = contents;
    this.asker = new Asker(contents, script);
    this.training = contents.mode === "train";
    this.edits = [];
    this.trail = [];
    this.chosen = null;
    this.chart = new Chart(byId("chart"), open(contents, this.training).nodes, (name) => this.chooseInChart(name));
    this.maps = new Maps(byId("maps"), (kind, index) => this.choose(kind, this.chosen.name, index));
    this.terms = new Terms(byId("formula"), (kind, name, index) => this.choose(kind, name, index));
    this.breaking = new Breaking(byId("breaking"), (fault) => this.asker.ask({ task: "break", fault }),
      (name) => this.chooseTensor(name));
    this.stepping = new Stepping(byId("stepping"), (name) => this.asker.ask({ task: "descend", name }), (name) => this.chooseTensor(name));
    this.wire();
  }

  wire() {
    byId("mode").value = this.contents.mode;
    byId("mode").addEventListener("change", (event) => {
      this.training = event.target.value === "train";
      this.compute();
    });
    byId("tensor").addEventListener("change", (event) => this.chooseTensor(event.target.value));
    byId("kind").addEventListener("change", (event) => this.choose(event.target.value, this.chosen.name, this.chosen.index));
    byId("back").addEventListener("click", () => this.goBack());
    byId("edit").addEventListener("submit", (event) => {
      event.preventDefault();
      this.edit(Number(byId("new-value").value));
    });
    byId("undo").addEventListener("click", () => {
      this.edits = [];
      this.compute();
    });
    byId("compare").addEventListener("click", () => this.compare());
  }

  async compute() {
    byId("status").textContent = "computing …";
    const { nodes } = open(this.contents, this.training);
    const before = this.run?.values.loss.data[0];
    const found = await this.asker.ask({ task: "compute", training: this.training, edits: this.edits });
    this.run = { nodes, ...found };
    this.chosen ??= { kind: "values", name: "final_conv", index: [0, 0, ...(this.contents.pixel ?? this.worstPixel())] };
    const loss = found.values.loss.data[0];
    const change = before === undefined ? "" : `, loss changed by ${shown(loss - before)}`;
    byId("loss").textContent = shown(loss);
    byId("status").textContent = `computed in ${Math.round(found.milliseconds)} ms${change}`;
    this.judge();
    this.list();
    this.chart.update(this.run);
    this.breaking.clear();
    this.stepping.start(this.run);
    this.show();
  }

  // The pixel of the first image whose share of the cross entropy is largest; the middle where there is none.
  worstPixel() {
    const [, , height, width] = this.run.values.final_conv.shape;
    const node = this.run.nodes.find(({ op }) => op === "cross_entropy" || op === "bce_with_logits");
    if (!node) return [height >> 1, width >> 1];
    const shares = Array.from(this.run.kept[node.name].each.subarray(0, height * width), (loss, k) => loss * pixelFactor(node, k));
    const worst = shares.indexOf(Math.max(...shares));
    return [Math.floor(worst / width), worst % width];
  }

  // The page's numbers beside those of the Python run; after an edit there are none to compare with.
  judge() {
    const numbers = this.contents.checks[this.training ? "train" : "eval"];
    if (this.edits.length || !numbers) {
      byId("verdict").textContent = this.edits.length
        ? `${count(this.edits.length, "edit")}: no longer what Python computed.`
        : "Not compared: the Python run was in the other mode.";
      return;
    }
    const found = verdict(this.run, numbers);
    const wrong = found.filter(({ error }) => !(error <= TOLERANCE));
    byId("verdict").textContent = wrong.length
      ? `${wrong.length} of ${found.length} tensors differ from the Python run, most: ${wrong[0].kind} of ${wrong[0].name}, ` +
        `${shown(wrong[0].error)} of its largest number. Do not trust this page.`
      : `All ${found.length} values and gradients agree with the Python run: the largest difference is ` +
        `${shown(found[0].error)} of a tensor's largest number (allowed: ${shown(TOLERANCE)}).`;
    byId("verdict").classList.toggle("wrong", wrong.length > 0);
  }

  list() {
    const names = ["input", ...this.run.nodes.map((node) => node.name), ...this.parameters()];
    byId("tensor").replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  }

  // Parameters and buffers, in the order of the nodes.
  parameters() {
    return this.run.nodes.flatMap((node) => Object.values(node.parameters));
  }

  chooseInChart(name) {
    this.chooseTensor(name);
    byId("element").scrollIntoView({ block: "start" });
  }

  chooseTensor(name) {
    const shape = this.run.values[name].shape;
    const same = shape.length === this.chosen.index.length && this.chosen.index.every((place, axis) => place < shape[axis]);
    const middle = shape.map((side, axis) => (axis < shape.length - 2 ? 0 : Math.floor(side / 2)));
    const kind = this.run[this.chosen.kind][name] ? this.chosen.kind : "values";
    this.choose(kind, name, same ? this.chosen.index : middle);
  }

  choose(kind, name, index) {
    if (!this.run) return;
    this.trail.push(this.chosen);
    this.chosen = { kind, name, index };
    this.show();
  }

  goBack() {
    if (!this.trail.length) return;
    this.chosen = this.trail.pop();
    this.show();
  }

  show() {
    const { kind, name, index } = this.chosen;
    const given = name === "input" || this.parameters().includes(name);
    byId("tensor").value = name;
    byId("kind").value = kind;
    byId("kind").options[1].disabled = !this.run.gradients[name];
    byId("back").disabled = !this.trail.length;
    this.chart.mark(this.run.nodes.find((node) => Object.values(node.parameters).includes(name))?.name ?? name);
    this.showIndex();
    this.maps.update(this.run, kind, name, index);
    this.terms.show(kind, name, index, formula(this.run, kind, name, index));
    this.breaking.look(this.run, name, index);
    this.stepping.look(name, index);
    byId("given").hidden = !given;
    byId("compare").hidden = !given || !this.run.gradients[name];
    byId("difference").textContent = "";
    byId("undo").disabled = !this.edits.length;
    byId("new-value").value = this.run.values[name].data[offset(this.run.values[name].shape, index)];
  }

  showIndex() {
    const { kind, name, index } = this.chosen;
    const shape = this.run.values[name].shape;
    const labels = shape.length === 1 ? ["index"] : [...axesOf(name, shape), "row", "column"].slice(-shape.length || Infinity);
    const fields = shape.map((side, axis) => {
      const field = make("input", { type: "number", min: 0, max: side - 1, value: index[axis], step: 1 });
      field.addEventListener("change", () => {
        const place = Math.max(0, Math.min(side - 1, Math.round(Number(field.value)) || 0));
        this.choose(kind, name, index.map((old, other) => (other === axis ? place : old)));
      });
      return make("label", {}, `${labels[axis]} `, field);
    });
    const focused = [...byId("index").querySelectorAll("input")].indexOf(document.activeElement);
    byId("index").replaceChildren(...fields);
    if (focused >= 0) byId("index").querySelectorAll("input")[focused]?.focus();
  }

  edit(value) {
    const { name, index } = this.chosen;
    if (!Number.isFinite(value)) return;
    this.edits.push({ name, place: offset(this.run.values[name].shape, index), value });
    this.compute();
  }

  async compare() {
    const { name, index } = this.chosen;
    const place = offset(this.run.values[name].shape, index);
    byId("difference").textContent = "computing …";
    const { held, free } = await this.asker.ask({ task: "difference", name, place });
    const analytic = this.run.gradients[name].data[place];
    const line = (title, { slope, step }) => make("li", {}, `${title}, step ${shown(step)}: ${shown(slope)}, off by ${shown(slope - analytic)}`);
    const changes = free.changed.slice(0, 8).map((choice) =>
      make("li", {}, `${choice.op === "relu" ? "ReLU" : "max pool"} ${named("values", choice.name, choice.index)}`));
    const more = free.changed.length > 8 ? [make("li", {}, `and ${free.changed.length - 8} more`)] : [];
    byId("difference").replaceChildren(
      make("ul", {}, make("li", {}, `analytic, by backpropagation: ${shown(analytic)}`),
        line("central difference, choices of ReLU and pooling held", held),
        line("central difference, choices free", free)),
      make("p", {}, free.changed.length
        ? `${count(free.changed.length, "choice")} changed on the way, so the free difference also saw a kink of the loss:`
        : "No ReLU or pooling chose otherwise on the way."),
      make("ul", {}, ...changes, ...more));
  }
}

export function start() {
  const contents = JSON.parse(byId("contents").textContent);
  if (contents.recording) new Recorded(contents).start();
  else new App(contents, byId("arithmetic").textContent).compute();
}
