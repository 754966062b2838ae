"""The rooms without convolutions on a GPU: what the shared case list cannot ask.

Vectors that do not lie on multiples of 16 bytes, NaN, grids of few blocks, sums of more than one block.
"""

import numpy as np
import pytest
from cuda_emulator import emulated

from minunet.kernels import cases
from minunet.kernels.batch_norm import cuda_loops as batch_norm
from minunet.kernels.cross_entropy import cuda_loops as cross_entropy
from minunet.kernels.cuda import loops, picture, sums
from minunet.kernels.max_pool2d import cuda_loops as max_pool2d
from minunet.kernels.max_pool2d import reference as max_pool2d_reference
from minunet.kernels.relu import cuda_loops as relu
from minunet.kernels.resize import cuda_loops as resize
from minunet.kernels.resize import reference as resize_reference
from minunet.kernels.sgd import cuda_loops as sgd

pytestmark = pytest.mark.cuda_emulated

ROOMS = {"relu": relu, "max_pool2d": max_pool2d, "batch_norm": batch_norm, "resize": resize,
         "cross_entropy": cross_entropy, "sgd": sgd}  # fmt: skip
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


@pytest.fixture
def xp():
    with emulated("checked", "random") as module:
        yield module


def channels_last(xp, x):
    """`x` (N, C, H, W) on the device."""
    return xp.asarray(np.ascontiguousarray(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)


def unwritten(xp, shape, dtype):
    """A fresh array, of NaN or of bytes 255; channels-last where it has four axes."""
    fill = np.nan if np.dtype(dtype).kind == "f" else 255
    if len(shape) == 4:
        return channels_last(xp, np.full(shape, fill, dtype))
    return xp.asarray(np.full(shape, fill, dtype))


def forth_and_back(xp, function, *inputs, outputs):
    """The outputs of a call with arrays of the host, brought back; outputs: (shape, dtype) of each."""
    there = [channels_last(xp, a) if getattr(a, "ndim", 0) == 4 else xp.asarray(a) if isinstance(a, np.ndarray) else a
             for a in inputs]  # fmt: skip
    fresh = [unwritten(xp, shape, dtype) for shape, dtype in outputs]
    function(*there, *fresh)
    results = [xp.asnumpy(array) for array in fresh]
    return results[0] if len(results) == 1 else results


# ------------------------------------------------------------------------------------------- grids of few blocks


@pytest.mark.parametrize("case", [c for c in cases.select("test") if c.kernel in ROOMS], ids=str)
def test_threads_that_have_several_packs(case, monkeypatch):
    """A grid is never so large in a test that its threads go on to a second pack; so there are 2 blocks at most."""
    monkeypatch.setattr(loops, "MOST_BLOCKS", 2)
    monkeypatch.setattr(loops, "THREADS", 32)
    for call in cases.calls(case, "integers" if case.kernel in cases.EXACT else "floats", "cropped"):
        if call.function in ("statistics", "backward_sums", "backward_parameters", "square_sum"):
            continue  # their blocks have a fixed number of threads; below
        with emulated("checked", "random"):
            cases.check(ROOMS[case.kernel], case.kernel, call, "channels_last", on_device=True)


@pytest.mark.parametrize("most", [1, 2, 7])
@pytest.mark.parametrize("case", [
    cases.Case("relu", dict(n=2, c=5, h=17, w=67)),
    cases.Case("relu", dict(n=3, c=130, h=7, w=13), "float64"),
    cases.Case("batch_norm", dict(n=2, c=5, h=17, w=67, relu=1)),
    cases.Case("batch_norm", dict(n=3, c=130, h=7, w=13, relu=0), "float64"),
    cases.Case("sgd", dict(count=3001, decay=1, nesterov=0)),
], ids=str)  # fmt: skip
def test_sums_of_several_blocks(case, most, monkeypatch):
    """Blocks that have more pixels than threads, blocks that have fewer, and the last ones with none."""
    for module in (sums, sgd):
        monkeypatch.setattr(module, "MOST_BLOCKS", most)
    monkeypatch.setattr(sums, "CHAIN", 1)
    monkeypatch.setattr(sgd, "STRETCH", 100)
    monkeypatch.setattr(sgd, "GROUP", 4)
    for call in cases.calls(case, "integers" if case.kernel in cases.EXACT else "floats"):
        with emulated("checked", "random", seed=most):
            cases.check(ROOMS[case.kernel], case.kernel, call, "cropped", on_device=True)


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (1, 4, 31, 33), (3, 37, 9, 11), (1, 260, 3, 5)])
def test_channel_sums(shape, dtype, xp):
    x = np.random.default_rng(0).integers(-9, 10, shape).astype(dtype)
    expected = x.sum(axis=(0, 2, 3))
    assert np.array_equal(forth_and_back(xp, sums.channel_sums, x, outputs=[(shape[1:2], dtype)]), expected)
    rows_apart = np.zeros((2 * shape[0], shape[1], shape[2] + 1, shape[3] + 2), dtype)
    rows_apart[::2, :, 1:, 2:] = x
    out = unwritten(xp, shape[1:2], dtype)
    sums.channel_sums(channels_last(xp, rows_apart)[::2, :, 1:, 2:], out)
    assert np.array_equal(xp.asnumpy(out), expected)


