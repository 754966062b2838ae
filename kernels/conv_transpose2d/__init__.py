"""The conv_transpose2d room: transposed convolution whose kernel size is its stride (2 x 2 in the U-Net)."""

import numpy as np

from ..arrays import expect, result
from ..conv2d import empty_weight
from ..registry import Kernel, Variant

KERNEL = Kernel(
    name="conv_transpose2d",
    package=__name__,
    functions=("forward", "backward_input", "backward_weight"),
    variants=(
        Variant("reference", "numpy", "the definition: one matrix product a tap, written to every s-th pixel"),
        Variant("gemm", "numpy", "one matrix product for all taps, patches put in their places"),
        Variant("direct", "numba", "the register tiles of conv2d, results scattered as they are written"),
        Variant("cuda_implicit", "cuda", "the product of conv2d, results scattered as they are written"),
    ),
)


def output_shape(x_shape, weight_shape):
    """(N, O, s H, s W); ValueError where the shapes do not fit."""
    if len(x_shape) != 4 or len(weight_shape) != 4:
        raise ValueError(f"conv_transpose2d: x and weight must have 4 axes, found {x_shape} and {weight_shape}")
    n, c, h, w = x_shape
    expected, o, s, sw = weight_shape
    if c != expected:
        raise ValueError(f"conv_transpose2d: x has {c} channels, weight {weight_shape} expects {expected}")
    if min(weight_shape) < 1:
        raise ValueError(f"conv_transpose2d: weight {weight_shape} has no numbers")
    if s != sw:
        raise ValueError(f"conv_transpose2d: the kernel must be square, found {s} x {sw}")
    return (n, o, h * s, w * s)


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, out=None):
    """x (N, C, H, W), weight (C, O, s, s), bias (O,) -> (N, O, s H, s W)."""
    shape = output_shape(x.shape, weight.shape)
    expect("conv_transpose2d: weight", weight, weight.shape, x)
    if bias is not None:
        expect("conv_transpose2d: bias", bias, shape[1:2], x)
    out = result(out, shape, x)
    if out.size:  # an empty batch leaves nothing to compute
        KERNEL.run("forward", x=x, weight=weight, bias=bias, out=out)
    return out


def backward_input(grad: np.ndarray, weight: np.ndarray, out=None):
    """grad (N, O, s H, s W) -> gradient of x (N, C, H, W)."""
    s = weight.shape[2]
    shape = (len(grad), len(weight), grad.shape[2] // s, grad.shape[3] // s)
    expect("conv_transpose2d: grad", grad, output_shape(shape, weight.shape), weight)
    out = result(out, shape, grad)
    if out.size:
        KERNEL.run("backward_input", grad=grad, weight=weight, out=out)
    return out


def backward_weight(grad: np.ndarray, x: np.ndarray, stride: int, out=None):
    """grad (N, O, s H, s W), x (N, C, H, W) -> gradient of weight (C, O, s, s)."""
    shape = (x.shape[1], grad.shape[1], stride, stride)
    expect("conv_transpose2d: grad", grad, output_shape(x.shape, shape), x)
    out = empty_weight(shape, grad.dtype, grad) if out is None else result(out, shape, grad)
    if grad.size:
        KERNEL.run("backward_weight", grad=grad, x=x, out=out)
    else:
        out[...] = 0
    return out
