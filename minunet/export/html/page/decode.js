// A file -> the bytes of its image, as the browser decodes it, or an error in words for the user.

import { bitDepth } from "./png.js";

const MOST_PIXELS = 2 ** 24;
const TIFF = [[73, 73, 42, 0], [77, 77, 0, 42]]; // how such files begin

// -> {rgba, height, width, notes}
export async function decode(file) {
  const head = new Uint8Array(await file.slice(0, 32).arrayBuffer());
  const bitmap = await opened(file, head);
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS)
    throw new Error(`${file.name} has ${width} x ${height} px, and this page takes ` +
      `${MOST_PIXELS.toLocaleString("en")} at most: cut it into parts, or use minunet predict.`);
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  return { rgba, height, width, notes: notes(head, rgba) };
}

async function opened(file, head) {
  try {
    // The numbers of the file, not those that a screen of other colours would be sent.
    return await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    const hint = TIFF.some((start) => start.every((byte, k) => head[k] === byte))
      ? "it is a TIFF file, which browsers do not read: save it as PNG."
      : file.size === 0 ? "it is empty." : "give a PNG or JPEG file.";
    throw new Error(`${file.name} is no image that this browser can read: ${hint}`);
  }
}

// What is lost on the way from the file to these bytes.
function notes(head, rgba) {
  const found = [];
  if (bitDepth(head) === 16)
    found.push("This file has 16 bits a channel, of which a browser gives the upper 8: the result may differ from " +
      "that of minunet predict.");
  for (let at = 3; at < rgba.length; at += 4)
    if (rgba[at] < 255) {
      found.push("This image has transparent parts, whose colours a browser does not keep exactly.");
      break;
    }
  return found;
}
