// A tensor of any shape as planes: all axes but the last two are chosen, the last two are seen. A vector is one row.

export function planeOf(shape) {
  const full = shape.length >= 2 ? shape : [1, shape[0] ?? 1];
  const leading = full.slice(0, -2);
  const [height, width] = full.slice(-2);
  return { leading, height, width };
}

// Where the plane that an index lies in begins, and the row and column in it.
export function placeIn(shape, index) {
  const { leading, height, width } = planeOf(shape);
  const full = shape.length >= 2 ? index : [0, index[0] ?? 0];
  const plane = leading.reduce((place, side, axis) => place * side + full[axis], 0);
  return { start: plane * height * width, row: full[full.length - 2], column: full[full.length - 1] };
}

export function withPlace(shape, index, row, column) {
  if (shape.length === 0) return [];
  if (shape.length === 1) return [column];
  return [...index.slice(0, -2), row, column];
}

// What the leading axes are called.
export function axesOf(name, shape) {
  if (shape.length !== 4) return [];
  if (!name.endsWith(".weight")) return ["image", "channel"];
  return /^ups\.\d*[02468]\.weight$/.test(name) ? ["in", "out"] : ["out", "in"];
}
