"""The cross_entropy room: softmax and negative log-likelihood of every pixel in one step."""

import numpy as np

from ..arrays import empty
from ..registry import Kernel, Variant

KERNEL = Kernel(
    name="cross_entropy",
    package=__name__,
    functions=("forward", "backward"),
    variants=(
        Variant("reference", "numpy", "the definition"),
        Variant("loops", "numba", "one pass over the pixels, no array of probabilities"),
    ),
)


def forward(logits: np.ndarray, target: np.ndarray, out=None):
    """logits (N, K, H, W), target (N, H, W) integers, negative where not counted -> loss of each pixel (N, H, W)."""
    out = empty(target.shape, logits.dtype) if out is None else out
    KERNEL.run("forward", logits=logits, target=target, out=out)
    return out


def backward(grad: np.ndarray, logits: np.ndarray, target: np.ndarray, out=None):
    """grad (N, H, W), of each pixel's loss -> gradient of the logits (N, K, H, W)."""
    out = empty(logits.shape, logits.dtype) if out is None else out
    KERNEL.run("backward", grad=grad, logits=logits, target=target, out=out)
    return out
