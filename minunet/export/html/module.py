"""The exported C as a WebAssembly module: made by the clang in ziglang, for images up to one size."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from minunet.errors import WorkFailed
from minunet.export.c.network import Network
from minunet.export.c.plan import plan
from minunet.export.c.source import c_source, check_arena, check_sizes, check_weights
from minunet.export.c.weights import Weights, laid_out
from minunet.extras import require

if TYPE_CHECKING:
    from minunet.unet import UNet

TARGET = ("-target", "wasm32-freestanding", "-std=c99", "-mbulk-memory")
VECTORS = ("-O3", "-msimd128", "-DUNET_SIMD")
EXPORTS = ("unet_set_size", "unet_set_weights", "unet_predict")
STACK = 16384  # bytes; deep calls there are none


def module(model: UNet, size: tuple[int, int]) -> tuple[bytes, Weights]:
    """The module for images of `size` = (height, width) and smaller ones, and the weights that it is to be given.

    Raises UsageError for a size that is too large for the C code and where a weight is not finite, MissingExtra without
    ziglang, WorkFailed where it does not compile.
    """
    network = Network(model, size)
    check_sizes(network)
    check_weights(network)
    planned = plan(network, "default")  # the other one keeps rows, how many the size decides
    check_arena(4 * planned.numbers)
    weights = laid_out(network)
    text = of_any_size(c_source(model, network, planned, weights, "unet", apart=True, tested=False))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "unet.c"
        source.write_text(text, encoding="utf-8")
        return compiled(source, VECTORS, EXPORTS).read_bytes(), weights


def of_any_size(text: str) -> str:
    """The C text with sizes that can be set: those in its table of layers, which then is no constant.

    The order of the sums does not depend on the size, and so the bits of a result do not.
    """
    sides = {f"{end}_{side}": f"unet_layers[{place}].{name}"
             for end, place in (("IN", "0"), ("OUT", "UNET_LAYERS - 1"))
             for side, name in (("H", "height"), ("W", "width"))}  # fmt: skip
    for name, place in sides.items():
        text, count = re.subn(rf"(?m)^#define UNET_{name} \d+$", f"#define UNET_{name} ({place})", text)
        assert count == 1, f"the C text defines UNET_{name} {count} times"
    table = "static const unet_layer unet_layers[UNET_LAYERS]"
    assert text.count(table) == 1, "the C text has one table of layers"
    return text.replace(table, table.replace("const ", "")) + (Path(__file__).parent / "sizes.c").read_text("utf-8")


def compiled(source: Path, flags: Iterable[str], exports: Iterable[str]) -> Path:
    """The C file as a module beside it, which offers these functions, its memory and where that is free."""
    binary, linked = source.with_suffix(".o"), source.with_suffix(".wasm")
    _zig(source.parent, "cc", *TARGET, *flags, "-c", source.name, "-o", binary.name)
    offered = [f"--export={name}" for name in (*exports, "__heap_base")]
    _zig(source.parent, "wasm-ld", binary.name, "-o", linked.name, "--no-entry", "--gc-sections", "--strip-all",
         "--stack-first", "-z", f"stack-size={STACK}", *offered)  # fmt: skip
    return linked


def _zig(folder: Path, *arguments: str) -> None:
    require("ziglang", extra="wasm")
    # What it keeps for later calls goes with the folder.
    caches = {f"ZIG_{whose}_CACHE_DIR": str(folder / "cache") for whose in ("GLOBAL", "LOCAL")}
    command = [sys.executable, "-m", "ziglang", *arguments]
    run = subprocess.run(command, cwd=folder, env={**os.environ, **caches}, capture_output=True, text=True)
    if run.returncode or run.stderr:
        raise WorkFailed(f"the C code could not be compiled to WebAssembly by ziglang: {run.stderr.strip()[:2000]}")
