"""How tensors, modules and models show themselves in Python and in notebooks.

Pictures in HTML are PNG inside the page, written here in a few lines, so that they need NumPy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from minunet.autograd import Tensor
    from minunet.nn import Module
    from minunet.unet import UNet

FEW_VALUES = 64  # a tensor of at most so many values is shown with all of them
MOST_MAPS = 32  # pictures of one tensor
SMALLEST_MAP = 3  # pixels a side, so that 3 x 3 kernels are pictures too
NOT_FINITE = (0, 200, 0)  # green
LARGEST = 512  # px a side; larger pictures are thinned


def tensor_text(tensor: Tensor) -> str:
    """A small tensor with its values; a large one by shape, range and mean; both with where it came from."""
    array = _values(tensor)
    origin = f", from {tensor.node.name}" if tensor.node else ", requires_grad=True" if tensor.requires_grad else ""
    if array.size <= FEW_VALUES and array.ndim <= 2:
        values = np.array2string(array, precision=4, threshold=FEW_VALUES, prefix="Tensor(")
        return f"Tensor({values}, {array.dtype}{origin})"
    return f"Tensor({_shape(array.shape)} {array.dtype}{origin}: {_range(array)})"


def _values(tensor: Tensor) -> np.ndarray:
    from minunet.device import to_host  # late: this file is imported by those that it needs

    return np.asarray(to_host(tensor.data))


def _range(array: np.ndarray) -> str:
    """'0 to 3.21, mean 0.412'; what is not finite is counted and left out."""
    finite = array[np.isfinite(array)]
    odd = f", {array.size - finite.size} not finite" if finite.size < array.size else ""
    if not finite.size:
        return f"no finite value{odd}" if array.size else "empty"
    low, high, mean = float(finite.min()), float(finite.max()), float(finite.mean(dtype=np.float64))
    return f"{low:.4g} to {high:.4g}, mean {mean:.4g}{odd}"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def module_text(module: Module) -> str:
    """A module with the shapes of its own arrays, and its sub-modules below it, set in."""
    from minunet.autograd import Tensor
    from minunet.kernels import on_device
    from minunet.nn import Module

    own, lines = [], []
    for name, value in vars(module).items():
        if isinstance(value, Module):
            lines.append(f"  ({name}): " + repr(value).replace("\n", "\n  "))
        elif isinstance(value, (Tensor, np.ndarray)) or on_device(value):
            own.append(f"{name} {_shape(value.shape) or 'number'}")
        elif isinstance(value, (int, float)) and name != "training":
            own.append(f"{name} {value}")
    head = f"{type(module).__name__}({', '.join(own)})"
    return "\n".join([head, *lines])


def model_html(model: UNet) -> str:
    """The network as a table: a row a layer, with the shapes for one image of the usual size."""
    from minunet.display.info import default_size, layers
    from minunet.display.tables import Table

    size = default_size(model)
    table = layers(model, size)
    rows = [
        (
            layer.name,
            layer.kind,
            _shape(layer.shape),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.macs / 1e6:,.1f}" if layer.macs else "",
        )
        for layer in table
    ]
    parameters, macs = (sum(getattr(layer, name) for layer in table) for name in ("parameters", "macs"))
    total = ("total", "", "", f"{parameters:,}", f"{macs / 1e6:,.1f}")
    head = ("layer", "kind", "output", "parameters", "million multiply-adds")
    title = f"U-Net on an image of {_shape((model.in_channels, *size))}"
    return Table(head, [rows, [total]], title, left=2).html()


def tensor_html(tensor: Tensor) -> str:
    """The text, and where the last two axes are large enough, a picture of each map.

    All maps share one scale. Where there are values on both sides of 0, it is white at 0, red above and blue below;
    else black is the least value and white the greatest. Values that are not finite are green.
    """
    from html import escape  # here and below: `import minunet` shall cost little more than NumPy

    array = _values(tensor)
    text = f"<pre>{escape(tensor_text(tensor))}</pre>"
    if array.ndim < 2 or min(array.shape[-2:]) < SMALLEST_MAP or array.dtype.kind not in "biuf" or not array.size:
        return text
    maps = array.reshape(-1, *array.shape[-2:])
    shown = _colored(maps[:MOST_MAPS].astype(np.float64))
    places = [", ".join(map(str, place)) for place in np.ndindex(array.shape[:-2])]
    side = 200 if len(shown) <= 2 else 128 if len(shown) <= 8 else 64
    figures = "".join(picture_html(rgb, place, side) for rgb, place in zip(shown, places, strict=False))
    note = f"<div>the first {MOST_MAPS} of {len(maps)} maps</div>" if len(maps) > MOST_MAPS else ""
    return f"{text}{note}{row_html(figures)}"


def _colored(maps: np.ndarray) -> np.ndarray:
    """(N, H, W) numbers -> uint8 (N, H, W, 3), one scale for all."""
    finite = np.isfinite(maps)
    known = maps[finite] if finite.any() else np.zeros(1)
    low, high = known.min(), known.max()
    values = np.where(finite, maps, low)
    if low < 0 < high:
        part = (values / max(-low, high))[..., None]
        toward = np.where(part > 0, np.array((178, 24, 43)), np.array((33, 102, 172)))
        rgb = 255 + np.abs(part) * (toward - 255)
    else:
        rgb = np.repeat(255 * ((values - low) / max(high - low, 1e-300))[..., None], 3, axis=-1)
    rgb[~finite] = NOT_FINITE
    return (rgb + 0.5).astype(np.uint8)


def row_html(figures: str) -> str:
    """Figures beside each other, in as many lines as they need."""
    return f"<div style='display:flex;flex-wrap:wrap;gap:6px'>{figures}</div>"


def picture_html(rgb: np.ndarray, title: str = "", side: int = 200) -> str:
    """uint8 (H, W, 3) -> a <figure> that holds its picture, enlarged by a whole number to at least `side` px."""
    import base64
    from html import escape

    step = -(-max(rgb.shape[:2]) // LARGEST)
    rgb = rgb[::step, ::step]
    width = rgb.shape[1] * -(-side // max(rgb.shape[:2]))
    data = base64.b64encode(png(rgb)).decode()
    caption = f"<figcaption>{escape(title)}</figcaption>" if title else ""
    return (
        f"<figure style='margin:0'>{caption}<img alt='{escape(title, quote=True)}' width='{width}' "
        f"style='image-rendering:pixelated;max-width:none' src='data:image/png;base64,{data}'></figure>"
    )


def png(rgb: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as the bytes of a PNG file: header, the rows (each behind its filter, 0: none), end."""
    import struct
    import zlib

    height, width = rgb.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = rgb.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
