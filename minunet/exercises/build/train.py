"""The demo with the learner's core: `main` is run in a process of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from minunet.exercises.judge import Wrong, failure, plainly

from .judge import learners_core
from .steps import STEPS


def main(arguments: Iterable[str]) -> None:
    """FOLDER: train the demo's network with the core in FOLDER, and write its pictures to FOLDER/demo."""
    from minunet import demo

    folder = Path(*arguments)
    try:
        with learners_core(STEPS[-1], folder), plainly():
            demo.demo(folder / "demo", seed=0, steps=None, minutes=None)
    except Wrong as wrong:
        raise SystemExit(str(wrong)) from None
    except Exception as error:
        files = [str(folder / part.file) for part in STEPS[-1].parts]
        raise SystemExit("\n".join(failure(error, *files))) from None
