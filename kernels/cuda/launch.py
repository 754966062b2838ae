"""From a call in Python to a kernel that runs: compiling a .cu file once, and checking what a kernel is given.

A kernel that gets an int where it expects 64 bits, or float64 where it expects float32, reads nonsense without
complaint.  So the declaration `extern "C" __global__ void name(...)` is read from the file, and every argument is
checked and converted by it.
"""

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np

from .driver import cupy, on_device

HERE = Path(__file__).parent
OPTIONS = ("--std=c++17", "-ftz=true")  # the second CuPy adds in any case: said, so that tables are of the same code
REAL = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
SCALARS = {"int": np.int32, "index": np.int64, "float": np.float32, "double": np.float64, "bool": np.bool_}
ELEMENTS = {"float": np.float32, "double": np.float64, "unsigned char": np.uint8, "long long": np.int64}
LARGEST_GRID = (2**31 - 1, 65535, 65535)
STATIC_SHARED = 48 << 10  # bytes of shared memory a block may have without being allowed more

_INCLUDE = re.compile(r'^#include "([\w.]+)"$', re.MULTILINE)
_KERNEL = re.compile(r'extern "C" __global__ void(?:\s+__launch_bounds__\([^)]*\))?\s+(\w+)\(([^)]*)\)')
_PARAMETER = re.compile(r"^(const )?([a-z ]+?)(\*)?( __restrict__)? (\w+)$")


class Source:
    """A .cu file: `launch` runs its kernels, compiled once for each dtype."""

    def __init__(self, path: str | Path) -> None:
        """path: of the file, or of the Python file beside it that launches its kernels."""
        self.path = Path(path).with_suffix(".cu")
        self._modules: dict[tuple, Any] = {}
        self._functions: dict[tuple, Any] = {}

    @functools.cached_property
    def code(self) -> str:
        """Its text with what it includes in it, since a cache of compiled code looks at the text alone."""
        return expanded(self.path, set())

    @functools.cached_property
    def parameters(self) -> dict[str, list[tuple[str, str]]]:
        """(type, name) of every parameter of every kernel."""
        return parameters(self.code)

    def module(self, dtype: np.dtype, options: tuple[str, ...] = ()) -> Any:
        """The compiled file, once per process; CuPy keeps it on disk, so that the next process need not compile."""
        key = cupy(), dtype, options  # what stands for CuPy may change, as in tests
        if key not in self._modules:
            self._modules[key] = cupy().RawModule(code=self.code, options=(*OPTIONS, f"-DREAL={REAL[dtype]}", *options))
        return self._modules[key]

    def function(self, kernel: str, dtype: np.dtype) -> Any:
        """One of its kernels, ready to be launched; looked up once, since that costs as much as a launch."""
        key = cupy(), dtype, kernel
        if key not in self._functions:
            self._functions[key] = self.module(dtype).get_function(kernel)
        return self._functions[key]

    def launch(
        self,
        kernel: str,
        dtype: Any,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        *arguments: Any,
        shared: int = 0,
    ) -> None:
        """Run a kernel on CuPy's current stream.

        dtype: what `real` stands for.  arguments: in the kernel's order; tuples among them, as `picture` gives, are
        taken apart.  shared: bytes of dynamic shared memory.
        Raises TypeError or OverflowError where an argument is not what the kernel declares, ValueError for a grid that
        no device takes.
        """
        grid, block = _three(grid), _three(block)
        if not all(1 <= size <= most for size, most in zip(grid, LARGEST_GRID, strict=True)):
            raise ValueError(f"{self.path.name}: {kernel} cannot be launched on a grid of {grid} blocks")
        real = np.dtype(dtype)
        function = self.function(kernel, real)
        if shared > STATIC_SHARED:
            function.max_dynamic_shared_size_bytes = shared
        function(grid, block, self.converted(kernel, REAL[real], arguments), shared_mem=shared)

    def converted(self, kernel: str, real: str, arguments: tuple) -> tuple:
        """The arguments as the kernel's declaration has them; `real` is "float" or "double"."""
        given = [a for argument in arguments for a in (argument if isinstance(argument, tuple) else (argument,))]
        declared = self.parameters[kernel]
        if len(given) != len(declared):
            raise TypeError(f"{self.path.name}: {kernel} takes {len(declared)} arguments, found {len(given)}")
        return tuple(
            _argument(f"{self.path.name}: {kernel}: {name}", kind.replace("real", real), value)
            for (kind, name), value in zip(declared, given, strict=True)
        )


def expanded(path: Path, seen: set[str]) -> str:
    """The text of a file with the files it includes; they lie in this folder or beside it."""
    def text(match: re.Match) -> str:
        name = match[1]
        found = next((p for p in (path.parent / name, path.parent.parent / name, HERE / name) if p.exists()), None)
        if found is None or name in seen:  # the emulator's own are left to its compiler
            return match[0] if found is None else ""
        seen.add(name)
        return expanded(found, seen)

    return _INCLUDE.sub(text, text_of(path).replace("#pragma once\n", ""))


def text_of(path: Path) -> str:
    """What stands in a file."""
    return path.read_text(encoding="utf-8")


def parameters(code: str) -> dict[str, list[tuple[str, str]]]:
    """(type, name) of every parameter of every kernel in a text; a pointer is "real*", const or not."""
    return {name: [_parameter(part) for part in listed.split(",")] for name, listed in _KERNEL.findall(code)}


def _parameter(text: str) -> tuple[str, str]:
    match = _PARAMETER.match(" ".join(text.split()))
    if match is None:
        raise ValueError(f"a kernel's parameter must read like 'const real* x' or 'int n', found {text.strip()!r}")
    return match[2] + (match[3] or ""), match[5]


def _argument(name: str, kind: str, value: Any) -> Any:
    """`value` as a kernel's parameter of this type."""
    if kind.endswith("*"):
        element = np.dtype(ELEMENTS[kind[:-1]])
        if value is None:
            return np.uint64(0)  # a null pointer: "not given"
        if not on_device(value) or value.dtype != element:
            found = f"{value.dtype} on the device" if on_device(value) else f"a {type(value).__name__}"
            raise TypeError(f"{name} must be an array of {element} on the device, found {found}")
        return value
    scalar = SCALARS[kind]
    if np.issubdtype(scalar, np.integer) and int(value) != value:
        raise TypeError(f"{name} must be an integer, found {value!r}")
    if scalar is np.int32 and not -(2**31) <= value < 2**31:
        raise OverflowError(f"{name} must fit into 32 bits, found {value}")
    return scalar(value)


def _three(size: int | tuple[int, ...]) -> tuple[int, int, int]:
    sizes = (size,) if isinstance(size, int) else tuple(size)
    return (*sizes, *(1,) * (3 - len(sizes)))  # type: ignore[return-value]
