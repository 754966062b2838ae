"""sgd, the definition: stochastic gradient descent with momentum (Polyak, 1964; Nesterov's form: Sutskever, 2013).

    g = gradient + weight_decay parameter
    out_velocity  = momentum velocity + g
    out_parameter = parameter - lr out_velocity      or, with Nesterov,      parameter - lr (g + momentum out_velocity)

Each number of the outputs depends on the numbers at its own place alone, so the outputs may be the inputs themselves.
"""

import numpy as np


def update(parameter, gradient, velocity, lr, momentum, weight_decay, nesterov, out_parameter, out_velocity):
    """Lines of numbers, (K,); lr, momentum, weight_decay: numbers; nesterov: bool."""
    g = gradient + weight_decay * parameter
    out_velocity[...] = momentum * velocity + g
    step = g + momentum * out_velocity if nesterov else out_velocity
    out_parameter[...] = parameter - lr * step


def square_sum(gradient, out):
    """gradient (K,) -> out, without axes and in float64, the sum of its squares."""
    out[...] = np.square(gradient, dtype=np.float64).sum()
