"""The step in place, and what the room refuses."""

import numpy as np
import pytest

from minunet import kernels
from minunet.kernels import KERNELS, cases


@pytest.fixture
def line():
    rng = np.random.default_rng(0)
    return lambda size=70_001: rng.standard_normal(size).astype(np.float32)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("variant", [v.name for v in cases.variants("sgd")])
def test_a_step_in_place_is_the_step(variant, nesterov, line):
    update = KERNELS["sgd"].load(variant).update
    p, g, v = line(), line(), line()
    new_p, new_v = np.empty_like(p), np.empty_like(v)
    factors = (0.1, 0.9, 0.01, nesterov)
    update(p, g, v, *factors, new_p, new_v)
    update(p, g, v, *factors, p, v)
    np.testing.assert_array_equal(p, new_p)
    np.testing.assert_array_equal(v, new_v)


def test_the_room_allocates_what_it_is_not_given(backend, line):
    p, g, v = line(10), line(10), line(10)
    new_p, new_v = kernels.sgd.update(p, g, v, lr=0.5, momentum=0.25)
    np.testing.assert_allclose(new_v, 0.25 * v + g, rtol=1e-6)
    np.testing.assert_allclose(new_p, p - 0.5 * new_v, rtol=1e-5, atol=1e-6)
    assert float(kernels.sgd.square_sum(g)) == pytest.approx(float((g.astype(np.float64) ** 2).sum()))


def test_what_is_not_a_contiguous_line_is_refused(line):
    p, g = line(12), line(12)
    for other in (g[::2], g.reshape(3, 4), np.broadcast_to(g[:1], (12,))):
        with pytest.raises(ValueError, match="sgd: arrays must be contiguous lines"):
            kernels.sgd.update(p, other, p, 0.1)
        with pytest.raises(ValueError, match="sgd: arrays must be contiguous lines"):
            kernels.sgd.square_sum(other)
    with pytest.raises(ValueError, match=r"sgd: velocity must have shape \(12,\), found \(11,\)"):
        kernels.sgd.update(p, g, g[:11], 0.1)
    with pytest.raises(TypeError, match="sgd: gradient must be float32, found float64"):
        kernels.sgd.update(p, g.astype(np.float64), p, 0.1)
