"""Where the first NaN or infinite value comes from: a step is repeated, and traced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minunet.autograd import Array, Tensor
from minunet.data import Dataset
from minunet.data.coding import listed
from minunet.display.trace import Operation, trace
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


def first_nonfinite(
    model: UNet, loss: Callable[[Any, np.ndarray], Tensor], x: np.ndarray, target: np.ndarray
) -> Fault | None:
    """Forwards and backwards with a look at every result; None where all is finite.

    x (N, C, H, W), target (N, H, W). Changes what a step in training mode changes (estimates of
    batch norm, dropout's random numbers) and adds to the gradients.
    """
    with np.errstate(all="ignore"), trace() as t:
        logits = model(x)
        of_model = len(t.operations)
        loss(logits, target).backward()
    found = t.first_nonfinite
    if found is None:
        return None
    where = _where(found.operation, t.operations[:of_model])
    return Fault(where, found.direction, found.found, found.evidence, found.spoilt)


def _where(operation: Operation, of_model: list[Operation]) -> str:
    """The operation in words, with its layer, or the one before it where it has none."""
    words = _WORDS.get(operation.name, operation.name)
    if operation.layer:
        return f"{operation.layer} ({words})"
    if operation.number >= len(of_model):
        return f"the loss ({words})"
    before = [earlier.layer for earlier in of_model[: operation.number] if earlier.layer]
    return f"{words} after {before[-1] if before else 'the input'}"


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


def is_finite(array: Array) -> bool:
    return bool(np.isfinite(array).all())
