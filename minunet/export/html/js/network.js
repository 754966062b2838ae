// The network: the exported C as WebAssembly, with its weights and room for an image and its logits.

import { outputSide, span } from "./tiles.js";

const PAGE = 65536; // bytes of WebAssembly's memory come in pages

export function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  return bytes;
}

// -> a Network. module, weights: bytes. Rejects where the browser has no WebAssembly of vectors, or not the memory.
export async function load(facts, module, weights) {
  const { instance } = await WebAssembly.instantiate(module, {});
  return new Network(facts, instance.exports, weights);
}

class Network {
  constructor(facts, code, weights) {
    this.facts = facts;
    this.code = code;
    const [height, width] = facts.most;
    this.free = Math.ceil((code.__heap_base.value >>> 0) / 16) * 16;
    const weightsAt = this.take(weights.length);
    this.inAt = this.take(4 * facts.channels * height * width);
    this.outAt = this.take(4 * facts.outputs * outputSide(facts, height) * outputSide(facts, width));
    const missing = this.free - code.memory.buffer.byteLength;
    if (missing > 0) code.memory.grow(Math.ceil(missing / PAGE));
    new Uint8Array(code.memory.buffer).set(weights, weightsAt);
    code.unet_set_weights(weightsAt);
  }

  take(bytes) {
    const place = this.free;
    this.free += Math.ceil(bytes / 16) * 16;
    return place;
  }

  // Logits, channel by channel, of an input of this size, which `fill` writes; valid until the next call.
  run(height, width, fill) {
    const { facts, code } = this;
    const pixels = outputSide(facts, height) * outputSide(facts, width);
    fill(new Float32Array(code.memory.buffer, this.inAt, facts.channels * height * width));
    code.unet_set_size(height, width);
    code.unet_predict(this.inAt, this.outAt);
    return new Float32Array(code.memory.buffer, this.outAt, facts.outputs * pixels);
  }

  // {logits, offset, width, pixels} of a window of the picture: its pixel (y, x) of channel c is
  // logits[c * pixels + offset + y * width + x].
  logitsIn(picture, { top, left, height, width }) {
    const { facts } = this;
    const rows = span(facts, top, top + height, picture.size[0]);
    const columns = span(facts, left, left + width, picture.size[1]);
    const seen = [rows.last - rows.first, columns.last - columns.first];
    const logits = this.run(...seen, (to) => picture.read(rows.first, columns.first, ...seen, to));
    const [down, across] = seen.map((side) => outputSide(facts, side));
    return { logits, offset: rows.offset * across + columns.offset, width: across, pixels: down * across };
  }
}
