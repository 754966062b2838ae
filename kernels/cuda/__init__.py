"""The way to a GPU: CuPy, the arrays that lie there, and the launch of kernels that are written in CUDA C.

A variant for the backend "cuda" is two files in its room: `cuda_x.cu`, the kernels, and `cuda_x.py`, which has the
functions of the room's reference and launches them.  Nothing here is imported before a device is asked for.
"""

from typing import Any

from .arrays import channels_last, empty, picture, writable_picture
from .driver import DeviceNotFound, cupy, is_available, on_device
from .launch import Source

__all__ = [
    "DeviceNotFound",
    "Source",
    "channel_sums",
    "channels_last",
    "cupy",
    "empty",
    "is_available",
    "on_device",
    "picture",
    "writable_picture",
]


def channel_sums(x: Any, out: Any) -> Any:
    """Sum of `x` (N, C, H, W) over all but the channels, into `out` (C,)."""
    from . import sums

    sums.channel_sums(x, out)
    return out
