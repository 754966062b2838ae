"""Sums over all pixels of a picture, in two stages: blocks of pixels, then the blocks (CUDA)."""

from typing import Any

import numpy as np

from . import loops
from .arrays import picture
from .driver import cupy
from .launch import Source

SOURCE = Source(__file__)
CHAIN = 16  # pixels that a thread adds up at least, if there are as many
MOST_BLOCKS = 1 << 10
COLUMNS = 2  # packs of channels that a block of the second stage has side by side


def channel_sums(x: Any, out: Any) -> None:
    """x (N, C, H, W) -> out (C,): its sum over N, H, W."""
    n, c, h, w = x.shape
    source, (grid, block) = picture(x), first_stage(x.shape, x.dtype)
    partial = cupy().empty((grid[0], c), x.dtype)
    SOURCE.launch(
        "channel_sums", x.dtype, grid, block, source, loops.sides(x.shape, source), n * h * w, c,
        pixels_of_block(x.shape, grid), partial,
    )  # fmt: skip
    add_blocks(partial, out)


def add_blocks(partial: Any, out: Any) -> None:
    """partial (blocks, C) -> out (C,): the sum of all blocks, which are the pixels of one row here."""
    blocks, channels = partial.shape
    with loops.writable_contiguous(out) as target:
        SOURCE.launch(
            "channel_sums", partial.dtype, *second_stage(channels, partial.dtype), partial, 0, 0, channels, 1, blocks,
            blocks, channels, blocks, target,
        )  # fmt: skip


def total(line: Any, out: Any) -> None:
    """line (K,) in float64, contiguous -> out, without axes: the sum of all its numbers."""
    SOURCE.launch("total", np.float32, 1, loops.THREADS, line, line.size, out)


def first_stage(shape: tuple[int, ...], dtype: Any) -> tuple:
    """(grid, block) that add up pictures (N, C, H, W); of the grid, the first number is that of the blocks' sums."""
    n, c, h, w = shape
    return loops.pixel_grid(n * h * w, c, dtype, CHAIN, MOST_BLOCKS)


def pixels_of_block(shape: tuple[int, ...], grid: tuple[int, int]) -> int:
    """How many pixels a block of the first stage has; the last ones may have fewer or none."""
    n, _, h, w = shape
    return -(-n * h * w // grid[0])


def second_stage(channels: int, dtype: Any) -> tuple:
    """(grid, block) that add up the blocks' sums: one block for its channels."""
    across = min(COLUMNS, loops.pixel_block(channels, dtype)[0])
    return (1, -(-channels // (across * loops.pack(dtype)))), (across, loops.THREADS // across)
