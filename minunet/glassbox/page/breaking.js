// "Break it": a fault of backpropagation, wrong gradients beside right ones, and whether the loss would tell.

import { FAULTS } from "./faults.js";
import { largest } from "./tensors.js";
import { draw } from "./colors.js";
import { scaleOf } from "./maps.js";
import { make } from "./make.js";
import { count, shown } from "./words.js";
import { placeIn, planeOf } from "./planes.js";

const ROWS = 10;

export class Breaking {
  // ask(fault) -> a promise of what faults.js says of it; follow(name) is called for a tensor to be looked at.
  constructor(place, ask, follow) {
    this.ask = ask;
    this.follow = follow;
    this.result = make("div", { role: "status" });
    const choice = make("select", { id: "fault" },
      ...Object.entries(FAULTS).map(([fault, { title }]) => make("option", { value: fault }, title)));
    place.append(
      make("p", {}, make("label", {}, "fault ", choice), " ",
        make("button", { type: "button", onclick: () => this.run(choice.value) }, "break it")),
      this.result);
  }

  clear() {
    this.result.replaceChildren();
    this.found = null;
  }

  async run(fault) {
    this.result.replaceChildren("computing …");
    this.found = await this.ask(fault);
    const { wrong, parameters, rate } = this.found;
    const told = rate > 0
      ? `The loss would still fall, at ${shown(100 * rate)} % of the right rate for a step of the same length: it would not tell.`
      : `The loss would rise: the step points ${shown(-100 * rate)} % uphill.`;
    this.pair = make("div", { className: "maps" });
    this.result.replaceChildren(
      make("p", {}, FAULTS[fault].why),
      make("p", {}, make("strong", {}, `${wrong.length} of ${count(parameters, "parameter tensor")} wrong. `), told),
      ...(wrong.length ? [this.table(wrong)] : []),
      this.pair);
    this.update();
  }

  table(wrong) {
    const heads = ["gradient of", "right norm", "wrong norm", "cosine between them"];
    const rows = wrong.slice(0, ROWS).map(({ name, right, wrong: norm, cosine }) => make("tr", {},
      make("th", { scope: "row" },
        make("button", { type: "button", className: "operand", onclick: () => this.follow(name) }, name)),
      ...[right, norm, cosine].map((value) => make("td", {}, Number.isNaN(value) ? "none" : shown(value)))));
    const left = wrong.length > ROWS ? `, ${ROWS} of ${wrong.length}` : "";
    return make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": "wrong gradients" },
      make("table", {}, make("caption", {}, `The most wrong first${left}`),
        make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
        make("tbody", {}, ...rows)));
  }

  // The chosen tensor's gradient, right and wrong, in one scale.
  look(run, name, index) {
    this.seen = { run, name, index };
    this.update();
  }

  update() {
    if (!this.found || !this.seen) return;
    const { run, name, index } = this.seen;
    const pair = { right: run.gradients[name], wrong: this.found.gradients[name] };
    this.pair.replaceChildren();
    if (!pair.right || !pair.wrong) return;
    const { height, width } = planeOf(pair.right.shape);
    const { start, row, column } = placeIn(pair.right.shape, index);
    const planes = Object.values(pair).map(({ data }) => data.subarray(start, start + height * width));
    const most = Math.max(...planes.map(largest));
    for (const [title, { data }] of Object.entries(pair)) {
      const value = shown(data[start + row * width + column]);
      const canvas = make("canvas", { role: "img", "aria-label": `${title} gradient of ${name}` });
      const frame = make("div", { className: "frame" }, canvas);
      frame.style.aspectRatio = `${width} / ${height}`;
      draw(canvas, data, start, height, width, most);
      this.pair.append(make("figure", {}, make("figcaption", {}, `${title} gradient of ${name}, at [${index.join(", ")}]: ${value}`), frame, scaleOf(most)));
    }
  }
}
