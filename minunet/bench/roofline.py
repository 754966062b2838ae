"""The roofline plot: what was reached, under what the machine allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from minunet.display.pictures import CLASS_COLORS, GRID, INK, MUTED
from minunet.extras import require
from minunet.files import atomic_write

from .limits import Limits

MARKERS = "osD^vPX"


@dataclass(frozen=True)
class Series:
    """Points (operations a byte, operations a second) that belong together."""

    name: str
    points: list[tuple[float, float]]


def draw(folder: Path, limits: Limits, series: Sequence[Series], levels: dict[str, float], title: str) -> list[Path]:
    """Write roofline.png and roofline.svg into `folder`; returns their paths.

    levels: {name: operations a second} of whole networks, as lines.  Needs matplotlib (MissingExtra otherwise).
    """
    require("matplotlib", extra="train")
    from matplotlib import rc_context

    paths = []
    # Text stays text in the SVG, and its identifiers do not change from run to run.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "minunet"}):
        figure = _figure(limits, series, levels, title)
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            path = folder / f"roofline.{kind}"

            def write(file: IO[bytes], kind: str = kind, metadata: dict = metadata) -> None:
                figure.savefig(file, format=kind, metadata=metadata)

            atomic_write(path, write)
            paths.append(path)
    return paths


def _figure(limits: Limits, series: Sequence[Series], levels: dict[str, float], title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), dpi=130, layout="constrained")
    axis = figure.subplots()
    drawn = [point for one in series for point in one.points if min(point) > 0]
    left, right, bottom, top = _ranges(limits, drawn, levels)
    _draw_roof(axis, limits, left, right)
    for k, one in enumerate(series):
        points = [point for point in one.points if min(point) > 0]
        axis.plot(
            [x for x, _ in points], [y / 1e9 for _, y in points], MARKERS[k % len(MARKERS)], label=one.name,
            color=CLASS_COLORS[_color(k)] / 255, markersize=7, markeredgecolor="white", markeredgewidth=0.8,
        )  # fmt: skip
    _draw_levels(axis, {f"peak of {limits.threads} threads": limits.peak["float32"], **levels}, top / bottom)
    axis.text(
        0.02, 0.98, "above the roof: multiplications that were saved count as done", transform=axis.transAxes,
        va="top", fontsize=8, color=MUTED,
    )  # fmt: skip
    axis.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, top))
    axis.set_xlabel("floating-point operations a byte", color=INK)
    axis.set_ylabel("GFLOP/s", color=INK)
    axis.set_title(title, loc="left", fontsize=11, color=INK)
    for formatted in (axis.xaxis, axis.yaxis):
        formatted.set_major_formatter(lambda value, _: f"{value:g}")
    axis.grid(color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GRID)
    axis.tick_params(colors=MUTED, labelsize=9, which="both")
    if series:
        axis.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower right")
    return figure


def _draw_roof(axis: Any, limits: Limits, left: float, right: float) -> None:
    """The slope that the memory allows, and the peak of the multiply-add units."""
    peak, bandwidth = limits.peak["float32"], limits.bandwidth
    ridge = peak / bandwidth
    xs = [left, ridge, right]
    ys = [min(peak, x * bandwidth) / 1e9 for x in xs]
    axis.plot(xs, ys, color=INK, linewidth=1.8, zorder=1)
    axis.fill_between(xs, ys, color=GRID, alpha=0.25, linewidth=0, zorder=0)
    middle = (left * ridge) ** 0.5
    axis.annotate(
        f"memory {bandwidth / 1e9:.1f} GB/s", (middle, bandwidth * middle / 1e9), xytext=(8, -4),
        textcoords="offset points", va="top", fontsize=9, color=INK,
    )  # fmt: skip


def _draw_levels(axis: Any, levels: dict[str, float], span: float) -> None:
    """Lines at these rates, named at the right; the first is the roof, which is drawn already."""
    for k, (name, at) in enumerate(_apart(levels, span).items()):
        color = MUTED if k else INK
        if k:
            axis.axhline(levels[name] / 1e9, color=color, linewidth=0.8, linestyle=":")
        axis.annotate(
            f"{name} {levels[name] / 1e9:.0f}", (1.0, levels[name] / 1e9), xytext=(1.05, at / 1e9),
            xycoords=("axes fraction", "data"), textcoords=("axes fraction", "data"), va="center", fontsize=8,
            color=color, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6, "relpos": (0, 0.5), "shrinkB": 0},
        )  # fmt: skip


def _ranges(limits: Limits, points: list, levels: dict[str, float]) -> tuple[float, float, float, float]:
    """Left, right (operations a byte), bottom, top (GFLOP/s): all points and the ridge, with room around."""
    peak = limits.peak["float32"]
    xs = [x for x, _ in points] + [peak / limits.bandwidth]
    ys = [y for _, y in points] + [peak, *levels.values()]
    return min(xs) / 4, max(xs) * 3, max(min(ys) / 3, peak / 1e4) / 1e9, max(ys) * 2 / 1e9


def _color(k: int) -> int:
    """Of the class colours: blue, vermilion, green, orange, purple first, which stand out from white."""
    return (4, 5, 2, 0, 6, 1, 3)[k % 7]


def _apart(levels: dict[str, float], span: float) -> dict[str, float]:
    """Where the labels go, in the order of `levels`: at their rates, neighbours pushed apart until all can be read."""
    step = span ** (1 / 32)  # the height of a line of text, on a logarithmic axis
    order = sorted(levels, key=lambda name: levels[name])
    places = dict(levels)
    for _ in range(200):
        for low, high in pairwise(order):
            if places[high] < places[low] * step * 0.999:
                middle = (places[low] * places[high]) ** 0.5
                places[low], places[high] = middle / step**0.5, middle * step**0.5
    return places
