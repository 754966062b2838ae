"""Images with their targets, ready for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from minunet.data.borders import kept_apart
from minunet.data.coding import Coding, plain_mask
from minunet.data.decide import decide_coding
from minunet.data.errors import DataError
from minunet.data.faults import Faults, Reading, gather, read_pairs
from minunet.data.images import is_picture
from minunet.data.preprocessing import Preprocessing, is_grey


@dataclass
class Dataset:
    """Images and masks held in memory; entry i of every list belongs to image i.

    images   (C, H, W) float32, preprocessed
    targets  (H, W) uint8 class indices to train on; of instance masks with touching cells parted, or with borders
    truth    (H, W) uint8 class indices of the masks as they were given, which scores refer to; `coding.scored_classes`
    raw      the images as they were read, for pictures and for Otsu's threshold
    ids      (H, W) unsigned integers, 0 background, 1..n the instances as the masks hold them: cells that touch are not
             parted. None where the masks hold none
    """

    names: list[str]
    images: list[np.ndarray]
    targets: list[np.ndarray]
    truth: list[np.ndarray]
    raw: list[np.ndarray]
    coding: Coding
    preprocessing: Preprocessing
    ids: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return len(self.images[0])

    def channels_last(self, i: int) -> bool:
        """Whether raw image i, if it has three dimensions, is (H, W, C): one pixel high, it may look like (C, H, W)."""
        return self.raw[i].shape[:2] == self.truth[i].shape

    def subset(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        """The images of these indices, in this order."""
        return replace(
            self,
            names=[self.names[i] for i in indices],
            images=[self.images[i] for i in indices],
            targets=[self.targets[i] for i in indices],
            truth=[self.truth[i] for i in indices],
            raw=[self.raw[i] for i in indices],
            ids=None if self.ids is None else [self.ids[i] for i in indices],
        )

    def with_borders(self) -> Dataset:
        """The same with borders of cells as a class of their own (`border_classes`). ValueError without `ids`."""
        if self.ids is None:
            raise ValueError(f"borders lie between numbered cells, and these are {self.coding.describe()}")
        coding = Coding("borders")
        return replace(self, coding=coding, targets=[kept_apart(labels, coding)[0] for labels in self.ids])

    def split(self, validation: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Split by seed into (training, validation), each with at least one image.

        `validation` is the share of the second. DataError where there is only one image.
        """
        if len(self) < 2:
            raise DataError(
                "one image cannot be split into training and validation; give at least two"
            )
        if not 0 < validation < 1:
            raise ValueError(f"the share of validation must lie between 0 and 1, not {validation}")
        count = min(max(round(validation * len(self)), 1), len(self) - 1)
        order = np.random.default_rng([seed, 1]).permutation(len(self))
        return self.subset(np.sort(order[count:])), self.subset(np.sort(order[:count]))


def load_folder(
    images: str | Path,
    masks: str | Path,
    mask_suffix: str = "",
    target: str | Coding = "auto",
    preprocessing: Preprocessing | None = None,
) -> Dataset:
    """Read two folders, paired by stem (see `pair`), into a Dataset. A multi-page TIFF is as many images.

    `target` says what mask values mean (see `decide_coding`), or is the coding of a trained
    model. `preprocessing` defaults to as many channels as the images need, standardized.
    One DataError tells of every file that cannot be used (see `read_pairs`).
    """
    return _assemble(read_pairs(images, masks, mask_suffix), target, preprocessing)


def from_arrays(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    target: str | Coding = "auto",
    preprocessing: Preprocessing | None = None,
    names: Sequence[str] | None = None,
    files: Sequence[tuple[str, str]] | None = None,
) -> Dataset:
    """Images (H, W), (H, W, C) or (C, H, W) and masks (H, W) or (H, W, 3) -> a Dataset.

    See `load_folder`. `files` are the names of image and mask in errors. One-hot masks (H, W, K) are refused.
    """
    if len(images) != len(masks):
        raise DataError(f"{len(images)} images but {len(masks)} masks; give one mask an image")
    names = [f"image{i:04d}" for i in range(len(images))] if names is None else list(names)
    if len(names) != len(images):
        raise DataError(f"{len(images)} images but {len(names)} names; give one name an image")
    files = files or [(name, f"mask of {name}") for name in names]
    return _assemble(gather(images, masks, names, files), target, preprocessing)


def _assemble(reading: Reading, target: str | Coding, preprocessing: Preprocessing | None) -> Dataset:
    """The data set of a reading without faults; else one DataError of these and of what comes up here."""
    faults = Faults()
    image_names, mask_names = zip(*reading.shown, strict=True) if reading.shown else ((), ())
    coding, truth, planes = None, [], []
    with faults.catching():
        coding = target if isinstance(target, Coding) else decide_coding(reading.masks, target, mask_names)
    for mask, name in zip(reading.masks, mask_names, strict=True):
        with faults.catching(name):
            if coding is not None:
                truth.append(_classes(coding, mask, name))
    preprocessing = preprocessing or default_preprocessing(reading.images)
    for image, name, (file, _) in zip(reading.images, image_names, reading.files, strict=True):
        with faults.catching(name):
            planes.append(preprocessing(image, channels_last=is_picture(file)))
    if reading.faults:  # what was found of an incomplete set is sure for single files only
        faults = Faults([*reading.faults, *(fault for fault in faults if fault.files)])
    faults.raise_any()
    assert coding is not None
    targets, ids = truth, None
    if coding.kind in ("instances", "borders"):
        ids = [_ids(mask, name) for mask, name in zip(reading.masks, mask_names, strict=True)]
        targets = [kept_apart(labels, coding)[0] for labels in ids]
    return Dataset(reading.names, planes, targets, truth, reading.images, coding, preprocessing, ids)


def default_preprocessing(images: Sequence[np.ndarray]) -> Preprocessing:
    """Standardized; one channel where every image is grey, else three."""
    return Preprocessing(1 if all(map(is_grey, images)) else 3, "standardize")


def _classes(coding: Coding, mask: np.ndarray, name: str = "mask") -> np.ndarray:
    # At most 256 classes: a byte a pixel, since the whole set is held in memory.
    return coding.encode(mask, name).astype(np.uint8)


def _ids(mask: np.ndarray, name: str) -> np.ndarray:
    """Instances (H, W) as 0..n in the order of their values, in the smallest type: the whole set is held in memory."""
    plain = plain_mask(mask, name)
    if plain.ndim == 3:  # ids drawn as colours
        plain = np.tensordot(plain.astype(np.int64), (1 << 16, 1 << 8, 1), axes=1)
    values, places = np.unique(plain, return_inverse=True)
    if values[:1] != 0:  # no background here
        places = places + 1
    return places.reshape(plain.shape).astype(np.min_scalar_type(len(values)))
