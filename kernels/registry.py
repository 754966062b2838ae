"""Which implementations ("variants") a kernel has, and which one runs.

A kernel is a room, that is a sub-package: ``reference.py`` in it defines the functions and their
signatures, every further variant is one more file with the same functions, and one line in the room's
``__init__.py`` lists it.  A variant is imported when it is first used, and its signatures are compared with the
reference's at that moment.

Which variant runs is decided by where the arrays lie (those on a device run on "cuda"), by the backend
(``use_backend``), the policy (``policy``), the room's rule and by overrides (``use``); never by timing, thread count
or position, so that the same call gives the same bits.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from .cuda.driver import cupy, on_device

BACKENDS = ("numpy", "numba", "cuda")
POLICIES = ("fast", "exact")


class KernelNotFound(LookupError):
    """No variant of this name, or none for this backend."""


@dataclass(frozen=True)
class Variant:
    """One implementation of a kernel: the file `name`.py of the room, for one backend.

    `line` says in a few words what it adds.  `exact`: whether sums of small integers come out to the last bit; an
    algorithm that trades multiplications for roundings does not do that, and is for the policy "fast".
    `product_error`: how large a part of each product may be lost before it is added, where inputs are rounded first.
    """

    name: str
    backend: str
    line: str
    exact: bool = True
    product_error: float = 0.0


@dataclass
class Kernel:
    """A kernel's functions, its variants in the order they are listed, and the rule that picks among them.

    `rule(backend, arguments)` gets the backend's name and the call's arguments by name, and returns a variant's
    name.  It defaults to the last variant listed for the backend.
    """

    name: str
    package: str
    functions: tuple[str, ...]
    variants: tuple[Variant, ...]
    rule: Callable[[str, dict[str, Any]], str] | None = None
    _loaded: dict[str, ModuleType] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for variant in self.variants:
            if variant.backend not in BACKENDS:
                raise ValueError(f"{self.name}: variant {variant.name!r} names no known backend: {variant.backend!r}")
        KERNELS[self.name] = self

    def variant(self, name: str) -> Variant:
        """The variant of this name; KernelNotFound lists the names there are."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = ", ".join(v.name for v in self.variants)
        raise KernelNotFound(f"kernel {self.name} has no variant {name!r}; it has: {known}")

    def load(self, name: str) -> ModuleType:
        """Import a variant's file and hold its signatures against the reference's."""
        if name not in self._loaded:
            self.variant(name)
            module = importlib.import_module(f".{name}", self.package)
            self.check(module)
            self._loaded[name] = module
        return self._loaded[name]

    def check(self, module: ModuleType) -> None:
        """Raise TypeError unless every function is there with the reference's signature."""
        from inspect import signature  # costs 10 ms, and only a first use needs it

        reference = importlib.import_module(".reference", self.package)
        for function in self.functions:
            expected = signature(getattr(reference, function)).parameters.keys()
            if not hasattr(module, function):
                raise TypeError(f"{module.__name__} lacks {function}({', '.join(expected)})")
            found = signature(getattr(module, function)).parameters.keys()
            if list(found) != list(expected):
                raise TypeError(
                    f"{module.__name__}.{function} takes ({', '.join(found)}), expected ({', '.join(expected)})"
                )

    def choose(self, arguments: dict[str, Any] | None = None) -> str:
        """Name of the variant that a call with these arguments runs."""
        backend = current_backend() if arguments is None else self.backend_of(arguments)
        override = _overrides.get(self.name)
        if override is not None and (self.variant(override).backend == "cuda") == (backend == "cuda"):
            return override
        if self.rule is not None:
            return self.rule(backend, arguments or {})
        names = [v.name for v in self.variants if v.backend == backend]
        if not names:
            raise KernelNotFound(f"kernel {self.name} has no implementation for backend {backend!r}")
        return names[-1]

    def backend_of(self, arguments: dict[str, Any]) -> str:
        """Where a call with these arguments runs: on the device if its arrays lie there, else on the host's backend.

        TypeError where some lie here and some there, or all on the host although the backend in force is "cuda".
        """
        there = {on_device(a) for a in arguments.values() if isinstance(a, np.ndarray) or on_device(a)}
        if there == {True, False}:
            raise TypeError(f"{self.name}: some of the arrays lie on the GPU and some do not; move them to one place")
        if there == {True}:
            return "cuda"
        backend = current_backend()
        if there and backend == "cuda":
            raise TypeError(f'{self.name}: the backend in force is "cuda", but the arrays lie on the host; move them')
        return backend

    def run(self, function: str, **arguments: Any) -> None:
        """Call `function` of the variant chosen for these arguments."""
        variant = self.choose(arguments)
        call = getattr(self.load(variant), function)
        if _observer:
            _observer[-1](self.name, function, variant, arguments, lambda: call(**arguments))
        else:
            call(**arguments)


