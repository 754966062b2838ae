"""batch_norm, the definition (Ioffe and Szegedy, 2015), over all axes but the channels, m = N H W values each.

    mean = sum x / m          variance = sum (x - mean)^2 / m          inv_std = 1 / sqrt(variance + eps)
    xhat = (x - mean) inv_std          y = weight xhat + bias          or, with relu,  max(y, 0)

The four functions are the steps, so that training (statistics of the batch) and evaluation (running estimates)
share them.  With relu, the gradient that comes in is that of max(y, 0), and passes on where y > 0; y is computed
again from x, so that x is all that backward needs of the forward pass.
"""

import numpy as np

from ..arrays import channel_sums


def per_channel(v):
    """(C,) so that it broadcasts over (N, C, H, W)."""
    return v[:, None, None]


def normalized(x, mean, inv_std, out):
    """out = xhat = (x - mean) inv_std."""
    np.subtract(x, per_channel(mean), out=out)
    out *= per_channel(inv_std)


def rectified(grad, x, mean, inv_std, weight, bias, relu):
    """The gradient of y: with relu, that of max(y, 0) where y > 0, and 0 where y <= 0."""
    if not relu:
        return grad
    y = np.empty_like(x)
    normalize(x, mean, inv_std, weight, bias, False, y)
    return np.where(y <= 0, 0, grad)


def statistics(x, mean, variance):
    """x (N, C, H, W) -> mean (C,) and biased variance (C,)."""
    m = x.size // x.shape[1]
    mean[...] = channel_sums(x) / m
    variance[...] = channel_sums(np.square(x - per_channel(mean))) / m


def normalize(x, mean, inv_std, weight, bias, relu, out):
    """x (N, C, H, W), the rest (C,) -> out = y = weight xhat + bias, or max(y, 0) with relu; NaN stays NaN."""
    normalized(x, mean, inv_std, out)
    out *= per_channel(weight)
    out += per_channel(bias)
    if relu:
        np.maximum(out, 0, out=out)


def backward_parameters(grad, x, mean, inv_std, weight, bias, relu, grad_weight, grad_bias):
    """grad_weight (C,) = sum g xhat,  grad_bias (C,) = sum g,  with g = the gradient of y."""
    g = rectified(grad, x, mean, inv_std, weight, bias, relu)
    product = np.empty_like(x)
    normalized(x, mean, inv_std, product)
    product *= g
    grad_weight[...] = channel_sums(product)
    grad_bias[...] = channel_sums(g)


def backward_input(grad, x, mean, inv_std, weight, bias, relu, mean_grad, mean_grad_xhat, out):
    """out = weight inv_std (g - mean_grad - xhat mean_grad_xhat), where the means (C,) of g, g xhat are over the batch.

    The two means are what a change of x does through the batch's mean and variance; in evaluation these are
    constants, and the means to be given are zero.
    """
    normalized(x, mean, inv_std, out)
    out *= per_channel(mean_grad_xhat)
    np.subtract(rectified(grad, x, mean, inv_std, weight, bias, relu), out, out=out)
    out -= per_channel(mean_grad)
    out *= per_channel(weight * inv_std)
