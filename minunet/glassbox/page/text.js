// Numbers and elements in words.

export function shown(value) {
  if (value === 0 || value === undefined) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e5 ? value.toPrecision(6) : value.toExponential(4);
  return text.replace(/-/g, "−");
}

export function named(kind, name, index) {
  const place = index.length ? `[${index.join(", ")}]` : "";
  return kind === "gradients" ? `∂L/∂${name}${place}` : `${name}${place}`;
}

// make("p", {className: "note"}, "text", child, ...) -> an element
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && !key.startsWith("aria")) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

export function count(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}
