"""What a check hands back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

SEVERITIES = ("fatal", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that the user should know.

    severity  "fatal": training would be refused or in vain; "warning": it would suffer, or mislead; "note": worth
              knowing
    about     in a word or two, e.g. "class balance"
    found     a sentence
    remedy    a sentence: what to do
    files     the files concerned, all of them; empty where it is the whole set
    images    their places in the set, for the picture sheet
    """

    severity: str
    about: str
    found: str
    remedy: str
    files: tuple[str, ...] = ()
    images: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "images"}


def some(
    severity: str, about: str, found: str, remedy: str, which: Sequence[int], files: Sequence[str]
) -> list[Finding]:
    """A finding about the images `which` of `files`, none if there are none; "{n}" in `found` is "3 of 40 images"."""
    if not which:
        return []
    count = f"{len(which)} of {counted(len(files), 'image')}" if len(which) < len(files) else f"all {len(files)} images"
    count = "the only image" if len(files) == 1 else count
    chosen = tuple(files[i] for i in which)
    return [Finding(severity, about, found.format(n=count), remedy, chosen, tuple(which))]


def counted(number: int, noun: str) -> str:
    """'1 image', '2 images'."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
