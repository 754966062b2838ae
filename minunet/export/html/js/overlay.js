// Classes as colours: minunet/display/pictures.py in JavaScript.

// Okabe and Ito's, which colour-blind readers can tell apart; class 0, the background, stays clear.
const COLORS = [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0],
  [204, 121, 167]];
const STRENGTH = 0.35;
const HALO = 0.3; // of its light is left to what lies beside an outline, or the outline would be lost on white
const DARKEST = 0.005; // shares of the pixels between which a grey image is spread over black to white

export function colorOf(number) {
  return number === 0 ? [0, 0, 0] : COLORS[(number - 1) % COLORS.length];
}

// Bytes 0 ... 255 -> what is shown for them, for an image of these bytes (every fourth of rgba is looked at).
export function spread(rgba) {
  const counts = new Uint32Array(256);
  for (let at = 0; at < rgba.length; at += 4) counts[rgba[at]]++;
  const [low, high] = [DARKEST, 1 - DARKEST].map((share) => quantile(counts, share * (rgba.length / 4 - 1)));
  return Uint8Array.from({ length: 256 }, (_, value) =>
    255 * Math.min(1, Math.max(0, (value - low) / Math.max(high - low, 1e-12))) + 0.5);
}

// The value at a place in the sorted order, between two of them by the fraction.
function quantile(counts, place) {
  const at = (index) => {
    let passed = 0;
    for (let value = 0; value < 256; value++) {
      passed += counts[value];
      if (index < passed) return value;
    }
    return 255;
  };
  const below = at(Math.floor(place));
  return below + (place - Math.floor(place)) * (at(Math.floor(place) + 1) - below);
}

// rgba of the image as it is shown: grey ones spread.
export function shown(rgba, grey) {
  const out = new Uint8ClampedArray(rgba);
  const table = grey ? spread(rgba) : null;
  for (let at = 0; at < out.length; at += 4) {
    if (grey) out[at] = out[at + 1] = out[at + 2] = table[out[at]];
    out[at + 3] = 255;
  }
  return out;
}

// rgba of the classes in their colours.
export function colored(classes) {
  const out = new Uint8ClampedArray(4 * classes.length).fill(255);
  for (let k = 0; k < classes.length; k++) colorOf(classes[k]).forEach((value, c) => (out[4 * k + c] = value));
  return out;
}

// rgba of the shown image with each class tinted in its colour and outlined, the outline between dark lines.
export function overlay(seen, classes, height, width) {
  const lines = outline(classes, height, width);
  const out = new Uint8ClampedArray(seen);
  for (let k = 0; k < classes.length; k++) {
    const color = colorOf(classes[k]);
    const weight = lines[k] ? 1 : classes[k] ? STRENGTH : 0;
    const light = !lines[k] && beside(k, height, width, (other) => lines[other]) ? HALO : 1;
    for (let at = 4 * k; at < 4 * k + 3; at++)
      out[at] = Math.floor((seen[at] + weight * (color[at - 4 * k] - seen[at])) * light + 0.5);
  }
  return out;
}

// 1 for pixels of a class that have a pixel of a lower one above, below, left or right.
function outline(classes, height, width) {
  return classes.map((number, k) => (number && beside(k, height, width, (other) => classes[other] < number) ? 1 : 0));
}

// Whether one of the neighbours above, below, left and right passes the test.
function beside(k, height, width, test) {
  const x = k % width;
  return (k >= width && test(k - width)) || (k < (height - 1) * width && test(k + width))
    || (x > 0 && test(k - 1)) || (x < width - 1 && test(k + 1));
}
