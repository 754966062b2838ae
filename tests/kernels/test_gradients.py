"""Derivatives, three ways: finite differences of every operation on every variant, the complex step, adjoints."""

import warnings
from itertools import pairwise

import numpy as np
import pytest

from minunet.gradient_check import check_all, checks
from minunet.kernels import KERNELS, cases


@pytest.mark.parametrize("check", checks().items(), ids=lambda item: item[0])
def test_gradcheck(check):
    assert check[1]()


def test_check_all_reports_what_is_wrong(monkeypatch):
    relu = KERNELS["relu"].load("reference")
    assert dict(check_all("relu-n1-c1-h1-w1-float64-reference")) == {"relu-n1-c1-h1-w1-float64-reference": None}
    monkeypatch.setattr(relu, "backward", lambda grad, y, out: np.copyto(out, 2 * grad * (y > 0)))
    found = dict(check_all("relu-n2-c3-h5-w7-float64-reference"))
    assert "input 0: analytic" in found["relu-n2-c3-h5-w7-float64-reference"]


# -------------------------------------------------------------------------------------- the complex step
#
# For an analytic f and a tiny h,  Im f(x + i h d) / h  is the derivative along d to the last digits: no difference of
# two near numbers is taken.  The references are written in array operations that accept complex numbers.

H = 1e-30


def along(f, x, direction):
    """Derivative of f at x along `direction`."""
    return f(x + 1j * H * direction).imag / H


def reference(kernel):
    return KERNELS[kernel].load("reference")


def call(function, shape, *arguments):
    """A reference's function that fills its last argument, as one that returns it."""
    out = np.zeros(shape, np.result_type(*(a for a in arguments if isinstance(a, np.ndarray) and a.dtype.kind in "fc")))
    function(*arguments, out)
    return out


def hold(f, x, grad, backward):
    """<grad, df along d> = <backward, d>, for one random direction d."""
    d = np.random.default_rng(1).standard_normal(x.shape)
    left, right = (grad * along(f, x, d)).sum(), (backward * d).sum()
    assert left == pytest.approx(right, rel=1e-11) and abs(right) > 1e-3


def inputs_of(kernel, **sizes):
    """The inputs of each function of a kernel, in float64."""
    return {c.function: c.inputs for c in cases.calls(cases.Case(kernel, sizes, "float64"), "floats")}


@pytest.mark.parametrize("kh, kw, padding", [(3, 3, 1), (3, 3, 0), (1, 1, 0), (2, 2, 1), (1, 3, 3), (5, 2, 2)])
def test_complex_step_through_conv2d(kh, kw, padding):
    room = reference("conv2d")
    i = inputs_of("conv2d", n=2, c=3, o=5, h=7, w=11, kh=kh, kw=kw, padding=padding, bias=1, relu=0)["forward"]
    x, weight, bias = i["x"], i["weight"], i["bias"]
    shape = (2, 5, 7 + 2 * padding - kh + 1, 11 + 2 * padding - kw + 1)
    grad = np.random.default_rng(2).standard_normal(shape)
    hold(lambda x: call(room.forward, shape, x, weight, bias, padding, False), x, grad,
         call(room.backward_input, x.shape, grad, weight, padding))  # fmt: skip
    hold(lambda weight: call(room.forward, shape, x, weight, bias, padding, False), weight, grad,
         call(room.backward_weight, weight.shape, grad, x, padding))  # fmt: skip


@pytest.mark.parametrize("s", [1, 2, 3])
def test_complex_step_through_conv_transpose2d(s):
    room = reference("conv_transpose2d")
    i = inputs_of("conv_transpose2d", n=2, c=3, o=5, h=7, w=11, s=s, bias=1)["forward"]
    x, weight, bias = i["x"], i["weight"], i["bias"]
    shape = (2, 5, 7 * s, 11 * s)
    grad = np.random.default_rng(2).standard_normal(shape)
    hold(lambda x: call(room.forward, shape, x, weight, bias), x, grad,
         call(room.backward_input, x.shape, grad, weight))  # fmt: skip
    hold(lambda weight: call(room.forward, shape, x, weight, bias), weight, grad,
         call(room.backward_weight, weight.shape, grad, x))  # fmt: skip


@pytest.mark.parametrize("corners", [False, True])
def test_complex_step_through_resize(corners):
    room = reference("resize")
    i = inputs_of("resize", n=2, c=3, h=5, w=7, to_h=11, to_w=3, corners=corners)
    x, grad = i["forward"]["x"], i["adjoint"]["grad"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)  # coordinates are real, kept as complex
        hold(lambda x: call(room.forward, grad.shape, x, corners), x, grad,
             call(room.adjoint, x.shape, grad, corners))  # fmt: skip


