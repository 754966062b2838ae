"""conv2d by im2col on a GPU, in more tiles and shares than a test's picture would be cut into."""

import numpy as np
import pytest
from cuda_emulator import emulated

from minunet.kernels import cases
from minunet.kernels.conv2d import cuda_im2col

pytestmark = pytest.mark.cuda_emulated


def case(dtype):
    sizes = dict(n=3, c=5, o=7, h=9, w=11, kh=3, kw=2, padding=1, bias=1, relu=1)
    return cases.Case("conv2d", sizes, dtype)


def test_tiles_are_all_pixels_and_stay_below_the_buffer():
    size, itemsize = 9 * 64, 4
    tiles = cuda_im2col.tiles(100_000, size, itemsize)
    assert [first for first, _ in tiles] == list(np.cumsum([0, *(number for _, number in tiles)]))[:-1]
    assert sum(number for _, number in tiles) == 100_000
    assert max(number for _, number in tiles) * size * itemsize <= cuda_im2col.BUFFER < 100_000 * size * itemsize


def test_a_patch_larger_than_the_buffer_is_a_tile_of_its_own():
    assert cuda_im2col.tiles(2, cuda_im2col.BUFFER, 4) == [(0, 1), (1, 1)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pixels, share", [(13, 5), (67, 20), (200, 64)])
def test_tiles_that_begin_and_end_anywhere(pixels, share, dtype, monkeypatch):
    monkeypatch.setattr(cuda_im2col, "BUFFER", pixels * 3 * 2 * 7 * np.dtype(dtype).itemsize)
    monkeypatch.setattr(cuda_im2col, "SHARE", share)
    for call in cases.calls(case(dtype), "integers"):
        with emulated("checked", "random", seed=pixels):
            cases.check(cuda_im2col, "conv2d", call, "cropped", on_device=True)


def test_sums_have_the_same_bits_every_time(monkeypatch):
    monkeypatch.setattr(cuda_im2col, "SHARE", 16)
    for call in cases.calls(case("float32"), "floats"):
        found = set()
        for schedule in ("ascending", "descending", "random"):
            with emulated("fast", schedule):
                found.add(cases.run(cuda_im2col, call, on_device=True)["out"].tobytes())
        assert len(found) == 1, call.function
