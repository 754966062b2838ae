// One image in tiles, equal to the whole image: minunet/prediction/tiling.py in JavaScript.
// facts: {block: 2^levels, padding, step: [height, width]}

const upTo = (count, block) => Math.ceil(count / block) * block;

// Windows {top, left, height, width} that cover an image of [height, width] without overlap, row by row.
export function tiles(facts, size) {
  const [down, across] = size.map((side, axis) => Math.min(facts.step[axis], upTo(side, facts.block)));
  const found = [];
  for (let top = 0; top < size[0]; top += down)
    for (let left = 0; left < size[1]; left += across)
      found.push({ top, left, height: Math.min(down, size[0] - top), width: Math.min(across, size[1] - left) });
  return found;
}

// {first, last, offset}: along a side of this length the network must see pixels first ... last for the output's
// start ... stop. They may lie outside the image, which is continued there; `start` is the output's pixel `offset`.
export function span(facts, start, stop, side) {
  const { block } = facts;
  const begin = Math.floor(start / block) * block;
  if (facts.padding === "same") {
    const end = begin + upTo(stop - begin, block);
    const first = Math.max(0, begin - 6 * block);
    return { first, last: Math.min(upTo(side, block), end + 6 * block), offset: start - first };
  }
  const margin = 6 * block - 4;
  const rest = (((4 - stop) % block) + block) % block;
  return { first: begin - margin, last: stop + rest + margin, offset: start - begin };
}

// The side of the output for a side of the input.
export function outputSide(facts, side) {
  return facts.padding === "same" ? side : side - 12 * facts.block + 8;
}

// An index of any size -> 0 ... side - 1 by reflection, which does not repeat the pixel at the edge.
export function reflect(index, side) {
  if (side === 1) return 0;
  const period = 2 * (side - 1);
  const place = ((index % period) + period) % period;
  return Math.min(place, period - place);
}