def test_sums_do_not_depend_on_where_a_picture_lies(xp):
    x = np.random.default_rng(0).standard_normal((2, 8, 33, 35)).astype(np.float32)
    found = []
    for top, left, first in ((0, 0, 0), (1, 2, 1), (0, 0, 4)):
        large = np.zeros((2, first + 8, top + 33, left + 35), np.float32)
        large[:, first:, top:, left:] = x
        out = unwritten(xp, (8,), np.float32)
        sums.channel_sums(channels_last(xp, large)[:, first:, top:, left:], out)
        found.append(xp.asnumpy(out).tobytes())
    assert len(set(found)) == 1


@pytest.mark.parametrize("count", [1, 255, 256, 1025])
def test_total(count, xp):
    line = np.arange(count, dtype=np.float64)
    assert forth_and_back(xp, sums.total, line, outputs=[((), np.float64)]) == line.sum()


# ----------------------------------------------------------------------------------------------------------- relu


@DTYPES
@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_relu_of_lines_that_begin_and_end_anywhere(offset, dtype, xp):
    for size in (1, 2, 3, 4, 5, 8, 11):
        x = np.random.default_rng(size).integers(-3, 4, offset + size).astype(dtype)
        there, y, gx = xp.asarray(x)[offset:], unwritten(xp, (offset + size,), dtype), xp.asarray(x)
        relu.forward(there, y[offset:])
        assert np.array_equal(xp.asnumpy(y)[offset:], np.maximum(x[offset:], 0))
        assert np.isnan(xp.asnumpy(y)[:offset]).all()
        relu.backward(there, y[offset:], gx[offset:])
        assert np.array_equal(xp.asnumpy(gx), [*x[:offset], *np.maximum(x[offset:], 0)])


@pytest.mark.parametrize("shape, axes", [((7,), (0,)), ((3, 5), (1, 0)), ((2, 3, 4), (1, 2, 0)), ((0, 3), (0, 1))])
def test_relu_of_any_shape_and_order(shape, axes, xp):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y = unwritten(xp, shape, np.float32)
    relu.forward(xp.asarray(x).transpose(axes), y.transpose(axes))
    assert np.array_equal(xp.asnumpy(y), np.maximum(x, 0))


def test_relu_keeps_nan_and_lets_its_gradient_pass(xp):
    x = np.array([np.nan, -1, 0, 2, -0.0, np.inf, -np.inf], np.float32)
    grad = np.arange(1, 8, dtype=np.float32)
    y = forth_and_back(xp, relu.forward, x, outputs=[(x.shape, x.dtype)])
    assert np.array_equal(y, [np.nan, 0, 0, 2, 0, np.inf, 0], equal_nan=True)
    assert not np.signbit(y[4])
    gx = forth_and_back(xp, relu.backward, grad, y, outputs=[(x.shape, x.dtype)])
    assert np.array_equal(gx, [1, 0, 0, 4, 0, 6, 0])


@DTYPES
@pytest.mark.parametrize("c", [1, 3, 4, 8])
def test_relu_takes_bytes_for_its_output(c, dtype, xp):
    rng = np.random.default_rng(c)
    grad = rng.integers(-9, 10, (2, c, 5, 7)).astype(dtype)
    passes = rng.integers(0, 2, grad.shape).astype(np.uint8)
    expected = np.where(passes == 0, 0, grad)
    assert np.array_equal(forth_and_back(xp, relu.backward, grad, passes, outputs=[(grad.shape, dtype)]), expected)
    gx, total = forth_and_back(xp, relu.backward_sums, grad, passes, outputs=[(grad.shape, dtype), ((c,), dtype)])
    assert np.array_equal(gx, expected)
    assert np.array_equal(total, expected.sum(axis=(0, 2, 3)))


