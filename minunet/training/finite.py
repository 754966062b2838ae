"""Where the first NaN or infinite value comes from: a step is repeated, and looked at after each operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minunet import device
from minunet import functional as F
from minunet.autograd import VJP, Array, Tensor
from minunet.data import Dataset
from minunet.data.coding import listed
from minunet.unet import UNet

# Operations in words; others go by their own names.
_WORDS = {
    "conv2d": "convolution",
    "conv2d_relu": "convolution and relu",
    "conv_transpose2d": "up-convolution",
    "batch_norm": "batch norm",
    "batch_norm_relu": "batch norm and relu",
    "max_pool2d": "max pooling",
    "concat": "joining of skip and up path",
    "center_crop": "cropping",
    "cross_entropy": "cross entropy",
    "to_device": "way to the GPU",
    "bce_with_logits": "binary cross entropy",
}


@dataclass(frozen=True)
class Fault:
    """The first operation whose result is not finite."""

    where: str  # "downs.1.conv.3 (convolution)"
    direction: str  # "forward" or "backward"
    found: str  # "NaN" or "an infinite value"
    evidence: str  # what went in, in words
    spoilt: str | None = None  # the parameter that held such a value before, if that is the reason

    def __str__(self) -> str:
        return f"the first {self.found} comes from {self.where}, {self.direction}: {self.evidence}"


class _Found(Exception):
    """Ends the repeated step."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault


def first_nonfinite(
    model: UNet, loss: Callable[[Any, np.ndarray], Tensor], x: np.ndarray, target: np.ndarray
) -> Fault | None:
    """Forwards and backwards with a check after every operation; None where all is finite.

    x (N, C, H, W), target (N, H, W). Changes what a step in training mode changes (estimates of
    batch norm, dropout's random numbers) and adds to the gradients.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    try:
        with np.errstate(all="ignore"), each_operation(_Inspector(names)) as inspector:
            logits = model(x)
            inspector.in_loss = True
            loss(logits, target).backward()
    except _Found as found:
        return found.fault
    return None


def remedy(fault: Fault | None, x: np.ndarray, dataset: Dataset, lr: float, is_first_step: bool) -> str:
    """What to do about it, in a sentence; x: the batch, lr: the largest learning rate of the run."""
    if not is_finite(x):
        odd = [name for name, image in zip(dataset.names, dataset.images, strict=True) if not is_finite(image)]
        return f"The images hold NaN or infinite values ({listed(odd)}): mend them or take them out"
    if fault is not None and fault.spoilt is not None:
        if is_first_step:
            return f"{fault.spoilt} was so from the start: begin with another model"
        return f"{fault.spoilt} became so by the step before, which was too large: try a lower --lr than {lr:g}"
    return f"Try a lower --lr than {lr:g}, and look for odd values in the images"


@contextmanager
def each_operation(inspector: _Inspector) -> Iterator[_Inspector]:
    """Inside the block every operation of functional.py is shown to the inspector before it is recorded."""
    plain = F.record

    def record(
        name: str, output: Array, inputs: Sequence[Tensor], vjps: Sequence[VJP], upstream: Any = None
    ) -> Tensor:
        return plain(name, output, inputs, *inspector(name, output, inputs, vjps, upstream))

    F.record = record
    try:
        yield inspector
    finally:
        F.record = plain


class _Inspector:
    """Raises _Found at the first value that is not finite."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names  # of parameters, by the identity of their Tensors
        self.layer = "the input"
        self.in_loss = False

    def __call__(
        self, name: str, output: Array, inputs: Sequence[Tensor], vjps: Sequence[VJP], upstream: VJP | None
    ) -> tuple[list[VJP], VJP | None]:
        """The operation's VJPs and upstream, each of which is then looked at as well."""
        parameters = [self.names.get(id(tensor)) for tensor in inputs]  # None: no parameter, but an activation
        where = self._where(name, parameters)
        if not is_finite(output):
            operands = list(zip(parameters, (tensor.data for tensor in inputs), strict=True))
            evidence = "; ".join(f"{_its(parameter)} {_range(data)}" for parameter, data in operands)
            spoilt = next((name for name, data in operands if name is not None and not is_finite(data)), None)
            raise _Found(Fault(where, "forward", _kind(output), evidence, spoilt))
        inspected = [self._inspected(where, parameter, vjp) for parameter, vjp in zip(parameters, vjps, strict=True)]
        return inspected, None if upstream is None else self._inspected(where, None, upstream)

    def _where(self, name: str, parameters: list[str | None]) -> str:
        words = _WORDS.get(name, name)
        own = [parameter for parameter in parameters if parameter is not None]
        if own:
            self.layer = own[0].rpartition(".")[0]
            return f"{self.layer} ({words})"
        return f"the loss ({words})" if self.in_loss else f"{words} after {self.layer}"

    def _inspected(self, where: str, parameter: str | None, vjp: VJP) -> VJP:
        def call(g: Array) -> Array:
            if (bad := _not_finite(g)) is not None:
                evidence = "gradients that are finite each have a sum that is not"
                raise _Found(Fault(where, "backward", _kind(bad), evidence))
            result = vjp(g)
            if (bad := _not_finite(result)) is not None:
                came = g[0] if isinstance(g, tuple) else g
                evidence = f"the gradient of {_its(parameter)} is not finite; the gradient that came in {_range(came)}"
                raise _Found(Fault(where, "backward", _kind(bad), evidence))
            return result

        return call


def is_finite(array: Array) -> bool:
    return bool(np.isfinite(array).all())


def _not_finite(found: Array | tuple) -> Array | None:
    """The first array of a gradient, or of what an upstream makes of one, that is not finite."""
    arrays = found if isinstance(found, tuple) else (found,)
    return next((array for array in arrays if not is_finite(array)), None)


def _kind(array: Array) -> str:
    return "NaN" if np.isnan(array).any() else "infinite value"


def _its(parameter: str | None) -> str:
    return f"its {'input' if parameter is None else parameter.rpartition('.')[2]}"


def _range(array: Array) -> str:
    if not is_finite(array):
        return f"holds {_kind(array)}"
    return f"is finite, up to {np.abs(device.to_host(array)).max(initial=0):.2g}"
