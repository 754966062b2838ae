// The network as a list of nodes in the order of computation, each {name, op, inputs, parameters, level, side, ...}.
// Names are those of the modules in Python; what is no module there has a name of its own (pools.0, concats.1).

// architecture: as minunet stores it. shape: of the image (N, C, H, W). subject: {target, weight, masks}, tensors.
// level counts from the top, side is "down", "bottom", "up" or "loss": where a drawing puts the node.
export function build(architecture, loss, training, shape, subject) {
  const nodes = [];
  const levels = architecture.features.length;
  let size = shape.slice(2);

  function put(name, op, inputs, place, more = {}) {
    nodes.push({ name, op, inputs, parameters: {}, ...place, ...more });
    return name;
  }

  function named(name, ...kinds) {
    return Object.fromEntries(kinds.map((kind) => [kind, `${name}.${kind}`]));
  }

  function doubleConv(prefix, x, place, drops) {
    const normed = architecture.norm === "batch";
    const padding = architecture.padding === "same" ? 1 : 0;
    let position = 0;
    for (let k = 0; k < 2; k++) {
      const conv = `${prefix}.conv.${position++}`;
      const owned = normed ? ["weight"] : ["weight", "bias"];
      x = put(conv, "conv2d", [x], place, { padding, parameters: named(conv, ...owned) });
      size = size.map((side) => side + 2 * padding - 2);
      if (normed) {
        const norm = `${prefix}.conv.${position++}`;
        const parameters = named(norm, "weight", "bias", "running_mean", "running_var");
        x = put(norm, "batch_norm", [x], place, { training, parameters });
      }
      x = put(`${prefix}.conv.${position++}`, "relu", [x], place);
    }
    if (!drops) return x;
    const name = `${prefix}.conv.${position}`;
    return put(name, "dropout", [x], place, { p: architecture.dropout, mask: training ? subject.masks[name] : null });
  }

  let x = "input";
  const skips = [];
  for (let level = 0; level < levels; level++) {
    const place = { level, side: "down" };
    x = doubleConv(`downs.${level}`, x, place, architecture.dropout > 0 && level === levels - 1);
    skips.push({ name: x, size });
    x = put(`pools.${level}`, "max_pool2d", [x], { level: level + 1, side: level + 1 < levels ? "down" : "bottom" });
    size = size.map((side) => Math.floor(side / 2));
  }
  x = doubleConv("bottleneck", x, { level: levels, side: "bottom" }, architecture.dropout > 0);
  for (let step = 0; step < levels; step++) {
    const place = { level: levels - 1 - step, side: "up" };
    const skip = skips.pop();
    const up = `ups.${2 * step}`;
    size = size.map((side) => 2 * side);
    if (architecture.up === "bilinear") x = put(up, "resize", [x], place, { size, corners: true });
    else x = put(up, "conv_transpose2d", [x], place, { parameters: named(up, "weight", "bias") });
    const fits = size[0] === skip.size[0] && size[1] === skip.size[1];
    let across = skip.name;
    if (architecture.padding === "valid") {
      across = put(`crops.${step}`, "center_crop", [across], place, { size });
    } else if (!fits) {
      const op = architecture.skip_fit === "pad" ? "center_pad" : "resize";
      x = put(`fits.${step}`, op, [x], place, { size: skip.size });
      size = skip.size;
    }
    x = put(`concats.${step}`, "concat", [across, x], place);
    x = doubleConv(`ups.${2 * step + 1}`, x, place, false);
  }
  const top = { level: 0, side: "up" };
  x = put("final_conv", "conv2d", [x], top, { padding: 0, parameters: named("final_conv", "weight", "bias") });
  addLoss(put, x, loss, architecture.out_channels, subject);
  return nodes;
}

function addLoss(put, logits, loss, classes, { target, weight }) {
  const place = { level: 0, side: "loss" };
  const several = loss === "ce+dice";
  const entropy = classes === 1 ? "bce_with_logits" : "cross_entropy";
  if (loss !== "dice") put(several ? "loss.cross_entropy" : "loss", entropy, [logits], place, { target, weight });
  if (loss === "dice" || several) {
    put("probabilities", classes === 1 ? "sigmoid" : "softmax", [logits], place);
    put(several ? "loss.dice" : "loss", "dice", ["probabilities"], place, { target });
  }
  if (several) put("loss", "add", ["loss.cross_entropy", "loss.dice"], place);
}
