"""`mn.explain`: where a network's time goes, layer by layer, beside what the machine allows.

The network is run with observers in three places: every kernel call passes one (`kernels.observe`), so does every
operation that is recorded (`observing.observe`), and while a module's forward runs its name is on a stack.  An
operation belongs to the layer whose parameters it takes, else to the module that is running.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from minunet import device, kernels
from minunet import functional as F
from minunet.autograd import Tensor, no_grad
from minunet.bench.cost import Cost, of_call
from minunet.bench.limits import Limits, measure
from minunet.display.observing import observe, submodules
from minunet.nn import Module
from minunet.unet import UNet

SHOWN = 5e-3  # share of the time from which on an operation without a kernel is listed
ROOT = {"max_pool2d": "pool", "cross_entropy": "loss", "binary_cross_entropy_with_logits": "loss"}


@dataclass(frozen=True)
class Row:
    """One kernel call, or an operation that made none.

    layer: as in the state dict, "" where no module's own.  operation: as in functional.py, on the way back
    kernel.function.  shape: of the result.  variant: that ran; "" for NumPy outside of the kernels.  seconds: median.
    """

    layer: str
    operation: str
    shape: tuple[int, ...]
    variant: str
    seconds: float
    cost: Cost


@dataclass(frozen=True, repr=False)
class Explanation:
    """What `explain` found; its text is the table.

    rest: seconds outside of the rows, for Python, memory, and operations too short to be listed.
    """

    title: str
    rows: tuple[Row, ...]
    rest: float
    limits: Limits

    @property
    def seconds(self) -> float:
        """Of the whole: all rows and the rest."""
        return sum(row.seconds for row in self.rows) + self.rest

    def cells(self) -> list[tuple[str, ...]]:
        """The rows as text, under the column names `HEAD`; the last two are the rest and the total."""
        total = self.seconds
        everything = sum((row.cost for row in self.rows), Cost(0.0, 0.0))
        flops = f"{everything.flops / total / 1e9:.1f}" if everything.flops else ""
        return [
            *(_cells(row, total, self.limits) for row in self.rows),
            ("rest", "Python, memory, short operations", "", "", *_time(self.rest, total), "", "", ""),
            ("total", "", "", "", *_time(total, total), flops, f"{everything.bytes / total / 1e9:.1f}", ""),
        ]

    def __str__(self) -> str:
        return "\n".join([self.title, f"roofline of {self.limits}", "", *_table(self.cells())])

    __repr__ = __str__


def explain(
    model: UNet, size: Sequence[int], batch: int = 1, training: bool = False, runs: int = 5
) -> Explanation:
    """Which variant computes each layer, how long it takes, and how close that is to the machine's limits.

    model: a network; it is left as it was.  size: (height, width) of the images, `batch` of them, random numbers.
    training: forward in training mode, loss and backward instead of inference.  runs: times are medians of so many,
    after one that is not timed.  Backend, policy and overrides are those in force.

    Print the result, or read its `rows`.  "of bound" is the time that the roofline allows / the time taken.  More than
    100% comes from algorithms that do fewer multiplications than are counted, and from arrays that stay in a cache.
    Raises ValueError where the network does not take this size, or lies on a GPU: what is measured here is the CPU.
    """
    if "cuda" in (model.device, device.current()):
        raise ValueError("explain measures the CPU, and this model is computed on the GPU: minunet bench --device cuda")
    h, w = (int(side) for side in size)
    outputs = (batch, *model.output_size((h, w)))
    limits = measure(again=True)
    rng = np.random.default_rng(0)
    recordings = []
    with _unchanged(model, training):
        for _ in range(runs + 1):
            x = rng.standard_normal((batch, model.in_channels, h, w)).astype(model.dtype)
            target = rng.integers(0, max(2, model.out_channels), outputs)
            recordings.append(_record(model, x, target if training else None))
    rows, rest = _medians(recordings[1:])
    images = " x ".join(map(str, (batch, model.in_channels, h, w)))
    what = "forward, loss and backward" if training else "inference"
    title = f"{what} of {images}, {model.dtype}, backend {kernels.current_backend()}, policy {kernels.current_policy()}"
    shortest = SHOWN * (sum(row.seconds for row in rows) + rest)
    shown = tuple(row for row in rows if row.variant or row.seconds >= shortest)
    rest += sum(row.seconds for row in rows if row not in shown)
    return Explanation(title, shown, rest, limits)


@contextmanager
def _unchanged(model: UNet, training: bool) -> Iterator[None]:
    """The model in this mode; afterwards as it was: modes, running estimates, gradients, dropout's random numbers."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(array, array.copy()) for _, array in model.named_arrays() if not isinstance(array, Tensor)]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    generators = [(m.rng, m.rng.bit_generator.state) for m in model.modules() if hasattr(m, "rng")]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for array, before in buffers:
            array[...] = before
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for rng, state in generators:
            rng.bit_generator.state = state


