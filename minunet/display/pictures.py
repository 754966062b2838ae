"""Pictures to judge a model by: overlays, image rows with uncertainty or with mistakes, curves.

Class colours are those of Okabe and Ito, which colour-blind readers can tell apart; class 0
(the background) stays clear.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from minunet.data import Coding, class_map
from minunet.display.texts import drawable
from minunet.extras import require
from minunet.files import atomic_write

CLASS_COLORS = np.array(
    [
        (230, 159, 0),  # orange
        (86, 180, 233),  # sky blue
        (0, 158, 115),  # bluish green
        (240, 228, 66),  # yellow
        (0, 114, 178),  # blue
        (213, 94, 0),  # vermilion
        (204, 121, 167),  # purple
    ],
    dtype=np.uint8,
)
# Mistakes: colours that stand apart from each other for every kind of sight, over a darkened grey image.
MISTAKES = {
    "missed": np.array((0, 190, 255), np.uint8),
    "added": np.array((255, 90, 0), np.uint8),
    "another class": np.array((255, 235, 60), np.uint8),
}
HALO = 0.3  # of its light is left to what lies beside an outline, or the outline would be lost on white
PANEL, DPI = 2.3, 110  # inches a side of a sheet's pictures, pixels an inch
PIXELS = int(PANEL * DPI)
INK, MUTED, GRID = "#1a1a1a", "#5f5f5f", "#d9d9d9"
LOSS_COLOR, SCORE_COLOR = "#0072b2", "#d55e00"


@dataclass(frozen=True)
class Row:
    """One image of a picture: raw image, class indices (H, W) and probabilities (K, H, W)."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray
    note: str = ""  # stands under the prediction's title, e.g. its score
    weight: np.ndarray | None = None  # (H, W), what each pixel counts in the loss
    coding: Coding | None = None  # of the model that has found the probabilities

    @property
    def predicted(self) -> np.ndarray:
        """Class indices (H, W), as the truth's."""
        return class_map(self.probabilities, self.coding)


def display(image: np.ndarray) -> np.ndarray:
    """Any image (H, W), (H, W, 3) or (C, H, W) as uint8 (H, W, 3), scaled to be seen.

    8-bit colours stay as they are; of all else the values from the 0.5th to the 99.5th percentile
    are spread over black to white.
    """
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[-1] not in (1, 3) and image.shape[0] < image.shape[-1]:
        image = np.moveaxis(image, 0, -1)
    if image.ndim == 3 and image.shape[-1] != 3:
        image = image[..., 0]
    if image.ndim == 3 and image.dtype == np.uint8:
        return image
    values = image.astype(np.float64)
    low, high = np.percentile(values, (0.5, 99.5))
    grey = (values - low) / max(high - low, 1e-12)
    seen = (255 * grey.clip(0, 1) + 0.5).astype(np.uint8)
    return seen if seen.ndim == 3 else np.repeat(seen[..., None], 3, axis=2)


def overlay(image: np.ndarray, classes: np.ndarray, strength: float = 0.35) -> np.ndarray:
    """The image with each class tinted in its colour and outlined, the outline between dark lines; uint8 (H, W, 3)."""
    seen = display(image).astype(np.float64)
    lines = outline(classes)
    colors = CLASS_COLORS[(classes - 1) % len(CLASS_COLORS)]
    weight = np.where(classes > 0, strength, 0.0)
    weight[lines] = 1.0
    seen += weight[..., None] * (colors - seen)
    seen[_around(lines)] *= HALO
    return (seen + 0.5).astype(np.uint8)


def _around(lines: np.ndarray) -> np.ndarray:
    """The pixels beside lines, above, below, left and right, that are not of the lines themselves."""
    padded = np.pad(lines, 1)
    beside = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return beside & ~lines


