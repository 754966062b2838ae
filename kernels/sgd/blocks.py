"""sgd, a stretch of memory at a time: what one array operation leaves in the cache the next one finds there."""

import numpy as np

STRETCH = 1 << 14  # numbers: parameter, gradient, velocity and what is computed from them stay in the cache


def stretches(size):
    """The slices that cut a line of `size` numbers."""
    return [slice(start, start + STRETCH) for start in range(0, size, STRETCH)]


def update(parameter, gradient, velocity, lr, momentum, weight_decay, nesterov, out_parameter, out_velocity):
    """As reference.update."""
    for part in stretches(parameter.size):
        g = gradient[part] + weight_decay * parameter[part] if weight_decay else gradient[part]
        v = np.multiply(velocity[part], momentum, out=out_velocity[part])
        v += g
        step = momentum * v + g if nesterov else v
        np.subtract(parameter[part], lr * step, out=out_parameter[part])


def square_sum(gradient, out):
    """As reference.square_sum."""
    out[...] = sum(float(np.square(gradient[part], dtype=np.float64).sum()) for part in stretches(gradient.size))
