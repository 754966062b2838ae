"""The checker is checked: whatever is wrong with a gradient, it must find it."""

import numpy as np
import pytest

import minunet as mn
import minunet.functional as F
from minunet.autograd import record

X = np.random.default_rng(0).standard_normal((3, 4))


def planted(vjp, forward=lambda x: x * x):
    """The operation x^2 with a VJP to be planted, as a function of a Tensor."""

    def fn(x):
        return record("square", forward(x.data), (x,), (lambda g: vjp(g, x.data),))

    return fn


def test_a_right_gradient_passes():
    assert mn.gradcheck(planted(lambda g, x: 2 * g * x), X) is True


ERRORS = {
    "factor 2.001": lambda g, x: 2.001 * g * x,
    "factor 2": lambda g, x: 4 * g * x,
    "sign": lambda g, x: -2 * g * x,
    "nothing": lambda g, x: np.zeros_like(x),
    "upstream gradient forgotten": lambda g, x: 2 * x,
    "swapped axes": lambda g, x: (2 * g * x).reshape(4, 3).T,
    "missing flip": lambda g, x: (2 * g * x)[::-1],
    "one element": lambda g, x: 2 * g * x * np.where(np.arange(12).reshape(3, 4) == 7, 0.99, 1),
    "NaN": lambda g, x: np.full_like(x, np.nan),
    "one NaN": lambda g, x: np.where(np.arange(12).reshape(3, 4) == 7, np.nan, 2 * g * x),
    "infinity": lambda g, x: np.full_like(x, np.inf),
    "minus infinity": lambda g, x: np.full_like(x, -np.inf),
    "one infinity": lambda g, x: np.where(np.arange(12).reshape(3, 4) == 7, np.inf, 2 * g * x),
    "sums to the same": lambda g, x: 2 * g * x + np.array([[1e-3], [-1e-3], [0]]),
}


@pytest.mark.parametrize("vjp", ERRORS.values(), ids=ERRORS)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_planted_errors_are_found(vjp):
    with pytest.raises(AssertionError, match=r"gradients differ: input 0: analytic .*, numeric "):
        mn.gradcheck(planted(vjp), X)


def test_an_infinite_gradient_of_a_single_number_is_found():
    """It points along every direction there is, so nothing but its size gives it away."""
    with pytest.raises(AssertionError, match=r"analytic inf|analytic -inf"):
        mn.gradcheck(planted(lambda g, x: np.full_like(x, np.inf)), np.array([2.0]))


def test_a_missing_sum_over_copies_is_found():
    """A broadcast bias that gets the gradient of its first copy alone."""

    def fn(x, b):
        return record("add", x.data + b.data, (x, b), (lambda g: g, lambda g: g[0]))

    with pytest.raises(AssertionError, match="input 1") as caught:
        mn.gradcheck(fn, X, np.ones(4))
    assert "input 0" not in str(caught.value)


def test_a_bias_whose_gradient_runs_twice_is_found():
    """The classic: exactly 2.000 times the gradient."""

    def fn(x, w, b):
        y = F.conv2d(x, w, b)
        return record("again", y.data, (y, b), (lambda g: g, lambda g: g.sum(axis=(0, 2, 3))))

    with pytest.raises(AssertionError, match="input 2"), mn.use_backend("numpy"):
        mn.gradcheck(fn, X.reshape(1, 1, 3, 4), np.ones((2, 1, 2, 2)), np.ones(2))


def test_a_gradient_that_never_arrives_is_found():
    def fn(a, b):
        return F.multiply(a, b.data)

    with pytest.raises(AssertionError, match="input 1: analytic 0"):
        mn.gradcheck(fn, X, X + 1)


def test_inputs_that_do_not_matter_have_gradient_0():
    assert mn.gradcheck(lambda a, b: F.multiply(a, a), X, X + 1)


def test_wrong_shapes_are_found():
    with pytest.raises(ValueError, match=r"square: gradient must be an array of shape \(3, 4\)"):
        mn.gradcheck(planted(lambda g, x: (2 * g * x).T), X)


def test_other_inputs_are_passed_through():
    target = np.array([[[0, 1, 1]]])
    logits = np.random.default_rng(0).standard_normal((1, 2, 1, 3))
    assert mn.gradcheck(F.cross_entropy, logits, target)
    assert mn.gradcheck(F.sum, X, (0, 1), True)
    assert mn.gradcheck(F.multiply, mn.Tensor(X), 3)


def test_functions_always_get_tensors():
    seen = []
    mn.gradcheck(lambda a, b: seen.append((type(a), type(b))) or a * b, X, X + 1)
    assert set(seen) == {(mn.Tensor, mn.Tensor)}
    assert mn.gradcheck(lambda a, b: (a * b).sum(axis=0).reshape(2, 2) @ b.reshape(2, 6), X, X + 1)
    assert mn.gradcheck(lambda a: a.mean(), X)


def test_inputs_are_not_changed():
    x, held = X.copy(), mn.Tensor(X.copy())
    mn.gradcheck(F.multiply, x, held)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(held.data, X)
    assert held.grad is None


def test_the_same_seed_finds_the_same_numbers():
    messages = []
    for seed in (0, 0, 1):
        with pytest.raises(AssertionError) as caught:
            mn.gradcheck(planted(ERRORS["sign"]), X, seed=seed)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] != messages[2]


def test_float32_alone_cannot_be_checked():
    with pytest.raises(ValueError, match="no input is a float64 array or Tensor"):
        mn.gradcheck(F.relu, X.astype(np.float32))
