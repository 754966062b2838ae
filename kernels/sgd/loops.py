"""sgd in one pass over memory (Numba)."""

import numpy as np

from .. import lines, workers
from ..jit import serial

GROUP = 256  # numbers of the outputs that are computed before they are written
LANES = 256  # sums a stretch is spread over: the additions of a single one would wait for each other


def update(parameter, gradient, velocity, lr, momentum, weight_decay, nesterov, out_parameter, out_velocity):
    """As reference.update."""
    number = parameter.dtype.type
    lr, momentum, weight_decay = number(lr), number(momentum), number(weight_decay)
    workers.share(
        _update, lines.stretches(parameter.size), parameter, gradient, velocity, lr, momentum, weight_decay, nesterov,
        out_parameter, out_velocity, numbers=parameter.size,
    )  # fmt: skip


def square_sum(gradient, out):
    """As reference.square_sum: the sums of stretches are added in their order."""
    sums = np.empty(lines.stretches(gradient.size))
    workers.share(_square_sums, len(sums), gradient, sums, numbers=gradient.size)
    out[...] = total(sums)


@serial
def _update(
    first, last, parameter, gradient, velocity, lr, momentum, weight_decay, nesterov, out_parameter, out_velocity
):
    """A group is computed before it is written: outputs may be inputs, and such loops would not be vectorised."""
    parameters, velocities = np.empty(GROUP, parameter.dtype), np.empty(GROUP, parameter.dtype)
    for start in range(first * lines.STRETCH, min(last * lines.STRETCH, parameter.size), GROUP):
        group = slice(start, start + GROUP)
        p, g, v = parameter[group], gradient[group], velocity[group]
        for k in range(len(p)):
            slope = g[k] + weight_decay * p[k]
            speed = momentum * v[k] + slope
            parameters[k] = p[k] - lr * (slope + momentum * speed if nesterov else speed)
            velocities[k] = speed
        p, v = out_parameter[group], out_velocity[group]
        for k in range(len(p)):
            p[k], v[k] = parameters[k], velocities[k]


@serial
def _square_sums(first, last, gradient, sums):
    for stretch in range(first, last):
        sums[stretch] = square_sum_of(gradient[stretch * lines.STRETCH : (stretch + 1) * lines.STRETCH])


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
