"""The stand-in for the module CuPy: the few names of it that minunet uses, over the emulator."""

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from . import arrays
from .arrays import as_argument, device_copy, like, ndarray, transfers, unwrapped, wrapped
from .counting import Counts
from .errors import EmulationError
from .launching import Runtime, Schedule, compiled

LARGEST_BLOCK = (1024, 1024, 64)
LARGEST_GRID = (2**31 - 1, 65535, 65535)
THREADS = 1024
STATIC_SHARED = 48 << 10
MOST_SHARED = 227 << 10
MEMORY = 8 << 30
BY_NUMPY = (
    "abs", "absolute", "add", "all", "allclose", "any", "argmax", "argmin", "array_equal", "broadcast_to", "clip",
    "concatenate", "cumsum", "divide", "equal", "exp", "expand_dims", "flip", "greater", "greater_equal",
    "isfinite", "isnan", "less", "less_equal", "log", "logical_and", "logical_not", "logical_or", "matmul", "max",
    "maximum", "mean", "min", "minimum", "moveaxis", "multiply", "nan_to_num", "negative", "not_equal", "pad",
    "power", "prod", "ravel", "repeat", "reshape", "rint", "roll", "sign", "split", "sqrt", "square", "squeeze",
    "stack", "std", "subtract", "sum", "swapaxes", "tanh", "tensordot", "transpose", "tril", "unique", "var",
    "where", "may_share_memory", "shares_memory",
)  # fmt: skip
TYPES = (
    "bool_", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "intp", "float16",
    "float32", "float64", "dtype", "generic", "inf", "nan", "pi", "newaxis", "integer", "floating", "issubdtype",
    "finfo", "iinfo", "result_type",
)  # fmt: skip

_current: list[Runtime] = []


def current_runtime() -> Runtime:
    """The runtime of the innermost `emulated`."""
    return _current[-1]


class CUDARuntimeError(RuntimeError):
    """CuPy's error of the same name."""


class Function:
    """A kernel of a module."""

    def __init__(self, module: "RawModule", name: str) -> None:
        self.module, self.name = module, name
        self.signature = module.compiled.signature(name)
        self.max_dynamic_shared_size_bytes = STATIC_SHARED

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple, *, shared_mem: int = 0) -> None:
        grid, block = _three(grid), _three(block)
        self._check_sizes(grid, block, shared_mem)
        values = self._checked(args)
        names = self.module.compiled.kernels[self.name].parameters
        held = {name: arg.extent for name, arg in zip(names, args, strict=True) if isinstance(arg, ndarray)}
        compiled, schedule = self.module.compiled, self.module.schedule
        counted = compiled.run(self.name, grid, block, values, shared_mem, schedule, held)
        if compiled.owner.build == "counted":
            counts = self.module.counts.setdefault(self.name, Counts())
            counts.launches += 1
            for site in counted:
                counts.add(site, compiled.line(site.site))

    def _fail(self, reason: str) -> None:
        raise EmulationError(f"{self.name}: {reason}")

    def _check_sizes(self, grid: tuple[int, ...], block: tuple[int, ...], shared: int) -> None:
        if not all(1 <= size <= most for size, most in zip(grid, LARGEST_GRID, strict=True)):
            self._fail(f"a grid of {grid} blocks is more than a device takes, or none")
        threads = int(np.prod(block))
        if not all(1 <= n <= most for n, most in zip(block, LARGEST_BLOCK, strict=True)) or threads > THREADS:
            self._fail(f"a block of {block} threads is more than a device takes, or none")
        if threads > self.module.compiled.most_threads(self.name):
            self._fail(f"a block of {threads} threads is more than its launch bounds")
        if shared > self.max_dynamic_shared_size_bytes:
            self._fail(f"{shared} bytes of dynamic shared memory, allowed are {self.max_dynamic_shared_size_bytes}")
        every = shared + self.module.compiled.static_shared(self.name)
        allowed = max(self.max_dynamic_shared_size_bytes, STATIC_SHARED)
        if every > MOST_SHARED or (every > allowed and shared <= STATIC_SHARED == allowed):
            self._fail(f"{every} bytes of shared memory, allowed are {min(allowed, MOST_SHARED)}")

    def _checked(self, args: tuple) -> list[np.generic]:
        """The arguments, if they have exactly the types that the kernel reads."""
        if len(args) != len(self.signature):
            self._fail(f"takes {len(self.signature)} arguments, found {len(args)}")
        values = []
        for number, (arg, (is_pointer, dtype)) in enumerate(zip(args, self.signature, strict=True)):
            value, element, owner = as_argument(arg)
            if is_pointer:
                self._check_pointer(number, value, element, owner, dtype)
            elif element is not None or value.dtype != dtype:
                found = "an array" if element is not None else f"a {value.dtype}"
                self._fail(f"argument {number} must be a {dtype}, found {found}")
            values.append(value)
        return values

    def _check_pointer(self, number: int, value: Any, element: Any, owner: Runtime | None, dtype: np.dtype) -> None:
        if element is None and owner is None and not (value.dtype in (np.uint64, np.int64) and value == 0):
            self._fail(f"argument {number} must be an array of {dtype} on the device, found {value!r}")
        if element is not None and element != dtype:
            self._fail(f"argument {number} must be an array of {dtype}, found one of {element}")
        if owner is not None and owner is not self.module.compiled.owner:
            self._fail(f"argument {number} lies on the device of another build ({owner.build})")


class RawModule:
    """A text in CUDA C, compiled for the emulator."""

    owner: Runtime
    schedule: Schedule
    counts: dict[str, Counts]

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        self.compiled = compiled(self.owner, code, tuple(options))

    def get_function(self, name: str) -> Function:
        if name not in self.compiled.kernels:
            raise CUDARuntimeError(f"CUDA_ERROR_NOT_FOUND: named symbol not found: {name}")
        return Function(self, name)


