"""Memory behind the arrays: shapes are (N, C, H, W), the numbers lie channels-last.

In channels-last order the C numbers of a pixel are neighbours in memory.  Convolutions then read
and write whole vectors of channels, so outputs are allocated like this, and only like this; inputs may have
any strides.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from . import cuda, sharing
from .cuda import on_device
from .pool import POOL

_poisoned = False

@contextmanager
def poison() -> Iterator[None]:
    """Inside the block fresh arrays are filled with NaN (integers: all bits set), for tests.

    A kernel that leaves part of its output unwritten shows at once.
    """
    global _poisoned
    previous, _poisoned = _poisoned, True
    try:
        yield
    finally:
        _poisoned = previous


def empty(shape: tuple[int, ...], dtype: np.dtype | type, like: Any = None) -> Any:
    """A fresh array to be written; channels-last where it has the four axes (N, C, H, W).

    like: an array; where that lies on a device, the fresh one lies there too.
    """
    if on_device(like):
        return _filled(cuda.empty(shape, dtype))
    if len(shape) == 4:
        n, c, h, w = shape
        array = POOL.array((n, h, w, c), dtype).transpose(0, 3, 1, 2)
    else:
        array = POOL.array(shape, dtype)
    return _filled(array)


def empty_like(x: np.ndarray) -> np.ndarray:
    """A fresh array of the shape, dtype and memory order of `x`, without gaps."""
    order = memory_order(x)
    shape = tuple(x.shape[axis] for axis in order)
    array = cuda.cupy().empty(shape, x.dtype) if on_device(x) else POOL.array(shape, x.dtype)
    return _filled(array.transpose(tuple(map(int, np.argsort(order)))))


class Scratch(threading.local):
    """Memory for one piece of work after another: every thread has its own, and frees it with the object.

    A piece that asked for fresh arrays instead would spend as long on asking as on its arithmetic.
    """

    def __init__(self) -> None:
        self._held: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
        """An array of undefined content, in C order, where the thread's last one of this name was."""
        size = prod(shape)
        held = self._held.get(name)
        if held is None or held.size < size or held.dtype != dtype:
            held = self._held[name] = POOL.array((size,), dtype)
        return _filled(held[:size].reshape(shape))


def _filled(array: np.ndarray) -> np.ndarray:
    if _poisoned:
        array.fill(np.nan if array.dtype.kind == "f" else -1 if array.dtype.kind == "i" else 255)
    return array


def result(out: Any, shape: tuple[int, ...], like: Any, dtype: np.dtype | type | None = None) -> Any:
    """`out` if it has this shape and dtype, else ValueError (compiled code would write past it).

    If None a fresh array where `like` lies; the dtype is that of `like` unless another is given.
    """
    dtype = like.dtype if dtype is None else dtype
    if out is None:
        return empty(shape, dtype, like)
    if out.shape != tuple(shape) or out.dtype != dtype:
        raise ValueError(f"out must be {tuple(shape)} {np.dtype(dtype)}, found {out.shape} {out.dtype}")
    return out


def expect(name: str, found: np.ndarray, shape: tuple[int, ...], like: np.ndarray | None = None) -> None:
    """ValueError unless `found` has this shape, TypeError unless it has the dtype of `like`."""
    if found.shape != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, found {found.shape}")
    if like is not None and found.dtype != like.dtype:
        raise TypeError(f"{name} must be {like.dtype}, found {found.dtype}")


def nhwc(x: np.ndarray) -> np.ndarray:
    """`x` (N, C, H, W) seen as a C-contiguous (N, H, W, C); copied only if it does not lie so already.

    A read-only array is copied too: to compiled code it would be another type, and compiling takes longer.
    """
    view = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    return view if view.flags.writeable else view.copy()


@contextmanager
def writable_nhwc(out: np.ndarray) -> Iterator[np.ndarray]:
    """An (N, H, W, C) contiguous array to write; what is written ends up in `out` (N, C, H, W)."""
    view = out.transpose(0, 2, 3, 1)
    if view.flags.c_contiguous:
        yield view
    else:
        copy = np.empty(view.shape, view.dtype)
        yield copy
        view[...] = copy


