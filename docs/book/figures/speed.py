"""Drawings of chapter 8: the ladder as it was measured, a register tile, and Winograd's four products for six."""

import json
from pathlib import Path

from .svg import Drawing

RESULTS = Path(__file__).resolve().parents[3] / "bench" / "results"


def ladder() -> str:
    """GFLOP/s of each step beside the peak, from the dated run in bench/results."""
    run = json.loads((RESULTS / "ladder.json").read_text())
    peak, scale = run["peak_gflops"], 250 / 440
    d = Drawing(410, 210, f"Speed of each step, measured {run['date']}, beside the peak of {peak} GFLOP/s")
    for k, row in enumerate(run["steps"]):
        y = 20 + 34 * k
        d.text(92, y + 12, row["step"], "small end")
        again = row["gflops_again"]
        if again:
            d.box(100, y, scale * again, 24)
        d.box(100, y, scale * row["gflops"], 24, "up" if row["gflops"] <= peak else "down", 0.7)
        d.text(400, y + 12, f"{row['gflops']:.0f}" + (f" ({again})" if again else ""), "small end")
    x = 100 + scale * peak
    d.curve([(x, 10), (x, 188)], "line")
    d.text(x, 200, f"peak {peak} GFLOP/s", "small")
    return d.svg()


def tile() -> str:
    """A register tile: which numbers are read for which sums in one step."""
    rows, vectors = 8, 2
    d = Drawing(400, 250, "A register tile: 8 pixels by 2 vectors of channels, 10 reads for 16 multiply-adds")
    for r in range(rows):
        d.box(20, 60 + 22 * r, 60, 20, "down", 0.5)
        d.arrow((84, 70 + 22 * r), (120, 70 + 22 * r), "down")
        for v in range(vectors):
            d.box(124 + 136 * v, 60 + 22 * r, 130, 20, "up", 0.35)
    for v in range(vectors):
        d.box(124 + 136 * v, 8, 130, 20, "down", 0.5)
        d.arrow((189 + 136 * v, 30), (189 + 136 * v, 58), "down")
    d.text(50, 48, "pixels", "small")
    d.text(60, 18, "weights", "small")
    d.text(257, 243, "16 vectors of sums, in registers", "small")
    return d.svg()


def products() -> str:
    """Multiplications for a tile of outputs, computed one by one and with Winograd's algorithm."""
    d = Drawing(400, 170, "Multiplications for a tile of outputs: every product, and Winograd's")
    for k, m in enumerate((2, 4)):
        plain, few = 9 * m * m, (m + 2) ** 2
        for j, (count, look) in enumerate(((plain, "down"), (few, "up"))):
            y = 28 + 76 * k + 26 * j
            d.box(90, y, 1.8 * count, 20, look, 0.7)
            d.text(98 + 1.8 * count, y + 10, str(count), "small start")
        d.text(80, 51 + 76 * k, f"{m} x {m} outputs", "small end")
    d.text(200, 12, "every product (orange), Winograd (blue)", "small")
    return d.svg()
