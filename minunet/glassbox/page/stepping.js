// Which stepper is shown: of those that can begin with the chosen element, the one that was chosen.

import { STEPPERS, subjectsOf } from "./steppers.js";
import { Frame } from "./frame.js";
import { make } from "./make.js";

export class Stepping {
  // descend(name) -> a promise of what the SGD stepper steps through; follow(name): to a tensor that a stepper fits.
  constructor(place, descend, follow) {
    this.descend = descend;
    this.follow = follow;
    this.kind = make("select", { id: "stepper", onchange: () => this.choose(this.kind.value) });
    this.note = make("p", { role: "status" });
    this.updates = make("button", { type: "button", onclick: () => this.update() }, "compute three updates");
    this.body = make("div");
    this.frame = new Frame(this.body);
    place.append(make("p", {}, make("label", {}, "take apart ", this.kind)), this.note, this.updates, this.body);
  }

  // A new run: which steppers there are, and no updates computed.
  start(run) {
    this.run = run;
    this.rounds = new Map();
    this.kinds = Object.keys(STEPPERS).filter((kind) => subjectsOf(run, kind).length);
    const chosen = this.kind.value;
    this.kind.replaceChildren(...this.kinds.map((kind) => make("option", { value: kind }, STEPPERS[kind].title)));
    if (this.kinds.includes(chosen)) this.kind.value = chosen;
  }

  choose(kind) {
    if (STEPPERS[kind].fits(this.run, this.name)) this.show();
    else this.follow(subjectsOf(this.run, kind)[0]);
  }

  look(name, index) {
    [this.name, this.index] = [name, index];
    if (!STEPPERS[this.kind.value].fits(this.run, name)) {
      const fitting = this.kinds.find((kind) => STEPPERS[kind].fits(this.run, name));
      if (fitting) this.kind.value = fitting;
    }
    this.show();
  }

  show() {
    const [kind, name] = [this.kind.value, this.name];
    const fits = STEPPERS[kind].fits(this.run, name);
    const waits = kind === "sgd" && !this.rounds.has(name);
    this.frame.stop();
    this.note.textContent = fits ? `at the chosen element of ${name}` : `${name} has no stepper of its own: choose another above.`;
    this.updates.hidden = !fits || !waits;
    this.body.hidden = !fits || waits;
    if (fits && !waits) this.frame.show(STEPPERS[kind].make(this.run, name, this.index, this.rounds.get(name)), STEPPERS[kind].about);
  }

  // Whole passes, so that they are computed when they are asked for.
  async update() {
    const { name, run, rounds } = this;
    this.note.textContent = "computing three updates …";
    rounds.set(name, await this.descend(name));
    if (run === this.run) this.show();
  }
}
