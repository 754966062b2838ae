"""Drawings of chapter 6: the gradient of three logits, and a weight map."""

import numpy as np

import minunet as mn
import minunet.functional as F

from .svg import Drawing, number


def classes() -> str:
    """Said, true, and the difference, as bars."""
    z = mn.Tensor(np.array([1.0, 2.0, 0.5]).reshape(1, 3, 1, 1), requires_grad=True)
    F.cross_entropy(z, np.zeros((1, 1, 1), int)).backward()
    said = F.softmax(z).data.ravel()
    d = Drawing(410, 190, "Bars: the three probabilities, the true class, and their difference")
    panels = (("said", said), ("true", np.array([1.0, 0, 0])), ("said - true", z.grad.ravel()))
    for k, (title, values) in enumerate(panels):
        left, zero = 8 + 138 * k, 104
        d.text(left + 60, 14, title, "small")
        d.curve([(left, zero), (left + 120, zero)])
        for column, value in enumerate(values):
            height = 70 * abs(value)
            x = left + 6 + 40 * column
            d.box(x, zero - height if value > 0 else zero, 28, height, "up" if value > 0 else "down", 0.6)
            above = zero - height - 10 if value >= 0 else zero + height + 11
            d.text(x + 14, above, number(value), "small")
    return d.svg()


def weights() -> str:
    """The weight map of two cells with a gap of one pixel between them."""
    labels = np.zeros((7, 11), int)
    labels[2:5, 1:5], labels[2:5, 6:10] = 1, 2
    d = Drawing(420, 280, "The weight map of two cells: largest in the gap between them")
    d.grid(5, 8, mn.weight_map(labels), 37, digits=1)
    for columns in (slice(1, 5), slice(6, 10)):
        d.outline(5, 8, slice(2, 5), columns, 37)
    return d.svg()
