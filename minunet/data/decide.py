"""Deciding what mask values mean, over a whole set of masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from minunet.data.coding import (
    KINDS,
    Coding,
    listed,
    pack,
    pack_color,
    pixel_count,
    plain_mask,
    unpack,
)
from minunet.data.errors import DataError
from minunet.data.faults import Faults

TARGETS = ("auto", *KINDS)

MAX_CLASSES = 32  # more distinct values or colours than this are not a table of classes
FEW_CLASSES = 8  # more values than these, each in one piece in all masks, are not classes
NEARLY_ALL = 0.8  # a table of classes is shared by at least this share of the masks
ONE_PIECE = 0.85  # at least this share of instance ids are one piece without a hole
GAPLESS = 0.95  # at least this share of instance masks hold the ids 1..n without a gap
WHITES = {1, 255, 65535}  # the foreground of binary masks, as truth value and in 8 and 16 bits
JPEG_SUFFIXES = (".jpg", ".jpeg")
THIN = 0.1  # greys that cover at most this share beside black and white are blurred edges ...
WIDE, CRUMB = 0.5, 6  # ... and so are those that cover up to WIDE, in pieces of CRUMB pixels in the mean
STRAY_MASKS = 0.1  # a stray value stands in at most this share of the masks ...
STRAY_PIXELS = 1e-3  # ... and covers at most this share of their pixels


def decide_coding(
    masks: Iterable[np.ndarray], target: str = "auto", names: Sequence[str] | None = None
) -> Coding:
    """Decide over the whole set of masks (H, W) or (H, W, 3) what their values mean.

    `target` is a kind that overrides the decision, or "auto". `names` (file names) appear in
    errors, which tell the faults of all files at once. All-background masks count for nothing. A
    set of one value, or without background where every value but 0 is foreground, is an error.
    The first rule that fits decides:

    0. Masks of 0 and 1 beside masks of 0 and 255 (or 65535): an error that names the fewer ones. A
       JPEG of more than two values: an error, since JPEG changes values.
    1. A table of values that nearly all masks share, and in at most a tenth of the masks a few
       pixels of another value: an error that names file and value (it is a flaw, not a class).
    2. Colours anywhere: at most 32 different ones are a table of colours, one class each.
    3. Two values in the whole set: binary, the lower one is background.
    4. Mostly 0 and 255, between them many values in thin seams: an error (edges blurred by resizing).
    5. Instance ids: most ids are one piece without a hole, and the set holds more than 32 values,
       or fewer that are dense (at least every second number is used) and that are kept in 16
       bits or run 1..n without a gap in each mask, with an n above 8 or not the same in nearly
       all masks. (Classes are shared by nearly all masks, or some are missing in between, or
       they lie in many pieces or around each other.)
    6. At most 32 values: 0..K-1 are class indices, others fixed grey levels. More: an error.

    So three nested classes are told from images of one to three cells by the pieces; where a
    set is truly ambiguous (a single mask, two cells in every image), give `target`. "borders" is never decided for: it
    is another thing to learn of instance ids.
    """
    if target not in TARGETS:
        raise DataError(f"target {target!r} is unknown; choose one of {', '.join(TARGETS)}")
    found = _Survey(masks, names)
    _refuse_nothing_to_learn(found, target)
    if target != "auto":
        return _forced(found, target)
    _refuse_mixed_whites(found)
    _refuse_jpeg(found)
    _refuse_strays(found)
    if found.colored:
        return _colors(found)
    if len(found.values) == 2:
        return _fixed("binary", found)
    _refuse_blurred(found)
    if _are_instances(found):
        return Coding("instances")
    return _table(found)


class _Survey:
    """What the decision needs to know of every mask, gathered in one pass."""

    def __init__(self, masks: Iterable[np.ndarray], names: Sequence[str] | None):
        masks = list(masks)
        if not masks:
            raise DataError("there are no masks; check the folder")
        self.names = list(names) if names else [f"mask {i}" for i in range(len(masks))]
        plain = _each(plain_mask, masks, self.names)
        self.colored = any(mask.ndim == 3 for mask in plain)
        if self.colored:
            plain = _each(pack, plain, self.names)
        self.wide = all(mask.dtype in (np.uint16, np.uint32) for mask in plain)
        counted = [_values_and_pieces(mask) for mask in plain]
        self.counts = [dict(zip(v.tolist(), n.tolist(), strict=True)) for v, n, _ in counted]
        self.pieces = [dict(zip(v.tolist(), p.tolist(), strict=True)) for v, _, p in counted]
        self.pixels = [mask.size for mask in plain]
        self.values = sorted(set().union(*self.counts))

    def shown(self, values: Sequence[int]) -> str:
        """Values as text, colours as (red, green, blue)."""
        return listed([unpack(value) for value in values] if self.colored else values)

    def filled(self) -> list[dict]:
        """Value counts of the masks that are not all background."""
        return [counts for counts in self.counts if set(counts) != {0}]

    def share_with_all(self, values: set) -> float:
        """Share of the filled masks that hold every one of `values`."""
        filled = self.filled()
        return sum(values <= set(counts) for counts in filled) / max(len(filled), 1)


def _each(
    function: Callable[[np.ndarray, str], np.ndarray], masks: Sequence[np.ndarray], names: Sequence[str]
) -> list[np.ndarray]:
    """The function of every mask; one DataError of all masks that it refuses."""
    faults, done = Faults(), []
    for mask, name in zip(masks, names, strict=True):
        with faults.catching():
            done.append(function(mask, name))
    faults.raise_any()
    return done


def _values_and_pieces(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct values, their pixel counts, and for each its pieces minus its holes.

    Pieces minus holes is the Euler number, pixels - neighbouring pairs + 2x2 blocks of that
    value (4-connected): 1 for a plain cell, 0 for a ring, n for n plain pieces.
    """
    values, place, pixels = np.unique(mask, return_inverse=True, return_counts=True)
    place = place.reshape(mask.shape)
    across = place[:, :-1] == place[:, 1:]
    down = place[:-1] == place[1:]
    block = across[:-1] & across[1:] & down[:, :-1]

    def count(where: np.ndarray) -> np.ndarray:
        rows, columns = where.shape
        return np.bincount(place[:rows, :columns][where], minlength=len(values))

    return values, pixels, pixels - count(across) - count(down) + count(block)


