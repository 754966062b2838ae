"""Texts that hold file names: what a terminal and a picture can show of them.

A file name may be any bytes. Python hands over those that are no text in the system's encoding as lone
surrogates (`os.fsdecode`), which fonts refuse; and a name may hold newlines and the codes that steer a terminal.
"""

from __future__ import annotations

import unicodedata


def printable(text: str, keep: str = "") -> str:
    """The text with control characters as escapes, ESC as \\x1b, but for those in `keep`; all else stays."""
    return "".join(_escaped(c) if unicodedata.category(c) == "Cc" and c not in keep else c for c in text)


def drawable(text: str) -> str:
    """The text for a picture: bytes that were UTF-8 as what they say, others and control characters as escapes."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        data = text.encode("utf-8", "backslashreplace")
    return printable(data.decode("utf-8", "backslashreplace"))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
