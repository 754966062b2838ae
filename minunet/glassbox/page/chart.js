// The U: every operation a button, with its activation and its gradient side by side.

import { largest } from "./tensors.js";
import { draw } from "./colors.js";
import { make } from "./make.js";
import { planeOf } from "./planes.js";

const SIGNS = {
  conv2d: "convolution", conv_transpose2d: "up-convolution", relu: "ReLU", dropout: "dropout", max_pool2d: "max pool",
  batch_norm: "batch norm", center_crop: "crop", center_pad: "pad", resize: "resize", concat: "concat (skip + up)",
  softmax: "softmax", sigmoid: "sigmoid", cross_entropy: "cross entropy", bce_with_logits: "binary cross entropy",
  dice: "Dice", add: "sum",
};

export class Chart {
  constructor(place, nodes, choose) {
    this.buttons = new Map();
    const levels = Math.max(...nodes.map((node) => node.level));
    const blocks = new Map();
    place.style.setProperty("--columns", 2 * levels + 2);
    const put = (name, title, key) => {
      if (!blocks.has(key)) {
        const [side, level] = key.split(" ");
        const column = { down: Number(level), bottom: levels, up: 2 * levels - Number(level), loss: 2 * levels + 1 }[side];
        const heading = { down: `down ${level}`, bottom: "bottleneck", up: `up ${level}`, loss: "loss" }[side];
        const block = make("section", { className: "block" }, make("h3", {}, heading));
        block.style.gridColumn = column + 1;
        block.style.gridRow = Number(level) + 1;
        blocks.set(key, block);
        place.append(block);
      }
      const canvases = [make("canvas", { "aria-hidden": "true" }), make("canvas", { "aria-hidden": "true" })];
      const shape = make("small", {});
      const button = make("button", { type: "button", className: "node", onclick: () => choose(name) },
        make("span", { className: "title" }, title), shape, make("span", { className: "pair" }, ...canvases));
      blocks.get(key).append(button);
      this.buttons.set(name, { button, canvases, shape });
    };
    put("input", "image", "down 0");
    for (const node of nodes) put(node.name, SIGNS[node.op], `${node.side} ${node.level}`);
  }

  update(run) {
    for (const [name, { canvases, shape }] of this.buttons) {
      const tensors = [run.values[name], run.gradients[name]];
      const { height, width } = planeOf(tensors[0].shape);
      const full = tensors[0].full ?? tensors[0].shape; // pictures of a recording may be smaller
      shape.textContent = full.length ? full.slice(1).join(" × ") : "one number";
      tensors.forEach((tensor, k) => {
        draw(canvases[k], tensor.data, 0, height, width, largest(tensor.data.subarray(0, height * width)));
      });
    }
  }

  mark(name) {
    for (const [other, { button }] of this.buttons) button.setAttribute("aria-pressed", String(other === name));
  }
}
