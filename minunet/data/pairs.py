"""Which image belongs to which mask."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from minunet.data.coding import listed
from minunet.data.errors import DataError
from minunet.data.images import IMAGE_SUFFIXES


class Pair(NamedTuple):
    """An image and its mask; `stem` is the image's file name without its suffix."""

    stem: str
    image: Path
    mask: Path


def find_images(place: str | Path) -> list[Path]:
    """The image files of a folder, sorted by name, or the one file that `place` is.

    Hidden files, sub-folders and files of other kinds are passed over. DataError where `place`
    does not exist, is not an image file, or holds none.
    """
    place = Path(place)
    if place.is_file():
        if not _is_image(place):
            raise DataError(f"{place}: not an image file; known are {', '.join(IMAGE_SUFFIXES)}")
        return [place]
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder; check the path")
    found = sorted(path for path in place.iterdir() if _is_image(path) and path.is_file())
    if not found:
        raise DataError(f"{place}: no image file in this folder ({', '.join(IMAGE_SUFFIXES)})")
    return found


def pair(images: str | Path, masks: str | Path, mask_suffix: str = "") -> list[Pair]:
    """Pair the images of one folder with the masks of another by exact stem.

    A mask's stem is its image's stem with `mask_suffix` behind it. Both may lie in one folder if
    there is such a suffix. Files without a partner and stems that occur twice are counted in one
    DataError, which names some of them.
    """
    image_files, mask_files = find_images(images), find_images(masks)
    if mask_suffix and Path(images).resolve() == Path(masks).resolve():
        image_files = [path for path in image_files if not path.stem.endswith(mask_suffix)]
        mask_files = [path for path in mask_files if path.stem.endswith(mask_suffix)]
    by_image = _by_stem(image_files, "")
    by_mask = _by_stem(mask_files, mask_suffix)
    problems = _twice(by_image, "images") + _twice(by_mask, "masks")
    problems += _alone(by_image, by_mask, "images without a mask")
    problems += _alone(by_mask, by_image, "masks without an image")
    if problems:
        raise DataError(
            f"images in {images} and masks in {masks} do not pair by name: "
            + "; ".join(problems)
            + ". Rename or remove these files"
            + (", or give --mask-suffix where mask names end differently" * (not mask_suffix))
        )
    return [Pair(stem, by_image[stem][0], by_mask[stem][0]) for stem in sorted(by_image)]


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES


def _by_stem(files: list[Path], suffix: str) -> dict[str, list[Path]]:
    """Files by the stem that pairs them. Without the suffix there is no such stem: None's list."""
    stems = defaultdict(list)
    for path in files:
        known = path.stem.endswith(suffix)
        # A slash cannot occur in a stem, so this key pairs with nothing.
        stems[path.stem.removesuffix(suffix) if known else "/" + path.stem].append(path)
    return stems


def _twice(stems: dict[str, list[Path]], what: str) -> list[str]:
    names = [" and ".join(path.name for path in files) for files in stems.values() if files[1:]]
    return [f"{what} of the same stem: {listed(names)}"] if names else []


def _alone(stems: dict[str, list[Path]], others: dict[str, list[Path]], what: str) -> list[str]:
    names = [files[0].name for stem, files in stems.items() if stem not in others]
    return [f"{len(names)} {what}: {listed(names)}"] if names else []
