// What is computed off the main thread: a question in, an answer out; and the worker that does so.

import { open } from "./box.js";
import { broken } from "./faults.js";
import { centralDifference, compute } from "./network.js";
import { descend } from "./steps_sgd.js";
import { copyOf } from "./tensors.js";

export class Work {
  constructor(contents) {
    this.contents = contents;
    this.opened = new Map(); // nodes and tensors by mode
  }

  // edits: [{name, place, value}] of pixels and parameters, in the order they were made.
  compute({ training, edits }) {
    const started = performance.now();
    if (!this.opened.has(training)) this.opened.set(training, open(this.contents, training));
    const { nodes, given: original } = this.opened.get(training);
    const given = { ...original };
    for (const { name, place, value } of edits) {
      given[name] = copyOf(given[name]);
      given[name].data[place] = value;
    }
    this.given = given;
    this.run = compute(nodes, given);
    const { values, kept, gradients } = this.run;
    return { values, kept, gradients, milliseconds: performance.now() - started };
  }

  // Of the last run: the slope of the loss along one pixel or weight, with choices held and free.
  difference({ name, place }) {
    const slope = (held) => centralDifference(this.run, this.given, name, place, held);
    return { held: slope(true), free: slope(false) };
  }

  // From the last run on: some updates of all parameters, and what they do to this one.
  descend({ name }) {
    const { optimizer } = this.contents;
    return { rounds: descend(this.run, this.given, name, optimizer), optimizer };
  }

  // Of the last run: its gradients with a fault in backpropagation.
  break({ fault }) {
    return broken(this.run, fault);
  }

  answer({ task, ...question }) {
    return this[task](question);
  }
}

// In a worker: the first message holds the contents, each further one {id, task, ...}; answered by {id, answer | error}.
export function serve(scope) {
  let work = null;
  scope.onmessage = ({ data }) => {
    if (!work) {
      work = new Work(data);
      return;
    }
    const { id, ...question } = data;
    try {
      scope.postMessage({ id, answer: work.answer(question) });
    } catch (error) {
      scope.postMessage({ id, error: String(error) });
    }
  };
}
