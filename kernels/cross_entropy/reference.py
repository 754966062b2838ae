"""Softmax cross entropy of every pixel, the definition.

    loss[n, h, w] = log sum_k exp(z_k) - z_y          with z = logits[n, :, h, w], y = target[n, h, w]
    d loss / d z_k = softmax(z)_k - [k = y]

The largest logit is subtracted before the exponential, so that no finite logit overflows.  A negative target marks
a pixel that does not count: loss 0, gradient 0, whatever its logits are.
"""

import numpy as np


def forward(logits, target, out):
    """logits (N, K, H, W), target (N, H, W) int64 -> out (N, H, W)."""
    top = logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=1))
    counted = target >= 0
    chosen = np.take_along_axis(logits, np.where(counted, target, 0)[:, None], axis=1)[:, 0]
    out[...] = np.where(counted, log_sum + (top[:, 0] - chosen), 0)


def backward(grad, logits, target, out):
    """grad (N, H, W): the upstream gradient of each pixel's loss -> out (N, K, H, W)."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = exponentials / exponentials.sum(axis=1, keepdims=True)
    one_hot = np.arange(logits.shape[1])[:, None, None] == target[:, None]
    out[...] = np.where(target[:, None] >= 0, grad[:, None] * (p - one_hot), 0)
