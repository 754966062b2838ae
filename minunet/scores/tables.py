"""An evaluation in tables that fit a terminal of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from minunet.display.tables import Table
from minunet.scores.single import SURE

if TYPE_CHECKING:
    from minunet.scores.evaluation import Evaluation, Scores
    from minunet.scores.matching import Matches
    from minunet.scores.membranes import MembraneErrors, MembraneScores

MEASURES = ("iou", "dice", "precision", "recall")
MANY = 8  # classes; for more, the tables are shortened
Row = tuple[str, ...]


def of(found: Evaluation, worst: int) -> list[Table]:
    """Scores with baselines, cells and membranes where they were scored, the classes, the worst images."""
    tables = [_summary(found)]
    if found.matches is not None:
        tables.append(_cells(found))
    if found.membranes is not None:
        tables.append(_membranes(found))
    return [*tables, _classes(found), _confusion(found), _worst(found, worst)]


def _columns(found: Evaluation) -> list[Scores]:
    return [found, *found.baselines.values()]


def _row(name: str, values: list[float | None], digits: int = 3) -> Row:
    return (name, *(_text(value, digits) for value in values))


def _summary(found: Evaluation) -> Table:
    """One row a measure of the whole set, a column for the model and for each baseline."""
    columns = _columns(found)
    rows: dict[str, list[float | None]] = {
        "mean IoU of cells": [scores.mean_iou_cells for scores in columns],
        "mean IoU of classes": [scores.mean_iou_classes for scores in columns],
        "pixel error": [scores.pixel_error for scores in columns],
        f"boundary F1 ({found.tolerance:g} px)": [scores.boundary_f1 for scores in columns],
    }
    shown = [_row(name, values) for name, values in rows.items() if None not in values]
    return Table((_images(len(found.images)), "model", *found.baselines), [shown])


def _cells(found: Evaluation) -> Table:
    """Average precision of the numbered cells, its mean and at each IoU."""
    columns: list[Matches] = [scores.matches for scores in _columns(found) if scores.matches is not None]
    rows = [_row("average precision, mean", [matches.mean_average_precision for matches in columns])]
    for i, threshold in enumerate(columns[0].thresholds):
        rows.append(_row(f"  at an IoU of {threshold:.2f}", [float(each.average_precision[i]) for each in columns]))
    rows.append(("cells predicted", *(str(matches.predicted) for matches in columns)))
    return Table((f"{columns[0].true} cells", "model", *found.baselines), [rows])


def _membranes(found: Evaluation) -> Table:
    """V_rand and V_info at their best thresholds; the errors at 0.5."""
    columns = _columns(found)
    best: list[MembraneScores] = [scores.membranes for scores in columns if scores.membranes is not None]
    errors: list[MembraneErrors] = [s.membrane_errors for s in columns if s.membrane_errors is not None]

    def thresholds(of: Callable[[MembraneScores], float]) -> Row:
        """None for a mask, which has no other."""
        return ("  at the threshold", *(f"{of(scores):.1f}" if len(scores.at) > 1 else "-" for scores in best))

    scores = [
        _row("V_rand, best threshold", [each.v_rand for each in best]),
        thresholds(lambda each: each.v_rand_threshold),
        _row("V_info, best threshold", [each.v_info for each in best]),
        thresholds(lambda each: each.v_info_threshold),
    ]
    at_half = [
        (f"at the threshold {SURE:g}", *("" for _ in columns)),
        _row("Rand error", [each.rand_error for each in errors]),
        _row("adapted Rand error", [each.adapted_rand_error for each in errors]),
        _row("variation of information", [each.split + each.merged for each in errors]),
        _row("  split, bits", [each.split for each in errors]),
        _row("  merged, bits", [each.merged for each in errors]),
        _row("pixel error", [scores.pixel_error for scores in columns]),
        _row("Dice of the membrane", [float(scores.dice[0]) for scores in columns]),
        _row("warping error", [each.warping_error for each in errors], 6),
        _row("  splits an image", [each.splits for each in errors], 1),
        _row("  mergers an image", [each.mergers for each in errors], 1),
    ]
    return Table(("membranes", "model", *found.baselines), [scores, at_half])


def _classes(found: Evaluation) -> Table:
    """Four measures of each class, under the model's those of the baselines."""
    truth = found.confusion.sum(axis=1)
    sections = []
    for k, name in enumerate(found.class_names):
        measures = [_text(getattr(found, measure)[k]) for measure in MEASURES]
        section = [(name, *measures, f"{truth[k] / truth.sum():.1%}")]
        if len(found.class_names) <= MANY:
            for baseline, scores in found.baselines.items():
                section.append((f"  {baseline}", *(_text(getattr(scores, m)[k]) for m in MEASURES), ""))
        sections.append(section)
    if len(sections) > MANY:
        sections = [[row for section in sections for row in section]]
    return Table(("class", "IoU", "Dice", "precision", "recall", "of all pixels"), sections)


def _confusion(found: Evaluation) -> Table:
    """Where the pixels of each true class go; of many classes the most frequent mistakes."""
    names, counts = found.class_names, found.confusion
    if len(names) > MANY:
        return _frequent_mistakes(names, counts)
    rows = [
        (name, *(f"{count / row.sum():.1%}" if row.sum() else "-" for count in row))
        for name, row in zip(names, counts, strict=True)
    ]
    return Table(("true class, predicted as", *names), [rows])


def _frequent_mistakes(names: list[str], counts: np.ndarray) -> Table:
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MANY]
    places = [np.unravel_index(place, wrong.shape) for place in order if wrong.flat[place]]
    rows = [(names[i], names[j], f"{wrong[i, j] / counts[i].sum():.1%}") for i, j in places]
    return Table(("true class", "most often mistaken for", "of its pixels"), [rows], left=2)


def _worst(found: Evaluation, count: int) -> Table:
    """By what they are ordered comes first."""
    images = found.worst(count)
    columns: dict[str, list[float | None]] = {
        "AP (IoU 0.5)": [image.average_precision for image in images],
        "V_rand": [image.v_rand for image in images],
        "IoU" if len(found.confusion) == 2 else "mean IoU": [image.score for image in images],
        "boundary F1": [image.boundary_f1 for image in images],
        "pixel error": [image.pixel_error for image in images],
    }
    shown = {name: values for name, values in columns.items() if None not in values}
    rows = [(image.name, *(_text(values[i]) for values in shown.values())) for i, image in enumerate(images)]
    return Table(("worst images", *shown), [rows])


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _text(value: float | None, digits: int = 3) -> str:
    """A dash where there is no number: an absent class, say."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"
