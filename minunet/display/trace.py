"""`mn.trace`: what a forward and backward pass did, operation by operation, and where its first NaN came from."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from minunet import device
from minunet.autograd import VJP, Array, Tensor
from minunet.display import trace_drawing, trace_table
from minunet.display.observing import Place, observe, place, submodules
from minunet.display.tables import Table
from minunet.nn import Module


@dataclass
class Operand:
    """An input of an operation.

    source: number of the operation that made it, None for what was there before: parameters, images, constants.
    name: of a parameter of the network that runs, as in its state dict; else "".
    norm: of its values.  gradient: norm of the share of its gradient that this operation hands on, None if none.
    """

    source: int | None
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    bytes: int
    norm: float
    gradient: float | None = None


@dataclass
class Operation:
    """One operation on its way forward and, where it was walked through, back.

    number: its place in `Trace.operations`.  name: as in functional.py.  layer: the module that ran, by its name in
    the state dict of the outermost one; "" for what the outermost module does itself, and outside of all modules.
    line: "FILE:LINE" of the innermost code outside of minunet that led to it.
    shape, dtype, bytes: of the result.  seconds: from the end of the operation before it to its own, so Python in
    between counts as well.  backward_seconds: in its vector-Jacobian products, None if none ran.
    norm: of the result, and gradient: of what came in on the way back.  Norms are Euclidean; NaN where a value is NaN,
    else inf where one is infinite.
    """

    number: int
    name: str
    layer: str
    line: str
    operands: tuple[Operand, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    bytes: int
    seconds: float
    norm: float
    gradient: float | None = None
    backward_seconds: float | None = None


@dataclass(frozen=True)
class Nonfinite:
    """The first NaN or infinite value of a trace, and the operation that made it.

    direction: "forward" or "backward".  found: "NaN" or "infinite value".  line: "FILE:LINE" of the code outside of
    minunet that called the operation (on the way back too: not that of backward()).  evidence: what went in, in words.
    spoilt: the parameter that held such a value already, if that is the reason.
    """

    operation: Operation
    direction: str
    found: str
    evidence: str
    spoilt: str | None = None

    @property
    def line(self) -> str:
        return self.operation.line

    def __str__(self) -> str:
        layer = f" in {self.operation.layer}" if self.operation.layer else ""
        called = f", called at {self.line}" if self.line else ""
        where = f"{self.operation.name}{layer}, {self.direction}{called}"
        return f"the first {self.found} comes from {where}: {self.evidence}"


def trace() -> Trace:
    """Record what is computed inside the ``with`` block, forwards and backwards, in this thread.

        with mn.trace() as t:
            F.cross_entropy(model(x), target).backward()
        print(t.table().text())

    `t.operations`: a list of Operation.  `t.table()`: a row each, as a Table.  `t.svg()`: the graph as a picture, the U
    of a U-Net.  `t.first_nonfinite`: the operation that made the first NaN or infinite value, or None.
    Arrays are looked at, not kept: a trace costs time, but no memory.  A way back is recorded where the way forward
    was.  Traces may be nested; the time that they take themselves counts in none of them.
    """
    return Trace()


class Trace:
    """What `trace` recorded."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.first_nonfinite: Nonfinite | None = None
        self._made: WeakKeyDictionary[Tensor, int] = WeakKeyDictionary()  # which operation made a Tensor
        self._leaves: dict[int, tuple[Tensor, Operation]] = {}  # that got a gradient, with who gave it
        self._names: dict[int, tuple[Module, dict[int, str]]] = {}  # of what is in an outermost module, by identity
        self._observing = ExitStack()
        self._open = False

    def __enter__(self) -> Trace:
        self._observing.enter_context(observe(self._forward))
        self._open, self._ended = True, _now()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._observing.close()
        for leaf, operation in self._leaves.values():
            if leaf.grad is not None and not math.isfinite(norm(leaf.grad)):
                self._blame(operation, "backward", leaf.grad, SUM)
        self._leaves.clear()
        self._names.clear()

    def table(self) -> Table:
        """A row for each operation; set in below it those of its inputs that no recorded operation made."""
        return trace_table.table(self)

    def svg(self) -> str:
        """The graph as SVG: from left to right in time, each halving of the picture a level down, skips as arcs."""
        return trace_drawing.svg(self)

    def __str__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return f"<div style='overflow-x:auto'>{self.svg()}</div>{self.table().html()}"

    # ------------------------------------------------------------------------------------------ forwards

    def _forward(
        self, name: str, result: Tensor, inputs: Sequence[Tensor], vjps: Sequence[VJP], upstream: VJP | None
    ) -> tuple[Sequence[VJP], VJP | None]:
        """An operation has been computed: note it; returns its VJPs and upstream, which will note themselves."""
        seconds = _now() - self._ended
        with _aside():
            called = place()
            names = self._names_in(called)
            operation = Operation(
                len(self.operations), name, self._layer(called, names), called.line,
                tuple(self._operand(tensor, names) for tensor in inputs),
                result.shape, result.dtype, result.data.nbytes, seconds, norm(result.data),
            )  # fmt: skip
            self.operations.append(operation)
            self._made[result] = operation.number
            if not math.isfinite(operation.norm) and self.first_nonfinite is None:
                spoilt = next((o.name for o in operation.operands if o.name and not math.isfinite(o.norm)), None)
                pairs = zip(operation.operands, inputs, strict=True)
                evidence = "; ".join(f"{_its(operand)} {_range(tensor.data)}" for operand, tensor in pairs)
                self._blame(operation, "forward", result.data, evidence, spoilt)
            watched = [self._watched(operation, *each) for each in zip(vjps, operation.operands, inputs, strict=True)]
        self._ended = _now()
        return watched, None if upstream is None else self._watched(operation, upstream)

    def _names_in(self, called: Place) -> dict[int, str]:
        """Names of all that is in the outermost module that runs, by identity."""
        if not called.modules:
            return {}
        root = called.modules[0]
        if id(root) not in self._names:
            modules = {id(module): name for name, module in submodules(root)}
            self._names[id(root)] = root, modules | {id(tensor): name for name, tensor in root.named_parameters()}
        return self._names[id(root)][1]

    def _layer(self, called: Place, names: dict[int, str]) -> str:
        return names.get(id(called.modules[-1]), "") if called.modules else ""

    def _operand(self, tensor: Tensor, names: dict[int, str]) -> Operand:
        source, data = self._made.get(tensor), tensor.data
        size = norm(data) if source is None else self.operations[source].norm
        return Operand(source, names.get(id(tensor), ""), tensor.shape, tensor.dtype, data.nbytes, size)

    # ----------------------------------------------------------------------------------------- backwards

    def _watched(
        self, operation: Operation, vjp: VJP, operand: Operand | None = None, tensor: Tensor | None = None
    ) -> VJP:
        """The VJP of an operand (None: the upstream of all), which tells what it got and made."""
        leaf = tensor if tensor is not None and tensor.requires_grad and tensor.node is None else None

        def call(g: Any) -> Any:
            if not self._open:
                return vjp(g)
            self._arrived(operation, g)
            start = _now()
            result = vjp(g)
            operation.backward_seconds = (operation.backward_seconds or 0.0) + _now() - start
            with _aside():
                if operand is not None:
                    operand.gradient = norm(result)
                if leaf is not None:
                    self._leaves[id(leaf)] = leaf, operation
                if (bad := _not_finite(result)) is not None:
                    came = _range(g[0] if isinstance(g, tuple) else g)
                    evidence = f"the gradient of {_its(operand)} is not finite; the gradient that came in {came}"
                    self._blame(operation, "backward", bad, evidence)
            return result

        return call

    def _arrived(self, operation: Operation, g: Any) -> None:
        """The gradient of an operation's result is there; all its VJPs get the same."""
        if operation.gradient is not None:
            return
        with _aside():
            operation.gradient = norm(g)
            if not math.isfinite(operation.gradient):
                is_sum = any(o.source == operation.number and o.gradient is not None for o in self._operands())
                self._blame(operation, "backward", g, SUM if is_sum else f"the gradient given to it {_range(g)}")

    def _operands(self) -> Iterator[Operand]:
        return (operand for operation in self.operations for operand in operation.operands)

    def _blame(
        self, operation: Operation, direction: str, array: Array, evidence: str, spoilt: str | None = None
    ) -> None:
        if self.first_nonfinite is None:
            self.first_nonfinite = Nonfinite(operation, direction, _kind(norm(array)), evidence, spoilt)


