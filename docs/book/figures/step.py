"""Drawings of chapter 7: the valley, what a velocity remembers, and what batch norm does to a channel."""

import numpy as np

from .svg import Axes, Drawing, number

STEEP = 25.0  # the valley L = (p^2 + STEEP q^2) / 2
START = (1.0, 0.3)


def path(lr: float, momentum: float, steps: int) -> np.ndarray:
    """The points (p, q) of gradient descent with momentum in the valley."""
    place, velocity, points = np.array(START), np.zeros(2), [np.array(START)]
    for _ in range(steps):
        velocity = momentum * velocity + place * (1, STEEP)
        place = place - lr * velocity
        points.append(place)
    return np.array(points)


def valley() -> str:
    """Thirty steps down a valley, with and without momentum, over the lines of equal loss."""
    d = Drawing(400, 300, "Thirty steps in a narrow valley: plain descent, and with momentum")
    for k, (momentum, look, name) in enumerate(((0.0, "down", "plain"), (0.6, "up", "momentum 0.6"))):
        axes = Axes(d, (40, 12 + 140 * k, 340, 110), (-1.15, 1.15), (-0.4, 0.4))
        axes.ticks([-1, -0.5, 0, 0.5, 1], [-0.3, 0, 0.3], number, number)
        angles = np.linspace(0, 2 * np.pi, 73)
        for level in (0.02, 0.2, 0.6):
            r = np.sqrt(2 * level)
            axes.plot(r * np.cos(angles), r / np.sqrt(STEEP) * np.sin(angles), "line")
        points = path(0.07, momentum, 30)
        axes.plot(points[:, 0], points[:, 1], f"{look}-line")
        axes.point(*points[-1], look)
        d.text(50, 24 + 140 * k, name, f"small start {look}")
    return d.svg()


def memory() -> str:
    """What earlier gradients weigh in the velocity."""
    ago = np.arange(0, 301, 3)
    d = Drawing(400, 220, "The weight of earlier gradients in the velocity, for momentum 0.9 and 0.99")
    axes = Axes(d, (45, 15, 335, 160), (0, 300), (0, 1.02))
    axes.ticks([0, 100, 200, 300], [0, 0.5, 1], number, number)
    for momentum, look in ((0.9, "down"), (0.99, "up")):
        axes.plot(ago, momentum**ago, f"{look}-line")
    d.text(88, 140, "0.9", "small down")
    d.text(170, 90, "0.99", "small up")
    d.text(215, 212, "steps ago", "small")
    return d.svg()


def channel() -> str:
    """Values of a channel before batch norm and after it, and the line that maps them."""
    x = np.array([1.0, 1.5, 4.0, 5.5])
    xhat = (x - x.mean()) / x.std()
    d = Drawing(400, 130, "Four values of a channel are shifted to mean 0 and stretched to variance 1")
    for y, values, name in ((35, x, "x"), (95, xhat, "xhat")):
        d.curve([(30, y), (390, y)])
        d.text(14, y, name, "small")
        for tick in (-2, 0, 2, 4, 6):
            d.text(130 + 42 * tick, y + 16, number(tick), "small faint")
        for value in values:
            d.parts.append(f'<circle cx="{number(130 + 42 * value)}" cy="{y}" r="6" class="up"/>')
    for before, after in zip(x, xhat, strict=True):
        d.curve([(130 + 42 * before, 42), (130 + 42 * after, 88)], "down-line")
    return d.svg()
