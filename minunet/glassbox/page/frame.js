// The frame of every stepper: first, previous, play, next and a slider; arrow keys step; below what a step did.

import { drawn } from "./panels.js";
import { frameAfter, stateAfter } from "./steps.js";
import { make } from "./make.js";
import { count, shown } from "./words.js";

const [SLOWEST, FASTEST, WHOLE] = [700, 60, 60000]; // milliseconds a step of playing, and those of all steps
const KEYS = { ArrowLeft: -1, ArrowRight: 1 };

export class Frame {
  constructor(place) {
    const button = (text, click) => make("button", { type: "button", onclick: click }, text);
    this.about = make("p");
    this.buttons = { play: button("play", () => this.play()), back: button("previous", () => this.go(this.step - 1)),
      next: button("next", () => this.go(this.step + 1)) };
    this.slider = make("input", { type: "range", min: 0, step: 1, oninput: () => this.go(Number(this.slider.value)) });
    this.position = make("output");
    this.caption = make("p", { className: "caption", role: "status" });
    this.panels = make("div", { className: "panels" });
    this.end = make("p");
    this.group = make("div", { role: "group", "aria-label": "stepper", onkeydown: (event) => this.pressed(event) },
      make("p", { className: "controls" }, this.buttons.back, " ", this.buttons.play, " ", this.buttons.next, " ",
        make("label", {}, "step ", this.slider), " ", this.position),
      this.caption, this.panels, this.end);
    place.append(this.about, this.group);
  }

  // A stepper made for an element; about: what it shows, in words.
  show(stepper, about) {
    this.stop();
    this.stepper = stepper;
    this.about.textContent = about;
    this.slider.max = stepper.steps.length;
    this.go(0);
  }

  go(step) {
    const last = this.stepper.steps.length;
    this.step = Math.max(0, Math.min(last, step));
    const { caption, panels } = frameAfter(this.stepper, this.step);
    this.slider.value = this.step;
    this.slider.setAttribute("aria-valuetext", `${this.step} of ${last}`);
    this.position.textContent = `${this.step} of ${last}`;
    this.caption.textContent = caption;
    this.panels.replaceChildren(...panels.map(drawn));
    this.end.textContent = this.step === last ? this.verdict() : "";
    if (this.step === last) this.stop();
  }

  // The last state beside the tensors of the pass.
  verdict() {
    const found = this.stepper.ends(stateAfter(this.stepper, this.step).state);
    const apart = Math.max(...found.map(({ found: own, expected }) => Math.abs(own - expected)));
    return `Done: ${count(found.length, "number")}, beside the tensors of the pass the largest difference is ${shown(apart)}.`;
  }

  pressed(event) {
    if (!KEYS[event.key] || event.target === this.slider) return;
    event.preventDefault();
    this.go(this.step + KEYS[event.key]);
  }

  play() {
    if (this.timer) return this.stop();
    if (this.step === this.stepper.steps.length) this.go(0);
    this.buttons.play.textContent = "pause";
    this.caption.setAttribute("aria-live", "off"); // each step would be read aloud
    const each = Math.max(FASTEST, Math.min(SLOWEST, WHOLE / this.stepper.steps.length));
    this.timer = setInterval(() => this.go(this.step + 1), each);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.buttons.play.textContent = "play";
    this.caption.setAttribute("aria-live", "polite");
  }
}
