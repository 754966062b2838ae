"""C: the network as one C99 file that includes nothing but <stdint.h>, for programs and microcontrollers.

`network.py` lists the layers, `plan.py` gives them their memory, `weights.py` lays the weights out, and `source.py`
puts all of it in front of the code, which is the *.c files of this folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from minunet.errors import UsageError
from minunet.export.c.network import Network
from minunet.export.c.plan import MEMORY, plan
from minunet.export.c.source import NAME, c_source, check_arena, check_sizes
from minunet.export.c.weights import laid_out
from minunet.files import atomic_write

if TYPE_CHECKING:
    from minunet.unet import UNet

SUFFIX = ".c"
INSIDE = 4_000_000  # bytes of weights, beyond which they go to a file of their own


def write(
    model: UNet,
    path: str | os.PathLike[str],
    size: Sequence[int],
    name: str = "unet",
    memory: str = "default",
) -> list[str]:
    """Write the network in evaluation mode, in float32, for images of one size, to a .c file; a summary in lines.

    size: (height, width) of the image. name: how all names in the file begin. memory: "default", the fastest, or "low",
    which keeps rows instead of whole outputs where it can.
    More than 4 MB of weights are written to the file of the same name with the suffix .bin; the C program brings them
    to memory and hands them over.

    Raises UsageError for a size that the network does not take or that is too large for the C code, for a name that is
    no C identifier of small letters, and for another plan of memory; ValueError where a weight is not finite.
    """
    if memory not in MEMORY:
        raise UsageError(f"memory is {memory!r}, expected {' or '.join(MEMORY)}")
    if not NAME.fullmatch(name):
        raise UsageError(f"name is {name!r}, expected a small letter, then small letters, digits and underscores")
    try:
        model.output_size(size)
    except ValueError as error:
        raise UsageError(str(error)) from None
    network = Network(model, [int(side) for side in size])
    check_sizes(network)
    planned = plan(network, memory)
    check_arena(planned)
    weights = laid_out(network)
    apart = weights.numbers.nbytes > INSIDE
    text = c_source(model, network, planned, weights, name, apart).encode()
    if apart:
        binary = Path(path).with_suffix(".bin")
        atomic_write(binary, lambda file: file.write(weights.numbers.astype("<f4").tobytes()))
    atomic_write(path, lambda file: file.write(text))
    lines = [f"{os.fspath(path)}: {len(text):,} bytes of C, for images of {size[0]} x {size[1]} px"]
    lines += [f"{binary}: the weights, for {name}_set_weights"] if apart else []
    return [*lines, f"weights {weights.numbers.nbytes:,} bytes, arena {4 * planned.numbers:,} bytes (memory {memory})"]
