"""What training with the chosen settings would need: memory, and time a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minunet.data import Dataset
from minunet.doctor.findings import Finding, some
from minunet.prediction.predict import reflection
from minunet.training import estimate
from minunet.training.train import checked_crop, default_crop
from minunet.unet import UNet


@dataclass(frozen=True)
class Plan:
    """memory, inference, available: bytes (available None: unknown); step_seconds: None where it does not fit."""

    parameters: int
    batch: int
    crop: tuple[int, int]
    memory: int
    inference: int
    available: int | None
    step_seconds: float | None


def plan(
    model: UNet, dataset: Dataset, training: Dataset, batch: int, crop: tuple[int, int] | None, available: int | None
) -> Plan:
    """The needs of a training; UsageError where the network does not take the crop.

    training: the part of the data set that is learned from, which decides on the crop as it does in training.
    """
    crop = checked_crop(model, default_crop(model, training) if crop is None else crop)
    memory = estimate.memory(model, batch, crop)
    fits = available is None or memory <= estimate.SHARE * available
    return Plan(
        parameters=sum(parameter.data.size for parameter in model.parameters()),
        batch=batch,
        crop=crop,
        memory=memory,
        inference=max(estimate.inference_memory(model, size) for size in padded_sizes(model, dataset)),
        available=available,
        step_seconds=estimate.step_seconds(model, batch, crop) if fits else None,
    )


def padded_sizes(model: UNet, dataset: Dataset) -> set[tuple[int, int]]:
    """The sizes in which the network is given the whole images, at validation and prediction."""
    sizes = set()
    for height, width in {image.shape[1:] for image in dataset.images}:
        (top, bottom), (left, right) = reflection(model, (height, width))
        sizes.add((top + height + bottom, left + width + right))
    return sizes


def memory_findings(model: UNet, needs: Plan) -> list[Finding]:
    """What does not fit, with what would."""
    if needs.available is None:
        return []
    limit = int(estimate.SHARE * needs.available)
    free = estimate.in_words(needs.available)
    findings = []
    if needs.memory > limit:
        found = (f"a batch of {needs.batch} crops of {needs.crop[0]} x {needs.crop[1]} px needs about "
                 f"{estimate.in_words(needs.memory)} of memory, and {free} are free")  # fmt: skip
        fitting = estimate.fitting(model, needs.batch, needs.crop, limit)
        remedy = "fewer --features, or a machine with more memory"
        if fitting is not None:
            batch, (height, width) = fitting
            remedy = f"--batch {batch} --crop {height}x{width} fits"
        findings.append(Finding("fatal", "memory", found, remedy))
    if needs.inference > limit:
        found = (f"predicting the largest image needs about {estimate.in_words(needs.inference)} of memory, "
                 f"and {free} are free; training does so at every validation")  # fmt: skip
        findings.append(Finding("fatal", "memory", found, "cut the large images into pieces"))
    return findings


def small_images(model: UNet, needs: Plan, dataset: Dataset, files: Sequence[str]) -> list[Finding]:
    """Images that are smaller than what the network learns of a crop."""
    height, width = model.output_size(needs.crop)
    small = [i for i, mask in enumerate(dataset.targets) if mask.shape[0] < height or mask.shape[1] < width]
    found = f"smaller than the crops of {height} x {width} px, and so continued by reflection, {{n}}"
    return some("note", "small images", found, "give a smaller --crop if these images matter", small, files)
