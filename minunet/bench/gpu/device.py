"""The GPU that is here: what it says of itself, and a clock that waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import nan
from typing import Any

from minunet.bench.limits import Limits
from minunet.errors import UsageError
from minunet.kernels.cuda import DeviceNotFound, cupy

ROW = 0.02  # seconds that a row of calls should take, so that the clock's own time does not count
LONGEST_ROW = 200  # calls

# Lanes of a multiprocessor for float32 and for float64, by compute capability (CUDA C++ Programming Guide, table of
# the throughput of arithmetic instructions).
LANES = {75: (64, 2), 80: (64, 32), 86: (128, 2), 87: (128, 2), 89: (128, 2), 90: (128, 64), 100: (128, 64),
         103: (128, 2), 110: (128, 2), 120: (128, 2), 121: (128, 2)}  # fmt: skip


def require() -> Any:
    """CuPy with a device; UsageError with what is missing."""
    try:
        return cupy()
    except (ImportError, DeviceNotFound) as error:
        raise UsageError(str(error)) from None


def name() -> str:
    """What the device is called."""
    found = require().cuda.runtime.getDeviceProperties(0)["name"]
    return found.decode() if isinstance(found, bytes) else str(found)


def limits() -> Limits:
    """Peak and bandwidth from the device's own clocks and widths; nan where it does not tell them."""
    device = require().cuda.Device()
    attributes = getattr(device, "attributes", {})
    lanes = LANES.get(int(device.compute_capability))
    try:
        cycles = attributes["MultiProcessorCount"] * attributes["ClockRate"] * 1e3
        width = attributes["GlobalMemoryBusWidth"] / 8
        bandwidth = 2 * attributes["MemoryClockRate"] * 1e3 * width  # two transfers a cycle
    except KeyError:
        lanes = None
    if lanes is None:
        return Limits(0, {"float32": nan, "float64": nan}, nan, f"{name()} does not tell its clocks")
    peak = {dtype: 2.0 * cycles * count for dtype, count in zip(("float32", "float64"), lanes, strict=True)}
    return Limits(0, peak, bandwidth, f"{name()}, by its attributes, without tensor cores")


def versions() -> dict[str, str]:
    """Of CuPy, the CUDA runtime that it was made for, and the driver."""
    library = require()
    runtime = library.cuda.runtime
    return {
        "cupy": library.__version__,
        "CUDA runtime": _dotted(runtime.runtimeGetVersion()),
        "driver for CUDA": _dotted(runtime.driverGetVersion()),
    }


def _dotted(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def synchronize() -> None:
    """Wait until everything that was launched is done."""
    require().cuda.Device().synchronize()


def seconds_a_call(action: Callable[[], Any], calls: int) -> float:
    """Seconds of a call in a row of so many, from the first one's begin to the last one's end on the device.

    By CUDA's events where the library has them, else by the clock around a row that is waited for.
    """
    cuda = require().cuda
    if not hasattr(cuda, "Event"):
        synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            action()
        synchronize()
        return (time.perf_counter() - start) / calls
    begin, end = cuda.Event(), cuda.Event()
    begin.record()
    for _ in range(calls):
        action()
    end.record()
    end.synchronize()
    return cuda.get_elapsed_time(begin, end) * 1e-3 / calls


def calls_in_a_row(action: Callable[[], Any]) -> int:
    """So many that a row takes ROW seconds; the action has been called before, and so is compiled."""
    return max(1, min(LONGEST_ROW, int(ROW / max(seconds_a_call(action, 1), 1e-9))))
