// A tensor is {shape, data}: data a Float64Array in C order, as NumPy has it.

export function count(shape) {
  return shape.reduce((product, side) => product * side, 1);
}

export function zeros(shape) {
  return { shape: [...shape], data: new Float64Array(count(shape)) };
}

export function zerosLike(tensor) {
  return zeros(tensor.shape);
}

export function copyOf(tensor) {
  return { shape: [...tensor.shape], data: tensor.data.slice() };
}

// Where the element of this index lies in the data.
export function offset(shape, index) {
  let place = 0;
  for (let axis = 0; axis < shape.length; axis++) place = place * shape[axis] + index[axis];
  return place;
}

// The index of the element that lies there.
export function indexOf(shape, place) {
  const index = new Array(shape.length);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index[axis] = place % shape[axis];
    place = Math.floor(place / shape[axis]);
  }
  return index;
}

export function at(tensor, index) {
  return tensor.data[offset(tensor.shape, index)];
}

export function norm(data) {
  let squares = 0;
  for (let k = 0; k < data.length; k++) squares += data[k] * data[k];
  return Math.sqrt(squares);
}

export function largest(data) {
  let most = 0;
  for (let k = 0; k < data.length; k++) most = Math.max(most, Math.abs(data[k]));
  return most;
}

// Bytes (little endian) that travel in the page as base64.
export function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let k = 0; k < bytes.length; k++) bytes[k] = letters.charCodeAt(k);
  return bytes;
}

const TYPES = { float32: Float32Array, float64: Float64Array, uint8: Uint8Array };

// {shape, dtype, base64} as Python packs an array -> a tensor; "bits" are packed eight to a byte, the first the highest.
export function unpack({ shape, dtype, base64 }) {
  const bytes = bytesOf(base64);
  if (dtype !== "bits") return { shape, data: Float64Array.from(new TYPES[dtype](bytes.buffer)) };
  const tensor = zeros(shape);
  for (let k = 0; k < tensor.data.length; k++) tensor.data[k] = (bytes[k >> 3] >> (7 - (k & 7))) & 1;
  return tensor;
}
