"""The stand-in for cupy.ndarray: an array in the emulated device's memory, as strict as the true one.

NumPy computes, on the same memory, what CuPy would compute by kernels of its own; results get fresh device memory.
"""

import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .errors import EmulationError
from .launching import Allocation, Runtime

NO_CONVERSION = ("Implicit conversion to a NumPy array is not allowed. "
                 "Please use `.get()` to construct a NumPy array explicitly.")  # fmt: skip


@dataclass
class Transfers:
    """What has crossed between host and device, and how often the host waited for the device."""

    to_device: int = 0
    bytes_to_device: int = 0
    to_host: int = 0
    bytes_to_host: int = 0
    synchronizations: int = 0

    def reset(self) -> None:
        """Begin at 0 again."""
        for each in fields(self):
            setattr(self, each.name, 0)

    def sent(self, size: int) -> None:
        self.to_device += 1
        self.bytes_to_device += size

    def fetched(self, size: int) -> None:
        self.to_host += 1
        self.bytes_to_host += size
        self.synchronizations += 1


transfers = Transfers()


@dataclass(frozen=True)
class MemoryPointer:
    """An address in an allocation."""

    allocation: Allocation
    offset: int = 0

    @property
    def ptr(self) -> int:
        return self.allocation.pointer + self.offset

    def __add__(self, offset: int) -> "MemoryPointer":
        return MemoryPointer(self.allocation, self.offset + int(offset))

    def __sub__(self, offset: int) -> "MemoryPointer":
        return self + -offset

    def __int__(self) -> int:
        return self.ptr


@dataclass(frozen=True)
class Flags:
    c_contiguous: bool
    f_contiguous: bool
    owndata: bool

    def __getitem__(self, name: str) -> bool:
        return getattr(self, name.lower())

    @property
    def forc(self) -> bool:
        return self.c_contiguous or self.f_contiguous


def allocation_of(host: np.ndarray) -> Allocation | None:
    """The device memory that a NumPy array looks at, or None."""
    base: Any = host
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return getattr(base, "allocation", None)


def lay_out(owner: Runtime, shape: Any, dtype: Any, order: str = "C") -> np.ndarray:
    """A fresh array for NumPy in device memory."""
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int | np.integer) else tuple(int(n) for n in shape)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size < 0 or min(shape, default=1) < 0:
        raise ValueError("negative dimensions are not allowed")
    return np.ndarray(shape, dtype, Allocation(owner, size).memory(), order="F" if order == "F" else "C")


def like(owner: Runtime, host: np.ndarray, dtype: Any = None) -> np.ndarray:
    """Fresh device memory for the shape of an array, its axes in the same order in memory."""
    dtype = np.dtype(dtype or host.dtype)
    pattern = np.empty_like(host, dtype, order="K", subok=False)
    return np.ndarray(pattern.shape, dtype, Allocation(owner, pattern.nbytes).memory(), strides=pattern.strides)


def device_copy(owner: Runtime, host: np.ndarray) -> "ndarray":
    made = like(owner, host)
    made[...] = host
    return ndarray._of(made)


