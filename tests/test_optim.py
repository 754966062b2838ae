"""The step, clipping, and the schedules of the learning rate."""

import itertools
import math

import numpy as np
import pytest

import minunet as mn
from minunet import optim

SHAPES = [(3, 2, 3, 3), (5,), (), (300, 400)]  # the last is longer than one stretch


def parameters(dtype=np.float64, shapes=SHAPES):
    rng = np.random.default_rng(0)
    return [mn.Tensor(np.array(rng.standard_normal(s), dtype), requires_grad=True) for s in shapes]


def give_gradients(params, rng):
    for p in params:
        p.grad = np.array(rng.standard_normal(p.shape), p.dtype)


SETTINGS = [
    {"momentum": 0.0},
    {"momentum": 0.0, "weight_decay": 0.1},
    {"momentum": 0.9},
    {"momentum": 0.99, "weight_decay": 0.01},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-13)])
def test_steps_are_those_of_torch(settings, dtype, tolerance):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours = parameters(dtype)
    theirs = [torch.from_numpy(p.data.copy()).requires_grad_() for p in ours]
    mine = mn.SGD(ours, lr=0.1, **settings)
    reference = torch.optim.SGD(theirs, lr=0.1, **settings)
    rng = np.random.default_rng(1)
    for step in range(5):
        give_gradients(ours, rng)
        for p, q in zip(ours, theirs, strict=True):
            q.grad = torch.from_numpy(p.grad.copy())
        if step == 2:
            ours[1].grad = theirs[1].grad = None
        mine.lr = reference.param_groups[0]["lr"] = 0.1 / (step + 1)
        mine.step()
        reference.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=tolerance, atol=tolerance)
            assert p.dtype == dtype


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_step_is_its_formula(nesterov):
    (p,) = params = parameters(shapes=[(4,)])
    optimiser = mn.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov)
    value, velocity, rng = p.data.copy(), np.zeros(4), np.random.default_rng(1)
    for _ in range(4):
        give_gradients(params, rng)
        g = p.grad + 0.01 * value
        velocity = 0.9 * velocity + g
        value = value - 0.1 * (g + 0.9 * velocity if nesterov else velocity)
        optimiser.step()
        np.testing.assert_allclose(p.data, value, rtol=1e-14)


def test_steps_are_in_place_and_leave_gradients_alone():
    params = parameters()
    arrays = [p.data for p in params]
    give_gradients(params, np.random.default_rng(1))
    before, gradients = [a.copy() for a in arrays], [p.grad.copy() for p in params]
    mn.SGD(params, weight_decay=0.1, nesterov=True).step()
    for p, array, old, gradient in zip(params, arrays, before, gradients, strict=True):
        assert p.data is array
        assert (array != old).all()
        np.testing.assert_array_equal(p.grad, gradient)


def channels_last(a):
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def every_second(a):
    return np.repeat(a, 2, axis=0)[::2]


@pytest.mark.parametrize("layout", [channels_last, every_second, np.asfortranarray])
@pytest.mark.parametrize("gradients_too", [False, True])
def test_any_memory_order_gives_the_same_numbers(layout, gradients_too):
    plain, other = parameters(shapes=[(4, 3, 5, 2)]), parameters(shapes=[(4, 3, 5, 2)])
    other[0].data = array = layout(other[0].data)
    assert not array.flags.c_contiguous
    optimisers = [mn.SGD(ps, lr=0.1, weight_decay=0.1, nesterov=True) for ps in (plain, other)]
    rng = np.random.default_rng(1)
    for _ in range(3):
        give_gradients(plain, rng)
        other[0].grad = layout(plain[0].grad) if gradients_too else plain[0].grad.copy()
        for optimiser in optimisers:
            optimiser.step()
        assert other[0].data is array
        np.testing.assert_array_equal(array, plain[0].data)


def test_read_only_gradients_are_fine():
    (p,) = parameters(shapes=[(3,)])
    p.grad = np.broadcast_to(np.float64(1), (3,))
    before = p.data.copy()
    mn.SGD([p], lr=0.5, momentum=0).step()
    np.testing.assert_array_equal(p.data, before - 0.5)


def test_parameters_without_a_gradient_stay():
    """Not even momentum or weight decay moves them."""
    params = parameters(shapes=[(3,), (3,)])
    optimiser = mn.SGD(params, lr=0.1, weight_decay=0.5)
    give_gradients(params, np.random.default_rng(1))
    optimiser.step()
    params[0].grad = None
    before = [p.data.copy() for p in params]
    optimiser.step()
    np.testing.assert_array_equal(params[0].data, before[0])
    assert (params[1].data != before[1]).all()


def test_zero_grad():
    params = parameters()
    give_gradients(params, np.random.default_rng(1))
    mn.SGD(params).zero_grad()
    assert all(p.grad is None for p in params)