def pad(x: np.ndarray, amount: tuple[int, int]) -> np.ndarray:
    """`x` (N, C, H, W) with `amount` = (rows, columns) of zeros on every side; negative amounts crop."""
    ph, pw = amount
    n, c, h, w = x.shape
    padded = empty((n, c, h + 2 * ph, w + 2 * pw), x.dtype, x)
    padded[...] = 0
    target = padded[:, :, max(ph, 0) : max(ph, 0) + h, max(pw, 0) : max(pw, 0) + w]
    source = x[:, :, max(-ph, 0) : h - max(-ph, 0), max(-pw, 0) : w - max(-pw, 0)]
    target[:, :, : source.shape[2], : source.shape[3]] = source
    return padded


def copy(x: np.ndarray) -> np.ndarray:
    """`x` in memory of its own, of the same order."""
    out = empty_like(x)
    out[...] = x
    return out


def copy_into(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """`out` (N, C, H, W), which then holds the numbers of `x`; a few rows at a time on all threads."""
    target = result(out, x.shape, x)
    if on_device(x):
        target[...] = x
        return target

    def rows(image: int, part: slice) -> None:
        target[image, :, part] = x[image, :, part]

    each_rows(x, rows)
    return target


def crop(x: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The middle `size` = (h, w) of `x` (N, C, H, W), a view; an odd margin leaves more at the right and the bottom."""
    h, w = size
    top, left = (x.shape[2] - h) // 2, (x.shape[3] - w) // 2
    return x[:, :, top : top + h, left : left + w]


def surround(g: np.ndarray, margin: tuple[int, int, int, int], out: Any = None) -> np.ndarray:
    """`g` (N, C, H, W) with zeros around it: `margin` = (above, below, left, right) in pixels; in `out`, if given."""
    above, below, left, right = margin
    n, c, h, w = g.shape
    out = result(out, (n, c, above + h + below, left + w + right), g)
    if on_device(g):
        out[...] = 0
        out[:, :, above : above + h, left : left + w] = g
        return out

    def rows(image: int, part: slice) -> None:
        target = out[image, :, part]
        inside = slice(max(part.start, above), min(part.stop, above + h))
        if inside.start >= inside.stop:
            target[...] = 0
            return
        target[:, : inside.start - part.start] = 0
        target[:, inside.stop - part.start :] = 0
        target[:, :, :left] = 0
        target[:, :, left + w :] = 0
        out[image, :, inside, left : left + w] = g[image, :, inside.start - above : inside.stop - above]

    each_rows(out, rows)
    return out


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b for arrays of one shape and dtype, pictures a few rows at a time on all threads."""
    if on_device(a):
        return np.add(a, b, out=empty_like(a))  # in the same order: CuPy's own result would be in C order
    if a.ndim != 4:
        return a + b
    out = empty(a.shape, a.dtype)
    each_rows(out, lambda image, part: np.add(a[image, :, part], b[image, :, part], out=out[image, :, part]))
    return out


def join(arrays: list[np.ndarray]) -> np.ndarray:
    """Arrays (N, C_k, H, W) one behind the other along the channels.

    Where they are neighbouring channels of one array already, what is returned is a view of that; else a copy.
    """
    n, _, h, w = arrays[0].shape
    shape = (n, sum(a.shape[1] for a in arrays), h, w)
    if are_neighbours(arrays):
        return view_from(arrays[0], shape)
    out = empty(shape, arrays[0].dtype, arrays[0])
    if on_device(out):
        first = 0
        for a in arrays:
            out[:, first : first + a.shape[1]] = a
            first += a.shape[1]
        return out

    def rows(image: int, part: slice) -> None:
        first = 0
        for a in arrays:
            out[image, first : first + a.shape[1], part] = a[image, :, part]
            first += a.shape[1]

    each_rows(out, rows)
    return out


def are_neighbours(arrays: list[Any]) -> bool:
    """Whether channels-last arrays lie so that the channels of each follow those of the one before."""
    place = None
    for a in arrays:
        interface = a.__cuda_array_interface__ if on_device(a) else a.__array_interface__
        address, read_only = interface["data"]
        if place is not None and (address != place or a.base is not arrays[0].base or a.base is None):
            return False
        if a.strides[1] != a.itemsize or a.strides != arrays[0].strides or read_only:
            return False
        place = address + a.shape[1] * a.itemsize
    return sum(a.shape[1] for a in arrays) * arrays[0].itemsize <= arrays[0].strides[3]


def view_from(x: Any, shape: tuple[int, ...]) -> Any:
    """An array of this shape that begins where `x` begins, with its strides."""
    if on_device(x):
        return cuda.cupy().ndarray(shape, x.dtype, x.data, x.strides)
    return np.lib.stride_tricks.as_strided(x, shape, x.strides)


def each_rows(out: np.ndarray, function: Callable[[int, slice], Any]) -> list[Any]:
    """[function(image, rows)] for all rows of `out` (N, C, H, W), a block at a time, shared out over threads."""
    n, c, h, w = out.shape
    size = sharing.rows_of_block(c * w)
    work = [(image, slice(start, min(h, start + size))) for image in range(n) for start in range(0, h, size)]
    return sharing.share_out(lambda item: function(*item), work)


def channel_sums(g: np.ndarray) -> np.ndarray:
    """Sum of `g` (N, C, H, W) over all but the channels, (C,).

    Sums of blocks of pixels, added at the end: short chains of additions keep the rounding errors of long float32 sums
    small, and their order is fixed.
    """
    c = g.shape[1]
    if on_device(g):
        return cuda.channel_sums(g, empty((c,), g.dtype, g))
    pixels = g.transpose(0, 2, 3, 1)
    if pixels.flags.c_contiguous:
        sums = sharing.channel_blocks(lambda block: sharing.sum_of_pixels(block, c), [pixels.reshape(-1, c)])
    else:
        sums = each_rows(g, lambda image, part: pixels[image, part].sum(axis=(0, 1)))
    return sharing.total(sums, c, g.dtype)


def pixels(x: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
    """`x` (N, C, H, W) as (memory, strides): x[n, c, h, w] = memory[n strides[0] + h strides[1] + w strides[2] + c].

    memory is contiguous and starts at the first number of `x`; strides count numbers.  Crops and slices of channels of
    a channels-last array are taken as they lie; only where a pixel's channels are no neighbours is `x` copied.
    """
    if (x.shape[1] > 1 and x.strides[1] != x.itemsize) or min(x.strides) < 0 or not x.flags.writeable:
        copy = empty(x.shape, x.dtype)
        copy[...] = x
        x = copy
    return _line(x)


@contextmanager
def writable_pixels(out: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[int, int, int]]]:
    """As `pixels`, to be written; what is written ends up in `out` (N, C, H, W)."""
    if (out.shape[1] > 1 and out.strides[1] != out.itemsize) or min(out.strides) < 0:
        copy = empty(out.shape, out.dtype)
        yield _line(copy)
        out[...] = copy
    else:
        yield _line(out)


def picture(x: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int], tuple[int, int, int, int]]:
    """(memory, strides, (N, H, W, C)) of `x` (N, C, H, W), as compiled loops take it; `pixels` tells more."""
    n, c, h, w = x.shape
    return (*pixels(x), (n, h, w, c))


@contextmanager
def writable_picture(out: np.ndarray) -> Iterator[tuple]:
    """As `picture`, to be written; what is written ends up in `out` (N, C, H, W)."""
    n, c, h, w = out.shape
    with writable_pixels(out) as memory_and_strides:
        yield (*memory_and_strides, (n, h, w, c))


def _line(x: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
    _, c, h, w = x.shape
    rows = x.transpose(0, 2, 3, 1)
    if rows.flags.c_contiguous:
        return rows.reshape(-1), (h * w * c, w * c, c)
    n, _, h, w = (stride // x.itemsize for stride in x.strides)
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.strides, strict=True)) // x.itemsize
    return np.lib.stride_tricks.as_strided(x, (last + 1,), (x.itemsize,)), (n, h, w)


def memory_order(x: np.ndarray) -> list[int]:
    """The axes of `x` from the slowest to the fastest in memory."""
    return sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))


def flat(x: np.ndarray, order: list[int]) -> np.ndarray:
    """The numbers of `x`, axes taken in `order`, as one contiguous line; copied only if they do not lie so."""
    return np.ascontiguousarray(x.transpose(order)).reshape(-1)


@contextmanager
def writable_flat(out: np.ndarray, order: list[int]) -> Iterator[np.ndarray]:
    """A contiguous line to write; what is written ends up in `out`, axes taken in `order`."""
    view = out.transpose(order)
    if view.flags.c_contiguous:
        yield view.reshape(-1)
    else:
        copy = np.empty(view.size, view.dtype)
        yield copy
        view[...] = copy.reshape(view.shape)
