// Small matrices with their numbers: every cell in the colours of the maps, some marked.

import { color, luminance } from "./colors.js";
import { make } from "./make.js";
import { shown } from "./words.js";

const [WIDTH, HEIGHT, EDGE] = [50, 24, 34]; // of a cell and of the labels, in px

function svg(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

// Short enough for a cell.
function brief(value) {
  const size = Math.abs(value);
  const text = size === 0 ? "0" : size >= 1e-2 && size < 1e4 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
  return text.replace(/-/g, "−");
}

// {title, rows, columns, data, marks} -> a figure; `most` is what the darkest colour stands for.
export function drawn({ title, rows, columns, data, marks }) {
  const most = data.reduce((top, value) => (Math.abs(value) > top ? Math.abs(value) : top), 0) || 1;
  const longest = Math.max(...columns.map((label) => label.length));
  const wide = Math.max(WIDTH, 7 * longest + 6);
  const edge = rows.length > 1 ? EDGE : 0;
  const [width, height] = [edge + wide * columns.length + 4, HEIGHT * (rows.length + 1) + 4];
  const marked = marks.map((place) => {
    const [row, column] = [Math.floor(place / columns.length), place % columns.length];
    return `${edge ? `${rows[row]}, ` : ""}${columns[column]}: ${Number.isNaN(data[place]) ? "empty" : shown(data[place])}`;
  });
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${title}, ${rows.length} by ${columns.length}${marked.length ? `; marked ${marked.slice(0, 4).join("; ")}` : ""}` });
  columns.forEach((label, k) => picture.append(svg("text", { x: edge + (k + 0.5) * wide, y: 16, class: "label" }, label)));
  rows.forEach((label, k) => picture.append(svg("text", { x: edge / 2, y: (k + 1.5) * HEIGHT + 4, class: "label" }, label)));
  data.forEach((value, place) => picture.append(...cell(value, value / most, ...corner(place))));
  for (const place of marks) {
    const [x, y] = corner(place);
    for (const kind of ["halo", "mark"]) picture.append(svg("rect", { x, y, width: wide, height: HEIGHT, class: kind }));
  }
  return make("figure", {}, make("figcaption", {}, title),
    make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": title }, picture));

  function corner(place) {
    return [edge + (place % columns.length) * wide, (Math.floor(place / columns.length) + 1) * HEIGHT];
  }

  function cell(value, share, x, y) {
    const box = svg("rect", { x, y, width: wide, height: HEIGHT, class: "cell" });
    if (Number.isNaN(value)) return [box];
    const shade = color(share);
    box.style.fill = `rgb(${shade})`;
    const ink = luminance(shade) > 0.18 ? "#000" : "#fff";
    return [box, svg("text", { x: x + wide / 2, y: y + 16, fill: ink, class: "number" }, brief(value))];
  }
}