def _record(model: UNet, x: np.ndarray, target: np.ndarray | None) -> tuple[list[Row], float]:
    """One run: its rows in their order, and the seconds it took."""
    recorder = _Recorder(model)
    model.zero_grad()
    with recorder.observing():
        start = time.perf_counter()
        if target is None:
            with no_grad():
                model(x)
        else:
            _loss(model(x), target).backward()
        seconds = time.perf_counter() - start
    return recorder.rows, seconds


def _loss(logits: Tensor, target: np.ndarray) -> Tensor:
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits, target[:, None].astype(logits.dtype))
    return F.cross_entropy(logits, target)


def _medians(recordings: list[tuple[list[Row], float]]) -> tuple[list[Row], float]:
    """Rows with their median time over the runs, and the median of what is left of a run.

    Runs that took another way than the last one do not count.
    """
    way = [_place(row) for row in recordings[-1][0]]
    alike = [(rows, seconds) for rows, seconds in recordings if [_place(row) for row in rows] == way]
    rows = [
        Row(*_place(same[0]), seconds=median(row.seconds for row in same), cost=same[0].cost)
        for same in zip(*(rows for rows, _ in alike), strict=True)
    ]
    return rows, median(seconds - sum(row.seconds for row in rows) for rows, seconds in alike)


def _place(row: Row) -> tuple[str, str, tuple[int, ...], str]:
    return row.layer, row.operation, row.shape, row.variant


# ---------------------------------------------------------------------------------------------------- observing