def unwrapped(value: Any) -> Any:
    """The NumPy form of an operand; arrays of the host are refused."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):  # those without axes too, but not NumPy's numbers
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, tuple | list):
        return type(value)(unwrapped(v) for v in value)
    if isinstance(value, dict):
        return {key: unwrapped(v) for key, v in value.items()}
    return value


def owner_in(values: Any) -> Runtime:
    """The runtime in whose memory the operands lie."""
    for value in values:
        if isinstance(value, ndarray):
            return value._allocation.owner
        if isinstance(value, tuple | list):
            try:
                return owner_in(value)
            except LookupError:
                continue
    raise LookupError


def wrapped(value: Any, owner: Runtime) -> Any:
    """A result of NumPy as the device has it: views stay views, everything else is copied to the device."""
    if isinstance(value, np.ndarray):
        return device_copy(owner, value) if allocation_of(value) is None else ndarray._of(value)
    if isinstance(value, np.generic):
        return device_copy(owner, np.asarray(value))
    if isinstance(value, tuple | list):
        return type(value)(wrapped(v, owner) for v in value)
    return value


def in_c_order(value: Any) -> Any:
    """A computed result as CuPy's kernels lay it out: in C order, unless it lies in Fortran's; views stay."""
    if isinstance(value, np.ndarray) and allocation_of(value) is None and not value.flags.f_contiguous:
        return np.asarray(value, order="C")
    return value


def _refuse(name: str, keywords: dict[str, Any]) -> None:
    """What NumPy's functions take and CuPy's do not; np.full(..., like=x) hands `device` over unasked."""
    for keyword in {"device", "initial", "where", "subok"} & keywords.keys():
        raise TypeError(f"{name}() got an unexpected keyword argument '{keyword}'")


def _delegated(name: str) -> Callable:
    """A method of numpy.ndarray, on device memory."""
    method = getattr(np.ndarray, name)

    @functools.wraps(method)
    def call(self: "ndarray", *args: Any, out: Any = None, **kwargs: Any) -> Any:
        _refuse(name, kwargs)
        if out is not None:
            method(self._host, *unwrapped(args), out=out._host, **unwrapped(kwargs))
            return out
        result = method(self._host, *unwrapped(args), **unwrapped(kwargs))
        return wrapped(in_c_order(result), self._allocation.owner)

    return call


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on the emulated device."""

    __slots__ = ("__weakref__", "_host")
    __array_priority__ = 100
    _host: np.ndarray
    __hash__ = None  # type: ignore[assignment]

    def __new__(
        cls, shape: Any, dtype: Any = float, memptr: MemoryPointer | None = None, strides: Any = None, order: Any = "C"
    ) -> "ndarray":
        from .standin import current_runtime

        dtype = np.dtype(dtype)
        if memptr is None:
            return cls._of(lay_out(current_runtime(), shape, dtype, order))
        memory = memptr.allocation.memory()
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        return cls._of(np.ndarray(shape, dtype, memory, memptr.offset, strides, order))

    @classmethod
    def _of(cls, host: np.ndarray) -> "ndarray":
        array = object.__new__(cls)
        array._host = host
        if not isinstance(host.base, np.ndarray):
            _roots.setdefault(id(host), array)
        return array

    @property
    def _allocation(self) -> Allocation:
        found = allocation_of(self._host)
        assert found is not None
        return found

    # ---------------------------------------------------------------- what it is

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    strides = property(lambda self: self._host.strides)
    itemsize = property(lambda self: self._host.itemsize)
    size = property(lambda self: self._host.size)
    ndim = property(lambda self: self._host.ndim)
    nbytes = property(lambda self: self._host.nbytes)

    @property
    def data(self) -> MemoryPointer:
        allocation = self._allocation
        return MemoryPointer(allocation, self._host.__array_interface__["data"][0] - allocation.pointer)

    @property
    def base(self) -> "ndarray | None":
        """The array that this is a view of."""
        root = self._host.base
        if not isinstance(root, np.ndarray):
            return None
        known = _roots.get(id(root))
        return ndarray._of(root) if known is None else known

    @property
    def extent(self) -> tuple[int, int, int]:
        """Where it begins and ends in memory, and the bytes of a number."""
        begin, end = np.lib.array_utils.byte_bounds(self._host)
        return begin, end, self.itemsize

    @property
    def flags(self) -> Flags:
        flags = self._host.flags
        return Flags(flags.c_contiguous, flags.f_contiguous, not isinstance(self._host.base, np.ndarray))

    @property
    def T(self) -> "ndarray":
        return ndarray._of(self._host.T)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False), "version": 3,
                "strides": None if self.flags.c_contiguous else self.strides}  # fmt: skip

    def __len__(self) -> int:
        return len(self._host)

    def __repr__(self) -> str:
        return f"device {self._host!r}"

    # ---------------------------------------------------------------- to the host

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(NO_CONVERSION)

    def get(self) -> np.ndarray:
        """A copy on the host; the host waits for it."""
        transfers.fetched(self.nbytes)
        return self._host.copy(order="K")

    def item(self, *index: int) -> Any:
        transfers.fetched(self.itemsize)
        return self._host.item(*index)

    def tolist(self) -> Any:
        return self.get().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __index__(self) -> int:
        return self.item().__index__()

    def set(self, host: np.ndarray) -> None:
        """Take the numbers of a host array of the same shape and dtype."""
        if not isinstance(host, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if host.dtype != self.dtype:
            raise TypeError(f"{self.dtype} array cannot be set to {host.dtype} array")
        if host.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {host.shape}")
        transfers.sent(host.nbytes)
        self._host[...] = host

    # ---------------------------------------------------------------- parts

    def __getitem__(self, index: Any) -> "ndarray":
        _count_masks(index)
        return wrapped(self._host[unwrapped(index)], self._allocation.owner)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, np.ndarray):
            raise TypeError("a host array cannot be assigned to a part of a device array; see ndarray.set")
        self._host[unwrapped(index)] = unwrapped(value)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def fill(self, value: Any) -> None:
        self._host.fill(unwrapped(value))

    def copy(self, order: str = "C") -> "ndarray":
        return device_copy(self._allocation.owner, self._host.copy(order))  # type: ignore[arg-type]

    def astype(self, dtype: Any, order: str = "K", casting: str = "unsafe", copy: bool = True) -> "ndarray":
        if not copy and self.dtype == np.dtype(dtype):
            return self
        converted = self._host.astype(dtype, order, casting)  # type: ignore[call-overload]
        return device_copy(self._allocation.owner, converted)

    # ---------------------------------------------------------------- arithmetic

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        owner = owner_in(inputs if out is None else (*inputs, *out))
        if out is not None:
            if not all(isinstance(array, ndarray) or array is None for array in out):
                raise TypeError("the output of an operation on device arrays must be a device array")
            kwargs["out"] = tuple(out)
        result = getattr(ufunc, method)(*unwrapped(inputs), **unwrapped(kwargs))
        if out is not None:
            return out[0] if len(out) == 1 else out
        return wrapped(in_c_order(result), owner)

    def __array_function__(self, function: Callable, types: Any, args: Any, kwargs: Any) -> Any:
        _refuse(function.__name__, kwargs)
        out = kwargs.pop("out", None)
        if out is not None:
            function(*unwrapped(args), out=unwrapped(out), **unwrapped(kwargs))
            return out
        result, owner = function(*unwrapped(args), **unwrapped(kwargs)), owner_in((self, *args, *kwargs.values()))
        return wrapped(result if function in KEEP_ORDER else in_c_order(result), owner)


