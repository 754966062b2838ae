"""A kernel as its author may write it at first: a `prange` loop, left to Numba's threads."""

import numba

from minunet.kernels.jit import parallel


@parallel
def double(x, y):
    for k in numba.prange(x.size):
        y[k] = 2 * x[k]
