"""What a kernel call costs whoever does it: floating-point operations, and bytes that travel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .limits import Limits

# The picture of which every pixel takes one product with the whole weight: of a convolution what it gives, of a
# transposed convolution what it is given.
_PICTURES = {
    ("conv2d", "forward"): "out",
    ("conv2d", "backward_input"): "grad",
    ("conv2d", "backward_weight"): "grad",
    ("conv_transpose2d", "forward"): "x",
    ("conv_transpose2d", "backward_input"): "out",
    ("conv_transpose2d", "backward_weight"): "x",
}


@dataclass(frozen=True)
class Cost:
    """flops: operations of the definition, 2 a multiply-add, counted for convolutions alone: everything else is bound
    by memory.  bytes: of all arrays read and written, each once.  dtype: of the arithmetic."""

    flops: float
    bytes: float
    dtype: str = "float32"

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    def share(self, seconds: float, limits: Limits) -> float:
        """The least time that the roofline allows / the time taken: 1 is at the roof."""
        return limits.least_seconds(self.flops, self.bytes, self.dtype) / seconds

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes, self.dtype)


def of_call(kernel: str, function: str, arguments: Mapping[str, Any]) -> Cost:
    """The cost of one call of a kernel's function; `arguments` by name, outputs among them."""
    arrays = {name: a for name, a in arguments.items() if isinstance(a, np.ndarray)}
    distinct = {id(a): a for a in arrays.values()}.values()  # what is updated in place is passed twice
    floats = [a.dtype for a in arrays.values() if a.dtype in (np.float32, np.float64)]
    dtype = str(floats[0]) if floats else "float32"
    return Cost(flops(kernel, function, arrays), sum(a.nbytes for a in distinct), dtype)


def flops(kernel: str, function: str, arrays: Mapping[str, np.ndarray]) -> float:
    """Operations of a convolution, 2 for every multiply-add of its definition; 0 for every other kernel."""
    if (kernel, function) not in _PICTURES:
        return 0.0
    picture = arrays[_PICTURES[kernel, function]]
    weight = arrays["out" if function == "backward_weight" else "weight"]
    pixels = picture.size // picture.shape[1]
    return 2.0 * pixels * weight.size
