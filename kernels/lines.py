"""Lines of numbers, for loops that do the same to every number (Numba).

Threads share out *stretches* of a line.  Indices are unsigned: a signed one might be negative and count from the end,
which keeps loops from being vectorised.
"""

import numpy as np

from .jit import serial

STRETCH = 1 << 14  # numbers


def stretches(size: int) -> int:
    """How many stretches a line of `size` numbers has; the last one may be shorter."""
    return -(-size // STRETCH)


@serial
def numbers(first, last, size):
    """The numbers of the stretches first ... last - 1 of such a line."""
    return range(np.uint64(first * STRETCH), np.uint64(min(last * STRETCH, size)))
