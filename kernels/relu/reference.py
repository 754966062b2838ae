"""relu, the definition: y = x where x > 0, else 0; NaN stays NaN."""

import numpy as np

from ..arrays import channel_sums


def forward(x, out):
    """x and out of one shape."""
    np.maximum(x, 0, out=out)  # of NaN and 0, np.maximum returns NaN


def backward(grad, y, out):
    """grad, y = relu(x) and out of one shape: the gradient passes unless y <= 0, so the derivative at 0 is 0.

    Instead of y there may be bytes, 1 where it passes.
    """
    out[...] = np.where(y <= 0, 0, grad)


def backward_sums(grad, y, out, sums):
    """As backward, (N, C, H, W), and sums (C,) = the sum of out over all but the channels."""
    backward(grad, y, out)
    sums[...] = channel_sums(out)