class MemoryPool:
    """Memory is given back at once here, so there is nothing to pool."""

    def free_all_blocks(self) -> None:
        pass

    def free_bytes(self) -> int:
        return 0

    def used_bytes(self) -> int:
        return arrays.Allocation.used

    def total_bytes(self) -> int:
        return arrays.Allocation.used


class Device:
    """The one emulated device."""

    id = 0
    compute_capability = "80"

    def __init__(self, device: int = 0) -> None:
        if device != 0:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def synchronize(self) -> None:
        transfers.synchronizations += 1

    def use(self) -> None:
        pass

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: Any) -> None:
        pass


def _three(size: Any) -> tuple[int, int, int]:
    sizes = tuple(int(n) for n in size)
    return (*sizes, *(1,) * (3 - len(sizes)))  # type: ignore[return-value]


def standin(owner: Runtime, schedule: Schedule) -> ModuleType:
    """A module that looks like CuPy, whose arrays and kernels live in a runtime."""
    module = ModuleType("cupy")
    for name in BY_NUMPY:
        setattr(module, name, _by_numpy(getattr(np, name)))
    for name in TYPES:
        setattr(module, name, getattr(np, name))
    for name, value in _creation(owner).items():
        setattr(module, name, value)
    pool = MemoryPool()
    counts: dict[str, Counts] = {}
    of_this = {"owner": owner, "schedule": schedule, "counts": counts}
    attributes = {
        "__version__": "emulated",
        "ndarray": ndarray,
        "RawModule": type("RawModule", (RawModule,), of_this),
        "counts": lambda: counts,
        "transfers": transfers,
        "get_default_memory_pool": lambda: pool,
        "cuda": SimpleNamespace(
            runtime=SimpleNamespace(
                getDeviceCount=lambda: 1,
                CUDARuntimeError=CUDARuntimeError,
                runtimeGetVersion=lambda: 13000,
                driverGetVersion=lambda: 13000,
                deviceSynchronize=Device().synchronize,
                memGetInfo=lambda: (MEMORY - arrays.Allocation.used, MEMORY),
                getDeviceProperties=lambda device: {"name": b"emulated device"},
            ),
            Device=Device,
            Stream=SimpleNamespace(null=SimpleNamespace(synchronize=Device().synchronize, ptr=0)),
            MemoryPointer=arrays.MemoryPointer,
            is_available=lambda: True,
        ),
    }
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def _by_numpy(function: Any) -> Any:
    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is not None:
            function(*unwrapped(args), out=unwrapped(out), **unwrapped(kwargs))
            return out
        return wrapped(function(*unwrapped(args), **unwrapped(kwargs)), current_runtime())

    call.__name__ = call.__qualname__ = getattr(function, "__name__", "function")
    return call


def _creation(owner: Runtime) -> dict[str, Any]:
    """The functions that make arrays."""

    def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
        return ndarray._of(arrays.lay_out(owner, shape, dtype, order))

    def full(shape: Any, value: Any, dtype: Any = None, order: str = "C") -> ndarray:
        array = empty(shape, np.result_type(unwrapped(value)) if dtype is None else dtype, order)
        array.fill(value)
        return array

    def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
        return full(shape, 0, dtype, order)

    def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
        return full(shape, 1, dtype, order)

    def empty_like(x: ndarray, dtype: Any = None) -> ndarray:
        return ndarray._of(like(owner, unwrapped(x), dtype))

    def full_like(x: ndarray, value: Any, dtype: Any = None) -> ndarray:
        array = empty_like(x, dtype)
        array.fill(value)
        return array

    def array(x: Any, dtype: Any = None, copy: bool = True, order: str = "K") -> ndarray:
        if isinstance(x, ndarray):
            same = dtype is None or x.dtype == np.dtype(dtype)
            if same and not copy and order in ("K", "A"):
                return x
            return device_copy(owner, np.array(x._host, dtype, order=order))  # type: ignore[call-overload]
        host = np.asarray(x, dtype)
        if order in ("K", "A"):  # as CuPy does: any other order than these two becomes C
            order = "F" if host.flags.fnc else "C"
        made = empty(host.shape, host.dtype, order)
        made._host[...] = host
        transfers.sent(host.nbytes)
        return made

    def asarray(x: Any, dtype: Any = None, order: str = "K") -> ndarray:
        return array(x, dtype, False, order)

    def ascontiguousarray(x: Any, dtype: Any = None) -> ndarray:
        given = asarray(x, dtype)
        return given if given.flags.c_contiguous else given.copy("C")

    def asnumpy(x: Any, **_: Any) -> np.ndarray:
        return x.get() if isinstance(x, ndarray) else np.asarray(x)

    def copy(x: ndarray, order: str = "K") -> ndarray:
        return array(x, order=order)

    def copyto(to: ndarray, value: Any) -> None:
        to[...] = value

    def made(function: Any) -> Any:
        return lambda *args, **kwargs: device_copy(owner, function(*args, **kwargs))

    def zeros_like(x: ndarray, dtype: Any = None) -> ndarray:
        return full_like(x, 0, dtype)

    def ones_like(x: ndarray, dtype: Any = None) -> ndarray:
        return full_like(x, 1, dtype)

    own = (empty, full, zeros, ones, empty_like, full_like, zeros_like, ones_like, array, asarray, ascontiguousarray,
           asnumpy, copy, copyto)  # fmt: skip
    return {
        **{function.__name__: function for function in own},
        "arange": made(np.arange),
        "linspace": made(np.linspace),
        "eye": made(np.eye),
    }
