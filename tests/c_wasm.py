"""Exported C as WebAssembly: compiled by the clang in ziglang, executed in Node."""

import base64
from pathlib import Path

import in_node
import numpy as np
from c_programs import Answer, images

import minunet as mn
from minunet.export.c.network import Network
from minunet.export.c.plan import plan
from minunet.export.html.module import VECTORS, compiled

RUNNER = Path(__file__).with_name("c_wasm.mjs")
EXPORTS = ("unet_predict", "unet_segment", "unet_selftest")
BUILDS = {"plain": ("-O2",), "vectors": VECTORS}
STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic", "-DUNET_SELFTEST", "-DUNET_EXTERNAL_ARENA")


def answer(source: Path, build: str, model: mn.UNet, size: tuple[int, int], memory: str, missing: int = 0) -> Answer:
    """Compile the C file, and run it on the `images` of this model and size in an arena that lacks `missing` bytes."""
    module = compiled(source, (*BUILDS[build], *STRICT), EXPORTS)
    numbers, image = images(model, size)
    shape = model.output_size(size)
    found = in_node.run(RUNNER, source.parent, {
        "module": str(module), "in": _text(numbers), "image": _text(image),
        "out": 4 * model.out_channels * shape[0] * shape[1], "classes": shape[0] * shape[1],
        "arena": 4 * plan(Network(model, size), memory).numbers - missing,
    })  # fmt: skip
    assert found["stray"] == -1, f"byte {found['stray']} was written"
    logits = np.frombuffer(base64.b64decode(found["out"]), np.float32).reshape(model.out_channels, *shape)
    classes = np.frombuffer(base64.b64decode(found["classes"]), np.uint8).reshape(shape)
    return Answer(logits, classes, found["wrong"])


def _text(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()
