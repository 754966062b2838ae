"""The checker is checked: every planted error must be caught by the functions that all other tests rely on."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import minunet as mn
import minunet.functional as F
from minunet.gradient_check import gradcheck
from minunet.kernels import cases, conv2d
from minunet.kernels.conv2d import reference

CASE = cases.Case("conv2d", dict(n=2, c=3, o=3, h=7, w=7, kh=3, kw=3, padding=1, bias=1, relu=1))


def factor_two(x, weight, bias, padding, relu, out):
    reference.forward(x, weight, bias, padding, relu, out)
    out *= 2


def swapped_axes(x, weight, bias, padding, relu, out):
    reference.forward(x, weight.swapaxes(2, 3), bias, padding, relu, out)


def swapped_channels(x, weight, bias, padding, relu, out):
    reference.forward(x, weight.swapaxes(0, 1), bias, padding, relu, out)


def bias_twice(x, weight, bias, padding, relu, out):
    reference.forward(x, weight, bias, padding, relu, out)
    out += bias[:, None, None]


def last_row_unwritten(x, weight, bias, padding, relu, out):
    whole = np.empty_like(out)
    reference.forward(x, weight, bias, padding, relu, whole)
    out[:, :, :-1] = whole[:, :, :-1]


def one_nan(x, weight, bias, padding, relu, out):
    reference.forward(x, weight, bias, padding, relu, out)
    out[-1, -1, -1, -1] = np.nan


def one_infinity(x, weight, bias, padding, relu, out):
    reference.forward(x, weight, bias, padding, relu, out)
    out[0, 0, 0, 0] = np.inf


def one_wrong_number(x, weight, bias, padding, relu, out):
    reference.forward(x, weight, bias, padding, relu, out)
    out[1, 2, 3, 4] += 1


def writes_outside(x, weight, bias, padding, relu, out):
    reference.forward(x, weight, bias, padding, relu, out)
    as_strided(out[:1, 0, 0, 0], shape=(2,), strides=(-out.itemsize,))[1] = 0


def changes_input(x, weight, bias, padding, relu, out):
    reference.forward(x, weight, bias, padding, relu, out)
    x[0, 0, 0, 0] += 1


def missing_flip(grad, weight, padding, out):
    reference.backward_input(grad, np.flip(weight, (2, 3)), padding, out)


def one_image_left_out(grad, x, padding, out):
    reference.backward_weight(grad[:-1], x[:-1], padding, out)


PLANTED = {
    "forward": [factor_two, swapped_axes, swapped_channels, bias_twice, last_row_unwritten, one_nan, one_infinity,
                one_wrong_number, writes_outside, changes_input],
    "backward_input": [missing_flip],
    "backward_weight": [one_image_left_out],
}  # fmt: skip


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("values", ["integers", "floats"])
@pytest.mark.parametrize("function, wrong", [(f, w) for f, all_wrong in PLANTED.items() for w in all_wrong])
def test_planted_errors_are_caught(function, wrong, values, layout):
    (call,) = (c for c in cases.calls(CASE, values, layout) if c.function == function)
    cases.check(reference, "conv2d", call, layout)
    with pytest.raises(AssertionError):
        cases.check(SimpleNamespace(**{function: wrong}), "conv2d", call, layout)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
def test_fresh_memory_is_poisoned(dtype, layout):
    array, memory = cases.poisoned((2, 3, 5, 7), dtype, layout)
    assert array.shape == (2, 3, 5, 7) and np.shares_memory(array, memory)
    assert np.isnan(array).all() if dtype == np.float32 else (array == np.array(-1).astype(dtype)).all()
    assert array.flags.c_contiguous == (layout == "contiguous")
    assert array.transpose(0, 2, 3, 1).flags.c_contiguous == (layout == "channels_last")
    array[...] = 0
    assert (memory == 0).sum() == array.nbytes, "elements overlap"


def test_compare():
    one = np.array([1.0, 2.0, 4.0], np.float32)
    eps = np.finfo(np.float32).eps
    cases.compare(one, one.astype(np.float64))
    cases.compare(one + 3 * eps * np.float32(4), one, ulps=4)  # relative to the tensor's scale
    infinite = np.array([np.inf, -np.inf, 0])
    cases.compare(infinite, infinite)
    cases.compare(infinite, infinite, ulps=4)


@pytest.mark.parametrize("ulps", [0, 4])
@pytest.mark.parametrize(
    "found, expected",
    [
        ([np.nan, 1], [np.nan, 1]),
        ([np.nan, 1], [0, 1]),
        ([0, 1], [np.nan, 1]),
        ([np.inf, 1], [-np.inf, 1]),
        ([np.inf, 1], [3e38, 1]),
        ([3e38, 1], [np.inf, 1]),
        ([1, 1 + 1e-5], [1, 1]),
        ([[1, 1]], [1, 1]),
        ([1], [1, 1]),
    ],
)
def test_compare_refuses(found, expected, ulps):
    with pytest.raises(AssertionError):
        cases.compare(np.array(found, np.float32), np.array(expected, np.float32), ulps)


def test_integers_of_the_list_are_exact_in_float32():
    for case in cases.CASES:
        if case.purpose == "test" and case.kernel in cases.EXACT:
            for call in cases.calls(case, "integers"):
                assert call.ulps == 0 or case.kernel == "resize", f"{case} {call.function}"


# ------------------------------------------------------------------------------------ the gradient checker


def correct(x, weight, bias):
    return F.conv2d(x, weight, bias, 1)


def wrong_by(change):
    """conv2d whose gradient with respect to x is changed."""
    right = conv2d.backward_input
    return lambda grad, weight, padding, size: change(right, grad, weight, padding, size)


WRONG_GRADIENTS = {
    "factor 2": lambda right, g, w, p, size: 2 * right(g, w, p, size),
    "factor 1.001": lambda right, g, w, p, size: 1.001 * right(g, w, p, size),
    "swapped axes": lambda right, g, w, p, size: right(g, w.swapaxes(2, 3), p, size),
    "missing flip": lambda right, g, w, p, size: right(g, np.flip(w, (2, 3)), p, size),
    "zero": lambda right, g, w, p, size: 0 * right(g, w, p, size),
    "one NaN": lambda right, g, w, p, size: np.where(np.arange(size[1]) == 0, np.nan, right(g, w, p, size)),
}


@pytest.fixture
def float64_inputs():
    (call, *_) = cases.calls(cases.Case("conv2d", CASE.sizes, "float64"), "floats", seed=1)
    with mn.use_backend("numpy"):
        yield [call.inputs[name] for name in ("x", "weight", "bias")]


@pytest.mark.parametrize("wrong", WRONG_GRADIENTS)
def test_gradcheck_finds_wrong_gradients(wrong, float64_inputs, monkeypatch):
    assert gradcheck(correct, *float64_inputs)
    monkeypatch.setattr(conv2d, "backward_input", wrong_by(WRONG_GRADIENTS[wrong]))
    with pytest.raises(AssertionError, match="input 0: analytic"):
        gradcheck(correct, *float64_inputs)


def test_gradcheck_finds_a_bias_gradient_that_is_counted_twice(float64_inputs, monkeypatch):
    right = mn.kernels.channel_sums
    monkeypatch.setattr(mn.kernels, "channel_sums", lambda g: 2 * right(g))
    with pytest.raises(AssertionError, match="input 2: analytic"):
        gradcheck(correct, *float64_inputs)


def test_gradcheck_without_anything_to_check():
    with pytest.raises(ValueError, match="no input is a float64"):
        gradcheck(F.relu, np.ones(3, np.float32))