def test_bytes_may_be_part_of_a_larger_picture(xp):
    """Each of the pictures lies otherwise, in rows, columns and images that are not next to each other."""
    rng = np.random.default_rng(0)
    grad = rng.integers(-9, 10, (3, 5, 4, 7)).astype(np.float32)
    passes = rng.integers(0, 2, grad.shape).astype(np.uint8)
    expected = np.where(passes == 0, 0, grad)

    def part(x, rows, columns):
        n, c, h, w = x.shape
        large = channels_last(xp, np.zeros((2 * n, c, h + rows, w + columns), x.dtype))[::2, :, rows:, columns:]
        large[...] = channels_last(xp, x)
        return large

    gx, total = part(np.full_like(grad, np.nan), 3, 4), unwritten(xp, (5,), np.float32)
    relu.backward_sums(part(grad, 1, 2), part(passes, 2, 3), gx, total)
    assert np.array_equal(xp.asnumpy(gx), expected)
    assert np.array_equal(xp.asnumpy(total), expected.sum(axis=(0, 2, 3)))


# ----------------------------------------------------------------------------------------------------- max_pool2d


@pytest.mark.parametrize("k", [1, 2, 3, 16])
@pytest.mark.parametrize("c", [1, 4, 6])
def test_pooling_of_nan_and_equal_values(c, k, xp):
    rng = np.random.default_rng(k)
    h, w = 2 * k + 1, 3 * k + k // 2
    x = rng.integers(0, 2, (2, c, h, w)).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[rng.random(x.shape) < 0.2] = -np.inf
    shape = (2, c, h // k, w // k)
    expected = [np.empty(shape, np.float32), np.empty(shape, np.uint8)]
    max_pool2d_reference.forward(x, k, *expected)
    y, argmax = forth_and_back(xp, max_pool2d.forward, x, k, outputs=[(shape, np.float32), (shape, np.uint8)])
    assert np.array_equal(y, expected[0], equal_nan=True)
    assert np.array_equal(argmax, expected[1])
    grad, gx = rng.integers(1, 9, shape).astype(np.float32), np.empty_like(x)
    max_pool2d_reference.backward(grad, argmax, k, gx)
    found = forth_and_back(xp, max_pool2d.backward, grad, argmax, k, outputs=[(x.shape, np.float32)])
    assert np.array_equal(found, gx)


# ----------------------------------------------------------------------------------------------------- batch_norm


@pytest.mark.parametrize("offset", [0, 1e4, -3e6])
def test_statistics_of_numbers_far_from_zero(offset, xp):
    """Squares of numbers, instead of squares around the mean, would leave nothing of the variance."""
    x = (np.random.default_rng(0).standard_normal((2, 5, 61, 67)) + offset).astype(np.float32)
    mean, variance = forth_and_back(xp, batch_norm.statistics, x, outputs=[((5,), x.dtype)] * 2)
    exact = x.astype(np.float64)
    assert np.allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=1e-6, atol=1e-6)
    assert np.allclose(variance, exact.var(axis=(0, 2, 3)), rtol=1e-5)


def test_equal_numbers_have_no_variance(xp):
    x = np.full((2, 3, 31, 33), 0.1, np.float32)
    mean, variance = forth_and_back(xp, batch_norm.statistics, x, outputs=[((3,), x.dtype)] * 2)
    assert np.array_equal(mean, x[0, :, 0, 0])
    assert not variance.any()


def test_large_numbers_do_not_overflow(xp):
    x = np.full((1, 1, 9, 9), 1e30, np.float32)
    mean, variance = forth_and_back(xp, batch_norm.statistics, x, outputs=[((1,), x.dtype)] * 2)
    assert mean == np.float32(1e30)
    assert variance == 0


