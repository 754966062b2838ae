"""Memory of arrays that nobody uses any more, for the next arrays.

A network asks for the same large arrays again and again.  Fresh memory from the system costs a page fault every few kB,
as much time as a pass over the array.  So one long range of addresses is reserved once (the system gives memory only to
what is touched), arrays are placed in the smallest gap where they fit, and their place is free again when the last
array that looks at it is gone.
"""

import bisect
import mmap
import os
import threading
import weakref
from collections import deque
from math import prod

import numpy as np

from . import threads

POOLED = 1 << 16  # bytes from which on an array is placed here
PAGE = 4096
PATIENCE = 2000  # requests after which memory above all that they used is given back to the system


class Pool:
    """Arrays in one range of addresses; `array` is all there is to it."""

    def __init__(self, reserve: int | None = None) -> None:
        self._memory = _reserve(reserve or _physical_memory() // 2)
        self._free: list[tuple[int, int]] = [(0, len(self._memory))] if self._memory else []  # (start, end), by address
        self._alive: dict[int, weakref.ref] = {}  # by address: the references have to live as long as the arrays
        self._dead: deque[tuple[int, int]] = deque()  # filled whenever an array dies, by any thread
        self._lock = threading.Lock()
        self._requests = self._top = self._touched = 0  # highest address: of late, and ever since it was given back

    def array(self, shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
        """An array of undefined content, in C order; a small one, or one there is no room for, by np.empty."""
        dtype = np.dtype(dtype)
        size = prod(shape) * dtype.itemsize
        if size < POOLED:
            return np.empty(shape, dtype)
        with self._lock:
            room = -(-size // PAGE) * PAGE
            start = self._take(room)
            if start is None:
                return np.empty(shape, dtype)
            # Views of `root` hold it, not the memory: it dies with the last of them.
            root = np.frombuffer(self._memory, dtype, prod(shape), start)
            place, dead = (start, start + room), self._dead
            self._alive[start] = weakref.ref(root, lambda _: dead.append(place))
        return root.reshape(shape)

    def clear(self) -> None:
        """Give all memory that is free back to the system."""
        with self._lock:
            self._bury()
            for start, end in self._free:
                self._advise(start, min(end, self._touched))
            self._touched = self._free[-1][0] if self._free else 0

    def _take(self, size: int) -> int | None:
        self._bury()
        self._trim()
        fitting = [(end - start, k) for k, (start, end) in enumerate(self._free) if end - start >= size]
        if not fitting:
            return None
        k = min(fitting)[1]
        start, end = self._free[k]
        self._free[k : k + 1] = [(start + size, end)] if end - start > size else []
        self._top = max(self._top, start + size)
        return start

    def _bury(self) -> None:
        """Free the places of dead arrays, and join free neighbours."""
        while self._dead:
            start, end = self._dead.popleft()
            del self._alive[start]
            k = bisect.bisect(self._free, (start, end))
            if k < len(self._free) and self._free[k][0] == end:
                end = self._free.pop(k)[1]
            if k and self._free[k - 1][1] == start:
                start = self._free.pop(k - 1)[0]
                k -= 1
            self._free.insert(k, (start, end))

    def _trim(self) -> None:
        self._requests += 1
        if self._requests % PATIENCE == 0:
            self._touched = max(self._touched, self._top)
            if self._free and self._free[-1][1] == len(self._memory):
                low = max(self._free[-1][0], self._top)
                self._advise(low, self._touched)
                self._touched = low
            self._top = self._free[-1][0] if self._free else 0

    def _advise(self, start: int, end: int) -> None:
        if start < end and isinstance(self._memory, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED, start, end - start)


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 34


def _reserve(size: int) -> mmap.mmap | bytes:
    """So many bytes of addresses without memory behind them, or fewer where that is not allowed; none on Windows."""
    while hasattr(mmap, "MAP_ANONYMOUS") and size >= 1 << 26:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        try:
            memory = mmap.mmap(-1, size // PAGE * PAGE, flags)
        except OSError:
            size //= 2
            continue
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        return memory
    return b""


POOL = Pool()
threads.hold_over_forks(POOL._lock)
