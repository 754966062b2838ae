"""The picture sheet: images with the outlines of their masks, suspicious ones first, histogram and class balance."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from minunet.data import DataError
from minunet.data.coding import plain_mask
from minunet.display.pictures import CLASS_COLORS, GRID, INK, MUTED, display, overlay, thinned
from minunet.display.texts import drawable
from minunet.doctor.examine import Examination
from minunet.doctor.findings import Finding, counted
from minunet.doctor.report import verdict
from minunet.extras import require
from minunet.files import atomic_write

COLUMNS, ROWS = 6, 4  # pictures
PANEL = 2.1  # inches
TOP = 2.9  # inches above the pictures
CHART = 1.35  # inches, height of the charts
DPI = 130
LARGEST = int(PANEL * DPI)  # pixels a side; of larger pictures every second, third, ... pixel is drawn
TINT = 0.15  # or an inverted mask would look like a right one
ONE_FINDING = 6  # pictures of it at most
NOTE = 30  # characters of a picture's label
FRAMES = {"fatal": "#d00000", "warning": "#e69f00", "note": "#56b4e9"}
SURROUNDINGS = "#9a9a9a"  # the colour of class 0 in the chart


def draw(examination: Examination, path: Path) -> None:
    """Write the sheet as PNG. Needs matplotlib (MissingExtra otherwise)."""
    require("matplotlib", extra="train")
    from matplotlib.figure import Figure

    chosen = choose(examination.findings, len(examination.reading.names), COLUMNS * ROWS)
    rows = -(-len(chosen) // COLUMNS)
    height = TOP + rows * (PANEL + 0.5)
    figure = Figure(figsize=(COLUMNS * PANEL + 0.4, height), dpi=DPI)
    _title(figure, examination, len(chosen), height)
    _histogram(figure.add_axes((0.045, 1 - (TOP - 0.45) / height, 0.42, CHART / height)), examination)
    _balance(figure.add_axes((0.60, 1 - (TOP - 0.45) / height, 0.36, CHART / height)), examination)
    width = 1 / COLUMNS
    for place, (image, finding) in enumerate(chosen):
        row, column = divmod(place, COLUMNS)
        bottom = 1 - (TOP + (row + 1) * (PANEL + 0.5) - 0.45) / height
        axis = figure.add_axes((column * width + 0.008, bottom, width - 0.016, (PANEL - 0.1) / height))
        _picture(axis, examination, image, finding)
    _save(figure, path)


def choose(findings: Sequence[Finding], count: int, room: int) -> list[tuple[int, Finding | None]]:
    """At most `room` of `count` images with the finding that each is shown for, the worst first.

    No finding has more than ONE_FINDING of them; the rest is an even choice of those without any.
    """
    chosen: dict[int, Finding] = {}
    for finding in findings:
        new = [i for i in dict.fromkeys(finding.images) if i not in chosen]
        chosen |= dict.fromkeys(new[: min(ONE_FINDING, room - len(chosen))], finding)
    suspicious = {i for finding in findings for i in finding.images}
    others = [i for i in range(count) if i not in suspicious]
    free = min(room - len(chosen), len(others))
    return [*chosen.items(), *((others[k * len(others) // free], None) for k in range(free))]


def _title(figure: Any, examination: Examination, shown: int, height: float) -> None:
    asked, reading = examination.question, examination.reading
    folders = f"{asked.images}  and  {asked.masks}"
    figure.text(0.02, 1 - 0.32 / height, drawable(folders), fontsize=14, color=INK, parse_math=False)
    below = f"{shown} of {counted(len(reading.names), 'pair')}, suspicious ones first. {verdict(examination)}"
    figure.text(0.02, 1 - 0.62 / height, drawable(below), fontsize=10, color=MUTED, parse_math=False)


def _histogram(axis: Any, examination: Examination) -> None:
    histogram = examination.facts["images"]["histogram"]
    shares = np.array(histogram["shares"])
    edges = np.linspace(histogram["from"], histogram["to"], len(shares) + 1)
    look = {"align": "edge", "color": "#0072b2", "edgecolor": "white", "linewidth": 0.5}
    axis.bar(edges[:-1], 100 * shares, width=np.diff(edges), **look)
    _plain(axis, "values of the images (% of the pixels)")


def _balance(axis: Any, examination: Examination) -> None:
    rows = examination.facts.get("classes", [])[:8][::-1]
    shares = [100 * row["share"] for row in rows]
    colors = [_color(len(rows) - 1 - k) for k in range(len(rows))]
    axis.barh([drawable(row["name"]) for row in rows], shares, color=colors, height=0.7)
    for k, share in enumerate(shares):
        axis.text(share + 1, k, f"{share:.2f} %", va="center", fontsize=8, color=MUTED)
    axis.set_xlim(0, 118)
    _plain(axis, "classes (% of the pixels)" if rows else "classes: the meaning of the masks is not known")
    if not rows:
        axis.set_axis_off()


def _color(class_index: int) -> Any:
    return SURROUNDINGS if class_index == 0 else CLASS_COLORS[(class_index - 1) % len(CLASS_COLORS)] / 255


def _plain(axis: Any, title: str) -> None:
    axis.set_title(title, loc="left", fontsize=10, color=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GRID)
    axis.tick_params(colors=MUTED, labelsize=8)


def _picture(axis: Any, examination: Examination, image: int, finding: Finding | None) -> None:
    reading = examination.reading
    axis.imshow(outlined(reading.images[image], _classes(examination, image)), interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_anchor("N")
    color = FRAMES[finding.severity] if finding else GRID
    axis.spines[:].set_color(color)
    axis.spines[:].set_linewidth(3 if finding else 1)
    name = drawable(reading.names[image])
    name = name if len(name) <= NOTE else name[: NOTE - 3] + "..."
    label = f"{drawable(finding.about)}\n{name}" if finding else name
    axis.set_title(label, loc="left", fontsize=8, color=INK if finding else MUTED, pad=4, parse_math=False)


def _classes(examination: Examination, image: int) -> np.ndarray | None:
    """Class indices to outline; the mask's values where their meaning is not known; None where the mask is none."""
    dataset = examination.dataset
    if dataset is not None:
        return dataset.targets[image]  # of instances: parted where they touch
    try:
        plain = plain_mask(examination.reading.masks[image])
    except DataError:
        return None
    plain = plain.max(axis=2) if plain.ndim == 3 else plain
    return plain.astype(np.int64)


def outlined(image: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """The image, at most LARGEST px a side, with the classes (H, W) outlined and lightly tinted; uint8 (H, W, 3)."""
    seen = thinned(display(image), LARGEST)
    return seen if classes is None else overlay(seen, thinned(classes, LARGEST), TINT)


def _save(figure: Any, path: Path) -> None:
    def write(file: IO[bytes]) -> None:
        figure.savefig(file, format="png", metadata={"Software": None})

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # boxes in place of a name say enough
        atomic_write(path, write)
