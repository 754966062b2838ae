"""The roofline of this machine, measured: how fast can anything be that runs on these threads?

A computation that does F operations on B bytes takes at least max(F / peak, B / bandwidth) seconds.  Both limits come
from loops of our own (loops.py) on the threads that the kernels use, in the same process as what is held against them.
Without Numba NumPy stands in for the loops, and `how` says so.

Two things may pass the roof.  Algorithms that save multiplications are counted as if they did them all.  And the
bandwidth is that of memory: arrays that stay in a cache travel faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from minunet.kernels import blas, threads

TRIALS = 30  # the best counts: everything that disturbs a trial makes it slower
TRIAL_SECONDS = 0.01  # short, so that some trials fall between the disturbances
SMALLEST_ARRAY = 64 << 20  # bytes, where the size of the last cache is not known


@dataclass(frozen=True)
class Limits:
    """peak: operations a second by dtype ("float32", "float64"); bandwidth: bytes a second; how: in words."""

    threads: int
    peak: dict[str, float]
    bandwidth: float
    how: str

    def least_seconds(self, flops: float, bytes: float, dtype: str = "float32") -> float:
        """The time below which this work cannot be done, by the roofline."""
        return max(flops / self.peak[dtype], bytes / self.bandwidth)

    def better(self, other: Limits) -> Limits:
        """The higher of the two in everything."""
        peak = {dtype: max(self.peak[dtype], other.peak[dtype]) for dtype in self.peak}
        return replace(self, peak=peak, bandwidth=max(self.bandwidth, other.bandwidth))

    def __str__(self) -> str:
        f32, f64 = (self.peak[dtype] / 1e9 for dtype in ("float32", "float64"))
        return (
            f"{self.threads} threads: {f32:.0f} GFLOP/s in float32, {f64:.0f} in float64, "
            f"{self.bandwidth / 1e9:.1f} GB/s ({self.how})"
        )


_found: dict[int, Limits] = {}


def measure(again: bool = False) -> Limits:
    """The limits of the threads in use (`mn.set_num_threads`).

    Measured once a process for every number of threads.  again: once more, and the best of all counts: on a machine
    that is shared with others a single measurement may fall into a bad moment.
    """
    count = threads.count()
    if again or count not in _found:
        now = _measure(count)
        _found[count] = now.better(_found.get(count, now))
    return _found[count]


def _measure(count: int) -> Limits:
    compiled = find_spec("numba") is not None
    peak_of, bandwidth, how = (
        (_peak_numba, _bandwidth_numba, "fused multiply-adds in registers; copy and triad of large arrays")
        if compiled
        else (_peak_numpy, _bandwidth_numpy, "NumPy's matrix products and copies, as Numba is not installed")
    )
    peak = {dtype: peak_of(np.dtype(dtype)) for dtype in ("float32", "float64")}
    return Limits(count, peak, bandwidth(array_bytes()), how)


def best_rate(action: Callable[[], float]) -> float:
    """The best of several trials of (what `action` returns) a second."""
    rates = []
    for _ in range(TRIALS):
        start = time.perf_counter()
        done = action()
        rates.append(done / (time.perf_counter() - start))
    return max(rates)


def _peak_numba(dtype: np.dtype) -> float:
    from . import loops

    loops.multiply_adds(1, dtype)  # compiles
    repeats = 1000
    start = time.perf_counter()
    loops.multiply_adds(repeats, dtype)
    repeats = max(1, int(repeats * TRIAL_SECONDS / (time.perf_counter() - start)))
    return best_rate(lambda: loops.multiply_adds(repeats, dtype))


def _bandwidth_numba(size: int) -> float:
    from . import loops

    x, y, z = (np.ones(size // 4, np.float32) for _ in range(3))
    loops.copy(x[:1], y[:1])
    loops.triad(x[:1], y[:1], z[:1])

    def copy() -> float:
        loops.copy(x, y)
        return 2 * x.nbytes

    def triad() -> float:
        loops.triad(x, y, z)
        return 3 * x.nbytes

    return max(best_rate(copy), best_rate(triad))


def _peak_numpy(dtype: np.dtype) -> float:
    side, products = 768, 2 * threads.count()
    a, b = np.ones((side, side), dtype), np.ones((side, side), dtype)
    results = [np.empty((side, side), dtype) for _ in range(products)]

    def multiply() -> float:
        blas.share_out(lambda out: np.matmul(a, b, out=out), results)
        return 2.0 * side**3 * products

    multiply()
    return best_rate(multiply)


def _bandwidth_numpy(size: int) -> float:
    pieces = 4 * threads.count()
    x, y, z = (np.array_split(np.ones(size // 4, np.float32), pieces) for _ in range(3))

    def copy() -> float:
        blas.share_out(lambda k: np.copyto(y[k], x[k]), range(pieces))
        return 2 * size

    def add() -> float:
        blas.share_out(lambda k: np.add(x[k], y[k], out=z[k]), range(pieces))
        return 3 * size

    return max(best_rate(copy), best_rate(add))


def array_bytes() -> int:
    """Size of an array of which little stays in any cache: four times the last-level cache, as Linux tells it."""
    sizes = [SMALLEST_ARRAY // 4]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        if text.endswith("K") and text[:-1].isdecimal():
            sizes.append(int(text[:-1]) << 10)
    return 4 * max(sizes)
