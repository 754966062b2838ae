"""sgd in one pass over memory (Numba)."""

import numba
import numpy as np

from ..jit import parallel, serial

STRETCH = 1 << 14  # numbers whose squares one thread adds; the sums of stretches are added in their order
LANES = 256  # sums a stretch is spread over: the additions of a single one would wait for each other


def update(parameter, gradient, velocity, lr, momentum, weight_decay, nesterov, out_parameter, out_velocity):
    """As reference.update."""
    number = parameter.dtype.type
    lr, momentum, weight_decay = number(lr), number(momentum), number(weight_decay)
    _update(parameter, gradient, velocity, lr, momentum, weight_decay, nesterov, out_parameter, out_velocity)


def square_sum(gradient, out):
    """As reference.square_sum."""
    out[...] = _square_sum(gradient)


@parallel
def _update(parameter, gradient, velocity, lr, momentum, weight_decay, nesterov, out_parameter, out_velocity):
    for k in numba.prange(parameter.size):
        g = gradient[k] + weight_decay * parameter[k]
        v = momentum * velocity[k] + g
        out_parameter[k] = parameter[k] - lr * (g + momentum * v if nesterov else v)
        out_velocity[k] = v


@parallel
def _square_sum(gradient):
    sums = np.empty(-(-gradient.size // STRETCH))
    for block in numba.prange(sums.size):
        sums[block] = square_sum_of(gradient[block * STRETCH : (block + 1) * STRETCH])
    return total(sums)


@serial
def square_sum_of(stretch):
    """Number k goes into sum k modulo LANES; these are added at the end."""
    lanes = np.zeros(LANES)
    for start in range(0, len(stretch), LANES):
        part = stretch[start : start + LANES]
        for k in range(len(part)):
            value = np.float64(part[k])
            lanes[k] += value * value
    return total(lanes)


@serial
def total(sums):
    """All of them, added in their order."""
    result = 0.0
    for value in sums:
        result += value
    return result