KEEP_ORDER = (np.empty_like, np.zeros_like, np.ones_like, np.full_like, np.copy)

# The one wrapper of each array that is no view, by the address of what it wraps.
_roots: "weakref.WeakValueDictionary[int, ndarray]" = weakref.WeakValueDictionary()


def _count_masks(index: Any) -> None:
    """Selecting by a mask makes the host wait: the size of the result lies on the device."""
    parts = index if isinstance(index, tuple) else (index,)
    transfers.synchronizations += sum(isinstance(p, ndarray) and p.dtype == np.bool_ and p.ndim > 0 for p in parts)


DELEGATED = ("transpose", "reshape", "ravel", "view", "sum", "min", "max", "mean", "prod", "all", "any", "argmax",
             "argmin", "swapaxes", "squeeze", "flatten", "cumsum", "dot", "std", "var", "clip", "repeat", "diagonal",
             "take", "round", "sort")  # fmt: skip
for _name in DELEGATED:
    setattr(ndarray, _name, _delegated(_name))


def as_argument(value: Any) -> tuple[np.generic, np.dtype | None, Runtime | None]:
    """What a kernel would be handed: the number, and for arrays their dtype and where they lie."""
    if isinstance(value, ndarray):
        return np.uint64(value.data.ptr), value.dtype, value._allocation.owner
    if isinstance(value, MemoryPointer):
        return np.uint64(value.ptr), None, value.allocation.owner
    if isinstance(value, np.generic):
        return value, None, None
    if isinstance(value, bool):
        return np.bool_(value), None, None
    if isinstance(value, int):
        return np.int64(value), None, None
    if isinstance(value, float):
        return np.float64(value), None, None
    raise EmulationError(f"a kernel cannot be given a {type(value).__name__}")