class _Recorder:
    """Turns kernel calls and operations of one thread into rows."""

    def __init__(self, model: UNet) -> None:
        self.rows: list[Row] = []
        self._model = model
        self._layers = {id(p): name.rpartition(".")[0] for name, p in model.named_parameters()}
        self._running: list[str] = []  # names of the modules whose forward runs
        self._calls: list[Row] = []  # kernel calls since the last operation ended
        self._ended = time.perf_counter()  # the last kernel call or operation
        self._pools = 0
        self._thread = threading.get_ident()

    @contextmanager
    def observing(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, module in submodules(self._model):
                stack.enter_context(self._named(name, module))
            stack.enter_context(kernels.observe(self._kernel))
            stack.enter_context(observe(self._operation))
            self._ended = time.perf_counter()
            yield

    @contextmanager
    def _named(self, name: str, module: Module) -> Iterator[None]:
        """While the module's forward runs, its name is on the stack."""
        forward = module.forward

        def named_forward(*arguments: Any, **options: Any) -> Any:
            self._running.append(name)
            try:
                return forward(*arguments, **options)
            finally:
                self._running.pop()

        module.forward = named_forward  # type: ignore[method-assign]
        try:
            yield
        finally:
            del module.forward

    def _kernel(self, kernel: str, function: str, variant: str, arguments: dict[str, Any], run: Callable) -> None:
        if threading.get_ident() != self._thread:
            return run()
        start = time.perf_counter()
        run()
        self._ended = time.perf_counter()
        out = arguments.get("out")
        shape = out.shape if isinstance(out, np.ndarray) else ()
        cost = of_call(kernel, function, arguments)
        self._calls.append(Row("", f"{kernel}.{function}", shape, variant, self._ended - start, cost))

    def _operation(
        self, name: str, result: Tensor, inputs: Sequence[Tensor], vjps: Sequence[Callable], upstream: Callable | None
    ) -> tuple[list[Callable], Callable | None]:
        """An operation has been computed: make rows of it; returns its VJPs and upstream, which will make rows too."""
        layer = self._layer(name, inputs)
        arrays = [result.data, *(tensor.data for tensor in inputs)]
        self._finish(layer, name, name, result.shape, arrays)
        observed = [self._observed(vjp, layer, name) for vjp in vjps]
        return observed, None if upstream is None else self._observed(upstream, layer, name)

    def _layer(self, operation: str, inputs: Sequence[Tensor]) -> str:
        for tensor in inputs:
            if id(tensor) in self._layers:
                return self._layers[id(tensor)]
        if self._running:
            return self._running[-1]
        if ROOT.get(operation) == "pool":
            self._pools += 1
            return f"pool {self._pools - 1}"
        return ROOT.get(operation, "")

    def _observed(self, vjp: Callable, layer: str, name: str) -> Callable:
        def observed(g: Any) -> Any:
            self._ended = time.perf_counter()  # what lies between two operations is the rest
            result = vjp(g)
            arrays = [a for given in (g, result) for a in (given if isinstance(given, tuple) else (given,))]
            self._finish(layer, f"{name} backward", "", arrays[-1].shape, arrays)
            return result

        return observed

    def _finish(self, layer: str, operation: str, forward: str, shape: tuple, arrays: list) -> None:
        """Rows of an operation that is over: its kernel calls, or itself. forward: what the function of that name is
        called."""
        now = time.perf_counter()
        for call in self._calls:
            kernel_function = forward if forward and call.operation.endswith(".forward") else call.operation
            self.rows.append(Row(layer, kernel_function, call.shape or shape, call.variant, call.seconds, call.cost))
        if not self._calls:
            is_view = any(np.may_share_memory(arrays[0], array) for array in arrays[1:])
            cost = Cost(0.0, 0.0 if is_view else float(sum(a.nbytes for a in arrays)))
            self.rows.append(Row(layer, operation, shape, "", now - self._ended, cost))
        self._calls.clear()
        self._ended = now


# --------------------------------------------------------------------------------------------------- the table

HEAD = ("layer", "operation", "output", "variant", "ms", "% of time", "GFLOP/s", "GB/s", "of bound")
LEFT = 4  # columns that begin at the left


def _table(cells: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(line[i]) for line in (HEAD, *cells)) for i in range(len(HEAD))]
    rule = tuple("-" * width for width in widths)
    return [_line(line, widths) for line in (HEAD, rule, *cells[:-1], rule, cells[-1])]


def _cells(row: Row, total: float, limits: Limits) -> tuple[str, ...]:
    return (
        row.layer,
        row.operation,
        " x ".join(map(str, row.shape)),
        row.variant or "NumPy",
        *_time(row.seconds, total),
        f"{row.cost.flops / row.seconds / 1e9:.1f}" if row.cost.flops else "",
        f"{row.cost.bytes / row.seconds / 1e9:.1f}" if row.cost.bytes else "",
        f"{row.cost.share(row.seconds, limits):.0%}" if row.cost.bytes else "",
    )


def _time(seconds: float, total: float) -> tuple[str, str]:
    return f"{seconds * 1e3:.3f}", f"{seconds / total:.1%}"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:LEFT], widths[:LEFT], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[LEFT:], widths[LEFT:], strict=True)]
    return "  ".join(left + right).rstrip()
