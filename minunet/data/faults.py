"""Everything that is wrong with a folder of images and masks, told at once.

    reading = read_pairs("images", "masks")
    for fault in reading.faults:
        print(fault)                      # or fault.files, fault.found, fault.remedy
    for name, image, mask in zip(reading.names, reading.images, reading.masks):
        ...                               # the pairs that are good

`load_folder` refuses a set with any fault; `minunet doctor` goes on with the good pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minunet.data.coding import plain_mask
from minunet.data.errors import DataError, Fault
from minunet.data.images import read_mask_stack, read_stack
from minunet.data.names import page_names
from minunet.data.pairs import Pair, match
from minunet.data.preprocessing import channels_first

__all__ = ["Fault", "Faults", "Reading", "read_pairs"]


class Faults(list[Fault]):
    """A list of faults, in the order in which they were found."""

    def add(self, files: Sequence[str | Path], found: str, remedy: str) -> None:
        """Note a fault of these files: what was found, and what to do about it."""
        self.append(Fault(tuple(map(Path, files)), found, remedy))

    @contextmanager
    def catching(self, *files: str | Path) -> Iterator[None]:
        """A DataError inside is noted; `files` are named where the error names none itself."""
        try:
            yield
        except DataError as error:
            for fault in error.faults:
                where = fault.files or tuple(map(Path, files))
                self.append(Fault(where, fault.found, fault.remedy))

    def raise_any(self) -> None:
        """One DataError of all of them; nothing where there is none."""
        if self:
            raise DataError(self)


@dataclass
class Reading:
    """The good pairs of two folders, entry i of every list, and what is wrong with the others.

    names   the image's stem; of a stack's pages stem_p001, stem_p002, ...; no two the same
    images  (H, W) or (H, W, C) as in the file, see `read_image`
    masks   (H, W) or (H, W, 3) of the same H and W, see `read_mask`; whole numbers from 0 on
    files   (image file, mask file); a stack stands there once for each page
    shown   the same as messages name them: "cells.tif page 2"
    faults  files that cannot be read, do not pair, differ in size or number of pages, hold no
            mask values, or would get the name of another
    """

    names: list[str] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    files: list[tuple[Path, Path]] = field(default_factory=list)
    shown: list[tuple[str, str]] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)

    def take(
        self, name: str, image: np.ndarray, mask: np.ndarray, files: tuple[Path, Path], shown: tuple[str, str]
    ) -> None:
        """Add a pair, if this is an image, that a mask, and both of one size; else note the faults."""
        before = len(self.faults)
        with self.faults.catching(shown[0]):
            size = channels_first(image).shape[1:]
        with self.faults.catching(shown[1]):
            mask_size = plain_mask(mask, shown[1]).shape[:2]
        if len(self.faults) == before:
            _check_sizes(size, mask_size, shown, self.faults)
        if len(self.faults) == before:
            self.names.append(name)
            self.images.append(image)
            self.masks.append(mask)
            self.files.append(files)
            self.shown.append(shown)


def read_pairs(images: str | Path, masks: str | Path, mask_suffix: str = "") -> Reading:
    """Read two folders, paired by stem (see `pair`), and note every fault on the way.

    What the values of the masks mean is not asked yet: `decide_coding(reading.masks, target,
    names)` does, and raises its own DataError with `faults`. Raises nothing but MissingExtra,
    where a library is needed that is not installed.
    """
    reading = Reading()
    pairs, faults = match(images, masks, mask_suffix)
    reading.faults.extend(faults)
    for entry in pairs:
        _read(entry, reading)
    return reading


def gather(
    images: Sequence[np.ndarray], masks: Sequence[np.ndarray], names: Sequence[str], shown: Sequence[tuple[str, str]]
) -> Reading:
    """As `read_pairs`, of arrays; `shown` is what messages call image and mask."""
    reading = Reading()
    for name, image, mask, files in zip(names, images, masks, shown, strict=True):
        reading.take(name, image, mask, (Path(files[0]), Path(files[1])), files)
    return reading


def _read(entry: Pair, reading: Reading) -> None:
    before = len(reading.faults)
    with reading.faults.catching(entry.image):
        images = read_stack(entry.image)
    with reading.faults.catching(entry.mask):
        masks = read_mask_stack(entry.mask)
    if len(reading.faults) > before:
        return
    files = (entry.image, entry.mask)
    if len(images) != len(masks):
        reading.faults.add(
            files,
            f"{_pages(images)} of images but {_pages(masks)} of masks",
            "give every image page its mask page (channels of one image belong into one page)",
        )
        return
    names = page_names(entry.stem, len(images))
    if clash := _clash(entry, names, reading):
        reading.faults.append(clash)
        return
    for page, (name, image, mask) in enumerate(zip(names, images, masks, strict=True), start=1):
        where = f" page {page}" if len(names) > 1 else ""
        reading.take(name, image, mask, files, (f"{entry.image}{where}", f"{entry.mask}{where}"))


def _clash(entry: Pair, names: Sequence[str], reading: Reading) -> Fault | None:
    """A page of a stack may be called like a file beside it; scores and logs could not tell the two apart."""
    for name in names:
        if name in reading.names:
            other, _ = reading.files[reading.names.index(name)]
            return Fault((other, entry.image), f"both hold an image called {name}", "rename one of them, and its mask")
    return None


def _check_sizes(image: tuple[int, ...], mask: tuple[int, ...], shown: tuple[str, str], faults: Faults) -> None:
    if image == mask:
        return
    turned = image == mask[::-1]
    faults.add(
        shown,
        f"the image is {image[0]}x{image[1]} but the mask is {mask[0]}x{mask[1]} (height x width)",
        "image and mask must have the same size: "
        + ("one of them lies on its side, turn it" if turned else "export the mask again from this image"),
    )


def _pages(arrays: list[np.ndarray]) -> str:
    return "1 page" if len(arrays) == 1 else f"{len(arrays)} pages"
