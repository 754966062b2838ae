"""Drawings of chapter 9: what a warp reads, a tile in shared memory, and the predicted times."""

import json
from pathlib import Path

from .svg import Drawing, number

RESULTS = Path(__file__).resolve().parents[3] / "bench" / "results"


def lines() -> str:
    """Eight of the threads of a warp, and the lines of memory that they touch, in both orders of memory."""
    d = Drawing(400, 220, "Threads that read neighbouring numbers share a line; others touch a line each")
    for k, (name, apart) in enumerate((("channels last: one line", False), ("channels first: a line each", True))):
        y = 30 + 105 * k
        d.text(200, y - 16, name, "small")
        for thread in range(8):
            x = 40 + 42 * thread
            d.box(x, y, 24, 20, "up", 0.5)
            to = x + 12 if apart else 130 + 20 * thread + 10
            d.arrow((x + 12, y + 22), (to, y + 52), "down" if apart else "up")
            if apart:
                d.box(x - 6, y + 54, 36, 16)
                d.box(x + 8, y + 54, 8, 16, "down", 0.7)
        if not apart:
            d.box(130, y + 54, 160, 16)
            for thread in range(8):
                d.box(130 + 20 * thread, y + 54, 20, 16, "up", 0.5)
    return d.svg()


def tile() -> str:
    """A block's tile of the product: strips of both matrices in shared memory, sums in registers."""
    d = Drawing(400, 230, "A block of threads: two strips in shared memory, 64 x 64 sums in registers")
    d.box(150, 80, 140, 140, "up", 0.35)
    d.text(220, 150, "64 x 64 sums")
    d.box(90, 80, 40, 140, "down", 0.5)
    d.text(110, 150, "a")
    d.box(150, 22, 140, 40, "down", 0.5)
    d.text(220, 42, "b")
    d.text(44, 150, "64 pixels", "small")
    d.text(345, 42, "16 terms", "small")
    d.text(110, 68, "16 terms", "small")
    d.text(220, 10, "64 outputs", "small")
    return d.svg()


def predicted() -> str:
    """Least and predicted milliseconds of an inference by device, from the dated file in bench/results."""
    run = json.loads((RESULTS / "gpu_on_paper.json").read_text())
    devices = {k: v for k, v in run["milliseconds"]["inference"].items() if isinstance(v, dict)}
    d = Drawing(400, 40 + 62 * len(devices), f"Computed on {run['date']}, not measured: milliseconds of an inference")
    for k, (name, times) in enumerate(devices.items()):
        y = 14 + 62 * k
        d.text(98, y + 22, name, "small end")
        for j, (kind, look) in enumerate((("least", "up"), ("predicted", "down"))):
            d.box(106, y + 24 * j, 11 * times[kind], 20, look, 0.7)
            text = f"{number(times[kind])} ms {kind}" if k == 0 else number(times[kind])
            d.text(112 + 11 * times[kind], y + 10 + 24 * j, text, "small start")
    return d.svg()
