// Numbers and elements in words.

export function shown(value) {
  if (value === 0 || value === undefined) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(6))) : value.toExponential(4);
  return text.replace(/-/g, "−");
}

export function named(kind, name, index) {
  const place = index.length ? `[${index.join(", ")}]` : "";
  return kind === "gradients" ? `∂L/∂${name}${place}` : `${name}${place}`;
}

export function count(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}