@pytest.mark.parametrize("relu", [False, True])
def test_complex_step_through_batch_norm_with_the_batchs_own_statistics(relu):
    room, m, eps = reference("batch_norm"), 2 * 5 * 7, 1e-5
    i = inputs_of("batch_norm", n=2, c=3, h=5, w=7, relu=relu)["backward_input"]
    x, grad, weight = i["x"], i["grad"], i["weight"]
    bias = np.ones(3)

    def statistics(x):
        mean, variance = np.zeros((2, 3), x.dtype)
        room.statistics(x, mean, variance)
        return mean, 1 / np.sqrt(variance + eps)

    def forward(x, weight, bias):
        out = np.zeros(x.shape, np.result_type(x, weight, bias))
        room.normalize(x, *statistics(x), weight, bias, relu, out)
        return out

    mean, inv_std = statistics(x)
    with_xhat, plain = np.zeros((2, 3))
    room.backward_parameters(grad, x, mean, inv_std, weight, bias, relu, with_xhat, plain)
    gx = call(room.backward_input, x.shape, grad, x, mean, inv_std, weight, bias, relu, plain / m, with_xhat / m)
    hold(lambda x: forward(x, weight, bias), x, grad, gx)
    hold(lambda weight: forward(x, weight, bias), weight, grad, with_xhat)
    hold(lambda bias: forward(x, weight, bias), bias, grad, plain)


def test_complex_step_through_cross_entropy():
    room = reference("cross_entropy")
    i = inputs_of("cross_entropy", n=2, classes=5, h=7, w=11)["backward"]
    logits, target, grad = i["logits"], i["target"], i["grad"]
    hold(lambda z: call(room.forward, target.shape, z, target), logits, grad,
         call(room.backward, logits.shape, grad, logits, target))  # fmt: skip


# ------------------------------------------------------------------------------- adjoints: <A x, y> = <x, A^T y>


def variants_of(kernel):
    return [pytest.param(kernel, v.name, id=f"{kernel}-{v.name}") for v in cases.variants(kernel)]


def dot(a, b):
    """Exact for small integers."""
    return np.vdot(a.astype(np.float64), b.astype(np.float64))


LINEAR = {
    "conv2d": dict(n=2, c=3, o=5, h=17, w=29, kh=3, kw=2, padding=2, bias=0, relu=0),
    "conv_transpose2d": dict(n=2, c=3, o=5, h=13, w=7, s=3, bias=0),
    "resize": dict(n=2, c=3, h=10, w=12, to_h=20, to_w=6, corners=0),
}


@pytest.mark.parametrize("kernel, variant", [p for kernel in LINEAR for p in variants_of(kernel)])
def test_backward_is_the_adjoint_of_forward(kernel, variant):
    module = KERNELS[kernel].load(variant)
    calls = {c.function: c for c in cases.calls(cases.Case(kernel, LINEAR[kernel]), "integers")}
    results = {name: cases.run(module, c)["out"] for name, c in calls.items()}
    y = results["forward"]
    x = calls["forward"].inputs["x"]
    if kernel == "resize":
        g = calls["adjoint"].inputs["grad"]
        pairs = [dot(y, g), dot(x, results["adjoint"])]
    else:
        g, weight = calls["backward_input"].inputs["grad"], calls["forward"].inputs["weight"]
        pairs = [dot(y, g), dot(x, results["backward_input"]), dot(weight, results["backward_weight"])]
    assert all(a == b for a, b in pairwise(pairs)) and pairs[0] != 0, pairs


@pytest.mark.parametrize("kernel, variant", variants_of("max_pool2d"))
def test_backward_of_max_pool_is_the_adjoint_of_picking_the_maxima(kernel, variant):
    module = KERNELS[kernel].load(variant)
    rng = np.random.default_rng(0)
    x = rng.permutation(2 * 3 * 17 * 11).reshape(2, 3, 17, 11).astype(np.float32)
    g = rng.integers(-9, 10, (2, 3, 8, 5)).astype(np.float32)
    y, places, gx = np.empty_like(g), np.empty(g.shape, np.uint8), np.empty_like(x)
    module.forward(x, 2, y, places)
    module.backward(g, places, 2, gx)
    assert dot(y, g) == dot(x, gx) != 0
