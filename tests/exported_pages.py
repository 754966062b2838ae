"""Exported pages, images for them, and what minunet makes of the same images."""

import base64
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import in_node
import numpy as np
from c_programs import randomized

import minunet as mn
from minunet.data import Coding, Preprocessing, class_map
from minunet.export.html import ARITHMETIC
from minunet.prediction.predict import predict_logits, prepare, probabilities

RUNNER = Path(__file__).with_name("page_node.mjs")


@dataclass(frozen=True)
class Found:
    """What a page gives: logits (K, H, W), classes (H, W), [done, total] as told, pictures where asked for."""

    logits: np.ndarray
    classes: np.ndarray
    told: list[list[int]]
    overlay: np.ndarray | None
    png: bytes | None


def network(channels: int, outputs: int, features: tuple[int, ...], seed: int, normalize: str = "standardize",
            coding: Coding | None = None, **options: Any) -> mn.UNet:  # fmt: skip
    """A network with nothing at its initial value, that finds every class somewhere."""
    model = randomized(mn.UNet(channels, outputs, features, seed=seed, **options), np.random.default_rng(seed))
    model.preprocessing, model.coding = Preprocessing(channels, normalize), coding
    logits = predict_logits(model, prepare(model, picture(64, 64, seed, channels == 1), channels_last=True))
    model.final_conv.bias.data[:] -= np.median(logits, axis=(1, 2))
    for array in (model.final_conv.weight.data, model.final_conv.bias.data):
        array /= logits.std(axis=(1, 2)).reshape(-1, *(1,) * (array.ndim - 1))
    if coding is not None:  # borders: the background against two classes
        model.final_conv.bias.data[0] += np.log(2)
    return model


def picture(height: int, width: int, seed: int, grey: bool) -> np.ndarray:
    """Bytes (H, W, 3): spots on a dark ground, of one colour or of several."""
    rng = np.random.default_rng([seed, height, width])
    shape = (height, width, 1 if grey else 3)
    smooth = np.kron(rng.integers(0, 120, (-(-height // 7), -(-width // 7), shape[2])), np.ones((7, 7, 1)))
    image = smooth[:height, :width] + rng.integers(0, 60, shape)
    return np.broadcast_to(image, (height, width, 3)).astype(np.uint8)


def in_pages(folder: Path, pages: list[tuple[Path, list[np.ndarray]]], drawn: bool = False) -> list[Found]:
    """What the pages make of their images (H, W, 3), one after the other."""
    jobs = [{"page": str(path), "images": [_job(image, drawn) for image in images]} for path, images in pages]
    answers = iter(in_node.run(RUNNER, folder, {"modules": str(ARITHMETIC), "pages": jobs}))
    return [_found(next(answers), image) for _, images in pages for image in images]


def _job(image: np.ndarray, drawn: bool) -> dict[str, Any]:
    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    rgba = base64.b64encode(np.concatenate([image, alpha], axis=2).tobytes()).decode()
    return {"rgba": rgba, "height": image.shape[0], "width": image.shape[1], "drawn": drawn}


def _found(answer: dict[str, Any], image: np.ndarray) -> Found:
    logits, classes, overlay, png = (base64.b64decode(answer.get(name, "")) for name in
                                     ("logits", "classes", "overlay", "png"))  # fmt: skip
    size = image.shape[:2]
    return Found(
        np.frombuffer(logits, np.float32).reshape(-1, *size),
        np.frombuffer(classes, np.uint8).reshape(size),
        answer["told"],
        np.frombuffer(overlay, np.uint8).reshape(*size, 4) if overlay else None,
        png or None,
    )


def expected(model: mn.UNet, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits (K, H, W) and classes (H, W) of `minunet.predict`, and where these are no tie."""
    with mn.policy("exact"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of colours in a grey model, which the page tells too
        logits = predict_logits(model, prepare(model, image, channels_last=True))
    p = probabilities(logits)
    borders = model.coding is not None and model.coding.kind == "borders"
    values = np.stack([p[0], 1 - p[0]]) if borders else p
    second, first = np.sort(values, axis=0)[-2:]
    return logits, class_map(p, model.coding), first - second > 1e-4