def _forced(found: _Survey, target: str) -> Coding:
    """The coding that the user asked for, with the table that the masks give it."""
    if target == "borders":
        _refuse_unnumbered(found)
    if target in ("instances", "borders", "foreground"):
        return Coding(target)
    if target == "colors":
        return _colors(found)
    if found.colored:
        raise DataError(f"the masks hold colours; --target {target} needs grey masks")
    if target == "binary":
        if len(found.values) != 2:
            raise DataError(
                f"--target binary needs two values, the masks hold {found.shown(found.values)}; "
                "use --target foreground to take every value but 0 as foreground"
            )
        return _fixed("binary", found)
    if target == "indices":
        if found.values[-1] > 255 or found.values[-1] < 1:
            raise DataError(
                f"--target indices needs values 0..K-1 with K from 2 to 256, the largest is "
                f"{found.values[-1]}"
            )
        return Coding("indices", tuple(range(found.values[-1] + 1)))
    return _levels(found)


def _colors(found: _Survey) -> Coding:
    # A set of grey masks may be asked for as colours: their values are greys then.
    values = found.values if found.colored else [pack_color((v,) * 3) for v in found.values]
    if not 2 <= len(values) <= MAX_CLASSES:
        raise DataError(
            f"the masks hold {len(values)} colours, a table of classes has 2 to {MAX_CLASSES}; "
            "smoothed edges or JPEG add colours: save flat colours as PNG, "
            "or use --target foreground"
        )
    return Coding("colors", tuple(unpack(value) for value in values))


def _levels(found: _Survey) -> Coding:
    if not 2 <= len(found.values) <= 256:
        raise DataError(
            f"the masks hold {len(found.values)} different values ({listed(found.values)}), "
            "a table of grey levels has 2 to 256"
        )
    return _fixed("levels", found)


def _fixed(kind: str, found: _Survey) -> Coding:
    """A table of all values of the set."""
    if found.values[-1] > 65535:
        raise DataError(
            f"the masks hold the value {found.values[-1]}; a table of classes has values up to "
            "65535: save smaller numbers, or use --target foreground or instances"
        )
    return Coding(kind, tuple(found.values))


def _refuse_nothing_to_learn(found: _Survey, target: str) -> None:
    if len(found.values) < 2:
        raise DataError(
            f"every mask is {found.shown(found.values)} everywhere: there is nothing to learn; "
            "check that these are the masks and that they were exported in full"
        )
    if target in ("foreground", "instances", "borders") and 0 not in found.values:
        raise DataError(
            f"no pixel of any mask is 0 (they hold {found.shown(found.values)}), so --target {target} leaves no "
            "background; save the background as 0, or choose another --target"
        )


def _refuse_unnumbered(found: _Survey) -> None:
    """Borders lie between cells, so each cell must have a number of its own, and be one piece then."""
    share = _one_piece_share(found)
    if share < ONE_PIECE:
        raise DataError(
            f"--target borders needs instance ids, a number for each cell, and the masks hold "
            f"{found.shown(found.values)}, of which only {share:.0%} are one piece: number the cells "
            "(minunet.label_instances does, where they do not touch), or leave out --target"
        )