SUM = "gradients that are finite each have a sum that is not"


# ------------------------------------------------------------------------------------------- what arrays hold


def norm(array: Array) -> float:
    """The Euclidean norm, in float64 and without overflow; NaN where a value is NaN, else inf where one is infinite."""
    array = np.asarray(device.to_host(array))
    with np.errstate(all="ignore"):
        largest = float(np.abs(array).max(initial=0))
        if not 0 < largest < math.inf:
            return largest
        length = largest * math.sqrt(float(np.square(array / largest, dtype=np.float64).sum()))
    return min(length, sys.float_info.max)  # finite where all values are


def _not_finite(found: Array | tuple) -> Array | None:
    """The first array of a gradient, or of what an upstream makes of one, that is not finite."""
    arrays = found if isinstance(found, tuple) else (found,)
    return next((array for array in arrays if not math.isfinite(norm(array))), None)


def _kind(size: float) -> str:
    return "NaN" if math.isnan(size) else "infinite value"


def _its(operand: Operand | None) -> str:
    return f"its {operand.name.rpartition('.')[2] if operand is not None and operand.name else 'input'}"


def _range(array: Array) -> str:
    largest = float(np.abs(device.to_host(array)).max(initial=0))
    return f"is finite, up to {largest:.2g}" if math.isfinite(largest) else f"holds {_kind(largest)}"


# -------------------------------------------------------------------------------------------------- the clock


class _Watch(threading.local):
    """Seconds that traces of this thread took themselves."""

    aside = 0.0


_watch = _Watch()


def _now() -> float:
    """A clock that stands still while traces look at arrays."""
    return time.perf_counter() - _watch.aside


@contextmanager
def _aside() -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        _watch.aside += time.perf_counter() - start
