"""Blocks of arrays shared out over threads."""

import threading
import time

import numpy as np
import pytest

import minunet as mn
from minunet.kernels import arrays, blas, sharing, threads


@pytest.fixture(params=[1, 2, 5])
def count(request):
    """Threads that the test runs with."""
    before = threads.count()
    mn.set_num_threads(request.param)
    yield request.param
    mn.set_num_threads(before)


@pytest.mark.parametrize("share_out", [sharing.share_out, blas.share_out], ids=["plain", "blas"])
def test_results_come_in_the_order_of_the_work(share_out, count):
    def square(k):
        time.sleep(0.001 * (k % 3))
        return k * k

    assert share_out(square, range(20)) == [k * k for k in range(20)]
    assert share_out(square, []) == []
    assert share_out(lambda rows: share_out(square, rows), [range(3), range(2)]) == [[0, 1, 4], [0, 1]]


def test_no_more_threads_than_asked_for(count):
    seen = set()

    def work(_):
        seen.add(threading.get_ident())
        time.sleep(0.002)

    sharing.share_out(work, range(20))
    assert len(seen) <= count


def test_an_error_reaches_the_caller(count):
    def work(k):
        if k == 7:
            raise ZeroDivisionError("seven")

    with pytest.raises(ZeroDivisionError, match="seven"):
        sharing.share_out(work, range(20))


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 100])
def test_blocks_cover_everything_once(length, count):
    parts = sharing.blocks(lambda part: np.arange(length)[part], length, 10)
    np.testing.assert_array_equal(np.concatenate([np.arange(0), *parts]), np.arange(length))
    assert all(0 < part.size <= 10 for part in parts)


@pytest.mark.parametrize("pixels, channels", [(1, 1), (99_999, 1), (340, 3), (341, 3), (50_000, 3), (9, 1500)])
def test_channel_blocks_bring_channels_together(pixels, channels, count):
    rng = np.random.default_rng(0)
    x, v = rng.integers(-9, 10, (pixels, channels)).astype(np.float32), rng.integers(-9, 10, channels)
    out = np.full_like(x, np.nan)

    def block(x, out, v):
        np.multiply(x, v, out=out)
        return sharing.sum_of_pixels(out, channels)

    sums = sharing.channel_blocks(block, [x, out], [v.astype(np.float32)])
    np.testing.assert_array_equal(out, x * v)
    np.testing.assert_array_equal(sharing.total(sums, channels, x.dtype), (x * v).sum(axis=0))


def test_sums_of_nothing_are_zeros():
    np.testing.assert_array_equal(arrays.channel_sums(np.ones((0, 3, 4, 5), np.float32)), np.zeros(3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keep_is_a_choice_of_bits(dtype):
    x = np.array([1.5, -2, np.nan, np.inf, -np.inf, 1e-40, np.nan, np.inf], dtype)
    where = np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    out = np.full_like(x, 7)
    sharing.keep(x, where, out)
    np.testing.assert_array_equal(out, np.where(where, x, 0))
    sharing.keep(x, where, x)
    np.testing.assert_array_equal(x, out)
    wide = np.ones((4, 6), dtype)[:, ::2]
    sharing.keep(wide, np.eye(4, 3, dtype=bool), wide)
    np.testing.assert_array_equal(wide, np.eye(4, 3))


@pytest.mark.parametrize("size", [1, 100, (1 << 14) + 3, 3 << 14])
def test_rectify(size):
    x = np.random.default_rng(0).standard_normal(size, np.float32)
    x[::7] = np.nan
    out = np.empty_like(x)
    sharing.rectify(x, out)
    np.testing.assert_array_equal(out, np.where(x <= 0, 0, x))
    sharing.rectify(x, x)
    np.testing.assert_array_equal(x, out)
