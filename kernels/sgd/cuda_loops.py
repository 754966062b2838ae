"""sgd in one pass over memory (CUDA)."""

import numpy as np

from ..cuda import Source, cupy, loops
from ..cuda.sums import total

SOURCE = Source(__file__)
STRETCH = 1 << 14  # numbers that a block adds up at least, if there are as many
GROUP = 1 << 10  # numbers of a stretch are a multiple of this, so that all blocks have whole vectors
MOST_BLOCKS = 1 << 10


def update(parameter, gradient, velocity, lr, momentum, weight_decay, nesterov, out_parameter, out_velocity):
    """As reference.update."""
    SOURCE.launch(
        "update", parameter.dtype, *loops.line_grid(parameter.size, parameter.dtype), parameter, gradient, velocity,
        parameter.size, lr, momentum, weight_decay, nesterov, out_parameter, out_velocity,
    )  # fmt: skip


def square_sum(gradient, out):
    """As reference.square_sum: the sums of stretches are added at the end."""
    blocks = loops.share(gradient.size, STRETCH, MOST_BLOCKS)
    stretch = -(-gradient.size // (blocks * GROUP)) * GROUP
    sums = cupy().empty((blocks,), np.float64)
    SOURCE.launch(
        "square_sums", gradient.dtype, blocks, loops.THREADS, gradient, gradient.size, stretch, sums
    )  # fmt: skip
    total(sums, out)
