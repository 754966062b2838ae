"""Every differentiable operation: the forward computation and, for each input, its vector-Jacobian product.

If y = f(x) and L is the loss, the gradient g = dL/dy has the shape of y, and the VJP of f maps it to
dL/dx = J^T g, where J = dy/dx.  Each operation below computes y, and hands `record` one such function an input;
autograd.py calls only those that are needed.  The functions hold the arrays they need, never a Tensor of the
result.  `_data` unwraps a Tensor, `_broadcast_back` undoes broadcasting: both are at the end of the file.

Shapes are (N, C, H, W).  Inputs may be Tensors or arrays; all inputs of an operation must have one dtype,
float32 or float64.  On a GPU the same lines compute there: NumPy's functions are CuPy's for arrays that lie on it.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from . import device, kernels
from .autograd import VJP, Array, Tensor, grad_enabled, record

FLOATS = {np.dtype(np.float32), np.dtype(np.float64)}  # what the kernels compute in
ONE_FLOAT = [{dtype} for dtype in FLOATS]

# ---------------------------------------------------------------------------------------------- arithmetic


def add(a: Any, b: Any) -> Tensor:
    """y = a + b, with broadcasting.   dL/da = g,  dL/db = g."""
    a, b = _operands("add", a, b)
    a_shape, b_shape = a.shape, b.shape
    return record("add", a.data + b.data, (a, b), (
        lambda g: _broadcast_back(g, a_shape),
        lambda g: _broadcast_back(g, b_shape),
    ))  # fmt: skip


def subtract(a: Any, b: Any) -> Tensor:
    """y = a - b, with broadcasting.   dL/da = g,  dL/db = -g."""
    a, b = _operands("subtract", a, b)
    a_shape, b_shape = a.shape, b.shape
    return record("subtract", a.data - b.data, (a, b), (
        lambda g: _broadcast_back(g, a_shape),
        lambda g: _broadcast_back(-g, b_shape),
    ))  # fmt: skip


def multiply(a: Any, b: Any) -> Tensor:
    """y = a b, element by element, with broadcasting.   dL/da = g b,  dL/db = g a."""
    a, b = _operands("multiply", a, b)
    x, y = a.data, b.data
    return record("multiply", x * y, (a, b), (
        lambda g: _broadcast_back(g * y, x.shape),
        lambda g: _broadcast_back(g * x, y.shape),
    ))  # fmt: skip


def divide(a: Any, b: Any) -> Tensor:
    """y = a / b, element by element, with broadcasting.   dL/da = g / b,  dL/db = -g a / b^2."""
    a, b = _operands("divide", a, b)
    x, y = a.data, b.data
    return record("divide", x / y, (a, b), (
        lambda g: _broadcast_back(g / y, x.shape),
        lambda g: _broadcast_back(-g * x / (y * y), y.shape),
    ))  # fmt: skip


def negative(a: Any) -> Tensor:
    """y = -a.   dL/da = -g."""
    (a,) = _operands("negative", a)
    return record("negative", -a.data, (a,), (lambda g: -g,))


def matmul(a: Any, b: Any) -> Tensor:
    """y = a b, the matrix product over the last two axes, with broadcasting over those before.

    y_ik = sum_j a_ij b_jk, so  dL/da_ij = sum_k g_ik b_jk, that is  dL/da = g b^T  and  dL/db = a^T g.
    """
    a, b = _operands("matmul", a, b)
    x, y = a.data, b.data
    if builtins.min(x.ndim, y.ndim) < 2 or x.shape[-1] != y.shape[-2]:
        raise ValueError(f"matmul: needs (..., I, J) and (..., J, K), found shapes {x.shape} and {y.shape}")
    return record("matmul", x @ y, (a, b), (
        lambda g: _broadcast_back(g @ y.swapaxes(-1, -2), x.shape),
        lambda g: _broadcast_back(x.swapaxes(-1, -2) @ g, y.shape),
    ))  # fmt: skip


def sum(a: Any, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """y = sum of a over `axis` (all axes if None).   Every summand gets the whole gradient: dL/da = g, spread out."""
    (a,) = _operands("sum", a)
    shape, kept = a.shape, a.data.sum(axis=axis, keepdims=True).shape
    y = a.data.sum(axis=axis, keepdims=keepdims)
    return record("sum", y, (a,), (lambda g: np.broadcast_to(g.reshape(kept), shape),))


def mean(a: Any, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """y = mean of a over `axis` (all axes if None), the sum divided by the number of summands."""
    total = sum(a, axis, keepdims)
    count = _data(a).size // builtins.max(1, total.data.size)
    return total * (1 / builtins.max(1, count))


def reshape(a: Any, *shape: Any) -> Tensor:
    """y = a in another shape, numbers in the same (C) order.   dL/da = g in the shape of a."""
    (a,) = _operands("reshape", a)
    old, new = a.shape, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    return record("reshape", a.data.reshape(new), (a,), (lambda g: g.reshape(old),))


# --------------------------------------------------------------------------------------------- convolutions


def conv2d(x: Any, weight: Any, bias: Any = None, padding: int = 0) -> Tensor:
    """Convolution with stride 1 (a correlation: the kernel is not flipped), zeros outside the image.

    x (N, C, H, W), weight (O, C, kh, kw), bias (O,) or None -> (N, O, H + 2 padding - kh + 1, W + 2 padding - kw + 1)

        y[n,o,h,w] = bias[o] + sum_{c,i,j}  x[n, c, h+i-padding, w+j-padding]  weight[o,c,i,j]

    x[n,c,a,b] is read by y[n, o, a-i+padding, b-j+padding] through weight[o,c,i,j], hence

        dL/dx[n,c,a,b]      = sum_{o,i,j}  g[n, o, a-i+padding, b-j+padding]  weight[o,c,i,j]
        dL/dweight[o,c,i,j] = sum_{n,h,w}  g[n,o,h,w]  x[n, c, h+i-padding, w+j-padding]
        dL/dbias[o]         = sum_{n,h,w}  g[n,o,h,w]

    The first is again a correlation, of g with the kernel turned by 180 degrees.
    """
    x, weight, bias = _operands("conv2d", x, weight, bias)
    image, w, size = _kept(x), weight.data, x.shape[2:]
    y = kernels.conv2d.forward(x.data, w, _data(bias), padding)
    return record("conv2d", y, *_with_bias(bias, (x, weight), (
        lambda g: kernels.conv2d.backward_input(g, w, padding, size),
        lambda g: kernels.conv2d.backward_weight(g, image(), padding, w.shape[2:]),
    )))  # fmt: skip


def conv2d_relu(
    x: Any, weight: Any, bias: Any = None, padding: int = 0, out: Array | None = None, keep: bool = True,
    again: bool = False,
) -> Tensor:  # fmt: skip
    """relu(conv2d(x, weight, bias, padding)) in one operation: each output is rectified as it is stored.

    With z = conv2d(...) and y = max(z, 0):  dL/dz = g where y > 0, 0 where y = 0  (as in `relu`; y is enough to
    tell, z is never kept), and dL/dz goes on to x, weight and bias as in `conv2d`.
    out: the array that y is written into, if given.
    keep: whether to keep y itself for the way back (for free where the next operation keeps it too); else a byte for
    each number, y > 0 or not.
    again: y is not kept at all, but computed again where it is needed on the way back: here, and by the next
    convolution (gradient checkpointing: Chen et al., 2016).  For a caller who lets nobody else change y.
    """
    x, weight, bias = _operands("conv2d_relu", x, weight, bias)
    image, w, b, size = _kept(x), weight.data, _data(bias), x.shape[2:]

    def compute():
        return kernels.conv2d.forward(image(), w, b, padding, relu=True)

    y = kernels.conv2d.forward(x.data, w, b, padding, relu=True, out=out)
    remake = compute if again and grad_enabled() else None
    passes = remake or _constant(y if keep or not grad_enabled() else kernels.relu.passes(y))
    result = record("conv2d_relu", y, *_with_bias(bias, (x, weight), (
        lambda dz_and_sum: kernels.conv2d.backward_input(dz_and_sum[0], w, padding, size),
        lambda dz_and_sum: kernels.conv2d.backward_weight(dz_and_sum[0], image(), padding, w.shape[2:]),
    ), lambda dz_and_sum: dz_and_sum[1]), upstream=lambda g: kernels.relu.backward_sums(g, passes()))  # fmt: skip
    result.remake = remake
    return result


def conv_transpose2d(x: Any, weight: Any, bias: Any = None, stride: int = 2, out: Array | None = None) -> Tensor:
    """Transposed convolution ("up-convolution") whose kernel size is its stride s: pixels become s x s patches.

    x (N, C, H, W), weight (C, O, s, s), bias (O,) or None -> (N, O, s H, s W)

        y[n, o, s h + i, s w + j] = bias[o] + sum_c  x[n,c,h,w]  weight[c,o,i,j]

        dL/dx[n,c,h,w]      = sum_{o,i,j}  g[n, o, s h + i, s w + j]  weight[c,o,i,j]
        dL/dweight[c,o,i,j] = sum_{n,h,w}  g[n, o, s h + i, s w + j]  x[n,c,h,w]
        dL/dbias[o]         = sum_{n,h,w}  g[n,o,h,w]

    out: the array that y is written into, if given.
    """
    x, weight, bias = _operands("conv_transpose2d", x, weight, bias)
    image, w = x.data, weight.data
    if w.shape[2:] != (stride, stride):
        raise ValueError(f"conv_transpose2d: kernel size {w.shape[2:]} must equal the stride {stride}")
    y = kernels.conv_transpose2d.forward(image, w, _data(bias), out)
    return record("conv_transpose2d", y, *_with_bias(bias, (x, weight), (
        lambda g: kernels.conv_transpose2d.backward_input(g, w),
        lambda g: kernels.conv_transpose2d.backward_weight(g, image, stride),
    )))  # fmt: skip


def _with_bias(
    bias: Tensor | None, inputs: tuple, vjps: tuple, bias_vjp: VJP = lambda g: kernels.channel_sums(g)
) -> tuple[tuple, tuple]:
    """Inputs and VJPs with those of a per-channel bias added, if there is one."""
    return (inputs, vjps) if bias is None else ((*inputs, bias), (*vjps, bias_vjp))


# ------------------------------------------------------------------------------- what stands between them


def relu(x: Any) -> Tensor:
    """y = max(x, 0), NaN stays NaN.   dL/dx = g where y > 0, 0 where y = 0 (also at x = 0)."""
    (x,) = _operands("relu", x)
    y = kernels.relu.forward(x.data)
    return record("relu", y, (x,), (lambda g: kernels.relu.backward(g, y),))


def max_pool2d(x: Any, kernel_size: int = 2) -> Tensor:
    """y[n,c,h,w] = the largest x[n, c, k h + i, k w + j], i, j < k = kernel_size; odd sides are floored.

    Of equal values the first counts, and NaN wins over every number.  Moving only the largest value moves y:
    dL/dx is g at that place and 0 elsewhere.
    """
    (x,) = _operands("max_pool2d", x)
    y, places = kernels.max_pool2d.forward(x.data, kernel_size)
    size = x.shape[2:]
    return record("max_pool2d", y, (x,), (lambda g: kernels.max_pool2d.backward(g, places, kernel_size, size),))


def dropout(x: Any, p: float, rng: np.random.Generator) -> Tensor:
    """y = x m / (1 - p), m being 0 with probability p, else 1 (inverted dropout: the mean stays).

    rng: a numpy random Generator.   dL/dx = g m / (1 - p).   ValueError for p outside [0, 1).
    For x on a GPU, m is drawn on the host all the same, and sent: the same numbers wherever the network is.
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p must be at least 0 and below 1, found {p}")
    (x,) = _operands("dropout", x)
    if p == 0:
        return x
    keep = device.beside(rng.random(x.shape, dtype=np.float32) >= p, x.data)
    scale = x.data.dtype.type(1 / (1 - p))
    return record("dropout", x.data * keep * scale, (x,), (lambda g: g * keep * scale,))


