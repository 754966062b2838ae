// A whole image, tile by tile, to the class of every pixel.

import { tiles } from "./tiles.js";

// -> classes (Uint8Array, row by row). told(done, total) is called before every tile and at the end.
export function segment(network, picture, told = () => {}) {
  const [height, width] = picture.size;
  const classes = new Uint8Array(height * width);
  const windows = tiles(network.facts, picture.size);
  windows.forEach((window, done) => {
    told(done, windows.length);
    const found = network.logitsIn(picture, window);
    for (let y = 0; y < window.height; y++)
      for (let x = 0; x < window.width; x++)
        classes[(window.top + y) * width + window.left + x] =
          classOf(network.facts, found.logits, found.offset + y * found.width + x, found.pixels);
  });
  told(windows.length, windows.length);
  return classes;
}

// Of the pixel whose logits lie `pixels` apart from `at` on: as minunet's class_map, from logits.
function classOf({ outputs, borders }, logits, at, pixels) {
  if (outputs === 1) return logits[at] > 0 ? 1 : 0;
  if (borders) return likelier(outputs, logits, at, pixels) ? 1 : 0;
  let best = 0;
  for (let c = 1; c < outputs; c++) if (logits[at + c * pixels] > logits[at + best * pixels]) best = c;
  return best;
}

// Whether all other classes, the inside and the border of a cell, are together likelier than the background.
function likelier(outputs, logits, at, pixels) {
  let sum = 0;
  for (let c = 1; c < outputs; c++) sum += Math.exp(logits[at + c * pixels] - logits[at]);
  return sum > 1;
}
