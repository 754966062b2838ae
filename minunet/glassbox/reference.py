"""The same pass in Python, in float64, every tensor by its name: what the page's own numbers are held against.

`UNet.forward` computes convolution and relu in one operation and writes skips where they are joined; here every module
is an operation of its own, so that each of its results has a name and a gradient. The operations are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minunet import functional as F
from minunet.autograd import Tensor
from minunet.glassbox.subject import Subject
from minunet.nn import BatchNorm2d, Conv2d, Dropout, Module, ReLU, Sequential
from minunet.training.recipe import loss_function
from minunet.unet import SKIP_FITS, UNet

_OPERATIONS = {Conv2d: "conv2d", BatchNorm2d: "batch_norm", ReLU: "relu", Dropout: "dropout"}


@dataclass(frozen=True)
class Node:
    """An operation: the name of its result and of what it takes."""

    name: str
    op: str
    inputs: list[str]


@dataclass(frozen=True)
class Pass:
    """Values and gradients of one forward and backward pass, {name: float64 array}; gradients of parameters too."""

    values: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    nodes: list[Node]


def in_float64(model: UNet) -> UNet:
    """A copy of the model that computes in float64, on the CPU."""
    copy = UNet(**{**model.architecture, "dtype": np.float64}).to("cpu")
    state = {name: _host(array) for name, array in model.state_dict().items()}
    copy.load_state_dict({n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in state.items()})
    return copy  # type: ignore[return-value]


def _host(array: np.ndarray) -> np.ndarray:
    from minunet import device

    return np.asarray(device.to_host(array))


def draw_masks(model: UNet, x: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Dropout's masks {name: (N, C, H, W) bool, what is kept} for a batch of x's shape; {} without dropout."""
    rng = np.random.default_rng(seed)
    shapes = {name: values.shape for name, values in run(model, x, {}, training=False).items()}
    return {
        name: rng.random(shapes[name], np.float32) >= model.dropout
        for name, module in _modules(model)
        if isinstance(module, Dropout)
    }


def passed(model: UNet, subject: Subject, training: bool) -> Pass:
    """One pass of a float64 copy of the model; the model itself stays as it is."""
    copy = in_float64(model)
    nodes: list[Node] = []
    named = {**backward(copy, subject, training, nodes), **dict(copy.named_parameters())}
    values = {name: np.array(tensor.data) for name, tensor in named.items()}
    return Pass(values, {name: np.array(t.grad) for name, t in named.items() if t.grad is not None}, nodes)


def backward(model: UNet, subject: Subject, training: bool, nodes: list[Node] | None = None) -> dict[str, Tensor]:
    """One pass of this model, in float64: {name: Tensor} of input and results, all with their gradients."""
    tensors = run(model, Tensor(subject.x.astype(np.float64), requires_grad=True), subject.masks, training, nodes)
    _add_loss(tensors, subject)
    for tensor in tensors.values():
        tensor.retain_grad()
    tensors["loss"].backward()
    return tensors


