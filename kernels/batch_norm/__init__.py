"""The batch_norm room: normalise every channel, step by step, with or without a rectifier after it."""

import numpy as np

from ..arrays import expect, result
from ..registry import Kernel, Variant

KERNEL = Kernel(
    name="batch_norm",
    package=__name__,
    functions=("statistics", "normalize", "backward_parameters", "backward_input"),
    variants=(
        Variant("reference", "numpy", "the definition: one array operation after the other"),
        Variant("blocks", "numpy", "one pass a step, a block of pixels at a time, on all threads"),
        Variant("loops", "numba", "one pass a step; sums in fixed blocks of rows"),
        Variant("cuda_loops", "cuda", "one pass a step; sums in fixed blocks of pixels, then over the blocks"),
    ),
)


def statistics(x: np.ndarray, mean=None, variance=None):
    """x (N, C, H, W) -> mean (C,), biased variance (C,)."""
    mean, variance = result(mean, x.shape[1:2], x), result(variance, x.shape[1:2], x)
    KERNEL.run("statistics", x=x, mean=mean, variance=variance)
    return mean, variance


def normalize(x, mean, inv_std, weight, bias, relu=False, out=None):
    """x (N, C, H, W), the rest (C,) -> y = weight (x - mean) inv_std + bias, or max(y, 0) with `relu`, like x."""
    _check(x, mean=mean, inv_std=inv_std, weight=weight, bias=bias)
    out = result(out, x.shape, x)
    KERNEL.run("normalize", x=x, mean=mean, inv_std=inv_std, weight=weight, bias=bias, relu=relu, out=out)
    return out


def backward_parameters(grad, x, mean, inv_std, weight, bias, relu=False, grad_weight=None, grad_bias=None):
    """grad, x (N, C, H, W), the rest (C,) -> gradient of weight (C,), gradient of bias (C,).

    `relu`: grad is that of max(y, 0), and counts where y > 0.
    """
    expect("batch_norm: grad", grad, x.shape, x)
    _check(x, mean=mean, inv_std=inv_std, weight=weight, bias=bias)
    grad_weight, grad_bias = result(grad_weight, mean.shape, x), result(grad_bias, mean.shape, x)
    KERNEL.run(
        "backward_parameters",
        grad=grad,
        x=x,
        mean=mean,
        inv_std=inv_std,
        weight=weight,
        bias=bias,
        relu=relu,
        grad_weight=grad_weight,
        grad_bias=grad_bias,
    )
    return grad_weight, grad_bias


def backward_input(grad, x, mean, inv_std, weight, bias, relu, mean_grad, mean_grad_xhat, out=None):
    """grad, x (N, C, H, W), the rest (C,) -> gradient of x; zero means in evaluation; `relu` as above."""
    expect("batch_norm: grad", grad, x.shape, x)
    _check(x, mean=mean, inv_std=inv_std, weight=weight, bias=bias, mean_grad=mean_grad, mean_grad_xhat=mean_grad_xhat)
    out = result(out, x.shape, x)
    KERNEL.run(
        "backward_input",
        grad=grad,
        x=x,
        mean=mean,
        inv_std=inv_std,
        weight=weight,
        bias=bias,
        relu=relu,
        mean_grad=mean_grad,
        mean_grad_xhat=mean_grad_xhat,
        out=out,
    )
    return out


def _check(x: np.ndarray, **per_channel: np.ndarray) -> None:
    """ValueError unless all of these have a number a channel: compiled code would read past the array."""
    for name, array in per_channel.items():
        expect(f"batch_norm: {name}", array, x.shape[1:2], x)