def test_the_rectifier_decides_alike_in_forward_and_backward(xp):
    """Many numbers near the kink: bias is what the mean makes of them, up to rounding."""
    rng = np.random.default_rng(0)
    x = (1 + rng.integers(-3, 4, (1, 4, 40, 40)) * 2.0**-23).astype(np.float32)
    mean, inv_std = np.full(4, 0.3, np.float32), np.full(4, 3.1, np.float32)
    weight = rng.standard_normal(4).astype(np.float32)
    bias = -(np.float32(1) - mean) * (weight * inv_std)
    steps, like = (mean, inv_std, weight, bias, True), (x.shape, x.dtype)
    y = forth_and_back(xp, batch_norm.normalize, x, *steps, outputs=[like])
    zero, grad = np.zeros(4, np.float32), np.ones_like(x)
    gx = forth_and_back(xp, batch_norm.backward_input, grad, x, *steps, zero, zero, outputs=[like])
    _, grad_bias = forth_and_back(xp, batch_norm.backward_parameters, grad, x, *steps, outputs=[((4,), x.dtype)] * 2)
    assert 0.1 < (y > 0).mean() < 0.9
    assert np.array_equal(gx != 0, y > 0)
    assert np.array_equal(grad_bias, (y > 0).sum(axis=(0, 2, 3)))


def test_normalize_keeps_nan(xp):
    x = np.array([np.nan, -1, 2], np.float32).reshape(1, 1, 1, 3)
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    for rectified, expected in ((True, [np.nan, 0, 2]), (False, [np.nan, -1, 2])):
        y = forth_and_back(xp, batch_norm.normalize, x, zero, one, one, zero, rectified, outputs=[(x.shape, x.dtype)])
        assert np.array_equal(y.reshape(3), expected, equal_nan=True)


# --------------------------------------------------------------------------------------------------------- resize


@pytest.mark.parametrize("corners", [False, True])
@DTYPES
def test_resize_between_all_small_sizes(dtype, corners):
    """Rows and columns of different sizes, so that every pair of sizes is had twice."""
    sizes, tolerance = [1, 2, 3, 5, 8, 13, 31], 64 * np.finfo(dtype).eps
    with emulated("fast") as xp:
        for h in sizes:
            for to_h in sizes:
                w, to_w = sizes[-1 - sizes.index(h)], sizes[sizes.index(to_h) - 2]
                x = np.random.default_rng(h).standard_normal((2, 3, h, w)).astype(dtype)
                large = np.random.default_rng(to_h).standard_normal((2, 3, to_h, to_w)).astype(dtype)
                for function, source, shape in (("forward", x, large.shape), ("adjoint", large, x.shape)):
                    expected = np.empty(shape, dtype)
                    getattr(resize_reference, function)(source, corners, expected)
                    found = forth_and_back(xp, getattr(resize, function), source, corners, outputs=[(shape, dtype)])
                    error = np.abs(found - expected).max()
                    assert error <= tolerance * max(1, np.abs(expected).max()), f"{function}: {h, w} and {to_h, to_w}"


# -------------------------------------------------------------------------------------------------- cross_entropy


def test_pixels_that_do_not_count_give_zero_whatever_their_logits(xp):
    logits = np.array([[np.nan, 1, np.inf, 2], [0, -np.inf, 3, np.nan]], np.float32).reshape(1, 2, 1, 4)
    target = np.array([-1, -7, -1, -(2**40)], np.int64).reshape(1, 1, 4)
    grad = np.full(target.shape, np.nan, np.float32)
    loss = forth_and_back(xp, cross_entropy.forward, logits, target, outputs=[(target.shape, np.float32)])
    found = forth_and_back(xp, cross_entropy.backward, grad, logits, target, outputs=[(logits.shape, np.float32)])
    assert np.array_equal(loss, np.zeros_like(loss))
    assert np.array_equal(found, np.zeros_like(found))


def test_a_target_that_is_no_class_gives_nan(xp):
    logits, target = np.zeros((1, 3, 1, 4), np.float32), np.array([2, 3, 2**33, 0], np.int64).reshape(1, 1, 4)
    loss = forth_and_back(xp, cross_entropy.forward, logits, target, outputs=[(target.shape, np.float32)])
    grad = np.ones(target.shape, np.float32)
    found = forth_and_back(xp, cross_entropy.backward, grad, logits, target, outputs=[(logits.shape, np.float32)])
    assert np.array_equal(np.isnan(loss)[0, 0], [False, True, True, False])
    assert np.array_equal(np.isnan(found)[0, :, 0], [[False, True, True, False]] * 3)


