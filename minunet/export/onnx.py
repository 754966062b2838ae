"""ONNX: the network as a graph of standard operators, for the many runtimes that read it.

The graph is the loops of unet.py, with batch norm folded into the convolutions by the same function that minunet
computes with, so that the weights are the same to the last bit. The number of images is free, and so are height and
width, unless a size is asked for: a fixed size lets a runtime plan its memory, and saves the resizes that are not
needed for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minunet.data.preprocessing import TINY
from minunet.device import to_host
from minunet.errors import UsageError
from minunet.export.onnx_graph import DOUBLE, FLOAT, OPSET, Graph
from minunet.extras import require
from minunet.files import atomic_write
from minunet.model_files.weights import describe
from minunet.nn import BatchNorm2d, Conv2d, ReLU
from minunet.prediction.predict import preprocessing_of

if TYPE_CHECKING:
    from minunet.unet import UNet

SUFFIX = ".onnx"
INPUTS = ("float32", "uint8")  # what an image may be where preprocessing is inside
IMAGE, LOGITS = "image", "logits"
LARGEST = 2**31 - 1  # bytes of an ONNX file: it is a protobuf message


def write(
    model: UNet,
    path: str | os.PathLike[str],
    size: Sequence[int] | None = None,
    with_preprocessing: str | None = None,
) -> list[str]:
    """Write the network in evaluation mode, in float32, to an .onnx file; see `network` for what goes in and out.

    size: (height, width), if it shall be fixed. with_preprocessing: "float32" or "uint8", the dtype of raw images that
    the model takes, its preprocessing being part of the graph.

    The model that is written has passed ONNX's own checker, its strict inference of all shapes included.
    Raises UsageError for a size that the network does not take, another dtype, and a network beyond 2 GB.
    """
    if with_preprocessing not in (None, *INPUTS):
        raise UsageError(f"with_preprocessing is {with_preprocessing!r}, expected {' or '.join(INPUTS)}")
    if 4 * sum(parameter.data.size for parameter in model.parameters()) > LARGEST:
        raise UsageError(f"{os.fspath(path)}: the weights are larger than the 2 GB that an ONNX file can hold")
    proto = network(model, size, raw=with_preprocessing)
    _check(proto)
    content = proto.SerializeToString(deterministic=True)
    atomic_write(path, lambda file: file.write(content))
    sides = [_line(value) for value in (*proto.graph.input, *proto.graph.output)]
    return [f"{os.fspath(path)}: {len(content):,} bytes, ONNX opset {OPSET}", *sides]


def network(model: UNet, size: Sequence[int] | None = None, batch: int | None = None, raw: str | None = None) -> Any:
    """The network in evaluation mode as a ModelProto.

    In: "image" (batch, in_channels, height, width), float32, as `minunet.data.Preprocessing` makes it. With `raw` it is
    of this dtype and as it comes from the file, but with the network's own channels, which stand before the sides.
    Out: "logits" (batch, out_channels, height, width), float32.
    Where size or batch is None they are free, within the network's own rules for sizes (`UNet.output_size`).

    Raises UsageError for a size that the network does not take.
    """
    graph = Graph("unet")
    into, out = _sides(model, size)
    images = "batch" if batch is None else batch
    normalize = preprocessing_of(model).normalize
    x = IMAGE if raw is None else NORMALIZED[normalize](graph, graph.add("Cast", "exact", IMAGE, to=DOUBLE))
    _layers(graph, model, x, size)
    text = f"{'prepared' if raw is None else 'raw'} image; its preparation: {normalize}"
    facts = {**describe(model), "preprocessing_inside": raw is not None}
    return graph.model(
        [graph.value(IMAGE, raw or np.float32, [images, model.in_channels, *into], text)],
        [graph.value(LOGITS, np.float32, [images, model.out_channels, *out], "what softmax or sigmoid takes")],
        {name: json.dumps(value) for name, value in facts.items()},
    )


def _sides(model: UNet, size: Sequence[int] | None) -> tuple[Sequence[int | str], Sequence[int | str]]:
    """Height and width of the image and of the logits, as numbers or names."""
    if size is not None:
        if np.shape(size) != (2,):
            raise UsageError(f"size must be (height, width), found {size!r}")
        try:
            return [int(side) for side in size], model.output_size(size)
        except ValueError as error:
            raise UsageError(str(error)) from None
    into = ("height", "width")
    return into, into if model.padding == "same" else ("logits_height", "logits_width")


def _plain(graph: Graph, x: str) -> str:
    return graph.add("Cast", "prepared", x, to=FLOAT)


def _standardized(graph: Graph, x: str) -> str:
    """In float64, as minunet does it: float32 would lose a faint contrast on a large mean."""
    everything = graph.constant("image_axes", np.array([1, 2, 3]))
    centred = graph.add("Sub", "centred", x, graph.add("ReduceMean", "mean", x, everything))
    variance = graph.add("ReduceMean", "variance", graph.add("Mul", "squared", centred, centred), everything)
    std = graph.add("Add", "std", graph.add("Sqrt", "root", variance), graph.constant("tiny", np.float64(TINY)))
    return _plain(graph, graph.add("Div", "standardized", centred, std))


NORMALIZED = {"none": _plain, "standardize": _standardized}


def _layers(graph: Graph, model: UNet, x: str, size: Sequence[int] | None) -> None:
    """The loop down and the loop up of unet.py, from x to the logits."""
    skips = []
    for level, block in enumerate(model.downs):
        skips.append(_double_conv(graph, f"downs.{level}", block, x))
        x = graph.add("MaxPool", f"pools.{level}", skips[-1], kernel_shape=[2, 2], strides=[2, 2])
    x = _double_conv(graph, "bottleneck", model.bottleneck, x)
    for step in range(model.levels):
        name, skip = f"ups.{2 * step}", skips.pop()
        up: Any = model.ups[2 * step]
        if model.up == "bilinear":
            x = _doubled(graph, name, x)
        else:
            x = _weighted(graph, "ConvTranspose", name, x, up.weight, up.bias, strides=[2, 2])
        if model.padding == "valid":
            skip = _cropped(graph, f"skips.{step}", skip, 12 * 2**step - 8)
        else:
            x = FITTED[model.skip_fit](graph, f"{name}.fitted", x, skip, size, len(skips))
        joint = graph.add("Concat", f"joints.{step}", skip, x, axis=1)
        x = _double_conv(graph, f"ups.{2 * step + 1}", model.ups[2 * step + 1], joint)
    _weighted(graph, "Conv", LOGITS, x, model.final_conv.weight, model.final_conv.bias)


def _double_conv(graph: Graph, name: str, block: Any, x: str) -> str:
    """Twice convolution, with batch norm in its weights, and relu; dropout does nothing in evaluation."""
    layers = list(block.conv)
    for position, layer in enumerate(layers):
        here = f"{name}.conv.{position}"
        if isinstance(layer, Conv2d):
            norm = layers[position + 1]
            weight, bias = layer.folded(norm) if isinstance(norm, BatchNorm2d) else (layer.weight, layer.bias)
            x = _weighted(graph, "Conv", here, x, weight, bias, pads=[layer.padding] * 4)
        elif isinstance(layer, ReLU):
            x = graph.add("Relu", here, x)
    return x


def _weighted(graph: Graph, kind: str, name: str, x: str, weight: Any, bias: Any, **attributes: Any) -> str:
    """A node with the Tensors weight and bias."""
    arrays = {"weight": weight.data, "bias": bias.data}
    names = [graph.constant(f"{name}.{part}", to_host(a).astype(np.float32)) for part, a in arrays.items()]
    return graph.add(kind, name, x, *names, **attributes)


def _doubled(graph: Graph, name: str, x: str) -> str:
    """Twice as high and wide, bilinearly, outer pixels on each other."""
    scales = graph.constant(f"{name}.scales", np.array([2, 2], np.float32))
    attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners", "axes": [2, 3]}
    return graph.add("Resize", name, x, "", scales, **attributes)


def _cropped(graph: Graph, name: str, x: str, margin: int) -> str:
    """x without `margin` pixels at each side: what the unpadded convolutions below have taken off."""
    starts, ends, axes = ([margin, margin], [-margin, -margin], [2, 3])
    parts = {"starts": starts, "ends": ends, "axes": axes}
    return graph.add("Slice", name, x, *(graph.constant(f"{name}.{part}", np.array(v)) for part, v in parts.items()))


def _fitted(graph: Graph, name: str, x: str, skip: str, size: Sequence[int] | None, level: int) -> str:
    """x, bilinearly made as large as the skip of this level; it differs where halving dropped a row or column."""
    if size is None:
        wanted = graph.add("Shape", f"{name}.size", skip, start=2)
    else:
        sides = [side >> level for side in size]
        if all(side % 2 == 0 for side in sides):
            return x
        wanted = graph.constant(f"{name}.size", np.array(sides))
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "axes": [2, 3]}
    return graph.add("Resize", name, x, "", "", wanted, **attributes)


def _padded(graph: Graph, name: str, x: str, skip: str, size: Sequence[int] | None, level: int) -> str:
    """x with zeros up to the skip of this level: halving dropped one row or column at most, so none go before it."""
    zeros = np.zeros(2, np.int64)
    if size is None:
        shapes = [graph.add("Shape", f"{name}.{part}", of, start=2) for part, of in (("to", skip), ("from", x))]
        missing = graph.add("Sub", f"{name}.missing", *shapes)
        pads = graph.add("Concat", f"{name}.pads", graph.constant(f"{name}.before", zeros), missing, axis=0)
    else:
        odd = np.array([(side >> level) % 2 for side in size])
        if not odd.any():
            return x
        pads = graph.constant(f"{name}.pads", np.concatenate([zeros, odd]))
    return graph.add("Pad", name, x, pads, "", graph.constant(f"{name}.axes", np.array([2, 3])))


FITTED = {"resize": _fitted, "pad": _padded}


def _check(proto: Any) -> None:
    require("onnx", extra="onnx").checker.check_model(proto, full_check=True)


def _line(value: Any) -> str:
    """An input or output in words."""
    tensor = value.type.tensor_type
    sides = ", ".join(side.dim_param or str(side.dim_value) for side in tensor.shape.dim)
    dtype = require("onnx", extra="onnx").helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return f"{value.name}: {dtype} ({sides}), {value.doc_string}"