def batch_norm(
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalisation over N, H, W of each channel (Ioffe and Szegedy, 2015); m = N H W values each.

        xhat = (x - mu) r,   r = 1 / sqrt(var + eps),   y = weight xhat + bias

    In training mu and var are the batch's mean and biased variance, and the running estimates (C,) are moved
    towards it in place by `momentum` (the unbiased variance); otherwise they are the running estimates.

        dL/dbias = sum g,   dL/dweight = sum g xhat                      (sums over N, H, W)

    In evaluation  dL/dx = weight r g.  In training mu and r depend on x as well:  dmu/dx_i = 1/m  and
    dr/dx_i = -r^2 xhat_i / m,  so that  dxhat_k/dx_i = r ([i = k] - 1/m - xhat_k xhat_i / m)  and

        dL/dx = weight r (g - mean(g) - xhat mean(g xhat))

    ValueError where training would normalise a single value a channel.
    """
    return _batch_norm(False, x, weight, bias, running_mean, running_var, training, momentum, eps)


def batch_norm_relu(
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    out: Array | None = None,
) -> Tensor:
    """relu(batch_norm(x, ...)) in one operation: each number is rectified as it is stored.

    With z = weight xhat + bias and y = max(z, 0):  dL/dz = g where z > 0, 0 where z <= 0  (as in `relu`), and dL/dz
    goes on to x, weight and bias as g does in `batch_norm`.  Backward reads x in any case, for xhat, and computes z
    from it once more: x is all that is kept, neither z nor y.
    out: the array that y is written into, if given.
    """
    return _batch_norm(True, x, weight, bias, running_mean, running_var, training, momentum, eps, out)


def _batch_norm(
    relu: bool, x: Any, weight: Any, bias: Any, running_mean, running_var, training, momentum, eps, out=None
) -> Tensor:
    """Both of them: with or without a rectifier at the end."""
    name = "batch_norm_relu" if relu else "batch_norm"
    x, weight, bias = _operands(name, x, weight, bias)
    image, w, b = x.data, weight.data, bias.data
    if image.ndim != 4 or not image.shape[1:2] == w.shape == b.shape == running_mean.shape == running_var.shape:
        raise ValueError(f"{name}: x {image.shape} needs weight, bias and estimates of shape {image.shape[1:2]}, "
                         f"found {w.shape}, {b.shape}, {running_mean.shape}, {running_var.shape}")  # fmt: skip
    m = image.size // builtins.max(1, image.shape[1])
    if training:
        if m < 2:
            raise ValueError(f"{name}: training needs more than 1 value per channel, found shape {image.shape}")
        mu, var = kernels.batch_norm.statistics(image)
        running_mean += momentum * (device.beside(mu, running_mean) - running_mean)
        running_var += momentum * (device.beside(var, running_var) * (m / (m - 1)) - running_var)
    else:
        mu, var = device.beside(running_mean, image).astype(image.dtype), device.beside(running_var, image)
    r = (1 / np.sqrt(var + eps)).astype(image.dtype)
    known = (image, mu, r, w, b, relu)
    y = kernels.batch_norm.normalize(*known, out=out)

    def with_sums(g):
        return g, *kernels.batch_norm.backward_parameters(g, *known)  # g, sum g xhat, sum g

    def backward_input(g_and_sums):
        g, with_xhat, plain = g_and_sums
        if not training:
            with_xhat = plain = np.zeros_like(mu)
        return kernels.batch_norm.backward_input(g, *known, plain / m, with_xhat / m)

    vjps = (backward_input, lambda g_and_sums: g_and_sums[1], lambda g_and_sums: g_and_sums[2])
    return record(name, y, (x, weight, bias), vjps, upstream=with_sums)


def concat(tensors: list) -> Tensor:
    """Join along the channels.   Each input gets its own channels of g.

    Inputs that were written side by side into one array (`out` of the operations above) are joined already.
    """
    inputs = _operands("concat", *tensors)
    sizes = {(t.shape[0], *t.shape[2:]) for t in inputs}
    if len(sizes) != 1 or any(t.data.ndim != 4 for t in inputs):
        raise ValueError(f"concat: all but the channels must agree, found shapes {[t.shape for t in inputs]}")
    ends = [0]
    for t in inputs:
        ends.append(ends[-1] + t.shape[1])
    y = kernels.join([t.data for t in inputs])
    vjps = [lambda g, first=f, last=e: g[:, first:last] for f, e in pairwise(ends)]
    return record("concat", y, inputs, vjps)


def center_crop(x: Any, size: Sequence[int], out: Array | None = None) -> Tensor:
    """The middle `size` = (h, w) of the picture; an odd margin leaves the extra pixel at the right and the bottom.

    dL/dx = g in the middle, 0 around it.   A view of x, unless `out` is given, the array to copy it into.
    """
    (x,) = _operands("center_crop", x)
    (h, w), shape = size, x.shape
    if x.data.ndim != 4 or not (0 < h <= shape[2] and 0 < w <= shape[3]):
        raise ValueError(f"center_crop: cannot cut {h} x {w} px out of shape {shape}")
    margin = _margin(size, shape[2:])
    y = kernels.crop(x.data, (h, w))
    y = y if out is None else kernels.copy_into(y, out)
    return record("center_crop", y, (x,), (lambda g: kernels.surround(g, margin),))


def center_pad(x: Any, size: Sequence[int], out: Array | None = None) -> Tensor:
    """Zeros around the picture up to `size` = (h, w); an odd margin has its extra pixel at the right and the bottom.

    The transpose of `center_crop`:  dL/dx is the middle of g.   out: the array that y is written into, if given.
    """
    (x,) = _operands("center_pad", x)
    (h, w), old = size, x.shape[2:]
    if x.data.ndim != 4 or not (h >= old[0] and w >= old[1]):
        raise ValueError(f"center_pad: cannot make {h} x {w} px of shape {x.shape}")
    y = kernels.surround(x.data, _margin(old, size), out)
    return record("center_pad", y, (x,), (lambda g: kernels.crop(g, old),))


def _margin(inner: Sequence[int], outer: Sequence[int]) -> tuple[int, int, int, int]:
    """Pixels (above, below, left, right) between a picture of `outer` = (h, w) and its middle."""
    top, left = (outer[0] - inner[0]) // 2, (outer[1] - inner[1]) // 2
    return top, outer[0] - inner[0] - top, left, outer[1] - inner[1] - left


def resize(x: Any, size: Sequence[int], out: Array | None = None, align_corners: bool = False) -> Tensor:
    """Bilinear interpolation to `size` = (h, w), half-pixel centres; align_corners: outer pixels stay where they are.

    As in PyTorch.  Pixel h looks at (h + 1/2) in / out - 1/2, with align_corners at h (in - 1) / (out - 1).
    Linear in x: y = A x, with the matrix A of interpolation weights, so dL/dx = A^T g.
    """
    (x,) = _operands("resize", x)
    old = x.shape[2:]
    h, w = size
    y = kernels.resize.forward(x.data, (h, w), out=out, align_corners=align_corners)
    return record("resize", y, (x,), (lambda g: kernels.resize.adjoint(g, old, align_corners=align_corners),))


# --------------------------------------------------------------------------------------- outputs and losses


def softmax(x: Any) -> Tensor:
    """p_k = exp(x_k) / sum_j exp(x_j) over the channels.

    dp_j/dx_k = p_j ([j = k] - p_k), hence  dL/dx_k = p_k (g_k - sum_j g_j p_j).
    """
    (x,) = _operands("softmax", x)
    exponentials = np.exp(x.data - x.data.max(axis=1, keepdims=True))
    p = exponentials / exponentials.sum(axis=1, keepdims=True)
    return record("softmax", p, (x,), (lambda g: p * (g - (g * p).sum(axis=1, keepdims=True)),))


def sigmoid(x: Any) -> Tensor:
    """s = 1 / (1 + exp(-x)), computed so that no exponential overflows.   dL/dx = g s (1 - s)."""
    (x,) = _operands("sigmoid", x)
    s = _sigmoid(x.data)
    return record("sigmoid", s, (x,), (lambda g: g * s * (1 - s),))


def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    class_weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Pixel-wise softmax and cross entropy, weighted: the energy of the U-Net paper.

    logits (N, K, H, W); target (N, H, W) integers y; weight (N, H, W) per pixel, w; class_weight (K,), c.

        l = log sum_k exp(z_k) - z_y        "none":  w c[y] l  of each pixel (N, H, W)
        "sum":  sum w c[y] l                "mean":  sum w c[y] l  /  sum c[y]

    over the pixels whose target is not `ignore_index`; the others have loss and gradient 0.  With w = 1 the mean is
    PyTorch's; w never enters the divisor.  Without any counted pixel it is 0.   Since dl/dz_k = softmax(z)_k - [k = y],

        dL/dz_k = (gradient of the pixel's l) (softmax(z)_k - [k = y]).

    ValueError for a target outside 0 ... K-1, a shape that does not fit or another reduction.  To look at a target that
    lies on a GPU would be to wait for it: there such a target gives NaN.
    """
    (logits,) = _operands("cross_entropy", logits)
    z = logits.data
    classes = _counted_classes(z, _array(target), ignore_index)
    counted = classes >= 0
    factor = counted.astype(z.dtype)
    if class_weight is not None:
        c = _like(class_weight, z.shape[1:2], z, "class_weight")
        factor = np.where(counted, c[classes.clip(0, len(c) - 1)], 0)
    divisor = {"mean": factor.sum(), "sum": 1, "none": 1}.get(reduction)
    if divisor is None:
        raise ValueError(f"cross_entropy: reduction must be 'mean', 'sum' or 'none', found {reduction!r}")
    if weight is not None:
        factor = factor * _like(weight, classes.shape, z, "weight")
    factor = _divided(factor, divisor)
    losses = kernels.cross_entropy.forward(z, classes)
    # Not counted pixels are left out rather than multiplied by zero: their weight may be infinite or NaN.
    losses = np.where(counted, factor * losses, 0)
    output = losses if reduction == "none" else losses.sum()

    def backward(g):
        return kernels.cross_entropy.backward(np.broadcast_to(g, factor.shape) * factor, z, classes)

    return record("cross_entropy", output, (logits,), (backward,))


def _counted_classes(z: Array, target: Array, ignore_index: int | None) -> Array:
    """Targets as int64 where the logits z lie, -1 where not counted; ValueError where they are no classes of z.

    Those that lie on a GPU are not looked at: K stands for what is no class, of which the loss is NaN.
    """
    if z.ndim != 4 or target.shape != (z.shape[0], *z.shape[2:]):
        raise ValueError(f"cross_entropy: logits (N, K, H, W) of shape {z.shape} need a target of shape "
                         f"{(z.shape[0], *z.shape[2:])}, found {target.shape}")  # fmt: skip
    if target.dtype.kind not in "iub":
        raise ValueError(f"cross_entropy: target must hold integers, found {target.dtype}")
    classes = target.astype(np.int64)
    ignored = np.zeros_like(classes, bool) if ignore_index is None else classes == ignore_index
    wrong = ((classes < 0) | (classes >= z.shape[1])) & ~ignored
    if kernels.on_device(classes):
        return np.where(ignored, -1, np.where(wrong, z.shape[1], classes))
    if wrong.any():
        other = "" if ignore_index is None else f" or be {ignore_index}"
        raise ValueError(f"cross_entropy: target must lie in 0 ... {z.shape[1] - 1}{other}, found {classes[wrong][0]}")
    classes[ignored] = -1
    return device.beside(classes, z)


def binary_cross_entropy_with_logits(logits: Any, target: Any, weight: Any = None) -> Tensor:
    """Sigmoid and binary cross entropy; mean over all pixels.   logits x, target t in [0, 1], weight w: (N, 1, H, W).

        l = -t log s(x) - (1 - t) log(1 - s(x)) = max(x, 0) - x t + log(1 + exp(-|x|))        L = mean(w l)

    The right-hand form overflows for no finite x.   dl/dx = s(x) - t.
    """
    (logits,) = _operands("binary_cross_entropy_with_logits", logits)
    x = logits.data
    t = _like(target, x.shape, x, "target")
    factor = np.full_like(x, 1 / builtins.max(1, x.size), order="C")
    if weight is not None:
        factor *= _like(weight, x.shape, x, "weight")
    losses = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
    output = (factor * losses).sum()
    return record("bce_with_logits", output, (logits,), (lambda g: g * factor * (_sigmoid(x) - t),))


def dice_loss(logits: Any, target: Any) -> Tensor:
    """Soft Dice loss, 1 - mean over classes of  (2 sum p t + 1) / (sum p + sum t + 1);  sums over N, H, W.

    K > 1 logits: p = softmax, target (N, H, W) integers, t its one-hot coding; one logit: p = sigmoid, target
    (N, 1, H, W) in [0, 1].  The 1 keeps a class that is absent from being 0 / 0 (Milletari et al., 2016, has squares
    in the divisor; this is the plain form).  Made of the operations above, so no derivation of its own is needed.
    """
    (logits,) = _operands("dice_loss", logits)
    shape = logits.shape
    if shape[1] == 1:
        p, t = sigmoid(logits), _like(target, shape, logits.data, "target")
    else:
        classes = _counted_classes(logits.data, _array(target), None)
        p = softmax(logits)
        t = (np.arange(shape[1], like=classes)[:, None, None] == classes[:, None]).astype(logits.dtype)
        if kernels.on_device(t):
            t = np.where(classes[:, None] < shape[1], t, np.nan)
    overlap = sum(p * t, axis=(0, 2, 3))
    size = sum(p, axis=(0, 2, 3)) + t.sum(axis=(0, 2, 3))
    return 1 - mean((2 * overlap + 1) / (size + 1))


# ------------------------------------------------------------------------------------------------- helpers


def to_device(x: Any) -> Tensor:
    """y = x, in the GPU's memory.   dL/dx = g, in the host's.   A Tensor that lies there is returned as it is."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    if kernels.on_device(x.data):
        return x
    return record("to_device", device.move(x.data, "cuda"), (x,), (device.to_host,))


def total(a: Array, b: Array) -> Array:
    """Sum of two gradients of one array."""
    return kernels.add(a, b)


def copy(a: Array) -> Array:
    """A gradient in memory of its own."""
    return kernels.copy(a)


def _kept(x: Tensor) -> Callable[[], Array]:
    """How a VJP comes by the array of an input: it is kept, or computed once more where that costs little."""
    return _constant(x.data) if x.remake is None else x.remake


def _constant(array: Array) -> Callable[[], Array]:
    return lambda: array


def _data(x: Any) -> Any:
    """The array of a Tensor; anything else as it is."""
    return x.data if isinstance(x, Tensor) else x


def _operands(name: str, *values: Any) -> tuple:
    """Inputs as Tensors of one floating dtype in one place; Python numbers take those of the others, None stays None.

    TypeError where dtypes differ or are neither float32 nor float64, or where places differ; ValueError (from NumPy)
    later where shapes do not broadcast.
    """
    if all(v is None or type(v) is Tensor for v in values) and {v.dtype for v in values if v is not None} in ONE_FLOAT:
        return _in_one_place(name, values)
    numbers = [isinstance(v, (int, float)) and not isinstance(v, bool) for v in values]
    tensors = [
        v if v is None or number or isinstance(v, Tensor) else Tensor(v)
        for v, number in zip(values, numbers, strict=True)
    ]
    dtypes = {t.dtype for t in tensors if isinstance(t, Tensor)}
    if len(dtypes) > 1 or not dtypes <= FLOATS:
        found = ", ".join(str(t.dtype) for t in tensors if isinstance(t, Tensor))
        raise TypeError(f"{name}: all inputs must have one floating dtype, float32 or float64, found {found}")
    dtype = dtypes.pop() if dtypes else np.float32
    placed = _in_one_place(name, tuple(t for t in tensors if isinstance(t, Tensor)))
    rest, near = iter(placed), placed[0].data if placed else None
    return tuple(
        Tensor(_filled(v, dtype, near)) if number else None if v is None else next(rest)
        for v, number in zip(tensors, numbers, strict=True)
    )


def _filled(number: Any, dtype: Any, near: Array | None) -> Array:
    """A number as an array without axes, where `near` lies."""
    array = kernels.empty((), dtype, like=near)  # np.full(..., like=near) hands CuPy an argument that it does not take
    array.fill(number)
    return array


def _in_one_place(name: str, tensors: tuple) -> tuple:
    """Tensors (or None) that lie all on the host or all on the GPU: there, if that is the backend in force."""
    on_device = {kernels.on_device(t.data) for t in tensors if t is not None}
    if False in on_device and device.current() == "cuda":
        return tuple(t if t is None else to_device(t) for t in tensors)
    if len(on_device) > 1:
        raise TypeError(f"{name}: some inputs lie on the GPU and some on the host: move them, F.to_device(x) does")
    return tensors


def _array(x: Any) -> Array:
    """The array of a Tensor or an array, else one made of it."""
    return _data(x) if kernels.on_device(_data(x)) else np.asarray(_data(x))


def _like(value: Any, shape: tuple, x: Array, name: str) -> Array:
    """`value` as an array of x's dtype where x lies, which must have this shape."""
    array = _array(value)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, found {array.shape}")
    return device.beside(array.astype(x.dtype), x)


def _divided(a: Array, divisor: Any) -> Array:
    """a / divisor, and 0 where that is 0."""
    if kernels.on_device(divisor):  # an `if` on its value would wait for the device
        return np.where(divisor == 0, 0, a / divisor)
    return a / divisor if divisor != 0 else np.zeros_like(a)


def _broadcast_back(g: Array, shape: tuple) -> Array:
    """Undo broadcasting: an input that was repeated along an axis gets the sum of the gradients of its copies."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    repeated = tuple(axis for axis, n in enumerate(shape) if n == 1 and g.shape[axis] != 1)
    return g.sum(axis=repeated, keepdims=True) if repeated else g


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)
