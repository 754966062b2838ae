"""Drawings of chapter 5: the sizes of the paper's network, the two gradients at a skip, and what skips are good for."""

import numpy as np

import minunet.functional as F

from . import program
from .svg import Drawing


def sides() -> str:
    """The U of the paper with the side of the picture after each double convolution."""
    d = Drawing(420, 330, "The U of the paper: sides of the pictures on the way down and up")
    side, down = 572, []
    for _ in range(4):
        side -= 4
        down.append(side)
        side //= 2
    side -= 4
    d.text(56, 20, "572", "strong")
    d.arrow((56, 30), (56, 46))
    rows = [62 + 60 * level for level in range(4)]
    bottom = (210, 305)
    for level, (before, y) in enumerate(zip(down, rows, strict=True)):
        x = 56 + 28 * level
        d.box(x - 30, y - 15, 60, 30)
        d.text(x, y, str(before))
        after = (x + 28, rows[level + 1] - 15) if level < 3 else (bottom[0] - 30, bottom[1] - 8)
        d.arrow((x, y + 15), after, "down")
    d.box(bottom[0] - 30, bottom[1] - 15, 60, 30)
    d.text(*bottom, str(side))
    start = (bottom[0] + 30, bottom[1] - 8)
    for level in (3, 2, 1, 0):
        side = 2 * side
        x, y = 364 - 28 * level, rows[level]
        d.arrow(start, (x, y + 15), "up")
        d.arrow((86 + 28 * level, y), (x - 30, y))
        d.text(210, y - 12, f"cut to {side}", "small")
        side -= 4
        d.box(x - 30, y - 15, 60, 30)
        d.text(x, y, str(side))
        start = (x, y - 15)
    d.arrow(start, (364, 30))
    d.text(364, 20, str(side), "strong")
    d.text(20, 290, "pool", "small down start")
    d.text(400, 290, "up-convolution", "small up end")
    return d.svg()


def paths() -> str:
    """The gradient at the skip: along the skip, by way of the pool, and together."""
    known = program.names("05-the-u")
    along, below = known["skip_part"], known["deep_part"]
    d = Drawing(412, 130, "Gradients at the skip: the direct part, the part from below, their sum")
    cell = 44
    d.grid(10, 32, along, cell, "along the skip")
    d.text(129, 76, "+", "strong")
    d.grid(160, 32, below, cell, "from below")
    d.text(279, 76, "=", "strong")
    d.grid(310, 32, along + below, cell, "gradient of s")
    return d.svg()


def sharp() -> str:
    """A picture, its mask, and what the networks with and without skips make of it."""
    known = program.names("05-the-u")
    image, mask = known["images"][:1], known["masks"][0]
    d = Drawing(410, 440, "A picture, its mask, and the probabilities of networks with and without skips")
    panels = [("picture", np.clip(image[0, 0], 0, 1)), ("mask", mask)]
    for skips, title in ((True, "with skips"), (False, "without skips")):
        p = F.softmax(known["unet"](image, known["weights"][skips], 2, skips)).data[0, 1]
        panels.append((title, p))
    for k, (title, values) in enumerate(panels):
        left, top = 4 + 206 * (k % 2), 26 + 212 * (k // 2)
        d.text(left + 96, top - 12, title, "small")
        for (row, column), value in np.ndenumerate(values):
            if value > 0.02:
                d.box(left + 12 * column, top + 12 * row, 12, 12, "up", value)
        d.box(left, top, 192, 192)
    return d.svg()