def thinned(image: np.ndarray, largest: int) -> np.ndarray:
    """(H, W, ...) of at most `largest` px a side: every second, third, ... row and column.

    For pictures that are drawn small: an outline that is drawn before it is made smaller loses most of its pixels.
    """
    step = max(1, -(-max(image.shape[:2]) // largest))
    return image[::step, ::step]


def outline(classes: np.ndarray) -> np.ndarray:
    """Pixels of a class that have a pixel of a lower one above, below, left or right."""
    padded = np.pad(classes, 1, mode="edge")
    lowest = classes
    for shifted in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        lowest = np.minimum(lowest, shifted)
    return lowest < classes


def mistakes(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The image, grey and darkened, with its wrong pixels in the colours of `MISTAKES`; uint8 (H, W, 3).

    missed: background where truth has a class; added: a class where truth has background.
    """
    grey = display(image).mean(axis=2, keepdims=True)
    seen = np.repeat(0.45 * grey, 3, axis=2).astype(np.uint8)
    wrong = truth != prediction
    seen[wrong] = MISTAKES["another class"]
    seen[wrong & (prediction == 0)] = MISTAKES["missed"]
    seen[wrong & (truth == 0)] = MISTAKES["added"]
    return seen


def uncertainty(probabilities: np.ndarray) -> np.ndarray:
    """Entropy of the class probabilities (K, H, W), 0 (sure) to 1 (all classes alike); (H, W)."""
    p = np.clip(probabilities.astype(np.float64), 1e-12, 1.0)
    return -(p * np.log(p)).sum(axis=0) / np.log(len(p))


def class_names(coding: Coding) -> list[str]:
    """Names of the classes 1, 2, ... by what stands for them in the masks."""
    if coding.kind == "colors":
        return [f"colour {color}" for color in coding.values[1:]]
    if coding.scored_classes > 2:
        return [f"value {value}" for value in coding.values[1:]]
    return ["foreground"]


def target_names(coding: Coding) -> list[str]:
    """Names of the classes 1, 2, ... that are learned: as `class_names`, but for borders."""
    return ["inside", "border"] if coding.kind == "borders" else class_names(coding)


def overview(path: str | Path, rows: Sequence[Row], title: str, names: Sequence[str]) -> None:
    """A picture with a row an image: image, truth, prediction, uncertainty, and the weights where rows have them.

    names: of the classes 1, 2, ... Needs matplotlib (MissingExtra otherwise).
    """
    weights = any(row.weight is not None for row in rows)
    columns = ("image", "truth", "prediction", "uncertainty", "weight in the loss")
    figure, axes, bottom = sheet(len(rows), title, columns if weights else columns[:-1])
    for row, line in zip(rows, axes, strict=True):
        _draw_row(row, line)
        heat = line[3].imshow(uncertainty(row.probabilities), cmap="cividis", vmin=0, vmax=1)
    _color_bar(figure, heat, axes[-1][3], bottom, {0: "0 (sure)", 0.5: "0.5", 1: "1 (a guess)"})
    if weights:
        _draw_weights(figure, axes[:, -1], [row.weight for row in rows], bottom)
    legend(figure, _class_colors(names))
    save(figure, path)


def samples(
    path: str | Path,
    row_names: Sequence[str],
    pictures: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]],
    columns: Sequence[str],
    weights: Sequence[np.ndarray],
    title: str,
    names: Sequence[str],
) -> None:
    """A picture with rows of images (H, W) or (C, H, W) with their classes (H, W), and a weight map (H, W) at the end.

    pictures: rows of one pair a column; weights: one a row, or none at all; names: of the classes 1, 2, ... Needs
    matplotlib (MissingExtra otherwise).
    """
    figure, axes, bottom = sheet(len(pictures), title, [*columns, "weight in the loss"] if weights else columns)
    for row, line, name in zip(pictures, axes, row_names, strict=True):
        for (image, classes), axis in zip(row, line, strict=False):
            seen, drawn = (thinned(array, PIXELS) for array in (display(image), classes))
            axis.imshow(overlay(seen, drawn, strength=0.15), interpolation="nearest")
        label(line[0], name)
    if weights:
        _draw_weights(figure, axes[:, -1], weights, bottom)
    legend(figure, _class_colors(names))
    save(figure, path)


def _draw_weights(figure: Any, axes: Sequence[Any], weights: Sequence[np.ndarray | None], bottom: float) -> None:
    """A column of weight maps in one scale, with its bar."""
    largest = max(float(weight.max()) for weight in weights if weight is not None)
    for axis, weight in zip(axes, weights, strict=True):
        if weight is not None:
            drawn = axis.imshow(weight, cmap="magma", vmin=0, vmax=largest)
    _color_bar(figure, drawn, axes[-1], bottom, {0: "0", largest / 2: "", largest: f"{largest:.3g}"})


def worst_images(path: str | Path, rows: Sequence[Row], title: str, names: Sequence[str]) -> None:
    """A picture with a row an image: image, truth, prediction, mistakes.

    names: of the classes 1, 2, ... Needs matplotlib (MissingExtra otherwise).
    """
    figure, axes, _ = sheet(len(rows), title, ("image", "truth", "prediction", "mistakes"))
    for row, line in zip(rows, axes, strict=True):
        _draw_row(row, line)
        wrong = mistakes(row.image, row.truth, row.predicted)
        line[3].imshow(wrong, interpolation="nearest")
    legend(figure, _class_colors(names))
    shown = list(MISTAKES.items())[: 2 if len(names) == 1 else 3]
    legend(figure, {name: color / 255 for name, color in shown}, side="right", above=0.15)
    save(figure, path)


def sheet(rows: int, title: str, columns: Sequence[str]) -> tuple[Any, Any, float]:
    """A figure, its axes (rows, columns), and the share of its height below them."""
    require("matplotlib", extra="train")
    from matplotlib.figure import Figure

    left, top, bottom = 0.15, 0.8, 0.75  # inches
    figure = Figure(figsize=(len(columns) * PANEL + left, rows * PANEL + top + bottom), dpi=DPI)
    axes = figure.subplots(rows, len(columns), squeeze=False)
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.012, right=0.988, top=1 - top / height, bottom=bottom / height,
        wspace=0.04, hspace=0.04,
    )  # fmt: skip
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, fontsize=11, color=INK, pad=5)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.text(0.012, 1 - 0.3 / height, drawable(title), fontsize=13, color=INK, va="center", parse_math=False)
    return figure, axes, bottom / height


def _draw_row(row: Row, axes: Sequence[Any]) -> None:
    """The first three panels of a row."""
    image, truth, predicted = (
        thinned(array, PIXELS) for array in (display(row.image), row.truth, row.predicted)
    )
    shown = (image, overlay(image, truth), overlay(image, predicted))
    for axis, picture in zip(axes, shown, strict=False):
        axis.imshow(picture, interpolation="nearest")
    label(axes[0], row.name)
    label(axes[2], row.note)


def label(axis: Any, text: str) -> None:
    if text:
        axis.text(
            0.03, 0.03, drawable(text), transform=axis.transAxes, fontsize=8, color="white", va="bottom",
            parse_math=False,  # a file may be named $x_^$
            bbox={"facecolor": "black", "alpha": 0.6, "pad": 2, "edgecolor": "none"},
        )  # fmt: skip


def _color_bar(figure: Any, heat: Any, last_axis: Any, bottom: float, ticks: dict[float, str]) -> None:
    """A bar below a column; ticks: three values and what stands there."""
    place = last_axis.get_position()
    axis = figure.add_axes((place.x0, 0.72 * bottom, place.width, 0.12 * bottom))
    bar = figure.colorbar(heat, cax=axis, orientation="horizontal", ticks=list(ticks))
    bar.ax.set_xticklabels(list(ticks.values()), fontsize=8, color=MUTED)
    bar.ax.get_xticklabels()[0].set_horizontalalignment("left")
    bar.ax.get_xticklabels()[2].set_horizontalalignment("right")
    bar.outline.set_visible(False)


def _class_colors(names: Sequence[str]) -> dict[str, Any]:
    """The colour of each class by name; beyond the table they repeat, so these are left out."""
    return {name: color / 255 for name, color in zip(names, CLASS_COLORS, strict=False)}


def legend(figure: Any, colors: dict[str, Any], side: str = "left", above: float = 0.4) -> None:
    """One line on one side of a sheet, its middle `above` inches from the bottom."""
    from matplotlib.patches import Patch

    patches = [Patch(color=color, label=drawable(name)) for name, color in colors.items()]
    figure.legend(
        handles=patches, loc=f"center {side}", fontsize=9,
        bbox_to_anchor=(0.005 if side == "left" else 0.995, above / figure.get_figheight()),
        ncols=len(patches), frameon=False, labelcolor=MUTED,
    )  # fmt: skip


def curves(
    path: str | Path,
    records: Sequence[dict[str, Any]],
    baselines: dict[str, float],
    score_name: str,
) -> None:
    """Loss, score and learning rate over the steps of a run, the baselines as dashed lines.

    records: as in `minunet.training.train.History`. Needs matplotlib (MissingExtra otherwise).
    """
    require("matplotlib", extra="train")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), dpi=110, layout="constrained")
    top, middle, low = figure.subplots(3, 1, sharex=True, height_ratios=(4, 4, 1.3))
    _draw_losses(top, records)
    _draw_scores(middle, records, baselines)
    steps, rates = _column(records, "lr")
    low.plot(steps, rates, color=MUTED, linewidth=1.5)
    low.set_xlabel("step", color=INK)
    for axis, title in ((top, "loss"), (middle, drawable(score_name)), (low, "learning rate")):
        axis.set_title(title, loc="left", fontsize=11, color=INK)
        axis.grid(axis="y", color=GRID, linewidth=0.7)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(GRID)
        axis.tick_params(colors=MUTED, labelsize=9)
    save(figure, path)


def _draw_losses(axis: Any, records: Sequence[dict[str, Any]]) -> None:
    axis.plot(*_column(records, "loss"), color=LOSS_COLOR, linewidth=1.5, label="training")
    steps, losses = _column(records, "validation_loss")
    if steps:
        axis.plot(steps, losses, "o-", color=SCORE_COLOR, markersize=4, label="validation")
        axis.legend(frameon=False, fontsize=9, labelcolor=INK)
    axis.set_ylim(bottom=0)


def _draw_scores(axis: Any, records: Sequence[dict[str, Any]], baselines: dict[str, float]) -> None:
    steps, scores = _column(records, "score")
    if not steps:
        axis.text(0.5, 0.5, "no validation images", transform=axis.transAxes, ha="center")
        return
    axis.plot(steps, scores, "o-", color=SCORE_COLOR, markersize=4, label="validation")
    shown, ious = _column(records, "mean_iou")
    if shown:
        axis.plot(shown, ious, "o-", color=LOSS_COLOR, markersize=3, linewidth=1, label="mean IoU, validation")
    best = max(range(len(scores)), key=scores.__getitem__)
    axis.annotate(
        f"best {scores[best]:.3f}", (steps[best], scores[best]), xytext=(0, 7),
        textcoords="offset points", ha="right" if best else "left", fontsize=9, color=INK,
    )  # fmt: skip
    for style, (name, value) in zip(("--", ":", "-."), baselines.items(), strict=False):
        axis.axhline(value, color=MUTED, linestyle=style, linewidth=1.2, label=f"{name} {value:.3f}")
    axis.set_ylim(0, 1.05)
    axis.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower right")


def _column(records: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    rows = [record for record in records if name in record]
    return [record["step"] for record in rows], [record[name] for record in rows]


def save(figure: Any, path: str | Path) -> None:
    def write(file: IO[bytes]) -> None:
        figure.savefig(file, format="png", metadata={"Software": None})

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # boxes in place of a name say enough
        atomic_write(Path(path), write)


def available() -> bool:
    """Whether matplotlib is there; imports it, so that its start-up falls here and not later."""
    try:
        require("matplotlib.figure", extra="train")
    except ImportError:
        return False
    return True
