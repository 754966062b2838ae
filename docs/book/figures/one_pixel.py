"""Drawings of chapter 1; every number in them is computed here, as the chapter computes it."""

import numpy as np

import minunet.functional as F
from minunet import Tensor

from .svg import Axes, Drawing, number

X, W, B, T = np.array([0.8, 0.6]), np.array([2.0, -1.0]), 0.5, 0


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def loss(w, b):
    p = sigmoid(w @ X + b)
    return -T * np.log(p) - (1 - T) * np.log(1 - p)


def neuron() -> str:
    """Two inputs, their weights, the sum and the probability."""
    z = W @ X + B
    d = Drawing(400, 170, "A neuron: inputs times weights, plus the bias, is z; its sigmoid is p")
    for i, y in enumerate((35, 95)):
        d.box(10, y - 18, 90, 36)
        d.text(55, y, f"x{'₁₂'[i]} = {number(X[i])}")
        d.arrow((100, y), (178, 65 + 12 * (2 * i - 1)), "up" if W[i] > 0 else "down")
        d.text(140, y - 20 + 46 * i, f"· {number(W[i])}", "up" if W[i] > 0 else "down")
    d.box(178, 43, 90, 44, "mark")
    d.text(223, 65, f"z = {number(z)}", "strong")
    d.arrow((223, 140), (223, 87), "up")
    d.text(223, 154, f"bias {number(B)}")
    d.arrow((268, 65), (308, 65))
    d.text(288, 46, "s", "small")
    d.box(308, 45, 86, 40)
    d.text(351, 65, f"p = {number(sigmoid(z))}")
    return d.svg()


def errors() -> str:
    """How far the nudged derivative is from the exact one, for nudges from 1 to 1e-14."""
    exact = (sigmoid(W @ X + B) - T) * X[0]
    exponents = np.arange(-14, 0.1, 0.5)
    ahead, central = [], []
    for nudge in 10.0**exponents:
        above, here, below = (loss(W + np.array([k * nudge, 0]), B) for k in (1, 0, -1))
        ahead.append(abs((above - here) / nudge - exact))
        central.append(abs((above - below) / (2 * nudge) - exact))
    d = Drawing(400, 240, "Errors of one-sided and two-sided differences against the size of the nudge")
    axes = Axes(d, (55, 15, 330, 180), (-14, 0), (-12, 0))
    axes.ticks([-12, -8, -4, 0], [-12, -8, -4, 0], lambda x: f"1e{x}", lambda y: f"1e{y}")
    for values, look in ((ahead, "down-line"), (central, "up-line")):
        axes.plot(exponents, np.log10(np.maximum(values, 1e-12)), look)
    d.text(220, 230, "nudge", "small")
    d.text(290, 42, "one side", "small down")
    d.text(352, 150, "both sides", "small up")
    return d.svg()


def step() -> str:
    """The loss along the way of the step, and its tangent at the beginning."""
    gradient = np.append((sigmoid(W @ X + B) - T) * X, sigmoid(W @ X + B) - T)
    rates = np.linspace(-0.3, 1.5, 73)
    values = [loss(W - rate * gradient[:2], B - rate * gradient[2]) for rate in rates]
    d = Drawing(400, 240, "The loss along the step, and the tangent that promised it")
    axes = Axes(d, (45, 15, 340, 180), (-0.3, 1.5), (0, 2.2))
    axes.ticks([0, 0.5, 1, 1.5], [0, 1, 2], number, number)
    axes.plot(rates, np.array(values))
    axes.plot(rates, loss(W, B) - rates * (gradient**2).sum(), "down-line")
    axes.point(0, loss(W, B))
    axes.point(0.5, loss(W - 0.5 * gradient[:2], B - 0.5 * gradient[2]))
    d.text(215, 230, "size of the step", "small")
    d.text(290, 65, "loss", "small up")
    d.text(200, 150, "promised", "small down end")
    return d.svg()


def patch() -> str:
    """The patch, the kernel, and the kernel's gradient."""
    x = np.array([[0.1, 0.2, 0.1], [0.2, 0.9, 0.8], [0.1, 0.8, 1.0]])
    kernel = Tensor(np.array([[[[-0.2, 0.0, -0.2], [0.0, 1.0, 0.5], [-0.2, 0.5, 0.3]]]]), requires_grad=True)
    logit = F.conv2d(x[None, None], kernel, np.array([-1.0]))
    F.binary_cross_entropy_with_logits(logit, np.ones((1, 1, 1, 1))).backward()
    d = Drawing(404, 160, "A patch of nine pixels, the kernel, and the kernel's gradient")
    d.grid(6, 36, x, 38, "patch")
    d.grid(145, 36, kernel.data[0, 0], 38, "kernel")
    d.grid(284, 36, kernel.grad[0, 0], 38, "its gradient", 2)
    return d.svg()
