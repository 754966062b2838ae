"""The C export in integers: weights and outputs of 8 bits, sums of 32, and no float between the first and last layer.

Read `quantization.py` (which integers), `reference.py` (what is done with them: the definition), then the *.c files,
which do the same.  `calibration.py` and `floats.py` tell which values the layers take, `errors.py` how far the integers
are from them.  Layers and their memory are those of `minunet.export.c`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minunet.data import DataError
from minunet.export.c.network import Network
from minunet.export.c.plan import plan
from minunet.export.c.source import check_arena
from minunet.export.int8 import calibration, errors
from minunet.export.int8.quantization import TINY, quantize
from minunet.export.int8.source import OF_LOGIT, c_source
from minunet.export.int8.weights import laid_out

if TYPE_CHECKING:
    from minunet.unet import UNet


def written(
    model: UNet, network: Network, name: str, memory: str, images: calibration.Images, inside: int
) -> tuple[str, np.ndarray, int, list[str]]:
    """The C file, its weights (beyond `inside` bytes no part of it), the bytes of its arena, and the error by layer.

    DataError where the images are no use: also where all that the network is shown of them is 0.
    """
    planned = plan(network, memory, OF_LOGIT)
    check_arena(planned.numbers)
    size = (network[0].height, network[0].width)
    ranges = calibration.ranges(network, calibration.batches(model, images, size))
    if max(ranges[0]) < TINY:
        raise DataError(
            "the images to calibrate with are black or of one value, all 0 when prepared: no scale can be found; "
            "give images like those to come"
        )
    integers = quantize(network, ranges)
    weights = laid_out(network, integers)
    text = c_source(model, network, integers, planned, weights, name, weights.numbers.nbytes > inside)
    table = errors.table(network, integers, calibration.batches(model, images, size))
    return text, weights.numbers, planned.numbers, table
