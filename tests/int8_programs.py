"""Generated U-Nets in integers, and what the reference says that their C programs compute."""

import subprocess
from pathlib import Path

import c_programs as programs
import numpy as np

import minunet as mn
from minunet.export.c import write
from minunet.export.c.network import WRITE, Network
from minunet.export.int8 import calibration, reference
from minunet.export.int8.quantization import Numbers, quantize

EVERY_LAYER = Path(__file__).parent / "export" / "every_layer.c"


def shown(model: mn.UNet, size: tuple[int, int]) -> list[np.ndarray]:
    """Images to calibrate with, (H, W, C) bytes."""
    rng = np.random.default_rng(size)
    return [rng.integers(0, 200, (*size, model.in_channels), dtype=np.uint8) for _ in range(2)]


def integers(model: mn.UNet, size: tuple[int, int]) -> tuple[Network, list[Numbers]]:
    """What `exported` has written."""
    network = Network(model, size)
    ranges = calibration.ranges(network, calibration.batches(model, shown(model, size), size))
    return network, quantize(network, ranges)


def exported(model: mn.UNet, size: tuple[int, int], folder: Path, memory: str = "default") -> Path:
    """folder/unet.c"""
    folder.mkdir(exist_ok=True)
    write(model, folder / "unet.c", size, memory=memory, dtype="int8", calibrate=shown(model, size))
    return folder / "unet.c"


def numbers(model: mn.UNet, size: tuple[int, int]) -> np.ndarray:
    """(C, H, W) of the kind that was calibrated with, some of them beyond."""
    normal, _ = programs.images(model, size)
    return normal if model.preprocessing.normalize == "standardize" else (100 + 60 * normal).astype(np.float32)


def prepared(model: mn.UNet, image: np.ndarray) -> np.ndarray:
    """Bytes (H, W, C) -> (C, H, W) float32 with the C code's own roundings, operation by operation."""
    count, total, factor = 1, 0, np.float32(1)
    if model.preprocessing.normalize == "standardize":
        count, total = image.size, int(image.sum(dtype=np.int64))
        factor = inverse_root(count * int(np.square(image.astype(np.int64)).sum()) - total * total)
    return ((image.astype(np.int64) * count - total).astype(np.float32) * factor).transpose(2, 0, 1)


def inverse_root(x: int) -> np.float32:
    value = np.float32(x >> 32) * np.float32(2**32) + np.float32(x & 0xFFFFFFFF)
    root = value
    for _ in range(48):
        root = np.float32(0.5) * (root + value / root)
    return np.float32(1) / root


def check_program(program: Path, model: mn.UNet, size: tuple[int, int]) -> None:
    """As `check`, of what the program gives for `numbers`."""
    check(programs.answer(program, model, size, numbers(model, size)), model, size)


def check(found: programs.Answer, model: mn.UNet, size: tuple[int, int]) -> None:
    """Logits of `numbers`, and classes, are those of the reference to the last bit, and the self-test says so."""
    network, layers = integers(model, size)
    _, image = programs.images(model, size)
    expected = reference.logits(network, layers, numbers(model, size)[None])[0]
    np.testing.assert_array_equal(found.logits.view(np.uint32), expected.view(np.uint32))
    assert found.wrong == 0
    of_image = reference.logits(network, layers, prepared(model, image)[None])[0]
    np.testing.assert_array_equal(found.classes, of_image.argmax(0) if len(of_image) > 1 else of_image[0] > 0)


def check_every_layer(compiler: list[str], folder: Path, model: mn.UNet, size: tuple[int, int], *flags: str) -> None:
    """Each byte of each layer, and each sum of the last one, are those of the reference."""
    program = folder / "layers"
    run = subprocess.run([*compiler, *flags, f"-I{folder}", str(EVERY_LAYER), "-o", str(program)],
                         capture_output=True, text=True)  # fmt: skip
    assert run.returncode == 0, run.stderr[:4000]
    values = numbers(model, size)
    values.tofile(folder / "in")
    subprocess.run([program], cwd=folder, check=True)
    network, layers = integers(model, size)
    outputs = reference.outputs(network, layers, values[None])
    rows = [y[0].transpose(1, 2, 0) for layer, y in zip(network, outputs, strict=True) if layer.kind != WRITE]
    expected = b"".join(y.astype("<i4" if y.dtype == np.int32 else np.uint8).tobytes() for y in rows)
    assert len(np.unique(np.concatenate([y.ravel() for y in rows[:-1]]))) > 50, "nothing is compared"
    assert (folder / "rows").read_bytes() == expected
