"""Models in the box: they come with the package and are loaded by name, `load("nuclei")`, `minunet predict nuclei`.

Each is a file NAME.safetensors in minunet/models, beside its model card NAME.md.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "models"

_PATH = str | os.PathLike[str]


def names() -> list[str]:
    """Of the models that are there."""
    return sorted(file.stem for file in FOLDER.glob("*.safetensors"))


def find(model: _PATH) -> Path | None:
    """The file in the package that this name stands for; None where it is no such name.

    A file of that name in the current folder goes first, and so does the folder of a run, which holds a
    model.safetensors: then this is None. Any other folder, of images perhaps, cannot be meant: a warning tells that
    it was not.
    """
    if not _is_name(model) or _is_taken(model):
        return None
    if os.path.lexists(model):
        warnings.warn(f"{model} is a folder without a model: the model of that name in the package is used",
                      stacklevel=3)  # fmt: skip
    return _file(model)


def hint(model: _PATH) -> str:
    """What to add to the message that `model` cannot be loaded."""
    if _is_name(model):
        return f"; it goes before the model {os.fspath(model)} of the package: rename it to use that"
    return "" if os.path.lexists(model) or not names() else f"; models in the package: {', '.join(names())}"


def card(model: _PATH) -> str | None:
    """The beginning of the card of a model in the package, up to the first section; None for any other model."""
    if not _is_name(model) or _is_taken(model):
        return None
    file = _file(model).with_suffix(".md")
    beginning = file.read_text(encoding="utf-8").partition("\n## ")[0]
    return f"{beginning.strip()}\n\nthe whole model card: {file}"


def _is_name(model: _PATH) -> bool:
    return os.fspath(model) in names()


def _is_taken(name: _PATH) -> bool:
    """Whether what the current folder has under this name may be meant as a model."""
    path = Path(name)
    return (os.path.lexists(path) and not path.is_dir()) or (path / "model.safetensors").is_file()


def _file(name: _PATH) -> Path:
    return FOLDER / f"{os.fspath(name)}.safetensors"
