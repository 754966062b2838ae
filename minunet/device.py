"""Where arrays lie, and the ways between the host's memory and the GPU's: each is one call here.

"cpu" are NumPy's arrays, "cuda" CuPy's.  Both answer to NumPy's functions, np.exp(x) of an array on the device is
computed there, so that the rest of the package is written once.  Nothing is moved but by what stands here, and nothing
waits for the device but `to_host` and `numbers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import kernels
from .kernels.arrays import memory_order
from .kernels.cuda import cupy

DEVICES = ("cpu", "cuda")
ALIGNMENT = 256  # bytes; vector loads want 16, CuPy's own arrays begin at 512

Array = Any  # of NumPy or CuPy


def of(array: Array) -> str:
    """The device that an array lies on, "cpu" or "cuda"."""
    return "cuda" if kernels.on_device(array) else "cpu"


def current() -> str:
    """Where models are made, and where operations on the host's arrays are computed: as `use_backend` says."""
    return "cuda" if kernels.current_backend() == "cuda" else "cpu"


def checked(name: str) -> str:
    """ValueError where this is no device, ImportError or DeviceNotFound where there is none of this kind."""
    if name not in DEVICES:
        raise ValueError(f"device {name!r} is not known; there are: {', '.join(DEVICES)}")
    if name == "cuda":
        cupy()
    return name


def move(array: Array, device: str) -> Array:
    """The array on this device, in the same order of memory; itself, not a copy, if it lies there already."""
    if of(array) == device:
        return array
    return to_host(array) if device == "cpu" else _sent(array)


def beside(array: Array, other: Array) -> Array:
    """The array where `other` lies."""
    return move(array, of(other))


def to_host(array: Array) -> Array:
    """An array of NumPy, with a wait for the device if it is not one already."""
    if not kernels.on_device(array):
        return array
    order = tuple(memory_order(array))
    return cupy().asnumpy(array.transpose(order)).transpose(_inverse(order))


def _sent(array: np.ndarray) -> Array:
    order = tuple(memory_order(array))
    line = np.asarray(array.transpose(order), order="C")
    return cupy().asarray(line).transpose(_inverse(order))


def upload(*arrays: np.ndarray) -> list[Array]:
    """Arrays of the host as arrays on the device, all in one copy; pictures (N, C, H, W) then lie channels-last."""
    buffer = np.empty(sum(map(_room, arrays)), np.uint8)
    for part, array in zip(_parts(buffer, arrays), arrays, strict=True):
        part[...] = array
    return list(_parts(cupy().asarray(buffer), arrays))


def _parts(buffer: Array, arrays: Sequence[np.ndarray]) -> Iterator[Array]:
    """Pieces of a line of bytes, one with the shape and dtype of each array."""
    start = 0
    for array in arrays:
        order = (0, 2, 3, 1) if array.ndim == 4 else tuple(range(array.ndim))
        line = buffer[start : start + array.nbytes].view(array.dtype)
        yield line.reshape(tuple(array.shape[axis] for axis in order)).transpose(_inverse(order))
        start += _room(array)


def _room(array: np.ndarray) -> int:
    return -(-array.nbytes // ALIGNMENT) * ALIGNMENT


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that undo transpose(order)."""
    return tuple(map(int, np.argsort(order)))


def numbers(values: Sequence[Any]) -> list[float]:
    """Numbers, and arrays of one number, as Python's; all that lie on the device come in one transfer."""
    there = [value.astype(np.float64) for value in values if kernels.on_device(value)]
    came = iter(to_host(np.stack(there)).tolist() if there else ())
    return [next(came) if kernels.on_device(value) else float(value) for value in values]


def free_memory() -> int:
    """Bytes of the device's memory that nobody has taken, those included that CuPy holds ready for us."""
    return int(cupy().cuda.runtime.memGetInfo()[0]) + cupy().get_default_memory_pool().free_bytes()
