"""Sums over many pixels: accurate where the mean is large, and wherever the pixels lie."""

import numpy as np
import pytest

from minunet import kernels
from minunet.kernels import KERNELS, cases

VARIANTS = pytest.mark.parametrize("variant", [v.name for v in cases.variants("batch_norm")])


def pictures(level):
    """Noise of spread 1 around what `level` gives for (image, channel, row, column), in float32."""
    rng = np.random.default_rng(0)
    n, c, h, w = np.indices((3, 5, 90, 70))
    return (level(n, c, h, w) + rng.standard_normal((3, 5, 90, 70))).astype(np.float32)


LEVELS = {
    "far from zero": lambda n, c, h, w: 1e4 * (c - 2),
    "a slope": lambda n, c, h, w: 30.0 * h + 1000,
    "one bright image": lambda n, c, h, w: 1e4 * (n == 1),
}


@VARIANTS
@pytest.mark.parametrize("level", LEVELS)
def test_statistics_are_accurate_whatever_the_mean(variant, level):
    """E[x^2] - E[x]^2 would lose all digits of float32 at the first of these."""
    x = pictures(LEVELS[level])
    mean, variance = np.empty((2, 5), np.float32)
    KERNELS["batch_norm"].load(variant).statistics(x, mean, variance)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(variance, exact.var(axis=(0, 2, 3)), rtol=1e-4)


@VARIANTS
def test_a_slice_of_channels_gives_what_its_copy_gives(variant):
    """Sums may be added in another order there; everything else is the same to the last bit."""
    rng = np.random.default_rng(0)
    large = kernels.empty((2, 40, 21, 19), np.float32)
    large[...] = rng.standard_normal(large.shape)
    room = KERNELS["batch_norm"].load(variant)
    sliced = large[:, :20, 2:18, 1:]
    per_channel = rng.standard_normal((6, 20), np.float32)
    found = []
    for x in (sliced, sliced.copy()):
        y, gx, sums = np.empty_like(x), np.empty_like(x), np.empty((4, 20), np.float32)
        room.normalize(x, *per_channel[:4], True, y)
        room.backward_input(x[::-1], x, *per_channel[:4], True, *per_channel[4:], gx)
        room.statistics(x, *sums[:2])
        room.backward_parameters(x[::-1], x, *per_channel[:4], True, *sums[2:])
        found.append((y, gx, sums))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    np.testing.assert_allclose(found[0][2], found[1][2], rtol=1e-4, atol=1e-3)
