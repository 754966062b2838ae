"""Analytic gradients held against numeric ones, in float64, along random directions."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .autograd import Tensor, no_grad


def gradcheck(
    fn: Callable[..., Tensor],
    *inputs: Any,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    directions: int = 3,
    seed: int = 0,
) -> bool:
    """Check d(sum(w * fn(*inputs))) for random weights w, for each input along random directions d.

    A correct VJP gives  <grad, d> = (f(x + eps d) - f(x - eps d)) / (2 eps)  up to rounding and O(eps^2); two
    evaluations a direction instead of two an element.  The upstream gradient w is random, since with ones errors of
    opposite sign cancel.  inputs: float64 arrays or Tensors are checked, everything else is passed through.  Kinks (relu
    at 0, equal values in a pooling window) must not lie within eps of the inputs.

    Returns True; raises AssertionError with the numbers of every direction that disagrees, or is not finite.
    """
    rng = np.random.default_rng(seed)
    values = [np.array(_array(v), np.float64) if _checked(v) else v for v in inputs]
    tensors = [Tensor(v, requires_grad=True) if _checked(i) else v for i, v in zip(inputs, values, strict=True)]
    if not any(map(_checked, inputs)):
        raise ValueError("gradcheck: no input is a float64 array or Tensor")
    output = fn(*tensors)
    upstream = rng.standard_normal(output.shape)
    output.backward(upstream)
    faults = []
    for k, tensor in enumerate(tensors):
        if not _checked(inputs[k]):
            continue
        analytic = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad
        for _ in range(directions):
            d = rng.standard_normal(tensor.shape)
            d /= np.linalg.norm(d) or 1.0
            numeric = _slope(fn, values, k, d, upstream, eps)
            expected = float((analytic * d).sum())
            if not abs(expected - numeric) <= atol + rtol * max(abs(numeric), float(np.linalg.norm(analytic))):
                faults.append(f"input {k}: analytic {expected:.12g}, numeric {numeric:.12g}")
    if faults:
        raise AssertionError("gradients differ: " + "; ".join(faults))
    return True


def _slope(fn, values, k, d, upstream, eps) -> float:
    ends = []
    for sign in (1, -1):
        moved = list(values)
        moved[k] = values[k] + sign * eps * d
        with no_grad():
            ends.append(float((fn(*moved).data * upstream).sum()))
    return (ends[0] - ends[1]) / (2 * eps)


def _array(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


def _checked(value: Any) -> bool:
    return getattr(_array(value), "dtype", None) == np.float64
