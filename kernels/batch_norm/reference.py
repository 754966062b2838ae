"""batch_norm, the definition (Ioffe and Szegedy, 2015), over all axes but the channels, m = N H W values each.

    mean = sum x / m          variance = sum (x - mean)^2 / m          inv_std = 1 / sqrt(variance + eps)
    xhat = (x - mean) inv_std          y = weight xhat + bias

The four functions are the steps, so that training (statistics of the batch) and evaluation (running estimates)
share them.
"""

import numpy as np

AXES = (0, 2, 3)


def per_channel(v):
    """(C,) so that it broadcasts over (N, C, H, W)."""
    return v[:, None, None]


def statistics(x, mean, variance):
    """x (N, C, H, W) -> mean (C,) and biased variance (C,)."""
    mean[...] = x.mean(axis=AXES)
    variance[...] = np.square(x - per_channel(mean)).mean(axis=AXES)


def normalize(x, mean, inv_std, weight, bias, out):
    """x (N, C, H, W), the rest (C,) -> out = weight (x - mean) inv_std + bias."""
    out[...] = per_channel(weight) * ((x - per_channel(mean)) * per_channel(inv_std)) + per_channel(bias)


def backward_parameters(grad, x, mean, inv_std, grad_weight, grad_bias):
    """grad_weight (C,) = sum grad xhat,  grad_bias (C,) = sum grad."""
    xhat = (x - per_channel(mean)) * per_channel(inv_std)
    grad_weight[...] = (grad * xhat).sum(axis=AXES)
    grad_bias[...] = grad.sum(axis=AXES)


def backward_input(grad, x, mean, inv_std, weight, mean_grad, mean_grad_xhat, out):
    """out = weight inv_std (grad - mean_grad - xhat mean_grad_xhat), where the means (C,) are over the batch.

    The two means are what a change of x does through the batch's mean and variance; in evaluation these are
    constants, and the means to be given are zero.
    """
    xhat = (x - per_channel(mean)) * per_channel(inv_std)
    centred = grad - per_channel(mean_grad) - xhat * per_channel(mean_grad_xhat)
    out[...] = per_channel(weight * inv_std) * centred
