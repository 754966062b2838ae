"""`minunet evaluate`: a model, images and their masks in; tables, pictures of the worst and JSON out."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minunet import __version__
from minunet.data import Coding, DataError, Dataset, load_folder
from minunet.display import pictures
from minunet.display.cell_pictures import CellRow, worst_cells
from minunet.display.counting import count, warn
from minunet.display.progress import say
from minunet.display.texts import printable
from minunet.errors import UsageError
from minunet.extras import require
from minunet.files import atomic_write
from minunet.instances.label import cells_of
from minunet.model_files import boxed
from minunet.model_files.weights import load
from minunet.prediction.predict import predict, preprocessing_of
from minunet.scores.evaluation import TOLERANCE, Evaluation, evaluate
from minunet.unet import UNet

WORST = 5
PICTURE = "worst.png"


@dataclass(frozen=True)
class EvaluateOptions:
    """What `minunet evaluate` is asked for."""

    model: Path
    images: Path
    masks: Path
    mask_suffix: str = ""
    target: str | None = None  # None: the coding of the model's training masks
    held_out: bool = False  # only what the training kept for validation
    out: Path | None = None
    worst: int = WORST
    json: Path | None = None
    tile: tuple[int, int] | None = None
    tta: bool = False
    tolerance: float = TOLERANCE
    membranes: bool = False


def evaluate_files(options: EvaluateOptions) -> Evaluation:
    """Evaluate on two folders, print the tables and write what was asked for.

    Where nobody reads what is printed (`| head`), the work is done all the same.
    """
    _check_places(options)
    model = load(options.model)
    dataset = _chosen(options, _read(options, model))
    with count(len(dataset), "evaluating") as display:
        found = evaluate(
            model,
            dataset,
            tile=options.tile,
            tta=options.tta,
            tolerance=options.tolerance,
            membranes=options.membranes,
            progress=display.done,
        )
    written = _write(options, model, dataset, found)
    say(f"masks read as {dataset.coding.describe()}")
    for table in found.tables(options.worst):
        table.show()
    say("".join(f"\n{printable(str(path))}" for path in written))
    useless = no_better(found)
    if useless:
        warn(useless)
    return found


def no_better(found: Evaluation) -> str | None:
    """A sentence where the model scores no better than the best of what needs no learning."""
    name, floor = max(((name, scores.headline) for name, scores in found.baselines.items()), key=lambda pair: pair[1])
    if found.headline > floor:
        return None
    return (
        f"on these images the model is no better than what needs no learning: its {found.headline_name} is "
        f"{found.headline:.3f}, '{name}' has {floor:.3f}. Are they of the kind that it was trained on, and do the "
        "masks belong to them? minunet doctor looks at that"
    )


def _read(options: EvaluateOptions, model: UNet) -> Dataset:
    """The data set, its masks read as the model's were unless --target says otherwise."""
    try:
        return load_folder(
            options.images,
            options.masks,
            mask_suffix=options.mask_suffix,
            target=options.target or model.coding or "auto",
            preprocessing=preprocessing_of(model),
        )
    except DataError as error:
        if options.target or model.coding is None:
            raise
        raise _expected(error, model.coding) from error


def _expected(error: DataError, coding: Coding) -> DataError:
    """The error, where values do not fit the coding, in words for a coding that came with the model."""
    faults = []
    for fault in error.faults:
        found, but, _ = fault.found.partition(", but the ")
        if but and fault.found.endswith(coding.describe()):
            remedy = "correct the mask, or give --target auto to read all masks by their own values"
            fault = replace(fault, found=f"{found}, but the model expects {coding.describe()}", remedy=remedy)
        faults.append(fault)
    return DataError(faults)


def _check_places(options: EvaluateOptions) -> None:
    """Refuse now what could not be written after the work."""
    if options.out is not None:
        require("matplotlib", extra="train")
        if options.out.exists() and not options.out.is_dir():
            raise UsageError(f"--out {options.out} is a file: give a folder")
        if options.out.resolve() in (options.images.resolve(), options.masks.resolve()):
            raise UsageError(f"--out {options.out} is a folder of the data: give a folder of its own")
    if options.json is not None and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        raise UsageError(f"--json {options.json} cannot be written: give a file in a folder that exists")


def _chosen(options: EvaluateOptions, dataset: Dataset) -> Dataset:
    """The images to evaluate on; a warning where some of them were trained on."""
    seen = _trained_on(options)
    if options.held_out:
        if not seen:
            raise UsageError(
                f"--held-out needs the settings.json that minunet train wrote beside {options.model}, and the images "
                "that it names: leave out --held-out, or give the run's own model and images"
            )
        dataset = dataset.subset([i for i, name in enumerate(dataset.names) if name not in seen])
        if not len(dataset):
            raise UsageError("--held-out: the training kept no image for validation")
        return dataset
    known = sum(name in seen for name in dataset.names)
    if known:
        warn(
            f"the model was trained on {known} of these {len(dataset)} images, so the scores are "
            "better than on new ones (--held-out leaves them out)"
        )
    return dataset


def _trained_on(options: EvaluateOptions) -> set[str]:
    """Names of the images that the model was trained on, if it lies in its run and these are that run's images."""
    file = (boxed.find(options.model) or options.model).parent / "settings.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        same = Path(settings["options"]["images"]).resolve() == options.images.resolve()
        return set(settings["training"]) if same else set()
    except (OSError, ValueError, KeyError, TypeError):  # no such file, or not one of a run
        return set()


def _write(options: EvaluateOptions, model: UNet, dataset: Dataset, found: Evaluation) -> list[Path]:
    written = []
    if options.json is not None:
        text = json.dumps(_document(options, found), indent=1, allow_nan=False) + "\n"
        atomic_write(options.json, lambda file: file.write(text.encode()))
        written.append(options.json)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        written.append(options.out / PICTURE)
        draw_worst(written[-1], options, model, dataset, found)
    return written


def _document(options: EvaluateOptions, found: Evaluation) -> dict[str, Any]:
    """`Evaluation.to_json`, and what was evaluated."""
    return {
        "minunet": __version__,
        "model": str(options.model),
        "image_folder": str(options.images),
        "mask_folder": str(options.masks),
        **found.to_json(),
    }


def draw_worst(path: Path, options: EvaluateOptions, model: UNet, dataset: Dataset, found: Evaluation) -> None:
    """The worst images: image, truth, prediction, and where the two differ, cell by cell where there are cells."""
    rows: list[pictures.Row] = []
    cells: list[CellRow] = []
    for image in found.worst(options.worst):
        i = image.index
        raw, truth = dataset.raw[i], dataset.truth[i]
        p = predict(model, raw, options.tile, options.tta, dataset.channels_last(i))
        numbers = {"AP": image.average_precision, "V_rand": image.v_rand, "IoU": image.score}
        note = ", ".join(f"{name} {value:.2f}" for name, value in numbers.items() if value is not None)
        if dataset.ids is None:
            rows.append(pictures.Row(image.name, raw, truth, p, note, coding=model.coding))
        else:
            cells.append(CellRow(image.name, raw, dataset.ids[i], cells_of(p), note))
    count = len(rows) + len(cells)
    title = f"the {count} worst of {len(found.images)} images" if count > 1 else "the worst image"
    if cells:
        worst_cells(path, cells, title)
    else:
        pictures.worst_images(path, rows, title, pictures.class_names(dataset.coding))
