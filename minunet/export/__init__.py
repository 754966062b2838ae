"""A trained network for places without minunet: one target, one module (or package) of this folder.

A target has `SUFFIX`, that of its file, and `write(model, path, ...)`, which writes it and returns the lines that sum
up what was written. Beyond model and path its arguments are its options: those without a default have to be given, and
options that only other targets have are refused. A new target is its module and its line in TARGETS.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from minunet.errors import UsageError

if TYPE_CHECKING:
    from minunet.unet import UNet

# What each writes, in words for the command line.
TARGETS = {
    "c": "one C file for programs and microcontrollers",
    "onnx": "a graph of standard operators, for ONNX Runtime and other runtimes",
    "html": "a page that segments images in the browser, on its own",
    "npz": "minunet's own file, which NumPy alone can read",
}


def export(model: UNet, path: str | os.PathLike[str], to: str, **options: Any) -> list[str]:
    """Write the model, as it computes in evaluation mode, for another program; returns a summary in lines.

    to: one of TARGETS; which options a target has stands at the `write` of its module.

    Raises UsageError (a ValueError) for an unknown target, another suffix of `path` than the target's, and options
    that the target lacks or that it cannot do without; MissingExtra where a library is not installed; OSError where
    `path` cannot be written.
    """
    return checked(to, path, options).write(model, path, **options)


def checked(
    to: str, path: str | os.PathLike[str], options: Iterable[str], spelled: Callable[[str], str] = str
) -> ModuleType:
    """The target's module, if path and names of the options suit it; spelled: how the user writes an option's name."""
    if to not in TARGETS:
        raise UsageError(f"found the target {to!r}, expected one of {', '.join(TARGETS)}")
    target = import_module(f"{__name__}.{to}")
    if Path(path).suffix.lower() != target.SUFFIX:
        raise UsageError(f"{os.fspath(path)}: found the suffix {Path(path).suffix!r}, expected {target.SUFFIX}")
    parameters = list(signature(target.write).parameters.values())[2:]
    known = [parameter.name for parameter in parameters]
    foreign = [spelled(name) for name in options if name not in known]
    if foreign:
        raise UsageError(f"{', '.join(foreign)}: not an option of {to}, which has {', '.join(map(spelled, known))}")
    missing = [spelled(p.name) for p in parameters if p.default is p.empty and p.name not in options]
    if missing:
        raise UsageError(f"{to} needs {' and '.join(missing)}")
    return target
