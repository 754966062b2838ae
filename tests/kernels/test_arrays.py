"""The small functions on memory that kernels share."""

import numpy as np
import pytest

from minunet import kernels
from minunet.kernels import arrays


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (4,)])
def test_empty_lies_channels_last(shape):
    array = arrays.empty(shape, np.float32)
    assert array.shape == shape and array.dtype == np.float32
    if len(shape) == 4:
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous


def test_poison_nests_and_ends():
    with arrays.poison():
        with arrays.poison():
            pass
        assert np.isnan(arrays.empty((2, 3, 5, 7), np.float64)).all()
        assert (arrays.empty((3,), np.int64) == -1).all()
        assert (arrays.empty((3,), np.uint8) == 255).all()
    assert not arrays._poisoned


def test_nhwc_copies_only_where_it_must():
    x = arrays.empty((2, 3, 5, 7), np.float32)
    x[...] = np.arange(x.size).reshape(x.shape)
    assert np.shares_memory(arrays.nhwc(x), x)
    for other in (np.ascontiguousarray(x), x[:, :, ::-1], x[..., ::2]):
        view = arrays.nhwc(other)
        assert view.flags.c_contiguous and not np.shares_memory(view, other)
        np.testing.assert_array_equal(view, other.transpose(0, 2, 3, 1))
    x.flags.writeable = False
    assert arrays.nhwc(x).flags.writeable and not np.shares_memory(arrays.nhwc(x), x)


@pytest.mark.parametrize("make", [np.zeros, arrays.empty])
def test_writable_nhwc_writes_through(make):
    out = make((2, 3, 5, 7), np.float64)
    with arrays.writable_nhwc(out) as view:
        view[...] = np.arange(210).reshape(2, 5, 7, 3)
    np.testing.assert_array_equal(out.transpose(0, 2, 3, 1).reshape(-1), np.arange(210))


@pytest.mark.parametrize("step", [1, -1, 2, -2])
def test_flat_and_writable_flat_are_each_others_inverse(step):
    big = np.random.default_rng(0).standard_normal((2, 3, 10, 14))
    x = big[:, :, ::step, ::step].swapaxes(1, 2)
    order = arrays.memory_order(x)
    copy = np.empty_like(x)
    with arrays.writable_flat(copy, order) as line:
        line[...] = arrays.flat(x, order)
    np.testing.assert_array_equal(copy, x)


def test_a_result_must_fit():
    out = np.empty((2, 3), np.float32)
    assert arrays.result(out, (2, 3), out) is out
    assert arrays.result(None, (2, 3), out, np.uint8).dtype == np.uint8
    for shape, dtype in (((3, 2), np.float32), ((2, 3), np.float64)):
        with pytest.raises(ValueError, match=r"out must be .*, found \(2, 3\) float32"):
            arrays.result(out, shape, out, dtype)


def test_rooms_refuse_what_compiled_code_would_read_or_write_past(backend):
    x, small = np.ones((1, 3, 6, 6), np.float32), np.ones((1, 2, 2, 2), np.float32)
    with pytest.raises(ValueError, match="out must be"):
        kernels.conv2d.forward(x, np.ones((2, 3, 3, 3), np.float32), out=small)
    with pytest.raises(ValueError, match="out must be"):
        kernels.relu.forward(x, out=small)
    per_channel = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"batch_norm: weight must have shape \(3,\), found \(2,\)"):
        kernels.batch_norm.normalize(x, per_channel, per_channel, per_channel[:2], per_channel)
    with pytest.raises(ValueError, match="batch_norm: grad must have shape"):
        kernels.batch_norm.backward_parameters(small, x, *[per_channel] * 4)


@pytest.mark.parametrize("rows", [-2, -1, 0, 1, 3])
@pytest.mark.parametrize("columns", [-3, 0, 2])
def test_pad_adds_and_crops(rows, columns):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    expected = np.pad(x, [(0, 0), (0, 0), (max(rows, 0),) * 2, (max(columns, 0),) * 2])
    expected = expected[:, :, max(-rows, 0) :, max(-columns, 0) :]
    expected = expected[:, :, : 5 + 2 * rows, : 7 + 2 * columns]
    np.testing.assert_array_equal(arrays.pad(x, (rows, columns)), expected)


def test_surround():
    g = np.ones((2, 3, 2, 1))
    out = arrays.surround(g, (1, 2, 3, 4))
    assert out.shape == (2, 3, 5, 8) and out.sum() == g.size
    assert (out[:, :, 1:3, 3:4] == 1).all()


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (3, 5, 101, 103), (1, 2, 32, 32)])
def test_channel_sums_are_accurate(shape):
    g = 1 + np.random.default_rng(0).standard_normal(shape, np.float32)
    expected = g.astype(np.float64).sum(axis=(0, 2, 3))
    for layout in (g, g.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)):
        np.testing.assert_allclose(arrays.channel_sums(layout), expected, rtol=2e-6)
