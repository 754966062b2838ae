"""Which kernels a call launches, on what grids: its launcher is run with arrays that hold no numbers.

Nothing is computed, and no GPU is needed: what would go to the device is written down instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from minunet.kernels import KERNELS
from minunet.kernels.cuda import Source, driver

from .compiled import KERNELS as FOLDER


@dataclass(frozen=True)
class Launch:
    """shared: bytes of dynamic shared memory.  bytes: of the arrays that the kernel is given, each once.  numbers: its
    other arguments by name."""

    file: str
    kernel: str
    dtype: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int
    bytes: int
    numbers: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def blocks(self) -> int:
        return prod(self.grid)

    @property
    def threads(self) -> int:
        return prod(self.block)


class _Array(np.ndarray):
    """An array whose address is found where CuPy's arrays have it."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=self.ctypes.data)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.__array_interface__


class _Library:
    """NumPy in the place of CuPy: `empty` takes no memory until it is written, and nothing is copied."""

    cuda = SimpleNamespace(Device=lambda: SimpleNamespace(compute_capability="90"))

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: Any, dtype: Any) -> _Array:
        return np.empty(shape, dtype).view(_Array)

    def ascontiguousarray(self, a: Any) -> Any:
        return a if a.flags.c_contiguous else self.empty(a.shape, a.dtype)


def of_call(kernel: str, function: str, arguments: Mapping[str, Any], variant: str | None = None) -> list[Launch]:
    """What a variant launches for a call, in order; None: the variant that runs on the device by the room's rule.

    arguments: by name, outputs among them; arrays of NumPy with the shapes and strides of those on the device.
    """
    name = on_device(kernel, arguments) if variant is None else variant
    call = getattr(KERNELS[kernel].load(name), function)
    arrays = {key: a.view(_Array) if isinstance(a, np.ndarray) else a for key, a in arguments.items()}
    with _recording() as launches:
        call(**arrays)
    return launches


def on_device(kernel: str, arguments: Mapping[str, Any]) -> str:
    """The variant that runs a call on the device."""
    room = KERNELS[kernel]
    if room.rule is not None:
        return room.rule("cuda", dict(arguments))
    return [variant.name for variant in room.variants if variant.backend == "cuda"][-1]


@contextmanager
def _recording() -> Iterator[list[Launch]]:
    """What is launched inside the block; nothing runs."""
    launches: list[Launch] = []

    def record(
        source: Source, kernel: str, dtype: Any, grid: Any, block: Any, *arguments: Any, shared: int = 0
    ) -> None:
        given = {name: value for (_, name), value in zip(source.parameters[kernel], _flat(arguments), strict=True)}
        arrays = {(a.ctypes.data, a.strides): a for a in given.values() if isinstance(a, np.ndarray)}
        numbers = {name: value for name, value in given.items() if isinstance(value, (int, float))}
        launches.append(
            Launch(
                source.path.relative_to(FOLDER).as_posix(), kernel, str(np.dtype(dtype)), _sizes(grid), _sizes(block),
                shared, sum(a.nbytes for a in arrays.values()), numbers,
            )
        )  # fmt: skip

    with patch.object(Source, "launch", record), patch.object(driver, "_cupy", [_Library()]):
        yield launches


def _flat(arguments: tuple) -> Iterator[Any]:
    for argument in arguments:
        yield from _flat(argument) if isinstance(argument, tuple) else (argument,)


def _sizes(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(map(int, size))
