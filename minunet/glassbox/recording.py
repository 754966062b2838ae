"""What stays of a pass that is too large for a page: pictures, and exact numbers around one pixel.

In every tensor one element is chosen, from the pixel of the logits back to the image, each time the one that matters
most for the one before. Recorded are exactly the numbers that the formulas of these elements, of value and gradient,
consist of; of all else a picture of one channel, of 8 bits a pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minunet.glassbox.box import pack
from minunet.glassbox.reference import Node, Pass, in_float64, passed
from minunet.glassbox.regions import EVERY, JOINING, Index, Region, Regions, places
from minunet.glassbox.subject import Subject
from minunet.unet import UNet

SHADES = 127  # of the 8-bit pictures, to either side of 0
EPS = 1e-5  # of batch norm


class Recording:
    """One pass with an element chosen in each tensor. pixel: (y, x) of the logits; None: the one of largest loss."""

    def __init__(self, model: UNet, subject: Subject, training: bool, pixel: tuple[int, int] | None) -> None:
        self.model, self.subject, self.training = model, subject, training
        self.run = passed(model, subject, training)
        shapes = {name: array.shape for name, array in self.run.values.items()}
        self.regions = Regions(shapes, model.padding == "same")
        self.pixel = pixel or largest_loss(self.run, subject)
        self.chosen = self._choose()

    def contents(self, step: int) -> dict[str, Any]:
        """Ready for JSON; pictures hold every `step`th pixel of every `step`th row."""
        needed = self._needed()
        kinds = {"values": self.run.values, "gradients": self.run.gradients}
        return {
            "architecture": self.model.architecture,
            "loss": self.subject.loss,
            "mode": "train" if self.training else "eval",
            "pixel": list(self.pixel),
            "step": step,
            "shapes": {name: list(array.shape) for name, array in self.run.values.items()},
            "chosen": {name: list(index) for name, index in self.chosen.items()},
            "numbers": {
                kind: {name: _sparse(arrays[name], needed[kind, name]) for name in arrays if (kind, name) in needed}
                for kind, arrays in kinds.items()
            },
            "maps": {
                kind: {name: _map(arrays[name], index, step) for name, index in self.chosen.items()}
                for kind, arrays in kinds.items()
            },
            **self._kept(),
        }

    def _choose(self) -> dict[str, Index]:
        """{name: index}, from the logits to the image."""
        y, x = self.pixel
        logits = self.run.values["final_conv"]
        target = int(self.subject.target[0, y, x]) if logits.shape[1] > 1 else 0
        chosen: dict[str, Index] = {"final_conv": (0, target, y, x)}
        for node in reversed(self.run.nodes):
            for k, name in enumerate(node.inputs):
                if name not in chosen:
                    chosen[name] = self._most(node, k, chosen[node.name])
        return chosen

    def _most(self, node: Node, k: int, index: Index) -> Index:
        """Of what an element is made of in an input, the one of largest gradient."""
        name = node.inputs[k]
        counts = np.abs(self.run.gradients[name][0])
        _, _, h, w = index
        there = (EVERY, slice(h, h + 1), slice(w, w + 1))  # of a concat's other part
        region = self.regions.reads(node, k, index) or there
        if node.op in JOINING:  # of the middle of what is covered, so that the chosen ones lie on each other
            h, w = ((part.start + part.stop) // 2 for part in region[1:])
            region = (EVERY, slice(h, h + 1), slice(w, w + 1))
        if node.op == "max_pool2d":
            counts = self.run.values[name][0]  # the one that went on
        shape = (1, *counts.shape)
        among = places(shape, region)
        return tuple(int(i) for i in np.unravel_index(among[counts.ravel()[among].argmax()], shape))

    def _needed(self) -> dict[tuple[str, str], np.ndarray]:
        """{(kind, name): places in the flat array} of all numbers that are recorded."""
        found: dict[tuple[str, str], list[np.ndarray]] = {}
        shapes = {name: array.shape for name, array in self.run.values.items()}

        def need(kind: str, name: str, region: Region | None) -> None:
            if region is not None and name in shapes:
                found.setdefault((kind, name), []).append(places(shapes[name], region))

        for name, (_, c, h, w) in self.chosen.items():
            need("values", name, (slice(c, c + 1), slice(h, h + 1), slice(w, w + 1)))
            need("gradients", name, (slice(c, c + 1), slice(h, h + 1), slice(w, w + 1)))
        for node in self.run.nodes:
            own = self.chosen[node.name][1]
            for k, name in enumerate(node.inputs):
                need("values", name, self.regions.reads(node, k, self.chosen[node.name]))
                need("gradients", node.name, self.regions.spreads(node, k, self.chosen[name]))
                for kind, parameter, where in self._of_parameters(node, own, self.chosen[name][1]):
                    found.setdefault((kind, parameter), []).append(where)
        _, _, y, x = self.chosen["final_conv"]
        pixel = (EVERY, slice(y, y + 1), slice(x, x + 1))
        for kind in ("values", "gradients"):
            need(kind, "probabilities", pixel)
            for name in ("loss", "loss.cross_entropy", "loss.dice"):
                if name in shapes:
                    found[kind, name] = [np.zeros(1, np.int64)]
        return {key: np.unique(np.concatenate(parts)) for key, parts in found.items()}

    def _of_parameters(self, node: Node, own: int, other: int) -> list[tuple[str, str, np.ndarray]]:
        """What a node's two formulas need of its parameters: own is the channel of its element, other its input's."""
        values = self.run.values
        found: list[tuple[str, str, np.ndarray]] = []
        if node.op in JOINING:
            weight = f"{node.name}.weight"
            all_places = np.arange(values[weight].size).reshape(values[weight].shape)
            if node.op == "conv_transpose2d":
                all_places = all_places.swapaxes(0, 1)
            found.append(("values", weight, np.concatenate([all_places[own].ravel(), all_places[:, other].ravel()])))
            if f"{node.name}.bias" in values:
                found.append(("values", f"{node.name}.bias", np.array([own])))
        if node.op == "batch_norm":
            for parameter in ("weight", "bias"):
                for kind in ("values", "gradients"):
                    found.append((kind, f"{node.name}.{parameter}", np.array([own, other])))
        return found

    def _kept(self) -> dict[str, Any]:
        """What the forward pass keeps for formulas, and of the target what they need."""
        kept: dict[str, Any] = {}
        for node in self.run.nodes:
            if node.op == "max_pool2d":
                kept[node.name] = {"places": self._pooled(node)}
            elif node.op == "batch_norm":
                kept[node.name] = self._statistics(node)
            elif node.op == "dropout":
                kept[node.name] = {"factors": self._factors(node)}
        y, x = self.pixel
        subject, logits = self.subject, self.run.values["final_conv"]
        found = {
            "kept": kept,
            "target": int(subject.target[0, y, x]),
            "weight": None if subject.weight is None else float(subject.weight[0, y, x]),
            "pixels": subject.target.size,
            "p": _probabilities(logits[0, :, y, x]).tolist(),
        }
        if "probabilities" in self.run.values:
            p = self.run.values["probabilities"]
            classes = np.arange(p.shape[1]) if p.shape[1] > 1 else np.array([1])
            t = classes[:, None, None] == subject.target[:, None]
            found["overlap"], found["size"] = (a.sum(axis=(0, 2, 3)).tolist() for a in (p * t, p + t))
        return found

    def _pooled(self, node: Node) -> dict[int, int]:
        """{place of a result: place of the number that it is}, of the windows of both chosen elements."""
        x, y = self.run.values[node.inputs[0]], self.run.values[node.name]
        region = self.regions.spreads(node, 0, self.chosen[node.inputs[0]])
        results = np.append(places(y.shape, region), np.ravel_multi_index(self.chosen[node.name], y.shape))
        found = {}
        for place in results.tolist():
            _, c, h, w = (int(i) for i in np.unravel_index(place, y.shape))
            window = places(x.shape, (slice(c, c + 1), slice(2 * h, 2 * h + 2), slice(2 * w, 2 * w + 2)))
            found[place] = int(window[x.ravel()[window].argmax()])
        return found

    def _statistics(self, node: Node) -> dict[str, dict[int, float]]:
        x = self.run.values[node.inputs[0]]
        state = in_float64(self.model).state_dict()
        found: dict[str, dict[int, float]] = {"mean": {}, "r": {}}
        for c in {self.chosen[node.name][1], self.chosen[node.inputs[0]][1]}:
            mean, variance = x[:, c].mean(), x[:, c].var()
            if not self.training:
                mean, variance = (float(state[f"{node.name}.running_{kind}"][c]) for kind in ("mean", "var"))
            found["mean"][c], found["r"][c] = float(mean), float(1 / np.sqrt(variance + EPS))
        return found

    def _factors(self, node: Node) -> dict[int, float]:
        mask = self.subject.masks.get(node.name) if self.training else None
        scale, shape = 1 - self.model.dropout, self.run.values[node.name].shape
        found = {index: 1.0 if mask is None else float(mask[index]) / scale
                 for index in (self.chosen[node.name], self.chosen[node.inputs[0]])}  # fmt: skip
        return {int(np.ravel_multi_index(index, shape)): factor for index, factor in found.items()}


def left_out(max_mb: float, step: int) -> str:
    """What the page of a recording cannot show, in words."""
    word = {2: "second", 4: "fourth", 8: "eighth", 16: "sixteenth"}.get(step)
    each = f", every {word} pixel of every {word} row" if word else ""
    return (
        f"Larger than {max_mb:g} MB with all weights, so this is a recording: of each result a picture of one channel "
        f"in 8 bits{each}, and of one element of each the exact formulas. Left out: all other elements, gradients of "
        "weights with their sums, the loss's sum over pixels, numeric gradients, edits, steppers, and what breaks"
    )


def largest_loss(run: Pass, subject: Subject) -> tuple[int, int]:
    """The pixel (y, x) of the first image whose share of the cross entropy is largest."""
    logits, target = run.values["final_conv"][0], subject.target[0]
    p = _probabilities(logits)
    right = p[0] * target + (1 - p[0]) * (1 - target) if len(p) == 1 else np.take_along_axis(p, target[None], 0)[0]
    loss = -np.log(np.maximum(right, np.finfo(np.float64).tiny)) * (1 if subject.weight is None else subject.weight[0])
    y, x = np.unravel_index(loss.argmax(), loss.shape)
    return int(y), int(x)


def _probabilities(logits: np.ndarray) -> np.ndarray:
    if len(logits) == 1:
        return 1 / (1 + np.exp(-logits))
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)


def _sparse(array: np.ndarray, where: np.ndarray) -> dict[str, Any]:
    return {"places": pack(where.astype(np.float64)), "numbers": pack(array.ravel()[where])}


def _map(array: np.ndarray, index: Index, step: int) -> dict[str, Any]:
    """The plane that an element lies in as shares of its largest magnitude, in numbers from 1 to 255; 128 is 0."""
    plane = array[index[0], index[1], ::step, ::step]
    most = float(np.abs(plane).max())
    shares = plane / most if most else plane
    return {"most": most, "picture": pack((np.rint(shares * SHADES) + SHADES + 1).astype(np.uint8))}
