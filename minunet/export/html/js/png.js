// PNG files: what a browser does not tell of the one that is read, and one of bytes as they are.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

// Bits of a channel where the bytes begin a PNG file, else 0.
export function bitDepth(bytes) {
  return SIGNATURE.every((byte, k) => bytes[k] === byte) ? bytes[24] : 0;
}

// A grey PNG of 8 bits whose values are these bytes, row by row: a canvas would write colours. -> Uint8Array
export async function greyPng(values, height, width) {
  const rows = new Uint8Array(height * (width + 1)); // before each row stands how it is filtered: 0, not at all
  for (let y = 0; y < height; y++) rows.set(values.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header[8] = 8; // bits; all else is 0: grey, the one compression, the one kind of filters, rows in order
  const chunks = [chunk("IHDR", header), chunk("IDAT", new Uint8Array(await new Response(packed).arrayBuffer())),
    chunk("IEND", new Uint8Array(0))];
  return new Uint8Array(await new Blob([Uint8Array.from(SIGNATURE), ...chunks]).arrayBuffer());
}

function chunk(name, data) {
  const out = new Uint8Array(12 + data.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  for (let k = 0; k < 4; k++) out[4 + k] = name.charCodeAt(k);
  out.set(data, 8);
  view.setUint32(8 + data.length, crc(out.subarray(4, 8 + data.length)));
  return out;
}

// The cyclic redundancy check of PNG, bit by bit through a table of bytes.
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

function crc(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}
