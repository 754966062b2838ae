"""relu over flat memory (Numba), in whatever order the axes lie."""

import numba

from ..arrays import flat, memory_order, writable_flat
from ..jit import parallel


def forward(x, out):
    """As reference.forward."""
    order = memory_order(out)
    with writable_flat(out, order) as y:
        _forward(flat(x, order), y)


def backward(grad, y, out):
    """As reference.backward."""
    order = memory_order(out)
    with writable_flat(out, order) as gx:
        _backward(flat(grad, order), flat(y, order), gx)


@parallel
def _forward(x, y):
    for k in numba.prange(x.size):
        y[k] = 0 if x[k] <= 0 else x[k]


@parallel
def _backward(grad, y, gx):
    for k in numba.prange(y.size):
        gx[k] = 0 if y[k] <= 0 else grad[k]
