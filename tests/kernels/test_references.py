"""The references against plain Python loops, written from the formulas alone, at tiny prime shapes."""

import itertools
import math

import numpy as np
import pytest

from minunet.kernels import KERNELS, cases


def grid(*sizes):
    """All index tuples of an array of this shape."""
    return itertools.product(*map(range, sizes))


def conv2d_taps(x_shape, weight_shape, padding):
    """(output pixel, input pixel, tap): which output reads which input through which weight."""
    _, _, h, w = x_shape
    _, _, kh, kw = weight_shape
    for oy, ox in grid(h + 2 * padding - kh + 1, w + 2 * padding - kw + 1):
        for i, j in grid(kh, kw):
            y, x = oy + i - padding, ox + j - padding
            if 0 <= y < h and 0 <= x < w:
                yield (oy, ox), (y, x), (i, j)


def conv2d_forward(x, weight, bias, padding, relu, out):
    for n, o in grid(len(x), len(weight)):
        out[n, o] = 0 if bias is None else bias[o]
        for (oy, ox), (iy, ix), (i, j) in conv2d_taps(x.shape, weight.shape, padding):
            for c in range(x.shape[1]):
                out[n, o, oy, ox] += x[n, c, iy, ix] * weight[o, c, i, j]
    if relu:
        relu_forward(out.copy(), out)


def conv2d_backward_input(grad, weight, padding, out):
    out[...] = 0
    for (oy, ox), (iy, ix), (i, j) in conv2d_taps(out.shape, weight.shape, padding):
        for n, o, c in grid(len(grad), len(weight), out.shape[1]):
            out[n, c, iy, ix] += grad[n, o, oy, ox] * weight[o, c, i, j]


def conv2d_backward_weight(grad, x, padding, out):
    out[...] = 0
    for (oy, ox), (iy, ix), (i, j) in conv2d_taps(x.shape, out.shape, padding):
        for n, o, c in grid(len(grad), *out.shape[:2]):
            out[o, c, i, j] += grad[n, o, oy, ox] * x[n, c, iy, ix]


