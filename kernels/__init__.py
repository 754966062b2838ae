"""The loops: arrays in, arrays out.  One room an operation, nothing of minunet is imported here.

Each room offers the operation's functions (``kernels.conv2d.forward`` and so on).  They check shapes, allocate the
result, and run the variant that ``registry`` picks: print(kernels.table()) shows them all.
"""

from . import batch_norm, conv2d, conv_transpose2d, cross_entropy, max_pool2d, relu, resize
from .arrays import channel_sums, empty, surround
from .registry import (
    KERNELS,
    Kernel,
    KernelNotFound,
    Variant,
    current_backend,
    current_policy,
    observe,
    policy,
    table,
    use,
    use_backend,
)
from .threads import set_num_threads

__all__ = [
    "KERNELS",
    "Kernel",
    "KernelNotFound",
    "Variant",
    "batch_norm",
    "channel_sums",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "current_backend",
    "current_policy",
    "empty",
    "max_pool2d",
    "observe",
    "policy",
    "relu",
    "resize",
    "set_num_threads",
    "surround",
    "table",
    "use",
    "use_backend",
]
