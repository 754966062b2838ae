"""Generated U-Nets as subjects of the glass box, and its modules run in Node."""

import base64
from pathlib import Path

import numpy as np
from generated_unets import unet
from in_node import run

import minunet as mn
from minunet.glassbox import reference
from minunet.glassbox.box import contents
from minunet.glassbox.page import MODULES
from minunet.glassbox.subject import Subject

RUNNER = Path(__file__).with_name("glassbox_node.mjs")


def in_node(folder: Path, boxes: list[dict]) -> list[dict]:
    """What tests/glassbox_node.mjs answers for each box."""
    return run(RUNNER, folder, {"modules": str(MODULES), "boxes": boxes})


def array(packed: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["base64"]), np.float64).reshape(packed["shape"])


def generated(seed, levels=3, features=5) -> tuple[mn.UNet, Subject]:
    """A network with nothing at its initial value, a batch, and a loss of each kind by turns."""
    model, x = unet(seed, levels, features)
    rng = np.random.default_rng(seed)
    classes, (height, width) = model.out_channels, model.output_size(x.shape[2:])
    losses = ("bce", "dice") if classes == 1 else ("ce+dice", "ce", "dice")
    loss = losses[seed % len(losses)]
    shape = (len(x), height, width)
    weight = rng.uniform(0.5, 9, shape).astype(np.float32) if loss != "dice" and seed % 3 else None
    target = rng.integers(0, max(2, classes), shape)
    masks = reference.draw_masks(reference.in_float64(model), x, seed)
    return model, Subject(x, target, weight, loss, masks)


def box(model, subject, training, **wanted) -> dict:
    return {"contents": contents(model, subject, "train" if training else "eval"), "training": training, **wanted}
