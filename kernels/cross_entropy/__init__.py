"""The cross_entropy room: softmax and negative log-likelihood of every pixel in one step."""

import numpy as np

from ..arrays import expect, result
from ..cuda import on_device
from ..registry import Kernel, Variant

KERNEL = Kernel(
    name="cross_entropy",
    package=__name__,
    functions=("forward", "backward"),
    variants=(
        Variant("reference", "numpy", "the definition"),
        Variant("blocks", "numpy", "a block of pixels at a time, on all threads"),
        Variant("loops", "numba", "one pass over the pixels, no array of probabilities"),
        Variant("cuda_loops", "cuda", "a thread a pixel, no array of probabilities"),
    ),
)


def forward(logits: np.ndarray, target: np.ndarray, out=None):
    """logits (N, K, H, W), target (N, H, W) integers, negative where not counted -> loss of each pixel (N, H, W)."""
    _check(logits, target)
    out = result(out, target.shape, logits)
    KERNEL.run("forward", logits=logits, target=target, out=out)
    return out


def backward(grad: np.ndarray, logits: np.ndarray, target: np.ndarray, out=None):
    """grad (N, H, W), of each pixel's loss -> gradient of the logits (N, K, H, W)."""
    _check(logits, target)
    expect("cross_entropy: grad", grad, target.shape, logits)
    out = result(out, logits.shape, logits)
    KERNEL.run("backward", grad=grad, logits=logits, target=target, out=out)
    return out


def _check(logits: np.ndarray, target: np.ndarray) -> None:
    """ValueError where the target is none of the logits' classes: compiled code would read past the array.

    On a device that is left to the kernels, which give NaN: to look would be to wait for the device.
    """
    expect("cross_entropy: target", target, (len(logits), *logits.shape[2:]))
    if not on_device(target) and target.size and target.max() >= logits.shape[1]:
        raise ValueError(f"cross_entropy: target must be below {logits.shape[1]}, found {target.max()}")