def test_a_bowl_is_descended():
    x = mn.Tensor(np.array([3.0, -2.0]), requires_grad=True)
    optimiser = mn.SGD(iter([x]), lr=0.05, momentum=0.8)
    for _ in range(200):
        (x * x).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    np.testing.assert_allclose(x.data, 0, atol=1e-8)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"lr": -0.1}, "lr must be finite and at least 0, found -0.1"),
        ({"lr": math.nan}, "lr must be finite and at least 0, found nan"),
        ({"lr": math.inf}, "lr must be finite and at least 0, found inf"),
        ({"momentum": -1}, "momentum must be finite and at least 0, found -1"),
        ({"weight_decay": -1}, "weight_decay must be finite and at least 0, found -1"),
        ({"nesterov": True, "momentum": 0}, "nesterov needs a momentum above 0"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"SGD: {message}"):
        mn.SGD(parameters(), **arguments)


def test_nothing_to_optimise():
    with pytest.raises(ValueError, match="there are no parameters"):
        mn.SGD([])


# ---------------------------------------------------------------------------------------- clipping


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_norm", [0.5, 1e9])
def test_clipping_is_that_of_torch(dtype, max_norm):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    params = parameters(dtype)
    give_gradients(params, np.random.default_rng(1))
    theirs = [torch.zeros(p.shape, requires_grad=True) for p in params]
    theirs = [t.to(getattr(torch, np.dtype(dtype).name)).detach().requires_grad_() for t in theirs]
    for p, q in zip(params, theirs, strict=True):
        q.grad = torch.from_numpy(p.grad.copy())
    norm = optim.clip_grad_norm(params, max_norm)
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, max_norm)), rel=1e-5)
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-5, atol=1e-9)


def test_clipping_returns_the_norm_before_and_scales_in_place():
    a, b, c = parameters(shapes=[(2,), (), (2,)])
    a.grad, b.grad = np.array([2.0, 1.0]), np.array(2.0)
    held = a.grad, b.grad
    assert optim.clip_grad_norm(iter([a, b, c]), 1.5) == 3
    assert (a.grad, b.grad) == held
    np.testing.assert_allclose(np.hstack([a.grad, b.grad]), [1, 0.5, 1], rtol=1e-15)
    assert optim.clip_grad_norm([a, b, c], 1.5) == pytest.approx(1.5)
    assert c.grad is None
    assert optim.clip_grad_norm([c], 1.0) == 0


def test_large_float32_gradients_have_a_finite_norm():
    (p,) = parameters(np.float32, [(2,)])
    p.grad = np.array([3e19, 4e19], np.float32)  # their squares overflow
    assert optim.clip_grad_norm([p], 5.0) == pytest.approx(5e19)
    np.testing.assert_allclose(p.grad, [3, 4], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_that_is_not_finite_changes_nothing(bad):
    (p,) = parameters(shapes=[(3,)])
    p.grad = np.array([bad, 1.0, 2.0])
    assert not math.isfinite(optim.clip_grad_norm([p], 1.0))
    np.testing.assert_array_equal(p.grad, [bad, 1, 2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_norm_has_the_same_bits_with_any_number_of_threads(dtype):
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="sets the threads of NumPy's BLAS")
    (p,) = parameters(dtype, [(1_000_003,)])
    give_gradients([p], np.random.default_rng(1))
    norms = set()
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads):
            norms.add(optim.clip_grad_norm([p], math.inf))
    assert len(norms) == 1


# --------------------------------------------------------------------------------------- schedules


def test_cosine():
    rates = [optim.cosine(step, 100, 0.2) for step in range(101)]
    assert rates[0] == 0.2
    assert rates[50] == pytest.approx(0.1)
    assert rates[100] == pytest.approx(0, abs=1e-17)
    assert all(a > b for a, b in itertools.pairwise(rates))
    assert optim.cosine(1000, 100, 0.2) == pytest.approx(0, abs=1e-17)


def test_warm_up():
    rates = [optim.cosine(step, 100, 0.2, warmup=4) for step in range(101)]
    assert rates[:4] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    assert rates[4] == 0.2  # where the cosine starts
    assert rates[52] == pytest.approx(0.1)
    assert rates[100] == pytest.approx(0, abs=1e-17)
    assert optim.warm_up(0, 0) == 1
    assert optim.cosine(3, 3, 0.2, warmup=10) == pytest.approx(0.08)


def test_cosine_is_that_of_torch():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 20)
    for step in range(20):
        assert optim.cosine(step, 20, 0.3) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimiser.step()
        schedule.step()


def test_step_decay():
    rates = [optim.step_decay(step, 0.8, every=2, factor=0.5) for step in range(6)]
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])
    assert optim.step_decay(30, 1.0, 10) == pytest.approx(1e-3)
    assert optim.step_decay(0, 1.0, 10, warmup=4) == 0.25
    with pytest.raises(ValueError, match="every must be at least 1, found 0"):
        optim.step_decay(3, 0.1, every=0)
