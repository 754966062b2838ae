// What a canvas gives -> what the network is given: minunet/data/preprocessing.py in JavaScript.

import { reflect } from "./tiles.js";

const LUMINANCE = [0.299, 0.587, 0.114]; // of red, green and blue (ITU-R BT.601)
const TINY = 1e-12; // keeps the division of a constant image finite

export class Picture {
  // rgba: bytes, pixel by pixel, of which alpha is not looked at.
  constructor(rgba, height, width, facts) {
    this.size = [height, width];
    this.rgba = rgba;
    this.channels = facts.channels;
    this.toGrey = facts.channels === 1 && !isGrey(rgba); // else each number is that of a byte
    const { mean, deviation } = facts.normalize === "standardize" ? this.statistics() : { mean: 0, deviation: 1 };
    this.scaled = facts.normalize === "standardize" ? (value) => (value - mean) / (deviation + TINY) : (value) => value;
    this.table = Float32Array.from({ length: 256 }, (_, byte) => this.scaled(byte));
  }

  luminance(at) {
    const { rgba } = this;
    return LUMINANCE[0] * rgba[at] + LUMINANCE[1] * rgba[at + 1] + LUMINANCE[2] * rgba[at + 2];
  }

  // Mean and standard deviation over all pixels and channels.
  statistics() {
    const { rgba, toGrey, channels } = this;
    const count = (rgba.length / 4) * channels;
    const over = (measured) => {
      let sum = 0;
      for (let at = 0; at < rgba.length; at += 4)
        if (toGrey) sum += measured(this.luminance(at));
        else for (let c = 0; c < channels; c++) sum += measured(rgba[at + c]);
      return sum / count;
    };
    const mean = over((value) => value);
    return { mean, deviation: Math.sqrt(over((value) => (value - mean) ** 2)) };
  }

  // A window of the image as it is continued by reflection, channel by channel, into `to`.
  read(top, left, height, width, to) {
    const [rows, columns] = this.size;
    const across = Int32Array.from({ length: width }, (_, x) => 4 * reflect(left + x, columns));
    let k = 0;
    for (let c = 0; c < this.channels; c++)
      for (let y = 0; y < height; y++) {
        const start = 4 * reflect(top + y, rows) * columns;
        for (let x = 0; x < width; x++) {
          const at = start + across[x];
          to[k++] = this.toGrey ? this.scaled(this.luminance(at)) : this.table[this.rgba[at + c]];
        }
      }
  }
}

export function isGrey(rgba) {
  for (let at = 0; at < rgba.length; at += 4) if (rgba[at] !== rgba[at + 1] || rgba[at] !== rgba[at + 2]) return false;
  return true;
}
