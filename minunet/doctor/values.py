"""Checks of single images and masks: sizes, channels, brightness, classes. `files` name the images (or masks)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from minunet.data.preprocessing import channels_first, is_grey
from minunet.doctor.findings import Finding, counted, some

ODD_ONES_OUT = 0.1  # a minority of at most this share is named
FEW_LEVELS = 8  # steps of brightness; an image of no more is as good as empty
TAILS = (0.1, 99.9)  # percentiles; single hot or dead pixels are no picture
SATURATED = 0.2  # share of the pixels at the largest value the file can hold
FAR_FROM_MEAN = 50  # standard deviations; a single pixel that goes so far is broken ...
FAR_FROM_OTHERS = 1000  # ... and so are several that go so many times as far as the rest
SQUEEZED = 2  # times as large a standard deviation, and so as little contrast, is harm
RARE_CLASS = 0.005  # share of all pixels
MANY_EMPTY = 0.5  # share of the masks

Arrays = Sequence[np.ndarray]


# ---------------------------------------------------------------------------------------------------- images


def size(image: np.ndarray) -> tuple[int, int]:
    """(height, width) of an image of any layout."""
    height, width = channels_first(image).shape[1:]
    return height, width


def sizes(images: Arrays, files: Sequence[str]) -> list[Finding]:
    """A few images of another size than all the others."""
    all_sizes = [size(image) for image in images]
    usual = Counter(all_sizes).most_common(1)[0][0]
    odd = [i for i, this in enumerate(all_sizes) if this != usual]
    if len(odd) > ODD_ONES_OUT * len(images):  # sizes that vary are nothing special
        return []
    found = f"another size than that of the others, {usual[0]} x {usual[1]} px (height x width), in {{n}}"
    return some("note", "sizes", found, "any size can be trained on; make sure that they belong to the set", odd, files)


def channels(images: Arrays, files: Sequence[str]) -> list[Finding]:
    """Grey and colour images in one set."""
    colour = [i for i, image in enumerate(images) if not is_grey(image)]
    grey = sorted(set(range(len(images))) - set(colour))
    if not grey or not colour:
        return []
    few, kind = (colour, "colour") if len(colour) <= len(grey) else (grey, "grey")
    return some(
        "warning", "channels",
        f"colour and grey are mixed, {{n}} being {kind}: the model becomes a colour model, grey is repeated into it",
        "make all of them grey if colour tells nothing, or train the two kinds apart", few, files,
    )  # fmt: skip


def depths(images: Arrays, files: Sequence[str]) -> list[Finding]:
    """Files of different number types in one set, and 16-bit files that hold 8 bits."""
    kinds = Counter(str(image.dtype) for image in images)
    if len(kinds) > 1:
        usual = kinds.most_common(1)[0][0]
        odd = [i for i, image in enumerate(images) if str(image.dtype) != usual]
        remedy = "each image is brought to mean 0 and standard deviation 1, so this is no obstacle; check their source"
        others = " and ".join(sorted(kind for kind in kinds if kind != usual))
        return some("note", "bit depth", f"{others} in {{n}}, {usual} in the others", remedy, odd, files)
    largest = max(float(image.max()) for image in images)
    if next(iter(kinds)) in ("uint16", "int32") and 1 < largest <= 255:
        found = f"the files have 16 bits, their values end at {largest:.0f}: they were probably made from 8-bit images"
        return [Finding("note", "bit depth", found, "nothing is lost for training; if the microscope gave more bits, "
                        "export again without conversion")]  # fmt: skip
    return []


def constant(images: Arrays, files: Sequence[str]) -> list[Finding]:
    """Images of one value."""
    flat = [i for i, image in enumerate(images) if image.min() == image.max()]
    severity = "fatal" if len(flat) == len(images) else "warning"
    return some(severity, "empty images", "one and the same value everywhere in {n}: there is nothing to see",
                "take them out, or export them again", flat, files)  # fmt: skip


def faint(images: Arrays, files: Sequence[str]) -> list[Finding]:
    """Images that use a handful of brightness levels."""
    few = [i for i, image in enumerate(images) if image.min() < image.max() and _levels(image) <= FEW_LEVELS]
    return some(
        "warning", "faint images",
        f"no more than {FEW_LEVELS} steps of brightness in {{n}}: nearly empty, or cut down in a conversion",
        "look at them; export them again from the original data, with its full range of values", few, files,
    )  # fmt: skip


def _levels(image: np.ndarray) -> int:
    """How many different values there are, the brightest and the darkest thousandth left aside."""
    low, high = np.percentile(image, TAILS)
    values = np.unique(image)
    return int(((values >= low) & (values <= high)).sum())


def outliers(images: Arrays, files: Sequence[str]) -> list[Finding]:
    """Images in which single pixels lie so far beyond the others that bringing them to one scale squeezes these."""
    furthest = {i: value for i, image in enumerate(images) if (value := _outlier(image)) is not None}
    if not furthest:
        return []
    value = max(furthest.values(), key=abs)
    return some(
        "warning", "outliers",
        f"single pixels far beyond all others ({value:.4g}, for one) in {{n}}: once the image is brought to standard "
        "deviation 1, they leave the others hardly any contrast",
        "clip them, np.clip(image, *np.percentile(image, (0.1, 99.9))), and look where they come from",
        list(furthest), files,
    )  # fmt: skip


def _outlier(image: np.ndarray) -> float | None:
    """The value furthest from the others, if it is far beyond them; None in 8 bits, which leave no room for it."""
    if image.dtype.itemsize == 1:
        return None
    numbers = channels_first(image).astype(np.float64)
    away = np.abs(numbers - np.median(numbers))
    rest = float(np.percentile(away, TAILS[1], method="lower"))
    far = _single(away > FAR_FROM_MEAN * numbers.std())
    if rest > 0:
        far |= away > FAR_FROM_OTHERS * rest
    if not far.any():
        return None
    spread = numbers[~far].std()
    squeezed = 0 < SQUEEZED * spread <= numbers.std()
    return float(numbers[far][away[far].argmax()]) if squeezed else None


def _single(far: np.ndarray) -> np.ndarray:
    """Of (C, H, W) those with none beside, above or below them: several together may be a small bright object."""
    beside = np.zeros_like(far)
    beside[..., 1:] |= far[..., :-1]
    beside[..., :-1] |= far[..., 1:]
    beside[..., 1:, :] |= far[..., :-1, :]
    beside[..., :-1, :] |= far[..., 1:, :]
    return far & ~beside


def saturated(images: Arrays, files: Sequence[str]) -> list[Finding]:
    """Images with large areas at the top of the range."""
    burnt = [i for i, image in enumerate(images) if image.dtype in (np.uint8, np.uint16) and _burnt(image)]
    return some(
        "note", "saturated images",
        f"{SATURATED:.0%} of the pixels and more at the largest value the file can hold, in {{n}}: "
        "whatever differed there is lost",
        "a white background is no harm; if it is the objects, take new images with a shorter exposure", burnt, files,
    )  # fmt: skip


def _burnt(image: np.ndarray) -> bool:
    top = np.iinfo(image.dtype).max
    return image.min() < top and float((image == top).mean()) >= SATURATED


# ----------------------------------------------------------------------------------------------------- masks


def one_class(truth: Arrays, files: Sequence[str]) -> list[Finding]:
    """Masks without anything in them, or without anything else. truth: class indices (H, W)."""
    only = [int(classes.flat[0]) if classes.min() == classes.max() else None for classes in truth]
    if None not in only and len(set(only)) == 1:
        what = "background" if only[0] == 0 else f"class {only[0]}"
        return [Finding("fatal", "empty masks", f"every pixel of every mask is {what}: there is nothing to learn",
                        "check that these are the masks, exported in full, and the --target")]  # fmt: skip
    empty = [i for i, value in enumerate(only) if value == 0]
    full = [i for i, value in enumerate(only) if value]
    severity = "warning" if len(empty) > MANY_EMPTY * len(truth) else "note"
    return [
        *some(severity, "empty masks", "nothing but background in {n}",
              "right where the image shows nothing; else draw the mask or take the pair out", empty, files),
        *some("warning", "full masks", "one class everywhere, without background, in {n}",
              "check that the mask was exported as drawn", full, files),
    ]  # fmt: skip


def balance(pixels: np.ndarray, names: Sequence[str]) -> list[Finding]:
    """Classes that hardly occur. pixels: (K,) of each class over the set; names: of the classes."""
    shares = pixels / max(1, pixels.sum())
    absent = [name for name, count in zip(names, pixels, strict=True) if count == 0]
    rare = [k for k in range(len(names)) if 0 < shares[k] < RARE_CLASS]
    findings = []
    if absent and len(absent) < len(names):
        found = f"{' and '.join(absent)} {'does' if len(absent) == 1 else 'do'} not occur in any mask"
        findings.append(Finding("warning", "class balance", found, "leave out classes that are not there, "
                                "or add images that show them"))  # fmt: skip
    if rare:
        told = " and ".join(f"{names[k]} ({_percent(shares[k])})" for k in rare)
        found = f"{told} {'is' if len(rare) == 1 else 'are'} below {RARE_CLASS:.1%} of all pixels"
        findings.append(Finding("warning", "class balance", found, "judge by this class's own score, not by the "
                                "share of right pixels; use a loss with Dice in it, add images of it"))  # fmt: skip
    return findings


def _percent(share: float) -> str:
    return f"{share:.2%}" if share >= 0.0001 else "less than 0.01%"


def classes_of_split(training: Arrays, validation: Arrays, names: Sequence[str]) -> list[Finding]:
    """Classes that one side of the split does not have. training, validation: class indices of each image."""
    seen = [{k for classes in part for k in np.unique(classes).tolist()} for part in (training, validation)]
    findings = []
    for lacking, holding, side, effect in (
        (seen[0], seen[1], "training", "it cannot be learned"),
        (seen[1], seen[0], "validation", "its score will not be known"),
    ):
        missing = [names[k] for k in sorted(holding - lacking)]
        if missing:
            found = f"{' and '.join(missing)} occurs in no image of the {side} part of the split: {effect}"
            findings.append(Finding("warning", "split", found, "add images of it, or try another --seed"))
    return findings


def count_pixels(truth: Arrays, classes: int) -> np.ndarray:
    """(K,) pixels of each class over the set."""
    counts = (np.bincount(mask.ravel(), minlength=classes) for mask in truth)
    return np.sum(list(counts), axis=0)


def too_few(count: int, validation: float) -> list[Finding]:
    """Sets that cannot be split, or whose score will be a matter of luck."""
    if count == 1 and validation > 0:
        return [Finding("fatal", "few images", "one image cannot be split into training and validation",
                        "add images, cut it into several, or train with --validation 0")]  # fmt: skip
    held = round(validation * count)
    if validation > 0 and held < 3:
        found = f"only {counted(max(held, 1), 'image')} will be held back for validation, so the score is a rough guess"
        return [Finding("note", "few images", found, "a larger --validation share, or more images")]
    return []
