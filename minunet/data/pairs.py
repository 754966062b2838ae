"""Which image belongs to which mask."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from minunet.data.errors import DataError, Fault, wrong
from minunet.data.images import IMAGE_SUFFIXES
from minunet.data.names import mask_suffix_option, shared_ending, why_apart


class Pair(NamedTuple):
    """An image and its mask; `stem` is the image's file name without its suffix."""

    stem: str
    image: Path
    mask: Path


def find_images(place: str | Path) -> list[Path]:
    """The image files of a folder, sorted by name, or the one file that `place` is.

    Hidden files (.x.png, ._x.png), sub-folders (even one named x.png) and files of other kinds
    (Thumbs.db) are passed over. DataError where `place`
    does not exist, is not an image file, or holds none.
    """
    place = Path(place)
    kinds = ", ".join(IMAGE_SUFFIXES)
    if os.path.isfile(place):
        if not _is_image(place):
            raise wrong(place, "not an image file", f"known are {kinds}")
        return [place]
    if not os.path.isdir(place):  # a name that is too long for the system is no folder either
        raise wrong(place, "no such file or folder", "check the path")
    try:
        inside = sorted(place.iterdir())
    except PermissionError:
        raise wrong(place, "may not be looked into by you", "change the folder's permissions") from None
    found = [path for path in inside if _is_image(path) and (path.is_file() or _leads_nowhere(path))]
    if not found:
        raise wrong(place, "no image file in this folder", f"give a folder with files of the kinds {kinds}")
    return found


def pair(images: str | Path, masks: str | Path, mask_suffix: str = "") -> list[Pair]:
    """Pair the images of one folder with the masks of another by exact stem.

    A mask's stem is its image's stem with `mask_suffix` behind it. Both may lie in one folder if
    there is such a suffix. Files without a partner and stems that occur twice are told in one
    DataError, with the likely cause.
    """
    pairs, faults = match(images, masks, mask_suffix)
    if faults:
        raise DataError(faults)
    return pairs


def match(images: str | Path, masks: str | Path, mask_suffix: str = "") -> tuple[list[Pair], list[Fault]]:
    """As `pair`: the pairs that there are, and what keeps the other files from pairing."""
    faults: list[Fault] = []
    found = []
    for place in (images, masks):
        try:
            found.append(find_images(place))
        except DataError as error:
            faults.extend(error.faults)
    if faults:
        return [], faults
    image_files, mask_files = found
    if Path(images).resolve() == Path(masks).resolve():
        if not mask_suffix:
            return [], [_one_folder(Path(images), image_files)]
        image_files = [path for path in image_files if not path.stem.endswith(mask_suffix)]
        mask_files = [path for path in mask_files if path.stem.endswith(mask_suffix)]
    by_image = _by_stem(image_files, "")
    by_mask = _by_stem(mask_files, mask_suffix)
    faults += _twice(by_image, "images") + _twice(by_mask, "masks")
    faults += _no_files(Path(images), "", by_image, by_mask, "image")
    faults += _no_files(Path(masks), mask_suffix, by_mask, by_image, "mask")
    faults += _apart(by_image, by_mask, images, masks)
    pairs = [Pair(stem, by_image[stem][0], by_mask[stem][0]) for stem in sorted(by_image) if stem in by_mask]
    return pairs, faults


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES


def _leads_nowhere(path: Path) -> bool:
    """A broken link: passing over it would lose an image without a word."""
    return path.is_symlink() and not path.exists()


def _by_stem(files: list[Path], suffix: str) -> dict[str, list[Path]]:
    """Files by the stem that pairs them. Without the suffix there is no such stem: None's list."""
    stems = defaultdict(list)
    for path in files:
        known = path.stem.endswith(suffix)
        # A slash cannot occur in a stem, so this key pairs with nothing.
        stems[path.stem.removesuffix(suffix) if known else "/" + path.stem].append(path)
    return stems


def _twice(stems: dict[str, list[Path]], what: str) -> list[Fault]:
    return [
        Fault(tuple(files), f"{what} of the same stem", "keep one of them")
        for files in stems.values()
        if files[1:]
    ]


def _no_files(
    place: Path, suffix: str, found: dict[str, list[Path]], partners: dict[str, list[Path]], what: str
) -> list[Fault]:
    """What is called like a missing `what` of `place`, but is a folder or a pipe; its partners are taken out."""
    faults: list[Fault] = []
    for path in sorted(place.iterdir()) if os.path.isdir(place) else ():
        if not _is_image(path) or path.is_file() or _leads_nowhere(path) or not path.stem.endswith(suffix):
            continue
        stem = path.stem.removesuffix(suffix)
        if stem not in found and stem in partners:
            kind = "a folder" if path.is_dir() else "no regular file"
            remedy = f"put the {what} itself in its place, or remove it and its partner"
            faults.append(Fault((path,), f"{kind}, where the {what} of {partners.pop(stem)[0].name} should be", remedy))
    return faults


def _apart(
    by_image: dict[str, list[Path]], by_mask: dict[str, list[Path]], images: str | Path, masks: str | Path
) -> list[Fault]:
    """The files without a partner, and why if their names show it."""
    lonely_images = [files[0] for stem, files in by_image.items() if stem not in by_mask]
    lonely_masks = [files[0] for stem, files in by_mask.items() if stem not in by_image]
    whole = len(lonely_masks) == len(by_mask)
    cause = why_apart([path.stem for path in lonely_images], [path.stem for path in lonely_masks], whole)
    if cause:
        found = f"{_count(lonely_images, 'image')} without a mask of the same name in {masks}, where {cause[0]}"
        return [Fault(tuple(lonely_images), found, cause[1])]
    faults = []
    remedy = "rename them, add what is missing or remove them"
    if lonely_images:
        found = f"{_count(lonely_images, 'image')} without a mask of the same name in {masks}"
        faults.append(Fault(tuple(lonely_images), found, remedy))
    if lonely_masks:
        found = f"{_count(lonely_masks, 'mask')} without an image of the same name in {images}"
        faults.append(Fault(tuple(lonely_masks), found, remedy))
    return faults


def _one_folder(folder: Path, files: list[Path]) -> Fault:
    """Images would be paired with themselves."""
    suffix = shared_ending([path.stem for path in files])
    remedy = f"give {mask_suffix_option(suffix)}" if suffix else "give --mask-suffix, or a folder of masks"
    return Fault((folder,), "the same folder for images and masks", remedy)


def _count(files: list[Path], what: str) -> str:
    return f"{len(files)} {what}" + "s" * (len(files) != 1)
