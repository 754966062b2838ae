"""The relu room: the rectifier, element by element."""

import numpy as np

from ..arrays import each_rows, empty, empty_like, expect, result
from ..cuda import on_device
from ..registry import Kernel, Variant

KERNEL = Kernel(
    name="relu",
    package=__name__,
    functions=("forward", "backward", "backward_sums"),
    variants=(
        Variant("reference", "numpy", "the definition"),
        Variant("blocks", "numpy", "a block of memory at a time, on all threads"),
        Variant("loops", "numba", "parallel over fixed stretches of memory"),
        Variant("cuda_loops", "cuda", "a thread a number; sums in fixed blocks of pixels, then over the blocks"),
    ),
)


def forward(x: np.ndarray, out=None):
    """x of any shape -> max(x, 0) of that shape and memory order."""
    out = empty_like(x) if out is None else result(out, x.shape, x)
    KERNEL.run("forward", x=x, out=out)
    return out


def backward(grad: np.ndarray, y: np.ndarray, out=None):
    """grad and y = relu(x), or `passes(y)` -> gradient of x."""
    _expect_alike(grad, y)
    if out is None:
        out = empty_like(y) if y.dtype == grad.dtype else empty(y.shape, grad.dtype, grad)
    else:
        result(out, y.shape, grad)
    KERNEL.run("backward", grad=grad, y=y, out=out)
    return out


def backward_sums(grad: np.ndarray, y: np.ndarray, out=None, sums=None):
    """As `backward`, (N, C, H, W), and the gradient's sum over N, H, W, (C,): that of a bias added to x."""
    if y.ndim != 4:
        raise ValueError(f"relu: y must have 4 axes (N, C, H, W), found shape {y.shape}")
    _expect_alike(grad, y)
    out, sums = result(out, y.shape, grad), result(sums, y.shape[1:2], grad)
    KERNEL.run("backward_sums", grad=grad, y=y, out=out, sums=sums)
    return out, sums


def passes(y: np.ndarray) -> np.ndarray:
    """y = relu(x) (N, C, H, W) -> uint8: 1 where a gradient passes, 0 where y <= 0; all that `backward` needs of y."""
    out = empty(y.shape, np.uint8, y)
    if on_device(y):
        out[...] = np.logical_not(y <= 0)
        return out

    def rows(image: int, part: slice) -> None:
        stopped = np.less_equal(y[image, :, part], 0, out=out[image, :, part].view(bool))
        np.logical_not(stopped, out=stopped)

    each_rows(out, rows)
    return out


def _expect_alike(grad, y):
    expect("relu: grad", grad, y.shape, None if y.dtype == np.uint8 else y)
