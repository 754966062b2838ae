// One plane of a tensor and of its gradient, large: an element is chosen by a click, the arrow keys, or its indices.

import { largest } from "./tensors.js";
import { SCALE, draw } from "./colors.js";
import { make } from "./make.js";
import { shown } from "./words.js";
import { placeIn, planeOf, withPlace } from "./planes.js";

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const TITLES = { values: "value", gradients: "gradient of the loss" };

// What the colours stand for, from -most to most.
export function scaleOf(most) {
  const bar = make("div", { className: "bar", "aria-hidden": "true" });
  bar.style.background = SCALE;
  const bounds = [-most, 0, most].map((value) => make("span", {}, shown(value)));
  return make("div", {}, bar, make("div", { className: "bounds" }, ...bounds));
}

export class Maps {
  // choose(kind, index) is called when the user picks an element.
  constructor(place, choose) {
    this.place = place;
    this.choose = choose;
    this.maps = Object.fromEntries(Object.keys(TITLES).map((kind) => [kind, this.build(kind)]));
  }

  build(kind) {
    const canvas = make("canvas", { tabIndex: 0, role: "img" });
    const cursor = make("span", { className: "cursor", "aria-hidden": "true" });
    const scale = scaleOf(0);
    const figure = make("figure", {}, make("figcaption", {}, TITLES[kind]),
      make("div", { className: "frame" }, canvas, cursor), scale);
    canvas.addEventListener("click", (event) => this.clicked(kind, event));
    canvas.addEventListener("keydown", (event) => this.moved(kind, event));
    this.place.append(figure);
    return { figure, canvas, cursor, scale };
  }

  clicked(kind, event) {
    const { height, width } = planeOf(this.shape);
    const box = event.target.getBoundingClientRect();
    const row = Math.min(height - 1, Math.floor(((event.clientY - box.top) / box.height) * height));
    const column = Math.min(width - 1, Math.floor(((event.clientX - box.left) / box.width) * width));
    this.choose(kind, withPlace(this.shape, this.index, row, column));
  }

  moved(kind, event) {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const { height, width } = planeOf(this.shape);
    const { row, column } = placeIn(this.shape, this.index);
    const clamp = (value, side) => Math.max(0, Math.min(side - 1, value));
    this.choose(kind, withPlace(this.shape, this.index, clamp(row + step[0], height), clamp(column + step[1], width)));
  }

  update(run, kind, name, index) {
    this.shape = run.values[name].shape;
    this.index = index;
    const { height, width } = planeOf(this.shape);
    const { start, row, column } = placeIn(this.shape, index);
    for (const [other, { figure, canvas, cursor, scale }] of Object.entries(this.maps)) {
      const tensor = run[other][name];
      figure.hidden = !tensor;
      if (!tensor) continue;
      const most = largest(tensor.data.subarray(start, start + height * width));
      draw(canvas, tensor.data, start, height, width, most);
      canvas.parentElement.style.aspectRatio = `${width} / ${height}`;
      canvas.setAttribute("aria-label", `${TITLES[other]} of ${name}, ${height} by ${width}, at row ${row}, column ` +
        `${column}: ${shown(tensor.data[start + row * width + column])}. Arrow keys move.`);
      Object.assign(cursor.style, { left: `${(100 * column) / width}%`, top: `${(100 * row) / height}%`,
        width: `${100 / width}%`, height: `${100 / height}%` });
      figure.classList.toggle("chosen", other === kind);
      scale.replaceChildren(...scaleOf(most).childNodes);
    }
  }
}
