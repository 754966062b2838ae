"""Right operations that are written differently from ours: no judge may find fault with them."""

SOLUTIONS = {
    "sgd.update": """
def update(parameter, gradient, velocity, lr, momentum, weight_decay, nesterov, out_parameter, out_velocity):
    decayed = weight_decay * parameter + gradient
    new = decayed + velocity * momentum
    if nesterov:
        moved = parameter - lr * (momentum * new + decayed)
    else:
        moved = parameter - lr * new
    out_velocity[...], out_parameter[...] = new, moved
""",
    "relu.backward": """
def backward(grad, y, out):
    out[...] = 0
    np.copyto(out, grad, where=y > 0)
""",
    "dropout": """
def dropout(x, p, rng):
    (x,) = _operands("dropout", x)
    factor = (rng.random(x.shape, dtype=np.float32) >= p) / (1 - p)
    factor = factor.astype(x.dtype)
    return record("dropout", factor * x.data, (x,), [lambda g: factor * g])
""",
    "batch_norm.statistics": """
def statistics(x, mean, variance):
    mean[...], variance[...] = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
""",
    "cross_entropy.forward": """
def forward(logits, target, out):
    for at in np.ndindex(*target.shape):
        z = logits[at[0], :, at[1], at[2]]
        out[at] = 0 if target[at] < 0 else np.logaddexp.reduce(z) - z[target[at]]
""",
    "max_pool2d.forward": """
def forward(x, kernel_size, out, argmax):
    n, c, h, w = out.shape
    k = kernel_size
    windows = x[:, :, : h * k, : w * k].reshape(n, c, h, k, w, k).swapaxes(3, 4).reshape(n, c, h, w, k * k)
    argmax[...] = windows.argmax(axis=-1)
    out[...] = windows.max(axis=-1)
""",
    "conv2d.backward_input": """
def backward_input(grad, weight, padding, out):
    kh, kw = weight.shape[2:]
    h, w = out.shape[2:]
    around = np.pad(grad, ((0, 0), (0, 0), (kh - 1, kh - 1), (kw - 1, kw - 1)))
    patches = np.lib.stride_tricks.sliding_window_view(around, (kh, kw), axis=(2, 3))
    whole = np.einsum("nohwij,ocij->nchw", patches, weight[:, :, ::-1, ::-1])
    out[...] = whole[:, :, padding : padding + h, padding : padding + w]
""",
    "conv_transpose2d.backward_input": """
def backward_input(grad, weight, out):
    (n, c, h, w), (_, o, s, _) = out.shape, weight.shape
    out[...] = np.einsum("nohiwj,coij->nchw", grad.reshape(n, o, h, s, w, s), weight)
""",
    "resize.axis_weights": """
def axis_weights(size_in, size_out, dtype):
    centres = (np.arange(size_out, dtype=dtype) + dtype.type(0.5)) * (dtype.type(size_in) / dtype.type(size_out))
    place = (centres - dtype.type(0.5)).clip(0, size_in - 1)
    low = np.floor(place).astype(int)
    return low, (low + 1).clip(max=size_in - 1), place - low.astype(dtype)
""",
    "concat": """
def concat(tensors):
    inputs = _operands("concat", *tensors)
    cuts = np.cumsum([t.shape[1] for t in inputs])[:-1]
    parts = [lambda g, k=k: np.split(g, cuts, axis=1)[k] for k in range(len(inputs))]
    return record("concat", np.concatenate([t.data for t in inputs], axis=1), inputs, parts)
""",
    "topological": """
def topological(root):
    order, seen = [], set()

    def visit(node):
        if id(node) not in seen:
            seen.add(id(node))
            for parent, _ in reversed(node.edges if isinstance(node, Node) else []):
                visit(parent)
            order.append(node)

    visit(root)
    return order
""",
    "clip_grad_norm": """
def clip_grad_norm(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = float(np.linalg.norm(np.concatenate([g.ravel() for g in gradients]).astype(np.float64)))
    for g in gradients:
        g *= min(1.0, max_norm / norm)
    return norm
""",
}
