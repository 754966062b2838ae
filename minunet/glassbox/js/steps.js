// An operation of a pass taken apart, step by step; what all steppers have in common.
//
// A stepper is made for one element of a run, and looks at a small part around it:
//   start() -> a state in which nothing is done yet
//   steps: [(state) -> now], each changes the state and returns what `view` has to know of it
//   view(state, now) -> {caption, panels}; now is null before the first step
//   ends(state) -> [{label, found, expected}]: numbers of the last state, and the same ones in the tensors of the pass
// A panel is a small matrix: {title, rows, columns, data, marks}; labels, numbers (NaN: not there yet), marked places.

import { indexOf, offset } from "./tensors.js";

export function stateAfter(stepper, count) {
  const state = stepper.start();
  let now = null;
  for (let k = 0; k < count; k++) now = stepper.steps[k](state);
  return { state, now };
}

export function frameAfter(stepper, count) {
  const { state, now } = stateAfter(stepper, count);
  return stepper.view(state, now);
}

export function producer(run, name) {
  return run.nodes.find((node) => node.name === name);
}

// Every use of a tensor: [{node, k}], k being which of the node's inputs it is.
export function usesOf(run, name) {
  return run.nodes.flatMap((node) => node.inputs.flatMap((input, k) => (input === name ? [{ node, k }] : [])));
}

export function useBy(run, name, op) {
  return usesOf(run, name).find(({ node }) => node.op === op)?.node;
}

// ------------------------------------------------------------------------------------- parts of a plane, and panels

// The part of a plane within `reach` of a cell: {top, left, height, width}.
export function around(shape, row, column, reach) {
  const [height, width] = shape.slice(-2);
  const [top, left] = [Math.max(0, row - reach), Math.max(0, column - reach)];
  return { top, left, height: Math.min(height, row + reach + 1) - top, width: Math.min(width, column + reach + 1) - left };
}

export function cells({ top, left, height, width }) {
  return Array.from({ length: height * width }, (_, k) => [top + Math.floor(k / width), left + (k % width)]);
}

// Where a cell lies in the numbers of a part, or -1.
export function placeIn({ top, left, height, width }, [row, column]) {
  const [h, w] = [row - top, column - left];
  return h >= 0 && w >= 0 && h < height && w < width ? h * width + w : -1;
}

// A number of a tensor; 0 where padding is.
export function valueAt(tensor, index) {
  return index.every((place, axis) => place >= 0 && place < tensor.shape[axis]) ? tensor.data[offset(tensor.shape, index)] : 0;
}

// The numbers of a part of the plane [n, c].
export function partOf(tensor, [n, c], part) {
  return Float64Array.from(cells(part), ([row, column]) => valueAt(tensor, [n, c, row, column]));
}

export function blank(length) {
  return new Float64Array(length).fill(NaN);
}

const counted = (start, length) => Array.from({ length }, (_, k) => String(start + k));

// A part of a plane as a panel; its labels are the rows and columns of the plane.
export function panel(title, part, data, marks = []) {
  return { title, rows: counted(part.top, part.height), columns: counted(part.left, part.width), data, marks };
}

// Numbers in one row, with a label each.
export function row(title, columns, data, marks = []) {
  return { title, rows: [""], columns, data, marks };
}

export const whole = ([height, width]) => ({ top: 0, left: 0, height, width });

// What the part around an element should be in the end, from a tensor of the pass.
export function compared(label, found, tensor, place, part) {
  const expected = partOf(tensor, place, part);
  return Array.from(found, (value, k) => ({ label, found: value, expected: expected[k] }));
}

// The plane of a parameter that an element lies in, and its place there; of a vector at most eight numbers.
export function planeAround(shape, place) {
  if (shape.length === 4) {
    const each = shape[2] * shape[3];
    const index = indexOf(shape, place);
    return { start: place - (place % each), part: whole(shape.slice(2)), chosen: place % each, index };
  }
  const start = place - (place % 8);
  const part = { top: 0, left: start, height: 1, width: Math.min(8, shape[0] - start) };
  return { start, part, chosen: place - start, index: [place] };
}
