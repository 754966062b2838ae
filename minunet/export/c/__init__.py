"""C: the network as one C99 file that includes nothing but <stdint.h>, for programs and microcontrollers.

`network.py` lists the layers, `plan.py` gives them their memory, `weights.py` lays the weights out, and `source.py`
puts all of it in front of the code, which is the *.c files of this folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from minunet.errors import UsageError
from minunet.export.c.network import Network
from minunet.export.c.plan import MEMORY, plan
from minunet.export.c.source import NAME, c_source, check_arena, check_sizes, check_weights
from minunet.export.c.weights import laid_out
from minunet.files import atomic_write

if TYPE_CHECKING:
    from minunet.export.int8.calibration import Images
    from minunet.unet import UNet

SUFFIX = ".c"
DTYPES = ("float32", "int8")
INSIDE = 4_000_000  # bytes of weights, beyond which they go to a file of their own


def write(
    model: UNet,
    path: str | os.PathLike[str],
    size: Sequence[int],
    name: str = "unet",
    memory: str = "default",
    dtype: str = "float32",
    calibrate: Images | None = None,
) -> list[str]:
    """Write the network in evaluation mode, for images of one size, to a .c file; a summary in lines.

    size: (height, width) of the image. name: how all names in the file begin. memory: "default", the fastest, or "low",
    which keeps rows instead of whole outputs where it can. dtype: "float32", or "int8" (minunet.export.int8), which
    needs calibrate: a folder of images or an image file, several of these, or images as arrays.
    More than 4 MB of weights are written to the file of the same name with the suffix .bin; the C program brings them
    to memory and hands them over.

    Raises UsageError for a size that the network does not take or that is too large for the C code, for a name that is
    no C identifier of small letters, for another plan of memory or dtype, for int8 without images to calibrate with and
    for such images without int8, and for weights or logits that are not finite; DataError for images that cannot be
    used. Then no file is written.
    """
    if memory not in MEMORY:
        raise UsageError(f"memory is {memory!r}, expected {' or '.join(MEMORY)}")
    if not NAME.fullmatch(name):
        raise UsageError(f"name is {name!r}, expected a small letter, then small letters, digits and underscores")
    try:
        model.output_size(size)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if dtype not in DTYPES:
        raise UsageError(f"dtype is {dtype!r}, and C is written in {' or '.join(DTYPES)}")
    if (dtype == "int8") != (calibrate is not None):
        wanted = "int8 needs images to calibrate with" if calibrate is None else "images to calibrate with are for int8"
        raise UsageError(f"{wanted}: give calibrate and dtype int8 together")
    network = Network(model, [int(side) for side in size])
    check_sizes(network)
    check_weights(network)
    if calibrate is not None:
        from minunet.export import int8  # late, since it needs what is in this package

        text, weights, arena, notes = int8.written(model, network, name, memory, calibrate, INSIDE)
    else:
        planned = plan(network, memory)
        check_arena(4 * planned.numbers)
        floats = laid_out(network)
        text = c_source(model, network, planned, floats, name, floats.numbers.nbytes > INSIDE)
        weights, arena, notes = floats.numbers.astype("<f4"), 4 * planned.numbers, []
    encoded = text.encode()
    if weights.nbytes > INSIDE:
        binary = Path(path).with_suffix(".bin")

        def both(file: BinaryIO) -> None:
            file.write(weights.tobytes())
            _write(path, encoded)  # where this fails, the weights are not kept either

        atomic_write(binary, both)
        notes = [f"{binary}: the weights, for {name}_set_weights", *notes]
    else:
        _write(path, encoded)
    return [
        f"{os.fspath(path)}: {len(encoded):,} bytes of C, for images of {size[0]} x {size[1]} px",
        *notes,
        f"weights {weights.nbytes:,} bytes, arena {arena:,} bytes (memory {memory})",
    ]


def _write(path: str | os.PathLike[str], content: bytes) -> None:
    atomic_write(path, lambda file: file.write(content))