def test_large_logits_do_not_overflow_and_nan_shows(xp):
    logits = np.array([[1e4, -3e38, np.nan], [-1e4, 3e38, 0]], np.float32).reshape(1, 2, 1, 3)
    target = np.array([0, 1, 1], np.int64).reshape(1, 1, 3)
    loss = forth_and_back(xp, cross_entropy.forward, logits, target, outputs=[(target.shape, np.float32)])
    assert np.array_equal(loss[0, 0], [0, 0, np.nan], equal_nan=True)


# ------------------------------------------------------------------------------------------------------------ sgd


@DTYPES
@pytest.mark.parametrize("nesterov", [False, True])
def test_a_step_in_place_of_lines_that_begin_anywhere(nesterov, dtype, xp):
    rng = np.random.default_rng(0)
    for offset, count in ((0, 4), (1, 9), (2, 5), (3, 1)):
        lines = [rng.integers(-9, 10, offset + count).astype(dtype) for _ in range(3)]
        there = [xp.asarray(line)[offset:] for line in lines]
        p, g, v = (line[offset:] for line in lines)
        sgd.update(*there, 0.25, 0.5, 0.125, nesterov, there[0], there[2])
        slope = g + 0.125 * p  # exact, as all that follows: short binary fractions
        speed = 0.5 * v + slope
        step = slope + 0.5 * speed if nesterov else speed
        assert np.array_equal(xp.asnumpy(there[0]), p - 0.25 * step)
        assert np.array_equal(xp.asnumpy(there[2]), speed)
        assert np.array_equal(xp.asnumpy(there[1]), g)


def test_square_sums_are_added_in_float64(xp):
    """2^12 is lost in float32 beside 2^36, and 1e30^2 is more than it holds."""
    line = np.array([2.0**18, 64, 1e30], np.float32)
    for part in (line[:2], line):
        found = forth_and_back(xp, sgd.square_sum, part, outputs=[((), np.float64)])
        assert found == np.square(part, dtype=np.float64).sum()


# -------------------------------------------------------------------------------------------------------- launches


def test_grids_depend_on_shape_and_dtype_alone():
    assert loops.pixel_block(1, "float32") == (1, 256)
    assert loops.pixel_block(64, "float32") == (16, 16)
    assert loops.pixel_block(64, "float64") == (32, 8)
    assert loops.pixel_block(1024, "float32") == (32, 8)
    assert loops.pixel_grid(10**9, 1024, "float32") == ((loops.MOST_BLOCKS, 8), (32, 8))
    assert loops.pixel_grid(0, 3, "float32") == ((1, 1), (1, 256))
    grid, _ = sums.first_stage((4, 64, 100, 100), "float32")
    assert grid == (157, 1)
    assert sums.pixels_of_block((4, 64, 100, 100), grid) * 157 >= 4 * 100 * 100


def test_pictures_whose_pixels_lie_at_one_distance_are_one_row(xp):
    x = channels_last(xp, np.zeros((2, 4, 3, 5), np.float32))
    picture = (x, 60, 20, 4)
    assert loops.sides(x.shape, picture) == (1, 30)
    assert loops.sides(x.shape, picture, (x, 60, 24, 4)) == (3, 5)
    assert loops.sides(x.shape, (x, 64, 20, 4)) == (3, 5)
    assert loops.sides((1, 4, 3, 5), (x, 7, 20, 4)) == (1, 15)


def test_statistics_of_no_pixels_are_nan_and_nothing_is_read(xp):
    mean, variance = xp.zeros(4, np.float32), xp.zeros(4, np.float32)
    batch_norm.statistics(channels_last(xp, np.zeros((0, 4, 3, 5), np.float32)), mean, variance)
    assert np.isnan(xp.asnumpy(mean)).all() and np.isnan(xp.asnumpy(variance)).all()


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_pictures_that_run_backwards_are_copied(axis, xp):
    x = np.arange(2 * 4 * 3 * 5, dtype=np.float32).reshape(2, 4, 3, 5)
    backwards = tuple(slice(None, None, -1 if k == axis else 1) for k in range(4))
    array, *strides = picture(channels_last(xp, x)[backwards])
    assert strides == [60, 20, 4] and array.strides[1] == 4
    assert np.array_equal(xp.asnumpy(array), x[backwards])
