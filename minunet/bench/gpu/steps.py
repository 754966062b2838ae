"""Every call of a network's step, with its cost and what it launches on a GPU; nothing is computed.

The network itself is run, on NumPy and with its kernels left out: so what it calls, in which order and with which
shapes, is never a second list beside the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np

import minunet as mn
import minunet.functional as F
from minunet import kernels
from minunet.bench.contenders import LR, MOMENTUM
from minunet.bench.cost import Cost
from minunet.display.explanation import Row, _Recorder
from minunet.kernels.arrays import POOL

from . import launches
from .launches import Launch


@dataclass(frozen=True)
class Call:
    """A kernel's call, or an operation of the array library (kernel "").

    layer: as in the state dict.  operation: as in functional.py, on the way back kernel.function.  shape: of the
    result.  variant: that the device runs.
    """

    layer: str
    operation: str
    shape: tuple[int, ...]
    cost: Cost
    kernel: str = ""
    function: str = ""
    variant: str = ""
    launches: tuple[Launch, ...] = field(default=(), repr=False)


def calls(model: mn.UNet, shape: tuple[int, ...], training: bool) -> list[Call]:
    """The calls of one inference, or of one training step: forward, mean cross entropy, backward, SGD with momentum."""
    x = np.zeros(shape, model.dtype)
    target = np.zeros((shape[0], *model.output_size(shape[2:])), np.int64)
    copy = mn.UNet(**model.architecture)  # a step must leave no trace
    observer = _Observer(copy)
    with mn.use_backend("numpy"), np.errstate(all="ignore"), observer.observing():
        if training:
            F.cross_entropy(copy.train()(x), target).backward()
            mn.SGD(copy.parameters(), lr=LR, momentum=MOMENTUM).step()
            observer.finish("SGD")
        else:
            with mn.no_grad():
                copy.eval()(x)
    POOL.clear()
    return observer.calls()


class _Observer(_Recorder):
    """Rows as `explain` has them, with the kernels left out; whatever lies in their outputs is computed on."""

    def __init__(self, model: mn.UNet) -> None:
        super().__init__(model)
        self._kernels: list[tuple[str, str, str, tuple[Launch, ...]]] = []  # of the rows that are a kernel's

    @contextmanager
    def observing(self) -> Iterator[None]:
        with (
            super().observing(),
            patch.object(kernels, "add", self._add),
            patch.object(kernels.relu, "passes", self._passes),
        ):
            yield

    def calls(self) -> list[Call]:
        """The rows with what they launch; views cost nothing and are left out."""
        found = iter(self._kernels)
        pairs = [(row, next(found) if row.variant else ("", "", "", ())) for row in self.rows]
        return [Call(row.layer, row.operation, row.shape, row.cost, *one) for row, one in pairs if row.cost.bytes]

    def _finish(self, layer: str, operation: str, forward: str, shape: tuple, arrays: list) -> None:
        if self._calls or not any(array is arrays[-1] for array in arrays[:-1]):  # else it was only handed on
            super()._finish(layer, operation, forward, shape, arrays)

    def finish(self, layer: str) -> None:
        """What was called since the last operation belongs to this layer."""
        self._finish(layer, "", "", (), [])

    def _kernel(self, kernel: str, function: str, variant: str, arguments: dict[str, Any], run: Callable) -> None:
        chosen = launches.on_device(kernel, arguments)
        launched = launches.of_call(kernel, function, arguments, chosen)
        super()._kernel(kernel, function, variant, arguments, lambda: None)
        self._kernels.append((kernel, function, chosen, tuple(launched)))

    def _add(self, a: Any, b: Any) -> Any:
        self._library("sum of gradients", a, b, b)
        return b

    def _passes(self, y: Any) -> Any:
        passes = kernels.empty(y.shape, np.uint8)
        self._library("signs of a rectifier", y, passes)
        return passes

    def _library(self, operation: str, *arrays: Any) -> None:
        layer = self._running[-1] if self._running else ""
        cost = Cost(0.0, float(sum(a.nbytes for a in arrays)))
        self.rows.append(Row(layer, operation, arrays[-1].shape, "", 0.0, cost))
