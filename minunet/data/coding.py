"""What the values of a set of masks mean, and the way between mask values and class indices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minunet.data.errors import wrong

KINDS = ("binary", "indices", "levels", "colors", "instances", "borders", "foreground")


@dataclass(frozen=True)
class Coding:
    """The meaning of mask values.

    kind        values                              classes
    binary      (background, foreground)            2; (0, 255) or (0, 1), say
    indices     (0, 1, ..., K-1)                    K; the value is the class
    levels      a few fixed greys, ascending        one a grey
    colors      (red, green, blue) tuples           one a colour
    instances   ()                                  2; every id is foreground
    borders     ()                                  3 to learn: background, inside and border of the cells that the ids
                                                    number; scores and masks know 2, as with instances
    foreground  ()                                  2; every value but 0 is foreground
    """

    kind: str
    values: tuple = ()

    @property
    def classes(self) -> int:
        """Number of classes that a network tells apart, background included."""
        return 3 if self.kind == "borders" else self.scored_classes

    @property
    def scored_classes(self) -> int:
        """Number of classes that masks, scores and `Dataset.truth` know: a border is a part of its cell."""
        return len(self.values) if self.values else 2

    def scored(self, classes: np.ndarray) -> np.ndarray:
        """Class indices of a network (H, W) -> those that scores know, of the same dtype."""
        return (classes > 0).astype(classes.dtype) if self.kind == "borders" else classes

    def encode(self, mask: np.ndarray, name: str = "mask") -> np.ndarray:
        """Mask (H, W) or (H, W, 3) -> (H, W) int64 class indices, of those that scores know.

        A value that is not in the table: DataError with `name`, the value and its pixel count.
        """
        plain = plain_mask(mask, name)
        if not self.values:
            nonzero = plain != 0
            return (nonzero.any(axis=2) if plain.ndim == 3 else nonzero).astype(np.int64)
        if self.kind == "colors":
            plain = pack(plain, name)
            table = np.array([pack_color(color) for color in self.values], np.int64)
        else:
            if plain.ndim == 3:
                raise wrong(
                    name,
                    f"a colour mask, but the other masks hold {self.describe()}",
                    "save it as a grey mask of the same values",
                )
            table = np.array(self.values, np.int64)
        return self._look_up(plain, table, name)

    def _look_up(self, mask: np.ndarray, table: np.ndarray, name: str) -> np.ndarray:
        """Position in `table` of every value of `mask`."""
        order = np.argsort(table)
        place = np.searchsorted(table[order], mask).clip(0, len(table) - 1)
        classes = order[place]
        unknown = table[classes] != mask
        if unknown.any():
            counts = Counter(mask[unknown].tolist())
            value, count = counts.most_common(1)[0]
            shown = unpack(value) if self.kind == "colors" else value
            others = f" and {len(counts) - 1} other unknown values" if len(counts) > 1 else ""
            raise wrong(
                name,
                f"value {shown} in {pixel_count(count)}{others}, but the masks hold {self.describe()}",
                "correct the mask or choose another --target",
            )
        return classes.astype(np.int64)

    def decode(self, classes: np.ndarray) -> np.ndarray:
        """Class indices (H, W) -> a mask in the coding of the training masks.

        uint8 (H, W), (H, W, 3) for colours; uint16 only where the training masks hold values
        above 255. Instances, borders and foreground become 0 and 255.
        """
        classes = self.scored(classes)
        if self.kind == "colors":
            return np.array(self.values, np.uint8)[classes]
        values = self.values or (0, 255)
        return np.array(values, np.uint8 if max(values) <= 255 else np.uint16)[classes]

    def describe(self) -> str:
        """The meaning in words, for messages: 'binary masks: 0 background, 255 foreground'."""
        count = self.classes
        if self.kind == "binary":
            return f"binary masks: {self.values[0]} background, {self.values[1]} foreground"
        if self.kind == "indices":
            return f"class indices 0..{count - 1} ({count} classes)"
        if self.kind == "levels":
            return f"grey levels {listed(self.values)} ({count} classes)"
        if self.kind == "colors":
            return f"colours {listed(self.values)} ({count} classes)"
        if self.kind == "instances":
            return "instance ids: 0 background, every id foreground, touching cells parted"
        if self.kind == "borders":
            return "instance ids: 0 background, every id a cell, whose border is a class of its own"
        return "masks in which every value but 0 is foreground"

    def to_json(self) -> dict:
        """A JSON-able form; `from_json` reads it."""
        return {"kind": self.kind, "values": [_jsonable(value) for value in self.values]}

    @classmethod
    def from_json(cls, data: dict) -> Coding:
        """Read `to_json`'s form. ValueError where it is not one."""
        if not isinstance(data, dict) or set(data) != {"kind", "values"}:
            raise ValueError(f"a mask coding has the keys kind and values, not {data!r:.80}")
        kind, values = data["kind"], data["values"]
        if kind not in KINDS or not isinstance(values, list):
            raise ValueError(f"unknown mask coding {kind!r:.40} with values {values!r:.80}")
        if kind == "colors":
            table = tuple(tuple(value) if isinstance(value, list) else value for value in values)
            sound = all(_is_color(value) for value in table)
        else:
            table = tuple(values)
            sound = all(_is_level(value) for value in table)
        if not sound or not _is_table(kind, table):
            raise ValueError(f"mask coding {kind!r} cannot have the values {values!r:.80}")
        return cls(kind, table)


