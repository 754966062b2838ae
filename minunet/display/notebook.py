"""What one looks at in a notebook: images with masks and predictions, and the curves of a training.

Everything is HTML that needs nothing from outside; without a notebook, `save` writes it as a page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minunet.autograd import Tensor
from minunet.data import Coding, class_map
from minunet.display.objects import picture_html, row_html
from minunet.display.pictures import LOSS_COLOR, SCORE_COLOR, display, mistakes, overlay
from minunet.files import atomic_write

if TYPE_CHECKING:
    from minunet.training.history import History


@dataclass(frozen=True)
class View:
    """Something to look at: a notebook shows it, `save` writes it as a page of its own."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"<{self.text}: a notebook shows it, .save('page.html') writes it>"

    def save(self, path: str | Path) -> None:
        """Write a page that a browser shows without anything else."""
        page = f"<!doctype html><meta charset=utf-8><title>{escape(self.text)}</title>{self.html}\n"
        atomic_write(path, lambda file: file.write(page.encode()))


def show(image: Any, mask: Any = None, prediction: Any = None, coding: Coding | None = None) -> View:
    """The image; beside it mask and prediction drawn over it, and if both are given what is wrong.

    image: (H, W), (H, W, 3) or (C, H, W) of any numbers, or a Tensor of them.
    mask: (H, W) class indices, 0/255 or instance ids, each value in its own colour; or (H, W, 3), shown as it is.
    prediction: (H, W) as mask, or probabilities (K, H, W) as `predict` gives them.
    coding: the model's, `model.coding`; needed for probabilities with a class for borders, which belong to the cells.

    Also `show(history)`: the curves of a training.
    Raises ValueError where mask or prediction have another size than the image.
    """
    if hasattr(image, "records"):
        return View(curves_html(image), f"curves of {image.steps} steps")
    image, mask, prediction = (None if a is None else _array(a) for a in (image, mask, prediction))
    if prediction is not None and coding is not None and _are_probabilities(prediction):
        found = class_map(prediction, coding)
        prediction = np.stack([found == k for k in range(coding.scored_classes)]).astype(np.float32)
    seen = display(image)
    panels = {"image": seen}
    if mask is not None:
        panels["mask"] = _drawn(image, mask, "mask")
    if prediction is not None:
        panels["prediction"] = _drawn(image, _classes(prediction), "prediction")
    if mask is not None and prediction is not None and mask.ndim == 2:
        panels["mistakes (blue: missed, orange: added)"] = mistakes(image, *_comparable(mask, prediction))
    figures = "".join(picture_html(rgb, title) for title, rgb in panels.items())
    height, width = seen.shape[:2]
    names = ", ".join(title.partition(" ")[0] for title in panels)
    return View(row_html(figures), f"{names}, {height} x {width} px")


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.data if isinstance(value, Tensor) else value)


def _drawn(image: np.ndarray, mask: np.ndarray, name: str) -> np.ndarray:
    size = display(image).shape[:2]
    if mask.shape[:2] != size:
        raise ValueError(f"a {name} of shape {mask.shape} for an image of {size[0]} x {size[1]} px")
    if mask.ndim == 3:
        return display(mask)
    # Not the values but their order chooses the colours: 255 is the first class of 0/255.
    values, classes = np.unique(mask, return_inverse=True)
    return overlay(image, classes.reshape(mask.shape) + int(values[0] != 0))


def _are_probabilities(prediction: np.ndarray) -> bool:
    return prediction.ndim == 3 and prediction.dtype.kind == "f"


def _classes(prediction: np.ndarray) -> np.ndarray:
    return prediction.argmax(axis=0) if _are_probabilities(prediction) else prediction


def _comparable(mask: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as classes; of two classes every value but 0 is foreground, whatever it is."""
    classes = _classes(prediction)
    if len(prediction) == 2 if prediction.ndim == 3 else len(np.unique(classes)) <= 2:
        return (mask != 0).astype(np.int64), (classes != 0).astype(np.int64)
    return mask, classes


def curves_html(history: History) -> str:
    """Loss and, where there is one, score of a `History` over its steps."""
    loss = {"training": _column(history, "loss"), "validation": _column(history, "validation_loss")}
    charts = chart_html("loss", loss, (LOSS_COLOR, SCORE_COLOR))
    score = _column(history, "score")
    if score:
        charts += chart_html("score on validation images", {"validation": score}, (SCORE_COLOR,), top=1.0)
    return row_html(charts)


def _column(history: History, name: str) -> list[tuple[float, float]]:
    """(step, value) of the records that hold a finite one."""
    records = (record for record in history.records if record.get(name) is not None)
    return [(record["step"], record[name]) for record in records if math.isfinite(record[name])]


WIDTH, HEIGHT = 420, 240  # of a chart, in px
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 30, 34  # its margins


def chart_html(
    title: str, lines: dict[str, list[tuple[float, float]]], colors: Sequence[str], top: float | None = None
) -> str:
    """Lines of (x, y) points over one pair of axes that begin at 0, as SVG. `top`: of the y axis; None: to fit."""
    everything = [point for line in lines.values() for point in line]
    last = max((x for x, _ in everything), default=0) or 1
    top = top or max((y for _, y in everything), default=0) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * x / last,
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(y / top, 0), 1),
        )

    parts = [f"<text x='{LEFT}' y='16' font-weight='bold'>{escape(title)}</text>"]
    for share in (0.0, 0.5, 1.0):
        _, y = place(0, share * top)
        x, _ = place(share * last, 0)
        parts.append(f"<path d='M{LEFT} {y:.1f}H{WIDTH - RIGHT}' stroke='#8884' fill='none'/>")
        parts.append(f"<text x='{LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{share * top:.3g}</text>")
        anchor = "end" if share == 1 else "middle"
        parts.append(f"<text x='{x:.1f}' y='{HEIGHT - 16}' text-anchor='{anchor}'>{share * last:.0f}</text>")
    parts.append(f"<text x='{WIDTH / 2}' y='{HEIGHT - 2}' text-anchor='middle'>step</text>")
    drawn = [(name, line, color) for (name, line), color in zip(lines.items(), colors, strict=True) if line]
    for number, (name, line, color) in enumerate(drawn):
        points = [place(x, y) for x, y in line]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f"<path d='M{path}' fill='none' stroke='{color}' stroke-width='1.7'/>")
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.2' fill='{color}'/>" for x, y in points if len(points) <= 30]
        x = WIDTH - RIGHT - 80 * (len(drawn) - 1 - number)
        parts.append(f"<text x='{x}' y='16' text-anchor='end' fill='{color}'>{escape(name)}</text>")
    return (
        f"<svg width='{WIDTH}' height='{HEIGHT}' viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' "
        f"font-size='12' fill='currentColor' xmlns='http://www.w3.org/2000/svg'>{''.join(parts)}</svg>"
    )
