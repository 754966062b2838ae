"""From Python to the runtime library: memory, modules and launches."""

import ctypes
import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import explaining
from .building import kernels, module_library, runtime_library
from .counting import SiteCounts
from .errors import EmulationError

ORDERS = {"ascending": 0, "descending": 1, "random": 2}
LETTERS = {"?": np.bool_, "B": np.uint8, "i": np.int32, "I": np.uint32, "q": np.int64, "Q": np.uint64,
           "f": np.float32, "d": np.float64}  # fmt: skip
_lock = threading.RLock()  # the runtime runs one launch at a time


class Launch(ctypes.Structure):
    """The same fields in the same order as in state.hpp."""

    _fields_ = [
        ("kernel", ctypes.c_void_p),
        ("arguments", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_void_p),
        ("shared_end", ctypes.c_void_p),
        ("image", ctypes.c_void_p),
        ("image_end", ctypes.c_void_p),
        ("dynamic_bytes", ctypes.c_uint64),
        ("order", ctypes.c_int),
        ("early_copies", ctypes.c_int),
        ("counted", ctypes.c_int),
        ("seed", ctypes.c_uint64),
    ]


class Report(ctypes.Structure):
    """What went wrong: the same fields in the same order as in state.hpp."""

    _fields_ = [
        ("text", ctypes.c_char * 1024),
        ("address", ctypes.c_uint64),
        ("site", ctypes.c_uint64),
        ("other_site", ctypes.c_uint64),
        ("block", ctypes.c_uint * 3),
        ("thread", ctypes.c_uint * 3),
        ("dynamic", ctypes.c_uint64),
    ]


@dataclass(frozen=True)
class Schedule:
    """The order of blocks and threads, and when asynchronous copies are done."""

    order: str = "ascending"
    seed: int = 0
    early_copies: bool = False


class Runtime:
    """The runtime library of one build."""

    def __init__(self, build: str) -> None:
        self.build = build
        self.library = ctypes.CDLL(str(runtime_library(build)))
        self.library.emulator_report.restype = ctypes.POINTER(Report)
        self.library.emulator_counts.restype = ctypes.POINTER(SiteCounts)
        self.library.emulator_allocate.restype = ctypes.c_void_p
        self.library.emulator_allocate.argtypes = [ctypes.c_uint64]
        self.library.emulator_free.argtypes = [ctypes.c_void_p]

    def report(self) -> Report:
        """Of the launch that has just failed."""
        return self.library.emulator_report().contents

    def counts(self) -> list[SiteCounts]:
        """Of the last launch."""
        number = ctypes.c_uint64()
        first = self.library.emulator_counts(ctypes.byref(number))
        return [SiteCounts.from_buffer_copy(first[i]) for i in range(number.value)]


@functools.cache
def runtime(build: str) -> Runtime:
    return Runtime(build)


class Allocation:
    """Memory of the device, poisoned, given back when nothing refers to it any more."""

    used = 0  # bytes of all that live

    def __init__(self, owner: Runtime, size: int) -> None:
        self.owner, self.size = owner, size
        with _lock:
            self.pointer: int = owner.library.emulator_allocate(size)
            Allocation.used += size

    def __del__(self) -> None:
        with _lock:
            self.owner.library.emulator_free(self.pointer)
            Allocation.used -= self.size

    def memory(self) -> Any:
        """The bytes for NumPy; whoever holds them holds the allocation."""
        memory: Any = (ctypes.c_ubyte * self.size).from_address(self.pointer)
        memory.allocation = self
        return memory


class Module:
    """A compiled .cu text."""

    def __init__(self, owner: Runtime, code: str, options: tuple[str, ...]) -> None:
        self.owner, self.code = owner, code
        self.path: Path = module_library(code, options, owner.build)
        self.library = ctypes.CDLL(str(self.path))
        self.kernels = kernels(code)
        bound = self.library.emulated_bound
        bound.restype = ctypes.c_void_p
        self.bounds: list[int | None] = [bound(which) for which in range(4)]

    def signature(self, kernel: str) -> list[tuple[bool, Any]]:
        """(whether it is a pointer, dtype) of every parameter."""
        function = getattr(self.library, f"emulated_signature_{kernel}")
        function.restype = ctypes.c_char_p
        text = function().decode()
        half = len(text) // 2
        return [(p == "P", np.dtype(LETTERS[c])) for p, c in zip(text[:half], text[half:], strict=True)]

    def most_threads(self, kernel: str) -> int:
        """Its launch bounds."""
        return getattr(self.library, f"emulated_threads_{kernel}")()

    def static_shared(self, kernel: str) -> int:
        """Bytes of its static shared memory."""
        return sum(size for _, size in explaining.shared_arrays(self.path).get(kernel, {}).values())

    def run(
        self,
        kernel: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: list[np.generic],
        dynamic_bytes: int,
        schedule: Schedule,
        arrays: dict[str, tuple[int, int, int]],
    ) -> list[SiteCounts]:
        """Run a kernel to its end, or raise EmulationError; what was counted, in the build "counted".

        arrays: where the arrays that it is given begin and end, and the bytes of a number, to name them in errors.
        """
        places = (ctypes.c_void_p * max(1, len(arguments)))()
        kept = [np.array(argument) for argument in arguments]
        for number, argument in enumerate(kept):
            places[number] = argument.ctypes.data
        launch = Launch(
            kernel=ctypes.cast(getattr(self.library, f"emulated_call_{kernel}"), ctypes.c_void_p),
            arguments=ctypes.addressof(places),
            grid=grid,
            block=block,
            shared=self.bounds[0],
            shared_end=self.bounds[1],
            image=self.bounds[2],
            image_end=self.bounds[3],
            dynamic_bytes=dynamic_bytes,
            order=ORDERS[schedule.order],
            early_copies=schedule.early_copies,
            counted=self.owner.build == "counted",
            seed=schedule.seed,
        )
        with _lock:
            if self.owner.library.emulator_launch(ctypes.byref(launch)):
                raise EmulationError(self._explained(kernel, self.owner.report(), dynamic_bytes, arrays))
            return self.owner.counts()

    def _explained(self, kernel: str, report: Report, dynamic_bytes: int, arrays: dict) -> str:
        """An error in words: where, by whom, what."""
        text = f"{kernel}: block {tuple(report.block)}, thread {tuple(report.thread)}: {report.text.decode()}"
        if report.address:
            places = dict(arrays)
            for name, (offset, size) in explaining.shared_arrays(self.path).get(kernel, {}).items():
                begin = (self.bounds[2] or 0) + offset
                places[f"shared {name}"] = begin, begin + size, 4
            if dynamic_bytes:
                places["dynamic shared memory"] = report.dynamic, report.dynamic + dynamic_bytes, 4
            text += f"\n  at {explaining.named(report.address, places)}"
        for what, site in (("in", report.site), ("the other access: in", report.other_site)):
            if site:
                text += f"\n  {what} {explaining.quoted(self.code, self.line(site))}"
        return text

    def line(self, site: int) -> int:
        """The line of the text that a place in its machine code stems from."""
        return explaining.line_of(self.path, site - (self.bounds[2] or 0))


@functools.cache
def compiled(owner: Runtime, code: str, options: tuple[str, ...]) -> Module:
    """A text compiled for a build, once per process."""
    return Module(owner, code, options)
