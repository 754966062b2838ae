"""The loops around the register tile on a GPU, shared by conv2d and conv_transpose2d; its kernels: correlation.cu.

The sums are those of ../correlation.py, and so are the functions.  There a block of pixels is packed into a buffer in
the L2 cache; here a block of threads has a buffer in shared memory, and what it reads it gathers for itself, so no
matrix of columns is ever written ("implicit GEMM").  Tiles and parts depend on shapes alone, and every sum is added up
in one order, so the result has the same bits on every device.
"""

from typing import Any

from .arrays import Picture, empty
from .launch import Source

SOURCE = Source(__file__)
THREADS = 128  # of a block
LINE = 8  # packs in 128 bytes
PASS = 16  # pixels that a block reads at a time; side by side, or some of them below the others
SQUARE = 32  # sides of a block of weights that are packed
SUM_ROWS = 8  # rows of a block of partial sums that are added up

# (kernel, packs of rows, packs of columns, side of a stage's square of pixels, cost of an output) of the tiles of
# weight gradients; smaller tiles read more for each multiplication.
WEIGHT_TILES = (
    ("weight_large", 32, 2 * LINE, 4, 1.0),
    ("weight_small", 8, LINE, 8, 1.5),
    ("weight_flat", 4, 2 * LINE, 8, 1.5),
)
BLOCKS = 512  # that a weight gradient is shared out to, so that a large device has work
STAGES = 8  # that a part of its pixels has at least
WORKSPACE = 64 << 20  # bytes of partial sums, at most


def parts_of(size: int, part: int) -> int:
    """How many parts it takes."""
    return -(-size // part)


def in_packs(x: Picture) -> bool:
    """Whether vector loads and stores can be used: channels come in whole packs of 16 bytes, aligned to them."""
    array, *strides = x
    start = array.__cuda_array_interface__["data"][0]
    return start % 16 == 0 and all(number * array.itemsize % 16 == 0 for number in (array.shape[1], *strides))


def correlate(x: Picture, weight: Any, bias: Any, pads: tuple[int, int], stride: int, relu: bool, y: Picture) -> None:
    """The first sum: weight (O, C, kh, kw), bias (O,) or None; relu: of this.

    x, y: as `picture` and `writable_picture` give them, of (N, C, H, W) and (N, O, H', W').
    pads: zeros above and to the left.
    """
    c, kh, kw = weight.shape[1:]
    packed = pack_weight(weight, bias, kh * kw * c, 1)
    run_correlate(x, packed, (kh, kw, *pads, stride), relu, y, y[0].shape[2:], 1)


def scatter(x: Picture, weight: Any, bias: Any, y: Picture) -> None:
    """The adjoint of the first sum: x as above, weight (C, O, s, s), bias (O,) or None -> y (N, O, s H, s W).

    Each of the s x s taps is a 1 x 1 correlation whose results land on every s-th pixel; all of them are computed as
    one with s s O outputs.
    """
    c, _, s, _ = weight.shape
    packed = pack_weight(weight.transpose(1, 0, 2, 3), bias, c, s * s)
    run_correlate(x, packed, (1, 1, 0, 0, 1), False, y, x[0].shape[2:], s)


def tile_columns(columns: int, itemsize: int) -> int:
    """Columns of the product that a tile has: narrow tiles for few."""
    narrow = LINE * 16 // itemsize
    return narrow if columns <= narrow else 2 * narrow


def pack_weight(weight: Any, bias: Any, depth: int, taps: int) -> Any:
    """weight (O, C, kh, kw), of any strides -> the right matrix of the product, (depth, taps O), with zeros up to whole
    stages and tiles.

    taps: how many of a kernel's taps lie side by side, all or one; the others lie one below the other.
    Below it a stage more, which the kernels read ahead but never multiply; its first row has the bias, for every tap.
    """
    o, c, kh, kw = weight.shape
    stage, columns = LINE * 16 // weight.itemsize, taps * o
    tile = tile_columns(columns, weight.itemsize)
    rows, row = parts_of(depth, stage) * stage, parts_of(columns, tile) * tile
    packed = empty((rows + stage, row), weight.dtype)
    packed[...] = 0
    if bias is not None:
        packed[rows, :columns].reshape(taps, o)[...] = bias
    tap_step = o if taps > 1 else c * row
    SOURCE.launch("pack_weight", weight.dtype, parts_of(o, SQUARE) * parts_of(c * kh * kw, SQUARE), (SQUARE, 8),
                  weight, numbers(weight), o, c, kh, kw, packed, tap_step, row)  # fmt: skip
    return packed


def numbers(array: Any) -> tuple[int, ...]:
    """Strides in numbers."""
    return tuple(stride // array.itemsize for stride in array.strides)


def pixel_tile(height: int, width: int, pack: int) -> tuple[int, int]:
    """(rows of one pass of 16 pixels, tiles): of all rectangles the one that needs the fewest tiles."""
    tiles = {rows: parts_of(height, 2 * pack * rows) * parts_of(width, PASS // rows) for rows in (1, 2, 4, 8, 16)}
    rows = min(tiles, key=lambda rows: tiles[rows])
    return rows, tiles[rows]


def run_correlate(
    x: Picture, packed: Any, window: tuple, relu: bool, y: Picture, size: tuple[int, int], spread: int
) -> None:
    """One launch of the product.

    window: (kh, kw, zeros above, zeros to the left, stride).  size: rows and columns of pixels that are computed; their
    results lie `spread` apart in y.
    """
    n, c, height, width = x[0].shape
    o = y[0].shape[1]
    tile = tile_columns(spread * spread * o, packed.itemsize)
    rows, tiles = pixel_tile(*size, 16 // packed.itemsize)
    kernel = "correlate_narrow" if tile == LINE * 16 // packed.itemsize else "correlate_wide"
    SOURCE.launch(kernel if in_packs(x) else f"{kernel}_scalar", packed.dtype, n * tiles * (packed.shape[1] // tile),
                  THREADS, x, height, width, c, packed, window, y, size, o, spread, rows, bool(relu),
                  in_packs(y))  # fmt: skip


def correlate_weight(x: Picture, g: Picture, pads: tuple[int, int], stride: int, dw: Any) -> None:
    """x as above, g likewise with (N, O, H', W') -> dw (O, C, kh, kw), of any strides."""
    o, c, kh, kw = dw.shape
    n, _, height, width = g[0].shape
    rows = kh * kw * c
    pack = 16 // dw.itemsize

    def tiles(shape: tuple) -> int:
        return parts_of(rows, shape[1] * pack) * parts_of(o, shape[2] * pack)

    shape = min(WEIGHT_TILES, key=lambda shape: tiles(shape) * shape[1] * shape[2] * shape[4])
    kernel, side = shape[0], shape[3]
    stages = n * parts_of(height, side) * parts_of(width, side)
    parts = max(1, min(parts_of(BLOCKS, tiles(shape)), stages // STAGES, WORKSPACE // (dw.size * dw.itemsize)))
    partial = empty((parts * rows * o,), dw.dtype)
    vectors = in_packs(x) and in_packs(g)
    SOURCE.launch(kernel if vectors else f"{kernel}_scalar", dw.dtype, parts * tiles(shape), THREADS,
                  x, x[0].shape[2:], c, g, height, width, o, n, kh, kw, pads, stride, parts, in_packs(g),
                  partial)  # fmt: skip
    SOURCE.launch("sum_parts", dw.dtype, parts_of(o, SQUARE) * parts_of(rows, SUM_ROWS),
                  (SQUARE, SUM_ROWS), partial, parts, o, c, kh, kw, dw, numbers(dw))  # fmt: skip
