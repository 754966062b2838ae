// A scale from blue (negative) over white to orange (positive): told apart with every common kind of colour blindness.

const STOPS = [[5, 48, 97], [67, 147, 195], [247, 247, 247], [224, 130, 20], [127, 59, 8]];

// share: from -1 to 1 -> [red, green, blue]
export function color(share) {
  const place = (Math.max(-1, Math.min(1, share)) + 1) * 2;
  const low = Math.min(3, Math.floor(place));
  return STOPS[low].map((value, k) => Math.round(value + (STOPS[low + 1][k] - value) * (place - low)));
}

// The same for pictures, as four bytes a pixel: shares of -SHADES .. SHADES.
const SHADES = 500;
const TABLE = new Uint32Array(Uint8Array.from(
  Array.from({ length: 2 * SHADES + 1 }, (_, k) => [...color(k / SHADES - 1), 255]).flat()).buffer);

export const SCALE = `linear-gradient(to right, ${STOPS.map((stop) => `rgb(${stop})`).join(", ")})`;

// Draws data[start ...] of height x width numbers into the canvas, a pixel a number.
export function draw(canvas, data, start, height, width, most) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  const scale = most === 0 ? 0 : SHADES / most;
  for (let k = 0; k < height * width; k++) pixels[k] = TABLE[SHADES + Math.round(scale * data[start + k])];
  context.putImageData(picture, 0, 0);
}

// Of an sRGB colour, as WCAG defines it: text on it is black where this is high, else white.
export function luminance(rgb) {
  const [red, green, blue] = rgb.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
