"""`minunet doctor`: ask, print, draw, and say with the exit status whether training would be in vain."""

from __future__ import annotations

import json
from pathlib import Path

from minunet.data import DataError
from minunet.doctor.examine import Question, examine
from minunet.doctor.report import show
from minunet.errors import UsageError
from minunet.files import atomic_write
from minunet.training.recipe import Recipe

SHEET = "doctor.png"


def doctor(
    question: Question,
    out: Path | None = None,
    json_file: Path | None = None,
    weights: Recipe | None = None,
    augmented: Recipe | None = None,
) -> None:
    """Print the report; `out`: folder for the picture sheet; `json_file`: the same for machines.

    weights, augmented: draw what pixels count, and what augmentation makes of the images, by these recipes.
    DataError, after the report, where a finding is fatal.
    """
    if out is None and (weights or augmented):
        raise UsageError("--show and --augment write pictures: give --out a folder for them")
    if not 0 <= question.validation < 1:
        raise UsageError(f"--validation is a share from 0 up to 1 (not included), not {question.validation:g}")
    _refuse_data_folders(question, out)
    examination = examine(question)
    show(examination)
    if json_file is not None:
        text = json.dumps(examination.to_json(), indent=2) + "\n"
        atomic_write(json_file, lambda file: file.write(text.encode()))
    if out is not None and examination.reading.names:
        from minunet.doctor.samples import AUGMENTED, WEIGHTS, draw_augmented, draw_weights
        from minunet.doctor.sheet import draw

        out.mkdir(parents=True, exist_ok=True)
        draw(examination, out / SHEET)
        print(f"\n{out / SHEET}  the images with the outlines of their masks, suspicious ones first")
        if weights is not None:
            draw_weights(examination, weights, out / WEIGHTS)
            print(f"{out / WEIGHTS}  what each pixel counts in the loss")
        if augmented is not None:
            draw_augmented(examination, augmented, out / AUGMENTED)
            print(f"{out / AUGMENTED}  crops as augmentation changes them")
    if examination.fatal:
        raise DataError("training on this data, with these settings, would be in vain; see the findings marked FATAL")


def _refuse_data_folders(question: Question, out: Path | None) -> None:
    """The sheet among the images would be taken for an image."""
    for place in (question.images, question.masks):
        if out is not None and place.resolve() == out.resolve():
            raise UsageError(f"--out {out} is a folder of the data: give a folder of its own")
