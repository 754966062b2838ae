"""One image in tiles, equal to the whole image: what each tile must see, and how large tiles may be.

A pixel of the output depends on 6 * 2^L - 4 pixels around it (two 3 x 3 convolutions at each of L levels, down and up,
and two at the bottom), and on where it lies in the blocks of 2^L pixels that pooling makes one of. So tiles start at
multiples of 2^L and are given that much more of the image on each side: a valid network takes it as it is, cut from the
image as `predict` continues it by reflection; a same-padded one gets 6 * 2^L pixels, a whole number of blocks, but none
beyond the image's edge, where its own zeros belong. Every number of the result is then a sum of the same products in
the same order as in the whole image, and kernels that compute an output alike wherever it lies give the same bits.

The whole image is the one-tile run of this.

Only where the up path is bilinear (`up="bilinear"`, with align_corners) do tiles differ from the whole, with a warning:
there a pixel looks at places that depend on the size of the map.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from minunet import device
from minunet.autograd import Array
from minunet.data.augment import reflect
from minunet.data.windows import Window, cut
from minunet.prediction.predict import evaluating, padded_size, preprocessing_of, probabilities
from minunet.prediction.symmetries import EIGHT, Symmetry
from minunet.training.estimate import SHARE, inference_memory, room

if TYPE_CHECKING:
    from minunet.unet import UNet

Size = tuple[int, int]
UNEQUAL = (
    "in tiles this network's numbers differ a little from those of the whole image: its up path (up='bilinear') lays "
    "the outer pixels of a map on each other, and all between them move by up to a quarter of a pixel with its size"
)
WORTH_A_LOOK = 1e9  # bytes above which the free memory is asked for before the work


Read = Callable[[Window], np.ndarray]  # a window inside the image -> (C, height, width), prepared for the network


def reader(x: np.ndarray) -> Read:
    """`Read` of a prepared image x (C, H, W) that lies in memory."""
    return lambda window: cut(x, window)


# ------------------------------------------------------------------------------------------- what is computed


def predict_tiles(model: UNet, x: np.ndarray, tile: Size, tta: bool = False) -> np.ndarray:
    """Probabilities (K, H, W) of a prepared image x (C, H, W), computed in `tiles` by `probabilities_in`."""
    size = x.shape[1:]
    out = np.empty((max(model.out_channels, 2), *size), model.dtype)
    for window in tiles(model, size, tile):
        cut(out, window)[...] = probabilities_in(model, reader(x), size, window, tta)
    return out


def probabilities_in(model: UNet, read: Read, size: Size, window: Window, tta: bool = False) -> np.ndarray:
    """Probabilities (K, height, width) of any window of an image of `size` that `read` gives parts of.

    tta: the mean over the eight flips and rotations of the image, each undone in its probabilities.
    """
    if not tta:
        return device.to_host(probabilities(logits_in(model, read, size, window)))
    total = None
    for symmetry in EIGHT:
        p = _seen_by(symmetry, model, read, size, window)
        total = p if total is None else total + p
    return total / model.dtype.type(len(EIGHT))


def _seen_by(symmetry: Symmetry, model: UNet, read: Read, size: Size, window: Window) -> np.ndarray:
    """The probabilities that the turned image gives, turned back."""

    def read_turned(place: Window) -> np.ndarray:
        return symmetry.apply(read(Window(*symmetry.undo_window(place, size))))

    turned = Window(*symmetry.window(window, size))
    return symmetry.undo(probabilities_in(model, read_turned, symmetry.size(size), turned))


def logits_in(model: UNet, read: Read, size: Size, window: Window) -> Array:
    """Logits (out_channels, height, width), where the model lies, of any window of an image of `size`."""
    top, bottom, down = _span(model, window.top, window.top + window.height, size[0])
    left, right, across = _span(model, window.left, window.left + window.width, size[1])
    batch = continued(read, size, Window(top, left, bottom - top, right - left))[None]
    with evaluating(model):
        logits = model(batch)
    return logits.data[0, :, down : down + window.height, across : across + window.width]


def _span(model: UNet, start: int, stop: int, side: int) -> tuple[int, int, int]:
    """(first, last, offset): the network must see pixels first ... last for the output's start ... stop along a side.

    They may lie outside the image, which is continued by reflection there; `start` is the output's pixel `offset`.
    """
    block = 2**model.levels
    begin = start // block * block
    if model.padding == "same":
        end = begin + _up(stop - begin, block)
        first, last = max(0, begin - 6 * block), min(_up(side, block), end + 6 * block)
        return first, last, start - first
    margin = 6 * block - 4
    return begin - margin, stop + (4 - stop) % block + margin, start - begin


def continued(read: Read, size: Size, window: Window) -> np.ndarray:
    """The window (C, height, width) of an image that is continued by reflection on all sides."""
    rows = reflect(np.arange(window.top, window.top + window.height), size[0])
    columns = reflect(np.arange(window.left, window.left + window.width), size[1])
    top, left = int(rows.min()), int(columns.min())
    piece = read(Window(top, left, int(rows.max()) + 1 - top, int(columns.max()) + 1 - left))
    if piece.shape[1:] == (window.height, window.width) and window.top == top and window.left == left:
        return np.ascontiguousarray(piece)
    return piece[:, (rows - top)[:, None], columns - left]


# ---------------------------------------------------------------------------------------------- sizes of tiles


def tiles(model: UNet, size: Size, tile: Size) -> Iterator[Window]:
    """Windows that cover an image of `size` without overlap, row by row; they start at multiples of 2^levels.

    tile: (height, width) in pixels of the output, rounded down to what the network can compute: a multiple of 2^levels
    (one at least), and 4 more for a valid network. These 4 overlap: a tile of 388 px is a step of 384.
    """
    if model.up == "bilinear" and (tile[0] < size[0] or tile[1] < size[1]):
        warnings.warn(UNEQUAL, stacklevel=2)
    down, across = (min(step(model, side), _up(whole, 2**model.levels)) for side, whole in zip(tile, size, strict=True))
    for top in range(0, size[0], down):
        for left in range(0, size[1], across):
            yield Window(top, left, min(down, size[0] - top), min(across, size[1] - left))


def step(model: UNet, side: int) -> int:
    """From one tile of this side to the next."""
    block = 2**model.levels
    return max(block, (side - _over(model)) // block * block)


def _over(model: UNet) -> int:
    """What a tile's output is larger than a multiple of the block."""
    return 4 % 2**model.levels if model.padding == "valid" else 0


