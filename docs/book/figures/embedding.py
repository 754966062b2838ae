"""Drawings of chapter 10: what lies where in the memory while a network is computed, and rows in a ring."""

import numpy as np

import minunet as mn
from minunet.export.c.network import CONV, POOL, UP, Network
from minunet.export.c.plan import plan

from .svg import Drawing, number

LOOKS = {CONV: "up", POOL: "cell", UP: "down"}


def lifetimes() -> str:
    """Every output of the first network as a box: from when it is written to when it is last read, and where."""
    network = Network(mn.UNet(1, 2, (8, 16, 32), padding="same").eval(), [64, 64])
    planned = plan(network, "default")
    scale, step = 190 / planned.numbers, 350 / len(network)
    d = Drawing(410, 250, "Where each output lies, and how long: the skips live longest")
    d.curve([(45, 10), (45, 205), (400, 205)])
    for i, (layer, place) in enumerate(zip(network, planned.places, strict=True)):
        readers = [j for j, other in enumerate(network) if i in other.sources]
        height = place.rows * place.stride * scale
        if not readers or not height:
            continue
        x, y = 45 + step * i, 205 - place.start * scale - height
        d.box(x, y, step * (readers[-1] - i + 1), height, LOOKS.get(layer.kind, "cell"), 0.45)
        d.box(x, y, step * (readers[-1] - i + 1), height)
    for share in (0.5, 1):
        d.text(40, 205 - 190 * share, number(share * planned.numbers * 4 / 1024, 0), "small end")
    d.text(22, 215, "kB", "small")
    d.text(220, 235, "layer after layer", "small")
    return d.svg()


def ring() -> str:
    """Two convolutions row by row: which rows of the one between are kept while the second goes on."""
    d = Drawing(400, 230, "Two convolutions row by row: of the picture between them three rows are kept")
    rows, done = 7, 4
    there_are = {"in": range(rows), "between": range(done - 1, done + 2), "out": range(done)}
    for k, (name, kept) in enumerate(there_are.items()):
        x = 50 + 130 * k
        d.text(x + 35, 14, name, "small")
        for row in range(rows):
            there = row in kept
            look, fade = ("up", 0.45) if there and k == 1 else ("cell", 1)
            d.box(x, 28 + 27 * row, 70, 22, look, fade)
            if k == 1:
                d.text(x + 35, 39 + 27 * row, f"place {row % 3}", "small" if there else "small faint")
            elif there:
                d.text(x + 35, 39 + 27 * row, f"row {row}", "small")
    for row in range(done - 1, done + 2):
        d.arrow((254, 39 + 27 * row), (306, 39 + 27 * done), "up")
    d.box(310, 28 + 27 * done, 70, 22, "mark")
    return d.svg()


def rounding() -> str:
    """Weights of a channel as they are, and as the nearest of 255 or of 15 steps."""
    weights = np.sort(np.random.default_rng(0).standard_normal(60)) * 0.1
    d = Drawing(400, 150, "Sixty weights, exact and rounded to 8 and to 4 bits")
    largest = np.abs(weights).max()
    for k, (name, steps) in enumerate((("exact", None), ("8 bits", 127), ("4 bits", 7))):
        y = 30 + 45 * k
        d.text(52, y, name, "small end")
        shown = weights if steps is None else np.round(weights / largest * steps) * largest / steps
        for value in shown:
            x = 225 + 160 * value / largest
            d.curve([(x, y - 12), (x, y + 12)], "up-line" if steps is None else "down-line")
    return d.svg()