def conv_transpose2d_forward(x, weight, bias, out):
    s = weight.shape[2]
    for n, o, y, z in grid(*out.shape):
        out[n, o, y, z] = 0 if bias is None else bias[o]
        for c in range(x.shape[1]):
            out[n, o, y, z] += x[n, c, y // s, z // s] * weight[c, o, y % s, z % s]


def conv_transpose2d_backward_input(grad, weight, out):
    s = weight.shape[2]
    out[...] = 0
    for n, c, (o, y, z) in itertools.product(range(len(grad)), range(len(weight)), grid(*grad.shape[1:])):
        out[n, c, y // s, z // s] += grad[n, o, y, z] * weight[c, o, y % s, z % s]


def conv_transpose2d_backward_weight(grad, x, out):
    s = out.shape[2]
    out[...] = 0
    for n, c, (o, y, z) in itertools.product(range(len(grad)), range(len(out)), grid(*grad.shape[1:])):
        out[c, o, y % s, z % s] += grad[n, o, y, z] * x[n, c, y // s, z // s]


def max_pool2d_forward(x, kernel_size, out, argmax):
    k = kernel_size
    for n, c, y, z in grid(*out.shape):
        best, place = -math.inf, None
        for i, j in grid(k, k):
            value = x[n, c, k * y + i, k * z + j]
            if place is None or value > best or (math.isnan(value) and not math.isnan(best)):
                best, place = value, i * k + j
        out[n, c, y, z], argmax[n, c, y, z] = best, place


def max_pool2d_backward(grad, argmax, kernel_size, out):
    k = kernel_size
    out[...] = 0
    for n, c, y, z in grid(*grad.shape):
        i, j = divmod(int(argmax[n, c, y, z]), k)
        out[n, c, k * y + i, k * z + j] = grad[n, c, y, z]


def relu_forward(x, out):
    for at in grid(*x.shape):
        out[at] = x[at] if x[at] > 0 else 0


def relu_backward(grad, y, out):
    for at in grid(*y.shape):
        out[at] = grad[at] if y[at] > 0 else 0


def relu_backward_sums(grad, y, out, sums):
    relu_backward(grad, y, out)
    for c in range(y.shape[1]):
        sums[c] = math.fsum(channel(out, c))


def channel(a, c):
    """A channel's numbers, one after the other."""
    return [a[n, c, y, z] for n, y, z in grid(a.shape[0], *a.shape[2:])]


def batch_norm_statistics(x, mean, variance):
    for c in range(x.shape[1]):
        numbers = channel(x, c)
        mean[c] = math.fsum(numbers) / len(numbers)
        variance[c] = math.fsum((v - mean[c]) ** 2 for v in numbers) / len(numbers)


def batch_norm_normalize(x, mean, inv_std, weight, bias, relu, out):
    for n, c, y, z in grid(*x.shape):
        value = weight[c] * (x[n, c, y, z] - mean[c]) * inv_std[c] + bias[c]
        out[n, c, y, z] = 0 if relu and value < 0 else value


def upstream_of(grad, x, mean, inv_std, weight, bias, relu):
    """The gradient before the rectifier, if there is one."""
    y = np.empty_like(x)
    batch_norm_normalize(x, mean, inv_std, weight, bias, relu, y)
    passed = grad.copy()
    for at in grid(*x.shape):
        if relu and not y[at] > 0:
            passed[at] = 0
    return passed


def batch_norm_backward_parameters(grad, x, mean, inv_std, weight, bias, relu, grad_weight, grad_bias):
    passed = upstream_of(grad, x, mean, inv_std, weight, bias, relu)
    for c in range(x.shape[1]):
        xhat = [(v - mean[c]) * inv_std[c] for v in channel(x, c)]
        grad_weight[c] = math.fsum(g * v for g, v in zip(channel(passed, c), xhat, strict=True))
        grad_bias[c] = math.fsum(channel(passed, c))


def batch_norm_backward_input(grad, x, mean, inv_std, weight, bias, relu, mean_grad, mean_grad_xhat, out):
    passed = upstream_of(grad, x, mean, inv_std, weight, bias, relu)
    for n, c, y, z in grid(*x.shape):
        xhat = (x[n, c, y, z] - mean[c]) * inv_std[c]
        centred = passed[n, c, y, z] - mean_grad[c] - xhat * mean_grad_xhat[c]
        out[n, c, y, z] = weight[c] * inv_std[c] * centred


def neighbours(position, size_in, size_out, align_corners):
    """The source pixels that an output pixel of one axis mixes, with their weights."""
    if align_corners:
        s = position * (size_in - 1) / (size_out - 1) if size_out > 1 else 0.0
    else:
        s = max(0.0, (position + 0.5) * size_in / size_out - 0.5)
    low = min(math.floor(s), size_in - 1)
    return [(low, 1 - (s - low)), (min(low + 1, size_in - 1), s - low)]


def resize_forward(x, align_corners, out):
    for n, c, y, z in grid(*out.shape):
        rows = neighbours(y, x.shape[2], out.shape[2], align_corners)
        columns = neighbours(z, x.shape[3], out.shape[3], align_corners)
        out[n, c, y, z] = sum(x[n, c, i, j] * v * u for i, v in rows for j, u in columns)


def resize_adjoint(grad, align_corners, out):
    out[...] = 0
    for n, c, y, z in grid(*grad.shape):
        for i, v in neighbours(y, out.shape[2], grad.shape[2], align_corners):
            for j, u in neighbours(z, out.shape[3], grad.shape[3], align_corners):
                out[n, c, i, j] += grad[n, c, y, z] * v * u


def cross_entropy_forward(logits, target, out):
    for n, y, z in grid(*target.shape):
        t = target[n, y, z]
        exponentials = math.fsum(math.exp(v) for v in logits[n, :, y, z])
        out[n, y, z] = math.log(exponentials) - logits[n, t, y, z] if t >= 0 else 0


def cross_entropy_backward(grad, logits, target, out):
    for n, k, y, z in grid(*logits.shape):
        t = target[n, y, z]
        p = math.exp(logits[n, k, y, z]) / math.fsum(math.exp(v) for v in logits[n, :, y, z])
        out[n, k, y, z] = grad[n, y, z] * (p - (k == t)) if t >= 0 else 0


def sgd_update(parameter, gradient, velocity, lr, momentum, weight_decay, nesterov, out_parameter, out_velocity):
    for at in grid(*parameter.shape):
        g = gradient[at] + weight_decay * parameter[at]
        v = out_velocity[at] = momentum * velocity[at] + g
        out_parameter[at] = parameter[at] - lr * (g + momentum * v if nesterov else v)


def sgd_square_sum(gradient, out):
    out[...] = math.fsum(g * g for g in gradient)


TINY = [case for case in cases.select("test", dtype="float64") if max(case.sizes.values()) <= 13]


def test_the_tiny_cases_reach_every_kernel():
    assert {case.kernel for case in TINY} == KERNELS.keys()


@pytest.mark.parametrize("values", ["integers", "floats"])
@pytest.mark.parametrize("case", TINY, ids=str)
def test_reference_is_the_formula(case, values):
    for call in cases.calls(case, values):
        outputs = {name: np.full(shape, 99, dtype) for name, (shape, dtype) in call.outputs.items()}
        globals()[f"{case.kernel}_{call.function}"](**call.inputs, **outputs)
        found = cases.run(KERNELS[case.kernel].load("reference"), call)
        for name, expected in outputs.items():
            cases.compare(found[name], expected, call.ulps, f"{case} {call.function}: {name}")


@pytest.mark.parametrize("k", [2, 3])
def test_max_pool_reference_on_nan(k):
    rng = np.random.default_rng(k)
    x = rng.integers(-2, 3, (2, 3, 7, 11)).astype(np.float64)
    x[rng.random(x.shape) < 0.2] = np.nan
    found, expected = ({"out": np.zeros((2, 3, 7 // k, 11 // k)), "argmax": np.zeros((2, 3, 7 // k, 11 // k), np.uint8)}
                       for _ in range(2))  # fmt: skip
    KERNELS["max_pool2d"].load("reference").forward(x, k, **found)
    max_pool2d_forward(x, k, **expected)
    assert np.isnan(expected["out"]).any() and not np.isnan(expected["out"]).all()
    np.testing.assert_array_equal(found["out"], expected["out"])  # here NaN must be where NaN is
    np.testing.assert_array_equal(found["argmax"], expected["argmax"])