KERNELS: dict[str, Kernel] = {}
_overrides: dict[str, str] = {}
_backend: list[str] = []
_policy = ["fast"]
_observer: list[Callable[..., None]] = []


@contextmanager
def observe(observer: Callable[[str, str, str, dict[str, Any], Callable[[], None]], None]) -> Iterator[None]:
    """Inside the block every kernel is run through observer(kernel, function, variant, arguments, run).

    The observer must call `run()` once; it may look at the clock before and after.
    """
    _observer.append(observer)
    try:
        yield
    finally:
        _observer.pop()


def current_backend() -> str:
    """Name of the backend in force: what `use_backend` set, else numba where it is installed, else numpy."""
    if not _backend:
        _backend.append("numba" if importlib.util.find_spec("numba") else "numpy")
    return _backend[-1]


def _require(backend: str) -> None:
    """ImportError, saying what to install, where a backend's library is missing."""
    if backend == "numba" and not importlib.util.find_spec("numba"):
        raise ImportError('Numba is not installed; install it with: pip install "minunet[cpu]"')
    if backend == "cuda":
        cupy()


class use_backend:
    """Run everything on "numpy", "numba" or "cuda" from here on; as a context manager, inside the block.

    "cuda": models that are made, and arrays that are handed to operations, are put on the GPU.  Arrays that lie there
    are computed there under any backend.

    Raises ValueError for another name, ImportError where Numba or CuPy is not installed, and cuda.DeviceNotFound where
    there is no driver or no GPU.
    """

    def __init__(self, name: str) -> None:
        if name not in BACKENDS:
            raise ValueError(f"backend {name!r} is not known; there are: {', '.join(BACKENDS)}")
        _require(name)
        self._previous = current_backend()
        _backend[:] = [name]

    def __enter__(self) -> "use_backend":
        return self

    def __exit__(self, *_: object) -> None:
        _backend[:] = [self._previous]


def current_policy() -> str:
    """The policy in force, "fast" unless `policy` set another."""
    return _policy[-1]


class policy:
    """Which algorithms the rules may choose, from here on; as a context manager, inside the block.

    "fast" (the default): for float32 convolutions also those that save multiplications at the price of roundings
    (Winograd's; `cases.py` states the bound).  "exact": only those that compute every product, so that sums of small
    integers are exact.  float64 is always computed exactly.  Raises ValueError for another name.
    """

    def __init__(self, name: str) -> None:
        if name not in POLICIES:
            raise ValueError(f"policy {name!r} is not known; there are: {', '.join(POLICIES)}")
        self._previous = current_policy()
        _policy[:] = [name]

    def __enter__(self) -> "policy":
        return self

    def __exit__(self, *_: object) -> None:
        _policy[:] = [self._previous]


class use:
    """Override the rule: ``use(conv2d="im2col")`` from here on, or as a context manager inside the block.

    Keywords are kernels, values are names of variants; None gives the choice back to the rule.  Raises
    KernelNotFound for a kernel or variant that does not exist, ImportError where it needs Numba or CuPy and that is
    missing.  A variant for the GPU counts for arrays that lie there, any other for those on the host.
    """

    def __init__(self, **variants: str | None) -> None:
        for kernel, variant in variants.items():
            if kernel not in KERNELS:
                raise KernelNotFound(f"there is no kernel {kernel!r}; there are: {', '.join(sorted(KERNELS))}")
            if variant is not None:
                _require(KERNELS[kernel].variant(variant).backend)
        self._previous = {kernel: _overrides.get(kernel) for kernel in variants}
        _set_overrides(variants)

    def __enter__(self) -> "use":
        return self

    def __exit__(self, *_: object) -> None:
        _set_overrides(self._previous)


def _set_overrides(variants: dict[str, str | None]) -> None:
    for kernel, variant in variants.items():
        if variant is None:
            _overrides.pop(kernel, None)
        else:
            _overrides[kernel] = variant


def table() -> str:
    """All kernels and variants as text; a star marks what the rule or an override picks now."""
    lines = [f"{'kernel':18}{'variant':14}{'backend':9}what it adds"]
    for kernel in KERNELS.values():
        chosen = kernel.choose()
        for v in kernel.variants:
            lines.append(f"{kernel.name:18}{v.name + ' *' * (v.name == chosen):14}{v.backend:9}{v.line}")
    return "\n".join(lines)
