"""What an operation keeps for the way back, and when it is free; gradients are the same to the last bit either way."""

import gc
import weakref

import numpy as np
import pytest

import minunet as mn
from minunet import functional as F
from minunet import kernels


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    if request.param == "numba":
        pytest.importorskip("numba")
    with mn.use_backend(request.param):
        yield request.param


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def parameters(outputs, inputs, seed):
    weight = mn.Tensor(draw(outputs, inputs, 3, 3, seed=seed), requires_grad=True)
    return weight, mn.Tensor(draw(outputs, seed=seed + 1), requires_grad=True)


def root(array):
    """The array that owns the memory (a view keeps it alive, not the other views)."""
    return array if not isinstance(array.base, np.ndarray) else root(array.base)


# ------------------------------------------------------------------------------------------ bytes instead of numbers


def test_bytes_tell_where_a_gradient_passes(backend):
    y = np.array([[[[np.nan, 1.5, 0.0, -0.0, np.inf]]]], np.float32)
    np.testing.assert_array_equal(kernels.relu.passes(y), [[[[1, 1, 0, 0, 1]]]])
    assert kernels.relu.passes(y).dtype == np.uint8


def test_backward_of_relu_takes_bytes_for_y(backend):
    y = np.maximum(draw(2, 5, 7, 9), 0)
    grad = draw(2, 5, 7, 9, seed=1)
    passes = kernels.relu.passes(y)
    np.testing.assert_array_equal(kernels.relu.backward(grad, passes), kernels.relu.backward(grad, y))
    for found, expected in zip(
        kernels.relu.backward_sums(grad, passes), kernels.relu.backward_sums(grad, y), strict=True
    ):
        assert found.dtype == grad.dtype
        np.testing.assert_array_equal(found, expected)


def step(keep):
    """Gradients of two convolutions, and whether the output of the first was alive before the way back."""
    x = mn.Tensor(draw(1, 8, 12, 12), requires_grad=True)
    weight, bias = parameters(8, 8, 2)
    y = F.conv2d_relu(x, weight, bias, keep=keep)
    alive = weakref.ref(root(y.data))
    z = F.max_pool2d(y)
    del y
    gc.collect()
    kept = alive() is not None
    z.backward(draw(*z.shape, seed=5))
    return [x.grad, weight.grad, bias.grad], kept


def test_an_output_that_need_not_be_kept_is_free_and_the_gradients_are_the_same(backend):
    expected, kept = step(keep=True)
    found, kept_without = step(keep=False)
    assert kept and not kept_without
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


# --------------------------------------------------------------------------------------------- computed once more


def first_layers(again):
    """Gradients of a first layer and the next, and whether the first one's output was kept."""
    x = mn.Tensor(draw(2, 1, 14, 14), requires_grad=True)
    (w1, b1), (w2, b2) = parameters(16, 1, 2), parameters(8, 16, 4)
    y = F.conv2d_relu(x, w1, b1, again=again)
    alive = weakref.ref(root(y.data))
    z = F.conv2d_relu(y, w2, b2)
    del y
    gc.collect()
    kept = alive() is not None
    z.backward(draw(*z.shape, seed=5))
    return [t.grad for t in (x, w1, b1, w2, b2)], kept


def test_what_is_computed_once_more_gives_the_same_gradients(backend):
    expected, kept = first_layers(again=False)
    found, kept_again = first_layers(again=True)
    assert kept and not kept_again
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_a_user_may_change_is_never_computed_once_more(backend):
    """Outputs of single operations are the user's: what he writes into them counts."""
    x, (w1, b1) = mn.Tensor(draw(1, 1, 9, 9)), parameters(16, 1, 2)
    w2, _ = parameters(4, 16, 4)
    y = F.conv2d_relu(x, w1, b1)
    y.data[:, 3] = 0
    F.conv2d(y, w2).sum().backward()
    assert not w2.grad[:, 3].any() and w2.grad[:, 2].any()


def test_the_unet_keeps_no_cheap_first_layer(backend):
    def outputs(features):
        model = mn.UNet(1, 2, features=features)
        outs = []

        def note(kernel, function, variant, arguments, run):
            run()
            outs.append(weakref.ref(root(arguments["out"])))

        with kernels.observe(note):
            logits = model(draw(1, 1, 44, 44))
        first = outs[0]
        gc.collect()
        assert logits.requires_grad
        return first() is not None

    assert outputs((8, 8)) and not outputs((16, 8))


# -------------------------------------------------------------------------------------------------- on the way back


def test_a_vjp_and_what_it_holds_are_gone_before_the_next_is_called():
    x, weight = (mn.Tensor(draw(2, 2, seed=s), requires_grad=True) for s in (0, 1))
    seen = []
    held = draw(3)
    alive = weakref.ref(held)

    def last(g, held=held):
        return g

    def first(g):
        seen.append(alive() is not None)
        return g

    from minunet.autograd import record

    y = record("two", draw(2, 2), (x, weight), (first, last))
    del held, last
    y.backward(draw(2, 2))
    assert seen == [False]


def test_upstream_is_computed_once_and_its_result_given_to_all(backend):
    from minunet.autograd import record

    a, b = (mn.Tensor(draw(3, seed=s), requires_grad=True) for s in (0, 1))
    calls = []

    def double(g):
        calls.append(g)
        return 2 * g

    y = record("doubled", a.data + b.data, (a, b), (lambda g: g, lambda g: -g), upstream=double)
    y.backward(np.ones(3, np.float32))
    assert len(calls) == 1
    np.testing.assert_array_equal(a.grad, [2, 2, 2])
    np.testing.assert_array_equal(b.grad, [-2, -2, -2])
