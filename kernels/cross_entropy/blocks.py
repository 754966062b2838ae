"""Softmax cross entropy, a block of pixels at a time, on all threads, with NumPy alone.

NumPy is slow on short rows, and a pixel has few classes.  So each block is laid out classes first, as a picture (1, K,
1, pixels), and the definition is run on that.
"""

import numpy as np

from ..arrays import nhwc, writable_nhwc
from ..sharing import blocks, rows_of_block
from . import reference


def forward(logits, target, out):
    """As reference.forward."""
    z, y = pixels(logits), target.reshape(-1)
    losses = np.empty(y.size, out.dtype)

    def block(part):
        reference.forward(classes_first(z[part]), y[None, None, part], losses[None, None, part])

    blocks(block, len(z), rows_of_block(z.shape[1]))
    out[...] = losses.reshape(out.shape)


def backward(grad, logits, target, out):
    """As reference.backward."""
    g, z, y = grad.reshape(-1), pixels(logits), target.reshape(-1)

    def block(part, gz):
        logits = classes_first(z[part])
        found = np.empty_like(logits)
        reference.backward(g[None, None, part], logits, y[None, None, part], found)
        gz[part] = found[0, :, 0].T

    with writable_nhwc(out) as gz:
        by_pixel = gz.reshape(z.shape)
        blocks(lambda part: block(part, by_pixel), len(z), rows_of_block(z.shape[1]))


def pixels(logits):
    """logits (N, K, H, W) as (N H W, K)."""
    return nhwc(logits).reshape(-1, logits.shape[1])


def classes_first(rows):
    """A copy of rows (pixels, K) as (1, K, 1, pixels)."""
    return np.array(rows.T, order="C")[None, :, None]