def run(
    model: UNet, x: Tensor | np.ndarray, masks: dict[str, np.ndarray], training: bool, nodes: list[Node] | None = None
) -> dict[str, Tensor]:
    """{name: Tensor} of the input, every result on the way, and the logits, in the order of computation.

    nodes: is filled with the operations, as js/graph.js has them.
    """
    model.train(training)
    tensors = {"input": x if isinstance(x, Tensor) else Tensor(np.asarray(x, model.dtype))}

    def put(name: str, op: str, inputs: list[str], tensor: Tensor) -> str:
        tensors[name] = tensor
        if nodes is not None:
            nodes.append(Node(name, op, inputs))
        return name

    def layers(prefix: str, sequence: Sequential, x: str) -> str:
        for position, layer in enumerate(sequence):
            name = f"{prefix}.conv.{position}"
            dropped = name in masks and training
            h = _dropped(tensors[x], masks[name], model.dropout) if dropped else _apply(layer, tensors[x])
            x = put(name, _OPERATIONS[type(layer)], [x], h)
        return x

    h = "input"
    skips = []
    for level, down in enumerate(model.downs):
        h = layers(f"downs.{level}", down.conv, h)  # type: ignore[attr-defined]
        skips.append(h)
        h = put(f"pools.{level}", "max_pool2d", [h], F.max_pool2d(tensors[h], 2))
    h = layers("bottleneck", model.bottleneck.conv, h)
    for step in range(model.levels):
        skip, up = skips.pop(), f"ups.{2 * step}"
        op = "resize_corners" if model.up == "bilinear" else "conv_transpose2d"
        h = put(up, op, [h], model.ups[2 * step](tensors[h]))
        size, wanted = tensors[h].shape[2:], tensors[skip].shape[2:]
        if model.padding == "valid":
            skip = put(f"crops.{step}", "center_crop", [skip], F.center_crop(tensors[skip], size))
        elif size != wanted:
            op = "center_pad" if model.skip_fit == "pad" else "resize"
            h = put(f"fits.{step}", op, [h], SKIP_FITS[model.skip_fit](tensors[h], wanted))
        h = put(f"concats.{step}", "concat", [skip, h], F.concat([tensors[skip], tensors[h]]))
        h = layers(f"ups.{2 * step + 1}", model.ups[2 * step + 1].conv, h)  # type: ignore[attr-defined]
    put("final_conv", "conv2d", [h], model.final_conv(tensors[h]))
    return tensors


def _apply(layer: Module, x: Tensor) -> Tensor:
    """The layer by itself; what it does in evaluation mode may be nothing, which still is a result of its own."""
    return x * 1.0 if isinstance(layer, Dropout) else layer(x)


def _dropped(x: Tensor, mask: np.ndarray, p: float) -> Tensor:
    return x * Tensor(mask / (1 - p))


def _add_loss(tensors: dict[str, Tensor], subject: Subject) -> None:
    """The loss as in training (`loss_function`), in parts that have names."""
    logits, target, weight = tensors["final_conv"], subject.target, subject.weight
    if subject.loss == "ce+dice":
        tensors["loss.cross_entropy"] = F.cross_entropy(logits, target, weight)
        tensors["probabilities"] = F.softmax(logits)
        tensors["loss.dice"] = _dice(tensors["probabilities"], target)
        tensors["loss"] = tensors["loss.cross_entropy"] + tensors["loss.dice"]
    elif subject.loss == "dice":
        tensors["probabilities"] = F.sigmoid(logits) if logits.shape[1] == 1 else F.softmax(logits)
        tensors["loss"] = _dice(tensors["probabilities"], target)
    else:
        given = () if weight is None else (weight,)
        tensors["loss"] = loss_function(subject.loss, logits.shape[1])(logits, target, *given)


def _dice(p: Tensor, target: np.ndarray) -> Tensor:
    """`F.dice_loss`, of the probabilities."""
    classes = np.arange(p.shape[1]) if p.shape[1] > 1 else np.array([1])
    t = (classes[:, None, None] == target[:, None]).astype(p.dtype)
    overlap, size = (p * t).sum(axis=(0, 2, 3)), p.sum(axis=(0, 2, 3)) + t.sum(axis=(0, 2, 3))
    return 1 - ((2 * overlap + 1) / (size + 1)).mean()


def _modules(model: UNet) -> list[tuple[str, Module]]:
    """(name, layer) of every layer in a double convolution."""
    blocks = [(f"downs.{k}", block) for k, block in enumerate(model.downs)]
    blocks.append(("bottleneck", model.bottleneck))
    blocks += [(f"ups.{2 * k + 1}", model.ups[2 * k + 1]) for k in range(model.levels)]
    return [(f"{p}.conv.{k}", layer) for p, block in blocks for k, layer in enumerate(block.conv)]  # type: ignore[attr-defined]