def input_size(model: UNet, size: Size, tile: Size) -> Size:
    """(height, width) of the largest input that the network gets for these tiles of an image of `size`."""
    block = 2**model.levels
    margin = 6 * block if model.padding == "same" else 6 * block - 4 + _over(model) / 2
    whole = padded_size(model, size)
    height, width = (min(w, int(step(model, side) + 2 * margin)) for side, w in zip(tile, whole, strict=True))
    return height, width


def fitting_tile(model: UNet, size: Size, limit: float, extra: int = 0) -> Size | None:
    """The largest tiles, as square as the image allows, that `limit` bytes are enough for; None where none are.

    extra: bytes that are needed for every pixel of the network's input beside what the network takes.
    The tiles are made about equally large: the last of a row is not a narrow rest.
    """
    block, over = 2**model.levels, _over(model)

    def tile(blocks: int) -> Size:
        height, width = (_even(min(blocks * block, _up(side, block)), side, block) + over for side in size)
        return height, width

    def fits(blocks: int) -> bool:
        height, width = input_size(model, size, tile(blocks))
        return inference_memory(model, (height, width)) + extra * height * width <= limit

    low, high = 0, -(-max(size) // block)
    while low < high:  # fits(low) or low = 0; not fits(high + 1)
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return tile(low) if low else None


def _even(step: int, side: int, block: int) -> int:
    """The smallest step that takes as few tiles along `side`."""
    return _up(-(-side // -(-side // step)), block)


def _up(count: int, block: int) -> int:
    return -(-count // block) * block


def tile_for_memory(model: UNet, size: Size) -> Size | None:
    """None where the free memory is enough for the whole image, else the tiles that it is enough for.

    MemoryError where it is not enough for the smallest ones, with the prepared image and its result, or for preparing
    the image.
    """
    needed = inference_memory(model, padded_size(model, size))
    free = room(model)
    if needed <= WORTH_A_LOOK or free is None or needed <= free:
        return None
    on_host = model.device == "cpu"
    tile = fitting_tile(model, size, SHARE * free - (result_bytes(model, size) if on_host else 0))
    if tile is None or (on_host and preparing_bytes(model, size) > free):
        raise MemoryError
    return tile


def least_memory(model: UNet, size: Size) -> int:
    """Bytes that an image of `size` takes in the smallest tiles, with its result."""
    tiled = result_bytes(model, size) + inference_memory(model, input_size(model, size, (1, 1)))
    return max(tiled, preparing_bytes(model, size))


def preparing_bytes(model: UNet, size: Size) -> int:
    """Bytes that the preprocessing of an image of `size` takes: to standardize it, three copies in float64."""
    copies = 3 * 8 if preprocessing_of(model).normalize == "standardize" else model.dtype.itemsize
    return copies * model.in_channels * size[0] * size[1]


def result_bytes(model: UNet, size: Size) -> int:
    """Bytes of an image of `size`, prepared for the network, and of its probabilities."""
    return model.dtype.itemsize * (model.in_channels + max(model.out_channels, 2)) * size[0] * size[1]
