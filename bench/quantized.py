"""What fewer bits cost in Dice: python bench/quantized.py IMAGES LABELS MODEL... --out FILE.jsonl

Each model is judged on the images that a training with seed 0 holds out, by the Dice of the foreground pooled over
them: as it is, as files of float16 and int8 (`minunet.save`), and computed in integers as `minunet export --dtype int8`
does, by its reference in NumPy, calibrated with the images that were trained on.  All images must be of one size.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import runs

import minunet as mn
from minunet.data import DataError, Dataset, class_map, load_folder
from minunet.errors import UsageError
from minunet.export.c.network import Network
from minunet.export.int8 import calibration, reference
from minunet.export.int8.quantization import quantize
from minunet.model_files.compact import KINDS
from minunet.prediction.predict import predict_logits, prepare, preprocessing_of, probabilities
from minunet.scores import metrics

SPLIT = 0  # the seed of the split

Logits = Callable[[np.ndarray], np.ndarray]  # of a prepared image (C, H, W)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", help="folder of images")
    parser.add_argument("labels", help="folder of their masks")
    parser.add_argument("models", nargs="+", help="model files, or names of models in the package")
    parser.add_argument("--out", required=True, metavar="FILE.jsonl", help="results: a line a model, appended to")
    asked = parser.parse_args(arguments)
    try:
        for name in asked.models:
            line = measured(asked.images, asked.labels, name)
            with open(asked.out, "a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
            print(f"{name}: Dice {line['results']['float32']:.3f}, lost in points: {losses(line['results'])}")
    except (UsageError, DataError) as error:
        parser.error(str(error))
    return 0


def losses(results: dict[str, Any]) -> str:
    found = {key: results["float32"] - value for key, value in results.items() if key in ("integers", *_stored())}
    return ", ".join(f"{key} {lost:+.3f}" for key, lost in found.items())


def measured(images: str, labels: str, name: str) -> dict[str, Any]:
    """The line of a model; Dice in points, 0 to 100."""
    model = mn.load(name)
    dataset = load_folder(images, labels, target=model.coding or "auto", preprocessing=preprocessing_of(model))
    training, held_out = dataset.split(runs.HELD_OUT, SPLIT)
    size = dataset.images[0].shape[1:]
    if any(image.shape[1:] != size for image in dataset.images):
        raise UsageError(f"{images}: images of several sizes, expected all of {size[0]} x {size[1]} px")
    computed: dict[str, Logits] = {"float32": lambda x: predict_logits(model, x)}
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            stored = _through_a_file(model, kind, Path(folder))
            computed[f"file {kind}"] = lambda x, stored=stored: predict_logits(stored, x)
    computed["integers"] = in_integers(model, training, size)
    found = {way: classes(model, held_out, logits) for way, logits in computed.items()}
    return {
        "model": os.path.basename(name),
        "architecture": model.architecture,
        "results": {
            **{way: round(dice(held_out, maps), 4) for way, maps in found.items()},
            "pixels_changed": round(float(np.mean(found["integers"] != found["float32"])), 6),
            "held_out_images": len(held_out),
            "calibration_images": len(training),
        },
        **runs.origin(),
    }


def in_integers(model: mn.UNet, shown: Dataset, size: tuple[int, int]) -> Logits:
    """The network that `minunet export --dtype int8` writes for this size."""
    network = Network(model, size)
    integers = quantize(network, calibration.ranges(network, calibration.batches(model, shown.raw, size)))
    return lambda x: reference.logits(network, integers, x[None])[0]


def classes(model: mn.UNet, held_out: Dataset, logits: Logits) -> np.ndarray:
    """(n, H, W): the class of each pixel, as `minunet predict` decides."""
    prepared = (prepare(model, raw, held_out.channels_last(i)) for i, raw in enumerate(held_out.raw))
    return np.stack([class_map(probabilities(logits(x)), model.coding) for x in prepared])


def dice(held_out: Dataset, maps: np.ndarray) -> float:
    """Of the foreground, pooled over all images, in points."""
    counts = sum(metrics.confusion(found, truth, held_out.coding.scored_classes)
                 for found, truth in zip(maps, held_out.truth, strict=True))  # fmt: skip
    return 100 * float(metrics.dice_per_class(counts)[1])


def _stored() -> list[str]:
    return [f"file {kind}" for kind in KINDS]


def _through_a_file(model: mn.UNet, kind: str, folder: Path) -> mn.UNet:
    path = folder / f"{kind}.safetensors"
    mn.save(model, path, dtype=kind)
    return mn.load(path)


if __name__ == "__main__":
    sys.exit(main())
