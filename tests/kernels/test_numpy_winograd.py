"""conv2d by Winograd's algorithm with NumPy alone: what the case list does not show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minunet as mn
from minunet.kernels import arrays, cases, threads
from minunet.kernels.conv2d import im2col, reference, winograd_gemm

ERROR = 3e-4  # of a float32 result, relative to the standard deviation of the results: the bound for real layers


def case(dtype="float32", **sizes):
    return cases.Case("conv2d", dict(n=1, kh=3, kw=3, padding=1, bias=0, relu=0) | sizes, dtype)


# The first three have more tiles than output channels, the others fewer: one for each of the two loops.
SHAPES = [
    dict(n=2, c=5, o=7, h=17, w=22, padding=0, bias=1, relu=1),
    dict(c=19, o=16, h=40, w=23, padding=1, bias=1),
    dict(c=1, o=1, h=3, w=3, padding=3),
    dict(c=6, o=40, h=9, w=10, padding=0, bias=1, relu=1),
    dict(n=3, c=33, o=49, h=7, w=7, padding=2, bias=1),
    dict(c=2, o=3, h=3, w=3, padding=0),
]


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_exact_where_one_factor_holds_multiples_of_9(sizes):
    for call in cases.calls(case(**sizes), "integers"):
        factor = "grad" if call.function == "backward_weight" else "weight"
        for name in {"x", "weight", "grad"} & call.inputs.keys():
            np.remainder(call.inputs[name], 4, out=call.inputs[name])  # small: the transforms' numbers are large
        call.inputs[factor][...] *= 9
        cases.check(winograd_gemm, "conv2d", call)


@settings(max_examples=60)
@given(
    sizes=st.fixed_dictionaries({
        "n": st.integers(1, 3), "c": st.integers(1, 20), "o": st.integers(1, 40), "padding": st.integers(0, 5),
        "h": st.integers(3, 30), "w": st.integers(3, 60), "bias": st.integers(0, 1), "relu": st.integers(0, 1),
    }),
    layouts=st.tuples(st.sampled_from(cases.LAYOUTS), st.sampled_from(cases.LAYOUTS)),
)  # fmt: skip
def test_float64_is_the_reference_but_for_roundings(sizes, layouts):
    for call in cases.calls(case("float64", **sizes), "floats", layouts[0]):
        found, expected = cases.run(winograd_gemm, call, layouts[1])["out"], cases.truth("conv2d", call)["out"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max(initial=1))


@pytest.mark.parametrize("c, o, side", [(16, 16, 128), (64, 64, 64), (256, 128, 34), (512, 256, 20)])
def test_error_bound(c, o, side):
    for call in cases.calls(case(c=c, o=o, h=side, w=side, bias=1), "floats"):
        expected = cases.truth("conv2d", call)["out"]
        error = np.abs(cases.run(winograd_gemm, call)["out"] - expected).max()
        assert error < ERROR * expected.std(), call.function


@pytest.mark.parametrize("sizes", [dict(n=2, c=16, o=24, h=61, w=101), dict(c=24, o=600, h=90, w=50)], ids=str)
def test_the_same_bits_with_any_number_of_threads(sizes):
    before = threads.count()
    try:
        for call in cases.calls(case(**sizes), "floats"):
            results = []
            for count in (1, 2, 3):
                mn.set_num_threads(count)
                results.append(cases.run(winograd_gemm, call)["out"].tobytes())
            assert results[0] == results[1] == results[2], call.function
    finally:
        mn.set_num_threads(before)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("o", [4, 64])
def test_nan_stays_in_the_tiles_that_read_it(o, bad):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 20, 23), np.float32), rng.standard_normal((o, 3, 3, 3), np.float32)
    clean, out = np.empty((2, o, 20, 23), np.float32), np.empty((2, o, 20, 23), np.float32)
    winograd_gemm.forward(x, weight, None, 1, False, clean)
    x[1, 2, 8, 5] = bad
    winograd_gemm.forward(x, weight, None, 1, False, out)
    touched = np.zeros(out.shape, bool)
    touched[1, :, 4:12, 4:8] = True  # row 8 is read by the tiles of rows 4 and 8, column 5 by those of column 4
    assert not np.isfinite(out[1, :, 7:10, 4:7]).any()
    np.testing.assert_array_equal(out[~touched], clean[~touched])
    weight[1, 2, 0, 0] = bad
    winograd_gemm.forward(np.ones_like(x), weight, None, 1, False, out)
    np.testing.assert_array_equal(np.isfinite(out).all(axis=(0, 2, 3)), np.arange(o) != 1)


def test_crops_are_read_and_slices_written_where_they_lie():
    rng = np.random.default_rng(0)
    large, weight = arrays.empty((2, 8, 30, 31), np.float32), rng.standard_normal((6, 5, 3, 3), np.float32)
    large[...] = rng.standard_normal(large.shape, np.float32)
    x = large[:, 2:7, 3:28, 4:26]
    assert np.shares_memory(winograd_gemm.pictures(x), large)
    buffer = arrays.empty((2, 10, 25, 22), np.float32)
    buffer[...] = 7
    winograd_gemm.forward(x, weight, None, 1, False, buffer[:, 3:9])
    expected = np.empty((2, 6, 25, 22))
    reference.forward(x.astype(np.float64), weight.astype(np.float64), None, 1, False, expected)
    np.testing.assert_allclose(buffer[:, 3:9], expected, atol=ERROR * expected.std())
    assert (buffer[:, :3] == 7).all() and (buffer[:, 9:] == 7).all()


@pytest.mark.parametrize("kh, kw", [(1, 1), (5, 5), (3, 2)])
def test_other_kernels_are_left_to_im2col(kh, kw):
    for call in cases.calls(case(c=4, o=6, h=12, w=13, kh=kh, kw=kw, bias=1, relu=1), "floats"):
        found, expected = (cases.run(variant, call)["out"] for variant in (winograd_gemm, im2col))
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("n, most, unit", [(1, 96, 1), (97, 96, 1), (256, 39, 16), (130, 48, 16), (17, 16, 16)])
def test_parts_cover_everything_once(n, most, unit):
    parts = winograd_gemm.parts(n, most, unit)
    np.testing.assert_array_equal(np.concatenate([np.arange(n)[part] for part in parts]), np.arange(n))
    assert all(0 < winograd_gemm.length(part) <= most for part in parts)
    assert all(part.stop % unit == 0 for part in parts[:-1])


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (5, 9, 13, 3), (2, 61, 101, 3), (1, 8, 1600, 3), (300, 4, 4, 3)])
def test_blocks_are_numbered_through_and_cover_the_picture(shape):
    most = 96
    seen = np.zeros((shape[0], -(-shape[1] // 4), -(-shape[2] // 4)), int)
    number = 0
    for block in winograd_gemm.cut(shape, most):
        seen[block.images, block.rows, block.columns] += 1
        assert block.tiles.start == number and winograd_gemm.length(block.tiles) <= most
        number = block.tiles.stop
    assert (seen == 1).all() and number == seen.size