def class_map(probabilities: np.ndarray, coding: Coding | None) -> np.ndarray:
    """Probabilities (K, H, W) -> (H, W) class indices as scores and masks know them: everywhere the likeliest class.

    With borders that is foreground where inside and border together are likelier than background, which is the
    foreground of `label_instances` too. Arrays on a device stay there.
    """
    if coding is not None and coding.kind == "borders":
        return (1 - probabilities[0] > 0.5).astype(np.int64)
    return probabilities.argmax(axis=0)


def plain_mask(mask: np.ndarray, name: str = "mask") -> np.ndarray:
    """Any mask array -> integers, (H, W) or, where the channels differ, (H, W, 3).

    Alpha, a last channel of 2 or 4 that is one value everywhere, is dropped; True is 1; floats must be whole
    numbers. DataError otherwise, so for one-hot masks too.
    """
    mask = np.asarray(mask)
    if mask.ndim == 3:
        _refuse_lost_channels(mask, name)
    if mask.ndim == 3 and mask.shape[2] in (1, 2, 3, 4):
        mask = mask[..., :3] if mask.shape[2] >= 3 else mask[..., 0]
    if mask.ndim == 3 and mask.shape[2] == 3 and (mask == mask[..., :1]).all():
        mask = mask[..., 0]
    if mask.ndim != 2 and mask.shape[2:] != (3,):
        raise wrong(name, f"shape {mask.shape} is not a mask", "give (H, W) or (H, W, 3)")
    if mask.dtype.kind == "b":
        return mask.astype(np.uint8)
    if mask.dtype.kind == "f":
        mask = _whole(mask, name)
    if mask.dtype.kind not in "iu":
        raise wrong(name, f"dtype {mask.dtype} is not a mask's", "save whole numbers")
    if mask.dtype.kind == "i" and mask.size and mask.min() < 0:
        raise wrong(name, f"negative value {mask.min()}", "mask values start at 0: save it again without negative ones")
    return mask


def _refuse_lost_channels(mask: np.ndarray, name: str) -> None:
    """A last channel that is no alpha: dropped, it would take a class with it. Three channels are a colour."""
    channels = mask.shape[2]
    last = mask[..., -1]
    varies = bool((last != last.flat[0]).any()) if last.size else False
    opaque = channels in (2, 4) and last.size > 0 and not varies and last.flat[0] != 0
    if channels in (1, 3) or opaque or not mask.size:
        return
    if (np.count_nonzero(mask, axis=2) == 1).all():
        found = f"a one-hot mask of {channels} channels: in every pixel one of them is not 0"
        raise wrong(name, found, "save class numbers in one channel, np.argmax(mask, axis=-1)")
    if channels in (2, 4) and varies:
        found = f"{channels} channels, of which the last differs between pixels: dropped as alpha, it would be lost"
        remedy = f"save class numbers in one channel, or, if it is alpha, mask[..., :{channels - 1}]"
        raise wrong(name, found, remedy)


def _whole(mask: np.ndarray, name: str) -> np.ndarray:
    # Only finite values of moderate size can be cast to integers.
    if not np.isfinite(mask).all() or (np.abs(mask) > 2**31).any() or (mask % 1 != 0).any():
        found = "values between whole numbers (or not finite)"
        raise wrong(name, found, "a mask holds whole numbers: threshold it first")
    return mask.astype(np.int64)


def pack(mask: np.ndarray, name: str) -> np.ndarray:
    """Colours (H, W, 3), or greys (H, W), of 8 bits -> one integer 0xRRGGBB a pixel."""
    if mask.size and mask.max() > 255:
        raise wrong(name, f"colour value {mask.max()}", "colour masks must have 8 bits: save it again")
    wide = mask.astype(np.int64)
    if wide.ndim == 2:
        return wide * 0x010101
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def pack_color(color: Sequence[int]) -> int:
    """A colour (red, green, blue) -> 0xRRGGBB."""
    return color[0] << 16 | color[1] << 8 | color[2]


def unpack(value: int) -> tuple[int, int, int]:
    """0xRRGGBB -> (red, green, blue)."""
    return value >> 16, value >> 8 & 255, value & 255


def listed(values: Sequence) -> str:
    """Values for a message, the middle left out where there are many."""
    shown = [str(value) for value in values]
    return ", ".join(shown if len(shown) <= 8 else [*shown[:4], "...", shown[-1]])


def pixel_count(count: int) -> str:
    """'1 pixel', '2 pixels'."""
    return "1 pixel" if count == 1 else f"{count} pixels"


def _jsonable(value: int | tuple) -> int | list:
    return list(value) if isinstance(value, tuple) else value


def _is_level(value: object) -> bool:
    return type(value) is int and 0 <= value <= 65535


def _is_color(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 3
        and all(type(part) is int and 0 <= part <= 255 for part in value)
    )


def _is_table(kind: str, table: tuple) -> bool:
    """Whether a coding of this kind can have this table of values."""
    if kind in ("instances", "borders", "foreground"):
        return not table
    if len(set(table)) != len(table) or not 2 <= len(table) <= 256:
        return False
    if kind == "indices":
        return table == tuple(range(len(table)))
    return kind != "binary" or len(table) == 2
