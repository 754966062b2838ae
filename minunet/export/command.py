"""`minunet export`: a model file in, a file for another program out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minunet.export import checked
from minunet.model_files.weights import load


def export_file(model: Path, to: str, out: Path, options: Mapping[str, Any]) -> None:
    """Write the model for the target `to` with those options that the user gave, and print the summary."""
    target = checked(to, out, options, _flag)  # before a large model is read
    for line in target.write(load(model), out, **options):
        print(line)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
