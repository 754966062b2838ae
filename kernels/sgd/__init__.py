"""The sgd room: the step of stochastic gradient descent, and the square sum that clipping gradients needs."""

import numpy as np

from ..arrays import expect, result
from ..registry import Kernel, Variant

KERNEL = Kernel(
    name="sgd",
    package=__name__,
    functions=("update", "square_sum"),
    variants=(
        Variant("reference", "numpy", "the definition"),
        Variant("blocks", "numpy", "a stretch at a time, which stays in the cache from one operation to the next"),
        Variant("loops", "numba", "one pass over memory, on all threads"),
        Variant("cuda_loops", "cuda", "one pass over memory"),
    ),
)


def update(
    parameter: np.ndarray,
    gradient: np.ndarray,
    velocity: np.ndarray,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    out_parameter=None,
    out_velocity=None,
):
    """Three contiguous lines of numbers, (K,) -> the parameter and its velocity after a step.

    The outputs may be the inputs themselves: then the step is made in place.
    """
    _check_lines(parameter, gradient, velocity)
    expect("sgd: gradient", gradient, parameter.shape, parameter)
    expect("sgd: velocity", velocity, parameter.shape, parameter)
    out_parameter = result(out_parameter, parameter.shape, parameter)
    out_velocity = result(out_velocity, parameter.shape, parameter)
    KERNEL.run(
        "update",
        parameter=parameter,
        gradient=gradient,
        velocity=velocity,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=nesterov,
        out_parameter=out_parameter,
        out_velocity=out_velocity,
    )
    return out_parameter, out_velocity


def square_sum(gradient: np.ndarray, out=None):
    """A contiguous line of numbers, (K,) -> the sum of their squares, computed in float64: an array without axes."""
    _check_lines(gradient)
    out = result(out, (), gradient, np.float64)
    KERNEL.run("square_sum", gradient=gradient, out=out)
    return out


def _check_lines(*arrays: np.ndarray) -> None:
    """ValueError unless all of these are contiguous and have one axis: a step is taken along memory."""
    for array in arrays:
        if array.ndim != 1 or not array.flags.c_contiguous:
            raise ValueError(f"sgd: arrays must be contiguous lines (K,), found shape {array.shape}")
