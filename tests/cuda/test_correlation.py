"""The implicit GEMM on a GPU: more tiles, stages and parts than the case list has, and which kernel runs when."""

from collections import Counter

import numpy as np
import pytest
from cuda_emulator import emulated

from minunet.kernels import KERNELS, cases
from minunet.kernels.cuda import correlation

pytestmark = pytest.mark.cuda_emulated

# More than one tile of pixels and of channels, of stages, images, and of whatever else the kernels cut their work into.
CONV2D = cases.table("conv2d", cases.CONV2D,
                     "2 64 68 8  20 3 3 1 1 1",   # wide tiles, the second one with 4 channels
                     "1 8  12 11 9  3 3 0 1 0",   # a stage of channels of four taps
                     "1 36 20 5  33 2 3 2 0 1",   # stages that begin in the middle of a tap
                     "3 4  32 17 3  5 5 2 1 1",
                     "1 1  64 20 21 3 3 0 1 1",   # a first layer
                     "1 64 2  21 19 1 1 0 1 0",   # a last one
                     "1 32 32 8  8  3 3 1 0 0")  # fmt: skip
UP = cases.table("conv_transpose2d", cases.UP,
                 "2 40 36 5  9  2 1",
                 "1 12 8  11 5  3 1",
                 "1 68 4  3  17 2 0")  # fmt: skip
KERNELS_OF_CORRELATION = set(correlation.SOURCE.parameters) - {"pack_weight", "sum_parts"}


@pytest.fixture
def launched(monkeypatch):
    """How often each kernel was launched."""
    found: Counter = Counter()
    launch = correlation.SOURCE.launch

    def counted(kernel, *arguments, **options):
        found[kernel] += 1
        launch(kernel, *arguments, **options)

    monkeypatch.setattr(correlation.SOURCE, "launch", counted)
    return found


def check(case, call, out_layout="channels_last"):
    cases.check(KERNELS[case.kernel].load("cuda_implicit"), case.kernel, call, out_layout, on_device=True)


def run(case, call, layout="channels_last"):
    """layout: where it is "cropped", no array begins at a multiple of 16 bytes (see cases.run)."""
    return cases.run(KERNELS[case.kernel].load("cuda_implicit"), call, layout, on_device=True)["out"]


@pytest.mark.parametrize("case", [*CONV2D, *UP], ids=str)
@pytest.mark.parametrize("layout", ["channels_last", "cropped"])
def test_several_of_everything(case, layout):
    for call in cases.calls(case, "integers", layout):
        with emulated("checked", "random", seed=1):
            check(case, call, layout)


def test_every_kernel_is_used(launched):
    for case in [*CONV2D, *UP]:
        for call in cases.calls(case, "integers"):
            for layout in ("channels_last", "cropped"):
                with emulated("fast"):
                    run(case, call, layout)
    assert not KERNELS_OF_CORRELATION - set(launched)


@pytest.mark.parametrize("case", [*CONV2D, *UP], ids=str)
def test_vector_loads_do_not_change_the_bits(case, launched):
    found = []
    for layout in ("channels_last", "cropped"):
        with emulated("fast", "random"):
            found.append([run(case, call, layout).tobytes() for call in cases.calls(case, "floats")])
    assert found[0] == found[1]
    assert any(name.endswith("_scalar") for name in launched)


# The last pixel, right of which and below are nothing but zeros; and one that others look at from all sides.
@pytest.mark.parametrize("place", [(1, 2, 6, 5), (0, 1, 3, 2)])
@pytest.mark.parametrize("layout", ["channels_last", "cropped"])
def test_a_nan_goes_where_it_is_summed_and_nowhere_else(layout, place):
    case = cases.table("conv2d", cases.CONV2D, "2 8 12 7 6 3 3 1 1 1")[0]
    for call in cases.calls(case, "floats"):
        picture = call.inputs["x" if "x" in call.inputs else "grad"]
        picture[place] = np.nan
        with emulated("checked"):
            found = run(case, call, layout)
        expected = cases.truth("conv2d", call)["out"]
        assert np.isnan(expected).any()
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), err_msg=call.function)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=call.function)


@pytest.mark.parametrize("blocks, stages", [(512, 1), (5, 1), (1, 8)])
@pytest.mark.parametrize("case", [CONV2D[0], CONV2D[4], CONV2D[6], UP[0]], ids=str)
def test_parts_of_a_weight_gradient(case, blocks, stages, monkeypatch):
    monkeypatch.setattr(correlation, "BLOCKS", blocks)
    monkeypatch.setattr(correlation, "STAGES", stages)
    call = next(call for call in cases.calls(case, "integers") if call.function == "backward_weight")
    with emulated("checked", "random", seed=2):
        check(case, call, "contiguous")


def test_partial_sums_stay_below_the_workspace(monkeypatch):
    case = CONV2D[4]
    call = next(call for call in cases.calls(case, "integers") if call.function == "backward_weight")
    size = call.inputs["grad"].itemsize * int(np.prod(call.outputs["out"][0]))
    monkeypatch.setattr(correlation, "STAGES", 1)
    monkeypatch.setattr(correlation, "WORKSPACE", 3 * size)
    allocated = []
    empty = correlation.empty
    monkeypatch.setattr(correlation, "empty", lambda *a: allocated.append(empty(*a)) or allocated[-1])
    with emulated("fast"):
        check(case, call, "contiguous")
        assert max(a.nbytes for a in allocated) == 3 * size


@pytest.mark.parametrize("pack", [2, 4])
@pytest.mark.parametrize("size", [(1, 1), (28, 28), (8, 8), (1, 100), (100, 1), (17, 33)])
def test_tiles_cover_a_picture_and_are_as_few_as_can_be(pack, size):
    rows, tiles = correlation.pixel_tile(*size, pack)
    height, width = 2 * pack * rows, 16 // rows
    assert tiles == -(-size[0] // height) * -(-size[1] // width)
    assert tiles * 32 * pack >= size[0] * size[1]
    for other in (1, 2, 4, 8, 16):
        assert tiles <= -(-size[0] // (2 * pack * other)) * -(-size[1] // (16 // other))
