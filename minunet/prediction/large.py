"""Prediction from file to file, of images that are larger than the memory, and going on after an interruption."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minunet import kernels
from minunet.data import class_map
from minunet.data.prepared import PIECE, Prepared
from minunet.data.windows import Window, open_windows
from minunet.prediction.array_files import ArrayFile
from minunet.prediction.journal import Journal, digest_of_image, digest_of_model, refuse_other
from minunet.prediction.masks import decode_one, empty_mask
from minunet.prediction.predict import preprocessing_of, sides
from minunet.prediction.tiling import fitting_tile, input_size, probabilities_in, tiles
from minunet.training.estimate import SHARE, in_words, resident, room
from minunet.unet import UNet

MEMORY = 1_000_000_000  # bytes that the whole process may take, unless told otherwise
READING = 64_000_000 + 5 * 8 * PIECE  # bytes: decoded pieces of a TIFF, and what the statistics are computed from
COPIES = 4  # of a tile's input: as it is read, in float64 and scaled

_PATH = str | os.PathLike[str]


def predict_large(
    model: UNet,
    image: _PATH,
    out: _PATH,
    probabilities: _PATH | None = None,
    tile: int | tuple[int, int] | None = None,
    tta: bool = False,
    memory: int = MEMORY,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[int, ...]:
    """Predict an image tile by tile from its file into files; an interrupted run goes on where it was.

    image: .npy, .tif of one page, or a folder .zarr; (H, W), (H, W, C) or (C, H, W).
    out: the mask, .npy or .tif, in the coding of the training masks (0 and 255 for a model without one).
    probabilities: .npy, float32 (K, H, W), if given.
    tile, tta: as in `predict`; without a tile the largest for which the process stays within `memory` bytes. A process
        that holds more than three quarters of them already may take a quarter all the same.
    progress(done, total): called after each tile, and once before the first, with the tiles that are done.

    The numbers are those of `predict` of the whole image, under the same conditions (a colour image in a grey model:
    within rounding). Meanwhile the results are in STEM.part.* and the journal in OUT.journal. These stay where the work
    is interrupted: the same call then computes only what is missing. They go when all is done and the results take
    their places.

    Returns the classes that occur, in order. Raises DataError for an image that cannot be read by windows or does not
    fit, UsageError where OUT.journal belongs to another image, model or request, MemoryError where `memory` is too
    little for the smallest tiles.
    """
    with closing(open_windows(Path(image), preprocessing_of(model).channels)) as source:
        size = source.size
        places = [Path(out)] + ([] if probabilities is None else [Path(probabilities)])
        results = _results(model, places, size)
        journal = Journal(places[0].with_name(f"{places[0].name}.journal"))
        wanted = _request(model, Path(image), size, tta, places)
        earlier = journal.read()
        if earlier is not None:
            asked = earlier.get("tile") if tile is None else list(sides(tile))
            refuse_other(journal.path, earlier, wanted | {"tile": asked})
            chosen = tuple(earlier["tile"])
        else:
            chosen = sides(tile) if tile is not None else _tile(model, size, memory)
        try:
            if earlier is not None and all(result.is_there() for result in results):
                journal.go_on()
            else:
                journal.begin(wanted | {"tile": list(chosen)})
                for result in results:
                    result.create()
            work = _Work(model, Prepared(source, preprocessing_of(model), model.dtype), size, chosen, tta)
            seen = work.run(results, journal, progress)
            for result, place in zip(results, places, strict=True):
                os.replace(result.path, place)
            journal.remove()
        finally:
            journal.close()
    return seen


@dataclass(frozen=True)
class _Work:
    model: UNet
    image: Prepared
    size: tuple[int, int]
    tile: tuple[int, int]
    tta: bool

    def run(
        self, results: list[ArrayFile], journal: Journal, progress: Callable[[int, int], object]
    ) -> tuple[int, ...]:
        """Compute the tiles that are not done; the classes in all of them."""
        windows = list(tiles(self.model, self.size, self.tile))
        progress(len(journal.done), len(windows))
        for number, window in enumerate(windows):
            if number not in journal.done:
                journal.add(number, self._tile(window, results))
                progress(len(journal.done), len(windows))
        return tuple(sorted(set().union(*journal.done.values())))

    def _tile(self, window: Window, results: list[ArrayFile]) -> set[int]:
        p = probabilities_in(self.model, self.image.read, self.size, window, self.tta)
        classes = class_map(p, self.model.coding)
        results[0].write(window, decode_one(self.model, classes))
        for result in results[1:]:
            result.write(window, p)
        return set(map(int, np.unique(classes)))


def _results(model: UNet, places: list[Path], size: tuple[int, int]) -> list[ArrayFile]:
    """The files that the results are written into until they are whole."""
    parts = [place.with_name(f"{place.stem}.part{place.suffix}") for place in places]
    mask = empty_mask(model)
    files = [ArrayFile(parts[0], (*size, *mask.shape[2:]), mask.dtype)]
    classes = max(model.out_channels, 2)
    return files + [ArrayFile(part, (classes, *size), np.float32, planes=True) for part in parts[1:]]


def _request(model: UNet, image: Path, size: tuple[int, int], tta: bool, places: list[Path]) -> dict[str, Any]:
    """What two runs must have in common, so that one can go on with the other."""
    return {
        "format": 1,
        "image": digest_of_image(image),
        "size": list(size),
        "model": digest_of_model(model),
        "tta": bool(tta),
        "policy": kernels.current_policy(),
        "backend": "cuda" if model.device == "cuda" else kernels.current_backend(),
        "outputs": [place.name for place in places],
    }


def _tile(model: UNet, size: tuple[int, int], memory: int) -> tuple[int, int]:
    """The largest tile for which the process stays within `memory` bytes, and the device within what it has free."""
    free = room(model)
    if model.device == "cuda":
        limit = SHARE * (free or memory)
    else:
        left = max(memory - resident(), memory // 4)
        limit = min(SHARE * left, SHARE * free if free is not None else memory) - READING
    extra = COPIES * 8 * model.in_channels
    tile = fitting_tile(model, size, limit, extra)
    if tile is None:
        least = input_size(model, size, (1, 1))
        raise MemoryError(
            f"{in_words(memory)} are not enough memory, even for the network's smallest input, "
            f"{least[0]} x {least[1]} px"
        )
    return tile
