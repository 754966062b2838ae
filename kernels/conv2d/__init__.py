"""The conv2d room: stride-1 convolution (as in deep learning: correlation) of any kernel size and padding."""

from math import prod

import numpy as np

from ..arrays import empty, expect, result
from ..registry import Kernel, Variant, current_policy

FEW_CHANNELS = {"numba": 8, "numpy": 16}  # fewer than these, and Winograd's transforms cost more than they save
FIRST_LAYER = 4  # input channels up to which writing the output is all that counts
FEW_TILES = {"numba": 4, "numpy": 32}  # as many tiles of 4 x 4 outputs pay for the transform of the weights


LARGE = {
    "fast": {"numpy": "winograd_gemm", "numba": "winograd4", "cuda": "cuda_implicit"},
    "exact": {"numpy": "im2col", "numba": "direct", "cuda": "cuda_implicit"},
}


def rule(backend, arguments):
    """Winograd's F(4x4, 3x3) for 3 x 3 kernels in float32 where it pays and the policy allows it; else every product.

    On a GPU every product is computed.  The rule depends on shapes, dtype and policy alone.
    """
    if not arguments:  # asked in general: what 3 x 3 kernels of many channels get
        return LARGE[current_policy()][backend]
    if backend == "cuda":
        return "cuda_implicit"
    weight = arguments["weight"] if "weight" in arguments else arguments["out"]
    outputs = arguments["grad"] if "grad" in arguments else arguments["out"]
    o, c, *size = weight.shape
    n, _, h, w = outputs.shape
    fast = (
        current_policy() == "fast"
        and weight.dtype == np.float32
        and size == [3, 3]
        and min(o, c) >= FEW_CHANNELS[backend]
        and n * -(-h // 4) * -(-w // 4) >= FEW_TILES[backend]
    )
    if backend == "numba" and not fast and c <= FIRST_LAYER:
        return "few_channels"
    return LARGE["fast" if fast else "exact"][backend]


KERNEL = Kernel(
    name="conv2d",
    package=__name__,
    functions=("forward", "backward_input", "backward_weight"),
    variants=(
        Variant("reference", "numpy", "the definition: a loop over the taps"),
        Variant("im2col", "numpy", "copies patches into columns, tile by tile, and leaves the product to BLAS"),
        Variant("winograd_gemm", "numpy", "Winograd F(4x4, 3x3) as matrix products, in blocks of tiles", exact=False),
        Variant("direct", "numba", "register tiles of fused multiply-adds over packed blocks, no column matrix"),
        Variant("few_channels", "numba", "sums of few taps stay in registers and are written once: for first layers"),
        Variant("winograd2", "numba", "Winograd F(2x2, 3x3): 16 multiplications for every 36"),
        Variant("winograd4", "numba", "Winograd F(4x4, 3x3): 36 multiplications for every 144", exact=False),
        Variant("cuda_im2col", "cuda", "patches copied into columns, then a product in tiles of shared memory"),
        Variant("cuda_implicit", "cuda", "patches gathered into shared memory, 8 x 8 outputs a thread in registers"),
        Variant("cuda_tensor", "cuda", "the same product by tensor cores, of numbers rounded to TF32",
                product_error=2**-10),
    ),
    rule=rule,
)


def output_shape(x_shape, weight_shape, padding):
    """(N, O, H + 2 padding - kh + 1, W + 2 padding - kw + 1); ValueError where the shapes do not fit."""
    if len(x_shape) != 4 or len(weight_shape) != 4:
        raise ValueError(f"conv2d: x and weight must have 4 axes, found shapes {x_shape} and {weight_shape}")
    n, c, h, w = x_shape
    o, expected, kh, kw = weight_shape
    if c != expected:
        raise ValueError(f"conv2d: x has {c} channels, weight {weight_shape} expects {expected}")
    if min(weight_shape) < 1:
        raise ValueError(f"conv2d: weight {weight_shape} has no numbers")
    if padding < 0:
        raise ValueError(f"conv2d: padding must be 0 or more, found {padding}")
    size = (h + 2 * padding - kh + 1, w + 2 * padding - kw + 1)
    if min(size) < 1:
        raise ValueError(f"conv2d: {h} x {w} px with padding {padding} are less than the kernel's {kh} x {kw}")
    return (n, o, *size)


def forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, padding: int = 0, relu: bool = False, out=None
):
    """x (N, C, H, W), weight (O, C, kh, kw), bias (O,) -> (N, O, H', W'), with `relu` its positive part."""
    shape = output_shape(x.shape, weight.shape, padding)
    expect("conv2d: weight", weight, weight.shape, x)
    if bias is not None:
        expect("conv2d: bias", bias, shape[1:2], x)
    out = result(out, shape, x)
    if out.size:  # an empty batch leaves nothing to compute
        KERNEL.run("forward", x=x, weight=weight, bias=bias, padding=padding, relu=relu, out=out)
    return out


def backward_input(grad: np.ndarray, weight: np.ndarray, padding: int, size: tuple[int, int], out=None):
    """grad (N, O, H', W') -> gradient of x (N, C, *size)."""
    shape = (len(grad), weight.shape[1], *size)
    expect("conv2d: grad", grad, output_shape(shape, weight.shape, padding), weight)
    out = result(out, shape, grad)
    if out.size:
        KERNEL.run("backward_input", grad=grad, weight=weight, padding=padding, out=out)
    return out


def backward_weight(grad: np.ndarray, x: np.ndarray, padding: int, kernel_size: tuple[int, int], out=None):
    """grad (N, O, H', W'), x (N, C, H, W) -> gradient of weight (O, C, *kernel_size)."""
    shape = (grad.shape[1], x.shape[1], *kernel_size)
    expect("conv2d: grad", grad, output_shape(x.shape, shape, padding), x)
    out = empty_weight(shape, grad.dtype, grad) if out is None else result(out, shape, grad)
    if grad.size:
        KERNEL.run("backward_weight", grad=grad, x=x, padding=padding, out=out)
    else:
        out[...] = 0
    return out


def empty_weight(shape, dtype, like=None):
    """A fresh weight array, where `like` lies; weights stay in plain C order, as they are stored in files."""
    return empty((prod(shape),), dtype, like).reshape(shape)
