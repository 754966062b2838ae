// A page with one stepper and nothing else, for a frame in a book.

import { compute } from "./network.js";
import { open } from "./box.js";
import { Frame } from "./frame.js";

const byId = (id) => document.getElementById(id);

// Of all modules of steppers only that of the kind is in this page, so it is found by its name.
export function start() {
  const contents = JSON.parse(byId("contents").textContent);
  const { kind, module, optimizer, element: { name, index } } = contents;
  const { [kind]: stepper, descend } = MODULES[module];
  const { nodes, given } = open(contents, contents.mode === "train");
  const run = compute(nodes, given);
  const rounds = descend && descend(run, given, name, optimizer);
  byId("title").textContent = stepper.title;
  new Frame(byId("stepping")).show(stepper.make(run, name, index, { rounds, optimizer }), stepper.about);
}
