"""The resize room: bilinear interpolation to any size, and its adjoint."""

import numpy as np

from ..arrays import result
from ..registry import Kernel, Variant

KERNEL = Kernel(
    name="resize",
    package=__name__,
    functions=("forward", "adjoint"),
    variants=(
        Variant("reference", "numpy", "the definition: one interpolation matrix an axis"),
        Variant("loops", "numba", "four weighted pixels each; the adjoint gathers, so no two threads write one place"),
        Variant("cuda_loops", "cuda", "a thread a number; the adjoint gathers, so no two threads write one place"),
    ),
)


def forward(x: np.ndarray, size: tuple[int, int], out=None, align_corners=False):
    """x (N, C, H, W) -> (N, C, *size).  align_corners: the outer pixels stay where they are, as reference.py says."""
    if x.ndim != 4 or min(size) < 1:
        raise ValueError(f"resize: needs x (N, C, H, W) and a positive size, found shape {x.shape} and size {size}")
    out = result(out, (*x.shape[:2], *size), x)
    KERNEL.run("forward", x=x, align_corners=align_corners, out=out)
    return out


def adjoint(grad: np.ndarray, size: tuple[int, int], out=None, align_corners=False):
    """grad (N, C, H', W') -> gradient of x (N, C, *size)."""
    out = result(out, (*grad.shape[:2], *size), grad)
    KERNEL.run("adjoint", grad=grad, align_corners=align_corners, out=out)
    return out
