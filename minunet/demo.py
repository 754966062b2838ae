"""`minunet demo`: watch a small U-Net learn to find generated cells. No data, no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minunet.data import Dataset, cells, from_arrays, write_image
from minunet.display import pictures
from minunet.display.progress import progress
from minunet.errors import UsageError
from minunet.extras import MissingExtra, require
from minunet.training.runs import (
    Reporter,
    RunFolder,
    describe_model,
    preview_rows,
)
from minunet.training.train import History, Recipe, Trainer, evenly
from minunet.unet import UNet

SIDE = 128  # pixels
TRAINING, VALIDATION, SHOWN = 64, 16, 4  # images
FEATURES = (8, 16, 32)
STEPS, MINUTES = 400, 1.25  # of training unless asked otherwise; the minutes bound it on a slow machine
# Many small steps: they learn more in a minute than few large ones. The score is that of the foreground, not of cells.
RECIPE: dict[str, Any] = {"crop": 64, "batch_size": 4, "loss": "ce", "weight_map": False, "score": "iou"}


def demo(out: Path, seed: int, steps: int | None, minutes: float | None) -> History:
    """Generate, train, score, draw.

    steps, minutes: of training (None, None: STEPS, within MINUTES). Start-up, compiling and drawing
    come on top, so that the first run, which compiles the kernels, learns as much as the second.
    """
    if steps is None and minutes is None:
        steps, minutes = STEPS, MINUTES
    with RunFolder(out, overwrite=True) as folder:
        return _show_into(folder, seed, steps, minutes)


def _show_into(folder: RunFolder, seed: int, steps: int | None, minutes: float | None) -> History:
    """`demo`, where nobody else trains."""
    out = folder.path
    _refuse_a_run(folder)
    folder.start()
    training, validation = generate(seed)
    print(f"cells     {TRAINING} generated images to train on, {VALIDATION} others to judge by, "
          f"{SIDE} x {SIDE} px (--seed {seed})")  # fmt: skip
    model = UNet(1, 2, features=FEATURES, padding="same", norm="batch", seed=seed)
    trainer = Trainer(model, training, validation, Recipe(seed=seed, **RECIPE))
    print(f"network   {describe_model(model)}")
    print("score     mean IoU of cells: their overlap with the truth, 0 to 1, mean over the images")
    baselines = trainer.baselines
    drawing = pictures.available()
    trainer.warm_up()
    with progress() as display:
        reporter = Reporter(folder, trainer, display, baselines, {"seed": seed})
        history = reporter.watch(steps, minutes)
    reporter.save_model()
    images = write_samples(out / "images", evenly(validation, SHOWN))
    _say_scores(history, baselines)
    if drawing:
        draw(out, trainer, history)
    _say_next(out, folder, images, drawing)
    return history


def _refuse_a_run(folder: RunFolder) -> None:
    """The demo replaces its own folder unasked, but no model that `train` took hours for."""
    kept = folder.settings.is_file() and '"options"' in folder.settings.read_text()
    if kept or folder.checkpoint.exists():  # the demo keeps no checkpoint
        raise UsageError(f"{folder.path} holds a run of minunet train: give another --out")


def generate(seed: int) -> tuple[Dataset, Dataset]:
    """The training images and the others; the same seed gives the same ones."""
    images, labels = cells(TRAINING + VALIDATION, size=SIDE, seed=seed)
    dataset = from_arrays(images, labels, target="instances")
    dataset.names = [f"cells{i:03d}" for i in range(len(dataset))]
    indices = range(len(dataset))
    return dataset.subset(indices[:TRAINING]), dataset.subset(indices[TRAINING:])


def write_samples(folder: Path, dataset: Dataset) -> Path:
    """A few images to try `minunet predict` on: PNG, or NPY in the base install."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        require("PIL", extra="train")
        suffix = ".png"
    except MissingExtra:
        suffix = ".npy"
    for name, raw in zip(dataset.names, dataset.raw, strict=True):
        write_image(folder / f"{name}{suffix}", np.asarray(raw))
    return folder


def draw(out: Path, trainer: Trainer, history: History) -> None:
    title = (
        f"cells the network has not seen: mean IoU {history.records[0]['score']:.2f} untrained, "
        f"{history.best_score:.2f} after {history.best_step} steps"
    )
    assert trainer.validation is not None
    rows = preview_rows(trainer.model, evenly(trainer.validation, SHOWN))
    pictures.overview(out / "overview.png", rows, title, ["cells"])
    pictures.curves(out / "curves.png", history.records, trainer.baselines, trainer.score_name)


def _say_scores(history: History, baselines: dict[str, float]) -> None:
    assert history.best_score is not None
    scores = {
        "untrained network": history.records[0]["score"],
        **baselines,
        f"trained network, step {history.best_step}": history.best_score,
    }
    width = max(len(name) for name in scores)
    print("\nmean IoU of cells, on images that were not trained on")
    for name, score in scores.items():
        print(f"  {name.ljust(width)}  {score:.3f}  {'#' * round(40 * score)}")


def _say_next(out: Path, folder: RunFolder, images: Path, drawing: bool) -> None:
    print()
    if drawing:
        print(f"look at   {out / 'overview.png'}  images, truth, prediction, uncertainty")
        print(f"          {out / 'curves.png'}    how it learned")
    else:
        print('no pictures: they need matplotlib (pip install "minunet[train]")')
    print(f"next      minunet predict {folder.model} {images} --out {out / 'predictions'}"
          f"{' --overlay' if drawing else ''}")  # fmt: skip
    print(f"          minunet info {folder.model}")
