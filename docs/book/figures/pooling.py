"""Drawings of chapter 4: a max pool with its gradient, and an up-convolution that paints patches."""

import numpy as np

import minunet.functional as F
from minunet import Tensor

from .svg import Drawing

X = np.array([[1, 5, 2, 2], [3, 4, 2, 0], [0, 0, 7, 1], [0, 6, 8, 3]], float)
G = np.array([[1, 2], [3, 4]], float)


def pool() -> str:
    """The picture, the pooled picture, its gradient, and the gradient of the picture."""
    x = Tensor(X[None, None], requires_grad=True)
    y = F.max_pool2d(x)
    y.backward(G[None, None])
    d = Drawing(400, 380, "A max pool: the largest of each cell goes forward, the gradient goes back to it")
    d.grid(20, 30, X, 36, "x")
    d.arrow((178, 102), (238, 102), "up")
    d.grid(262, 66, y.data[0, 0], 36, "y, the largest")
    d.grid(20, 222, x.grad[0, 0], 36, "gradient of x")
    d.arrow((238, 294), (178, 294), "down")
    d.grid(262, 258, G, 36, "gradient of y")
    for top in (30, 222):
        for row, column in np.argwhere(x.grad[0, 0]):
            d.outline(20, top, slice(row, row + 1), slice(column, column + 1))
    return d.svg()


def paint() -> str:
    """Four pixels, the kernel, and the patches that they paint."""
    x, k = np.array([[1, 2], [0, -1]], float), np.array([[1, 2], [3, 4]], float)
    y = F.conv_transpose2d(x[None, None], k[None, None]).data[0, 0]
    d = Drawing(404, 186, "An up-convolution: four pixels, the kernel, and the four patches they paint")
    d.grid(6, 66, x, 36, "x")
    d.text(97, 102, "·")
    d.grid(116, 66, k, 36, "kernel")
    d.arrow((196, 102), (242, 102))
    d.grid(252, 30, y, 36, "y")
    for row, column in np.ndindex(2, 2):
        d.outline(252, 30, slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
    return d.svg()
