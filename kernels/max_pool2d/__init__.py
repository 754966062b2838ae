"""The max_pool2d room: the largest value of every k x k window, and where it was."""

import numpy as np

from ..arrays import expect, result
from ..registry import Kernel, Variant

KERNEL = Kernel(
    name="max_pool2d",
    package=__name__,
    functions=("forward", "backward"),
    variants=(
        Variant("reference", "numpy", "the definition: argmax over the windows"),
        Variant("blocks", "numpy", "some rows at a time, on all threads"),
        Variant("loops", "numba", "one pass over rows of pixels, parallel over rows"),
        Variant("cuda_loops", "cuda", "a thread a number of the output, one byte for the place"),
    ),
)


def forward(x: np.ndarray, kernel_size: int, out=None, argmax=None):
    """x (N, C, H, W) -> maxima (N, C, H // k, W // k) and their places in the window, uint8, of the same shape."""
    if x.ndim != 4:
        raise ValueError(f"max_pool2d: x must have 4 axes (N, C, H, W), found shape {x.shape}")
    if not 1 <= kernel_size <= 16:
        raise ValueError(f"max_pool2d: kernel_size must be 1 ... 16 (places are kept in bytes), found {kernel_size}")
    n, c, h, w = x.shape
    if min(h, w) < kernel_size:
        raise ValueError(f"max_pool2d: an image of {h} x {w} px is smaller than the window of {kernel_size}")
    shape = (n, c, h // kernel_size, w // kernel_size)
    out, argmax = result(out, shape, x), result(argmax, shape, x, np.uint8)
    KERNEL.run("forward", x=x, kernel_size=kernel_size, out=out, argmax=argmax)
    return out, argmax


def backward(grad: np.ndarray, argmax: np.ndarray, kernel_size: int, size: tuple[int, int], out=None):
    """grad, argmax (N, C, H // k, W // k) -> gradient of x (N, C, *size)."""
    expect("max_pool2d: grad", grad, (*grad.shape[:2], size[0] // kernel_size, size[1] // kernel_size))
    expect("max_pool2d: argmax", argmax, grad.shape)
    out = result(out, (*grad.shape[:2], *size), grad)
    KERNEL.run("backward", grad=grad, argmax=argmax, kernel_size=kernel_size, out=out)
    return out
