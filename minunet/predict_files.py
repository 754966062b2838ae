"""`minunet predict`: a model and image files in, masks out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minunet.data import Coding, DataError, find_images, read_image, write_image
from minunet.errors import UsageError, WorkFailed
from minunet.extras import MissingExtra, require
from minunet.files import atomic_write
from minunet.metrics import label_instances
from minunet.pictures import overlay
from minunet.predict import predict
from minunet.unet import UNet
from minunet.weights import load

MOST_INSTANCES = 65535  # what 16 bit can number


@dataclass(frozen=True)
class PredictOptions:
    """What `minunet predict` is asked for."""

    model: Path
    inputs: tuple[Path, ...]
    out: Path
    instances: bool = False
    probabilities: bool = False
    overlay: bool = False


def predict_files(options: PredictOptions, say: Callable[[str], None] = print) -> list[Path]:
    """Predict every image and write what was asked for; returns the files written.

    Masks are PNG in the coding of the training masks. Without Pillow, where only .npy images
    can be read, masks are .npy too.
    """
    images = [file for source in options.inputs for file in find_images(source)]
    suffix = _picture_suffix(options)
    _refuse_same_stem(images)
    _refuse_overwriting(images, _names(images, options, suffix))
    model = load(options.model)
    options.out.mkdir(parents=True, exist_ok=True)
    written = []
    for number, file in enumerate(images, start=1):
        image = read_image(file)
        try:
            p = predict(model, image)
        except ValueError as error:
            raise DataError(f"{file}: {error}") from error
        files = _write(options, file.stem, suffix, image, p, model.coding)
        written += files
        say(f"{number}/{len(images)}  {file} -> {', '.join(path.name for path in files)}")
    say(f"{len(written)} files in {options.out}; masks hold {meaning(model)}")
    return written


def _write(
    options: PredictOptions,
    stem: str,
    suffix: str,
    image: np.ndarray,
    p: np.ndarray,
    coding: Coding | None,
) -> list[Path]:
    classes = p.argmax(axis=0)
    mask = options.out / f"{stem}{suffix}"
    _write_mask(mask, classes, len(p), coding)
    files = [mask]
    if options.instances:
        files.append(options.out / f"{stem}_instances{suffix}")
        write_image(files[-1], instances(p, stem))
    if options.overlay:
        files.append(options.out / f"{stem}_overlay{suffix}")
        write_image(files[-1], overlay(image, classes))
    if options.probabilities:
        files.append(options.out / f"{stem}_prob.npy")
        values = p.astype(np.float32)
        atomic_write(files[-1], lambda file: np.save(file, values, allow_pickle=False))
    return files


def _write_mask(path: Path, classes: np.ndarray, count: int, coding: Coding | None) -> None:
    """Colours as a palette: one byte a pixel, and every reader gets the same colours."""
    if coding is not None and coding.kind == "colors" and path.suffix == ".png":
        write_image(path, classes.astype(np.uint8), palette=coding.values)
    else:
        write_image(path, decode(classes, count, coding))


def decode(classes: np.ndarray, count: int, coding: Coding | None) -> np.ndarray:
    """Class indices as the values of the training masks (`Coding.decode`).

    A model without a coding: 0 and 255 for two classes, else the indices themselves.
    """
    if coding is not None:
        return coding.decode(classes)
    return (classes * (255 if count == 2 else 1)).astype(np.uint8)


def meaning(model: UNet) -> str:
    """What the values of the masks that are written mean."""
    if model.coding is None:
        two = model.out_channels <= 2
        return "0 background, 255 foreground" if two else "class indices"
    if not model.coding.values:  # instances: the network knows foreground only
        return "0 background, 255 foreground"
    return model.coding.describe()


def instances(p: np.ndarray, stem: str) -> np.ndarray:
    """Connected parts of the foreground (everything that is not class 0), numbered; uint16."""
    labels = label_instances(1 - p[0])
    if labels.max(initial=0) > MOST_INSTANCES:
        raise WorkFailed(
            f"{stem}: {labels.max()} instances, more than a 16-bit PNG can number "
            f"({MOST_INSTANCES}); use --probabilities and label them in Python"
        )
    return labels.astype(np.uint16)


def _picture_suffix(options: PredictOptions) -> str:
    """PNG, or .npy in the base install. Says now, not after an hour, what is not installed."""
    if options.instances:
        require("scipy", extra="train")
    try:
        require("PIL", extra="train")
    except MissingExtra:
        if options.overlay:
            raise
        return ".npy"
    return ".png"


def _refuse_same_stem(images: Iterable[Path]) -> None:
    seen: dict[str, Path] = {}
    for file in images:
        if seen.get(file.stem) == file:
            raise UsageError(f"{file} is given twice")
        if file.stem in seen:
            raise UsageError(
                f"{seen[file.stem]} and {file} would both be written as {file.stem}: "
                "predict them into different folders"
            )
        seen[file.stem] = file


def _names(images: list[Path], options: PredictOptions, suffix: str) -> dict[Path, Path]:
    """Every file that will be written, with the image it comes from."""
    endings = [suffix]
    endings += [f"_instances{suffix}"] * options.instances
    endings += [f"_overlay{suffix}"] * options.overlay
    endings += ["_prob.npy"] * options.probabilities
    names: dict[Path, Path] = {}
    for file in images:
        for ending in endings:
            name = options.out / f"{file.stem}{ending}"
            if name in names:
                raise UsageError(f"{names[name]} and {file} would both be written as {name}")
            names[name] = file
    return names


def _refuse_overwriting(images: list[Path], names: dict[Path, Path]) -> None:
    inputs = {file.resolve() for file in images}
    for name in names:
        if name.resolve() in inputs:
            raise UsageError(f"{name} is one of the images: choose another folder for --out")
