"""Exported C as WebAssembly: compiled by the clang in ziglang, executed in Node."""

import base64
import re
from pathlib import Path

import in_node
import numpy as np
from c_programs import Answer, images

import minunet as mn
from minunet.export.html.module import VECTORS, compiled

RUNNER = Path(__file__).with_name("c_wasm.mjs")
EXPORTS = ("unet_predict", "unet_segment", "unet_selftest")
BUILDS = {"plain": ("-O2",), "vectors": VECTORS}
STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic", "-DUNET_SELFTEST", "-DUNET_EXTERNAL_ARENA")


def answer(
    source: Path, build: str, model: mn.UNet, size: tuple[int, int], numbers: np.ndarray | None = None, missing: int = 0
) -> Answer:
    """Compile the C file, and run it on the `images` of this model and size, or on other numbers.

    missing: bytes that its arena is too small by.
    """
    module = compiled(source, (*BUILDS[build], *STRICT), EXPORTS)
    normal, image = images(model, size)
    arena = int(re.search(r"#define UNET_ARENA_BYTES (\d+)", source.read_text())[1])
    shape = model.output_size(size)
    found = in_node.run(RUNNER, source.parent, {
        "module": str(module), "in": _text(normal if numbers is None else numbers), "image": _text(image),
        "out": 4 * model.out_channels * shape[0] * shape[1], "classes": shape[0] * shape[1],
        "arena": arena - missing,
    })  # fmt: skip
    assert found["stray"] == -1, f"byte {found['stray']} was written"
    logits = np.frombuffer(base64.b64decode(found["out"]), np.float32).reshape(model.out_channels, *shape)
    classes = np.frombuffer(base64.b64decode(found["classes"]), np.uint8).reshape(shape)
    return Answer(logits, classes, found["wrong"])


def _text(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()
