"""Array operations on several threads, a block at a time, with NumPy alone.

An operation on a large array is bound by memory, and NumPy runs it on one thread.  Cut into blocks, what one operation
leaves in the cache the next one finds there, and the blocks are shared out over threads (NumPy lets other threads
run while it computes).  Blocks are cut by the shapes alone, so that results do not depend on the number of threads.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from . import workers

Item = TypeVar("Item")
Result = TypeVar("Result")

BLOCK = 1 << 16  # numbers of a block: with a few results it stays in the cache
LANES = 1024  # numbers of a row in `channel_blocks`, at most, and at least half of it where channels are fewer


def share_out(function: Callable[[Item], Result], work: Iterable[Item]) -> list[Result]:
    """[function(item) for item in work] on all threads; whoever is free takes the next item."""
    left = deque(enumerate(work))
    results: list[Any] = [None] * len(left)

    def work_on(*_: Any) -> None:
        while True:
            try:
                k, item = left.popleft()
            except IndexError:
                return
            results[k] = function(item)

    workers.run(work_on, min(workers.count(), len(left)))
    return results


def blocks(function: Callable[[slice], Result], length: int, size: int) -> list[Result]:
    """[function(part) for the pieces of `size` that 0 ... length is cut into], shared out."""
    return share_out(function, [slice(start, min(length, start + size)) for start in range(0, length, size)])


def rows_of_block(numbers: int) -> int:
    """How many rows of so many numbers are a block."""
    return max(1, BLOCK // max(1, numbers))


def channel_blocks(
    function: Callable[..., Result], pixels: Sequence[np.ndarray], per_channel: Sequence[np.ndarray] = ()
) -> list[Result]:
    """[function(*block, *per_channel)] for the blocks that the arrays `pixels` (M, C) are cut into, shared out.

    NumPy is slow on short rows.  So the contiguous arrays (M, C) come as (rows, k C), several pixels a row, and the
    arrays (C,) are repeated for each of them; what is left at the end, less than a row, comes as (pixels, C).
    """
    count, channels = pixels[0].shape
    k = max(1, LANES // channels)
    repeated = [np.tile(v, k) for v in per_channel]

    def run(part: slice) -> Result:
        return function(*(p[part].reshape(-1, k * channels) for p in pixels), *repeated)

    whole = count // k * k
    results = blocks(run, whole, k * rows_of_block(k * channels))
    return results if whole == count else [*results, function(*(p[whole:] for p in pixels), *per_channel)]


def sum_of_pixels(block: np.ndarray, channels: int) -> np.ndarray:
    """Sum over the pixels of a block that comes from `channel_blocks`, (C,)."""
    return block.sum(axis=0).reshape(-1, channels).sum(axis=0)


def total(sums: list[np.ndarray], channels: int, dtype: np.dtype) -> np.ndarray:
    """Sum of the sums of blocks, in their order: (C,), zeros where there is no block."""
    return np.array(sums, dtype).reshape(-1, channels).sum(axis=0)


def keep(x: np.ndarray, where: np.ndarray, out: np.ndarray) -> None:
    """out = x where `where` (booleans) is true, else 0, whatever x is there; out may be x.

    The bits are multiplied as integers, by 1 or 0: several times as fast as np.where.
    """
    bits = np.dtype(f"i{x.itemsize}")
    np.multiply(x.view(bits), where, out=out.view(bits))


def rectify(x: np.ndarray, out: np.ndarray) -> None:
    """out = max(x, 0), NaN stays NaN, for contiguous arrays of one shape; out may be x.

    Against an array of zeros np.maximum is three times as fast as against the number 0.
    """
    source, target, zeros = x.reshape(-1), out.reshape(-1), _zeros(x.dtype)
    for start in range(0, source.size, zeros.size):
        part = slice(start, start + zeros.size)
        np.maximum(source[part], zeros[: source.size - start], out=target[part])


@functools.cache
def _zeros(dtype: np.dtype) -> np.ndarray:
    zeros = np.zeros(1 << 14, dtype)
    zeros.flags.writeable = False
    return zeros
