"""The relu room: the rectifier, element by element."""

import numpy as np

from ..arrays import empty_like, expect, result
from ..registry import Kernel, Variant

KERNEL = Kernel(
    name="relu",
    package=__name__,
    functions=("forward", "backward", "backward_sums"),
    variants=(
        Variant("reference", "numpy", "the definition"),
        Variant("blocks", "numpy", "a block of memory at a time, on all threads"),
        Variant("loops", "numba", "parallel over fixed stretches of memory"),
    ),
)


def forward(x: np.ndarray, out=None):
    """x of any shape -> max(x, 0) of that shape and memory order."""
    out = empty_like(x) if out is None else result(out, x.shape, x.dtype)
    KERNEL.run("forward", x=x, out=out)
    return out


def backward(grad: np.ndarray, y: np.ndarray, out=None):
    """grad and y = relu(x) -> gradient of x."""
    expect("relu: grad", grad, y.shape, y)
    out = empty_like(y) if out is None else result(out, y.shape, y.dtype)
    KERNEL.run("backward", grad=grad, y=y, out=out)
    return out


def backward_sums(grad: np.ndarray, y: np.ndarray, out=None, sums=None):
    """grad and y = relu(x) (N, C, H, W) -> gradient of x, and its sum over N, H, W, (C,): that of a bias added to x."""
    if y.ndim != 4:
        raise ValueError(f"relu: y must have 4 axes (N, C, H, W), found shape {y.shape}")
    expect("relu: grad", grad, y.shape, y)
    out, sums = result(out, y.shape, y.dtype), result(sums, y.shape[1:2], y.dtype)
    KERNEL.run("backward_sums", grad=grad, y=y, out=out, sums=sums)
    return out, sums
