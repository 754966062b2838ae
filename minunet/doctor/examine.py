"""All checks of a data set, in the order in which a reader wants to know, and the facts that they rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minunet.data import Coding, DataError, Dataset, decide_coding, from_arrays
from minunet.data.faults import Reading, read_pairs
from minunet.data.preprocessing import is_grey
from minunet.display.pictures import class_names
from minunet.doctor import likeness, placement, values
from minunet.doctor.findings import SEVERITIES, Finding
from minunet.doctor.plan import Plan, memory_findings, plan, small_images
from minunet.errors import UsageError
from minunet.training import estimate
from minunet.training.runs import FEATURES
from minunet.training.train import Recipe
from minunet.unet import UNet

BINS = 32  # of the histogram of image values
PLACED = 400  # images at most, evenly spaced, in which the place of the mask is looked at


@dataclass(frozen=True)
class Question:
    """What `minunet doctor` is asked: two folders, and the settings that training would have."""

    images: Path
    masks: Path
    mask_suffix: str = ""
    target: str = "auto"
    validation: float = 0.2
    seed: int = 0
    crop: tuple[int, int] | None = None  # None: as training chooses it
    batch: int = Recipe.batch_size
    features: tuple[int, ...] | None = None  # None: as in training
    padding: str | None = None
    norm: str | None = None


@dataclass
class Examination:
    """The answer. facts: JSON-able numbers; reading and dataset (None if there is none): for the picture sheet."""

    question: Question
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)
    dataset: Dataset | None = None

    @property
    def fatal(self) -> int:
        """How many findings would make training vain."""
        return sum(finding.severity == "fatal" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        asked = asdict(self.question)
        asked |= {"images": str(self.question.images), "masks": str(self.question.masks)}
        found = [finding.to_json() for finding in self.findings]
        return {"asked": asked, "fatal": self.fatal, "findings": found, "facts": self.facts}


def examine(question: Question, available: int | None = None) -> Examination:
    """Read the two folders and ask every check that their state allows.

    available: bytes of memory that training may take; None: what this machine has left. Raises UsageError where the
    network or the crop that is asked for cannot be.
    """
    reading = read_pairs(question.images, question.masks, question.mask_suffix)
    result = Examination(question, reading=reading)
    result.findings += [_unreadable(fault) for fault in reading.faults]
    if reading.names:
        _look_at_images(result)
        coding = _meaning(result)
        if coding is not None:
            result.dataset = _dataset(result, coding)
        if result.dataset is not None:
            _look_at_classes(result, result.dataset)
            _look_at_placement(result, result.dataset)
            _look_ahead(result, result.dataset, available)
        result.findings += likeness.duplicates(reading.images, _image_files(reading), _split(result)[1])
    result.findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return result


def _unreadable(fault) -> Finding:
    return Finding("fatal", "files", fault.found, fault.remedy, tuple(map(str, fault.files)))


def _image_files(reading: Reading) -> list[str]:
    return [image for image, _ in reading.shown]


def _mask_files(reading: Reading) -> list[str]:
    return [mask for _, mask in reading.shown]


def _look_at_images(result: Examination) -> None:
    reading = result.reading
    images, files = reading.images, _image_files(reading)
    result.findings += likeness.swapped(images, reading.masks, files)
    of_values = (values.constant, values.faint, values.outliers, values.saturated)
    for check in (*of_values, values.sizes, values.channels, values.depths):
        result.findings += check(images, files)
    result.findings += values.too_few(len(images), result.question.validation)
    result.facts["images"] = image_facts(images)


def image_facts(images: Sequence[np.ndarray]) -> dict[str, Any]:
    """How many of which size, kind and type, and the histogram of all values."""
    sizes = Counter(values.size(image) for image in images)
    low, high = min(float(image.min()) for image in images), max(float(image.max()) for image in images)
    if all(image.dtype == np.uint8 for image in images):
        low, high = 0.0, 255.0
    edges = np.linspace(low, max(high, low + 1), BINS + 1)
    histogram = np.sum([np.histogram(image, edges)[0] / image.size for image in images], axis=0) / len(images)
    return {
        "count": len(images),
        "sizes": {f"{height}x{width}": count for (height, width), count in sizes.most_common()},
        "kinds": dict(Counter("grey" if is_grey(image) else "colour" for image in images)),
        "types": dict(Counter(str(image.dtype) for image in images)),
        "range": [min(float(image.min()) for image in images), max(float(image.max()) for image in images)],
        "histogram": {"from": float(edges[0]), "to": float(edges[-1]), "shares": _rounded(histogram)},
    }


def _meaning(result: Examination) -> Coding | None:
    """What the values of the masks mean; None, with findings that say why, where that cannot be told."""
    reading, target = result.reading, result.question.target
    try:
        coding = decide_coding(reading.masks, target, _mask_files(reading))
    except DataError as error:
        result.findings += [_mask_fault(fault) for fault in error.faults]
        return None
    result.facts["masks"] = {"meaning": coding.describe(), "coding": coding.to_json()}
    return coding


def _mask_fault(fault) -> Finding:
    return Finding("fatal", "mask values", fault.found, fault.remedy, tuple(map(str, fault.files)))


def _dataset(result: Examination, coding: Coding) -> Dataset | None:
    reading = result.reading
    try:
        return from_arrays(reading.images, reading.masks, coding, names=reading.names, files=reading.shown)
    except DataError as error:
        result.findings += [_mask_fault(fault) for fault in error.faults]
        return None


def _look_at_classes(result: Examination, dataset: Dataset) -> None:
    pixels = values.count_pixels(dataset.truth, dataset.coding.scored_classes)
    names = ["background", *class_names(dataset.coding)]
    present = np.sum([np.bincount(np.unique(mask), minlength=len(names)) for mask in dataset.truth], axis=0)
    result.facts["classes"] = [
        {"name": name, "pixels": int(count), "share": float(count / pixels.sum()), "images": int(where)}
        for name, count, where in zip(names, pixels, present, strict=True)
    ]
    result.findings += values.one_class(dataset.truth, _mask_files(result.reading))
    result.findings += values.balance(pixels, names)
    training, validation = _split(result)
    result.facts["split"] = {"training": len(training), "validation": len(validation), "seed": result.question.seed}
    if validation:
        learned, held = ([dataset.truth[i] for i in part] for part in (training, validation))
        result.findings += values.classes_of_split(learned, held, names)


def _split(result: Examination) -> tuple[list[int], list[int]]:
    """Places of the images that are trained on and that are held back, as training splits them."""
    dataset, share = result.dataset, result.question.validation
    if dataset is None or len(dataset) < 2 or share == 0:
        return list(range(len(result.reading.names))), []
    place = {name: i for i, name in enumerate(dataset.names)}
    training, validation = dataset.split(share, result.question.seed)
    return [place[name] for name in training.names], [place[name] for name in validation.names]


def _look_at_placement(result: Examination, dataset: Dataset) -> None:
    """Of the masks that hold more than one class."""
    files = _mask_files(result.reading)
    with_both = [i for i, mask in enumerate(dataset.truth) if mask.min() != mask.max()]
    if len(with_both) > PLACED:
        with_both = [with_both[k * len(with_both) // PLACED] for k in range(PLACED)]
    if not with_both:
        return
    images, truth = [dataset.raw[i] for i in with_both], [dataset.truth[i] for i in with_both]
    found = placement.maps(images, truth)
    result.facts["placement"] = {"masks": len(with_both), "correlation": placement.peak(placement.mean_map(found))[3]}
    result.findings += _in_set(placement.shifted(found, [files[i] for i in with_both]), with_both)
    if dataset.coding.scored_classes != 2:
        return
    foregrounds = [mask != 0 for mask in truth]
    whole = placement.inverted(images, foregrounds)
    contrasts = [placement.contrast(image, mask) for image, mask in zip(images, foregrounds, strict=True)]
    single = placement.inverted_among(contrasts, foregrounds, [files[i] for i in with_both])
    result.findings += whole or _in_set(single, with_both)


def _in_set(findings: list[Finding], places: Sequence[int]) -> list[Finding]:
    """Findings about a part of the set, with their places in the whole."""
    return [Finding(**{**vars(finding), "images": tuple(places[i] for i in finding.images)}) for finding in findings]


def _look_ahead(result: Examination, dataset: Dataset, available: int | None) -> None:
    question = result.question
    model = network(question, dataset)
    room = estimate.available() if available is None else available
    training = dataset.subset(_split(result)[0])
    needs: Plan = plan(model, dataset, training, question.batch, question.crop, room)
    result.findings += memory_findings(model, needs)
    result.findings += small_images(model, needs, dataset, _image_files(result.reading))
    result.facts["plan"] = {"architecture": model.architecture, **asdict(needs)}


def network(question: Question, dataset: Dataset) -> UNet:
    """The network that training would make."""
    norm = question.norm or "batch"
    try:
        return UNet(
            dataset.channels,
            dataset.coding.classes,
            question.features or FEATURES,
            padding=question.padding or "same",
            norm=None if norm == "none" else norm,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _rounded(shares: np.ndarray) -> list[float]:
    return [round(float(share), 6) for share in shares]