def _refuse_mixed_whites(found: _Survey) -> None:
    """Rule 0: each mask has its own idea of white, and 0, 1, 255 would be taken for three classes."""
    foregrounds = [set(counts) - {0} for counts in found.counts]
    if found.colored or any(len(white) > 1 or not white <= WHITES for white in foregrounds):
        return
    by_white: dict[int, list[str]] = {}
    for white, name in zip(foregrounds, found.names, strict=True):
        for value in white:
            by_white.setdefault(value, []).append(name)
    if len(by_white) < 2:
        return
    usual = max(by_white, key=lambda value: (len(by_white[value]), value))
    faults = Faults()
    most = len(by_white[usual])
    for value, names in by_white.items():
        if value != usual:
            faults.add(
                names,
                f"the foreground is {value}, while it is {usual} in {most} other mask{'s' * (most > 1)}",
                f"save them with 0 and {usual}, or use --target foreground, which takes every value but 0",
            )
    faults.raise_any()


def _refuse_jpeg(found: _Survey) -> None:
    """Rule 0: values that JPEG has invented."""
    faults = Faults()
    for name, counts in zip(found.names, found.counts, strict=True):
        if name.lower().endswith(JPEG_SUFFIXES) and len(counts) > 2:
            faults.add(
                [name],
                f"{len(counts)} different values in a JPEG, which changes values at edges",
                "export the mask as PNG, or threshold this one (at 128, if it is black and white) and save it as PNG",
            )
    faults.raise_any()


def _refuse_strays(found: _Survey) -> None:
    """Rule 1: values in few masks and few pixels, in a set whose masks else share a table."""
    if len(found.counts) < 3:
        return
    few = max(1, int(STRAY_MASKS * len(found.counts)))
    strays = {value for value in found.values if _is_stray(found, value, few)}
    table = set(found.values) - strays
    if not strays or len(table) < 2 or found.share_with_all(table) < NEARLY_ALL:
        return
    faults = Faults()
    for name, counts in zip(found.names, found.counts, strict=True):
        if here := sorted(strays & set(counts)):
            word = "value" if len(here) == 1 else "values"
            faults.add(
                [name],
                f"{word} {found.shown(here)} in {pixel_count(sum(counts[value] for value in here))}, "
                f"while the masks else hold {found.shown(sorted(table))}",
                "correct the mask, or say what the values are with --target "
                "(indices, levels, colors, instances or foreground)",
            )
    faults.raise_any()


def _is_stray(found: _Survey, value: int, few: int) -> bool:
    where = [i for i, counts in enumerate(found.counts) if value in counts]
    covered = sum(found.counts[i][value] for i in where)
    return covered <= STRAY_PIXELS * sum(found.pixels[i] for i in where) and len(where) <= few


def _refuse_blurred(found: _Survey) -> None:
    """Rule 4: black and white with a seam of greys, thin or in crumbs."""
    total = sum(found.pixels)
    black = sum(counts.get(0, 0) for counts in found.counts)
    white = sum(counts.get(255, 0) for counts in found.counts)
    between = {value for value in found.values if 0 < value < 255}
    if len(between) < 4 or found.values[-1] > 255 or white < 0.01 * total:
        return
    seam = total - black - white
    crumbs = sum(max(n, 1) for mask in found.pieces for value, n in mask.items() if value in between)
    if seam > THIN * total and (seam > WIDE * total or seam > CRUMB * crumbs):
        return
    faults = Faults()
    for name, counts in zip(found.names, found.counts, strict=True):
        if here := between & set(counts):
            faults.add(
                [name],
                f"greys between 0 and 255 ({len(here)} different ones), as smooth resizing or JPEG leave them at edges",
                "threshold it at 128 and save it as PNG, or use --target foreground for every value but 0",
            )
    faults.raise_any()


def _are_instances(found: _Survey) -> bool:
    """Rule 5."""
    ids = [value for value in found.values if value != 0]
    if found.values[0] != 0 or _one_piece_share(found) < ONE_PIECE:
        return False
    if len(found.values) > MAX_CLASSES:
        return True
    if ids[-1] > 2 * len(ids):
        return False
    filled = found.filled()
    gapless = sum(max(counts) == len(set(counts) - {0}) for counts in filled)
    same = len(ids) <= FEW_CLASSES and found.share_with_all(set(ids)) >= NEARLY_ALL
    return found.wide or (gapless >= GAPLESS * len(filled) and not same)


def _one_piece_share(found: _Survey) -> float:
    """Share of the (mask, id) pairs whose id is one piece without a hole."""
    pieces = [n for mask in found.pieces for value, n in mask.items() if value != 0]
    return sum(n == 1 for n in pieces) / max(len(pieces), 1)


def _table(found: _Survey) -> Coding:
    """Rule 6."""
    if len(found.values) > MAX_CLASSES:
        raise DataError(
            f"the masks hold {len(found.values)} different values ({listed(found.values)}) that "
            "are neither a few classes nor ids of single cells; check that these are the masks, "
            "not the images, or say what the values are with --target"
        )
    if found.values == list(range(len(found.values))):
        return Coding("indices", tuple(found.values))
    return _fixed("levels", found)
