"""The loops: arrays in, arrays out.  One room an operation, nothing of minunet is imported here.

Each room offers the operation's functions (``kernels.conv2d.forward`` and so on).  They check shapes, allocate the
result, and run the variant that ``registry`` picks: print(kernels.table()) shows them all.
"""

from . import batch_norm, conv2d, conv_transpose2d, cross_entropy, max_pool2d, relu, resize, sgd
from .arrays import add, channel_sums, copy, copy_into, crop, empty, join, surround
from .compiling import on_compile
from .cuda import DeviceNotFound, on_device
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
    "DeviceNotFound",
    "Kernel",
    "KernelNotFound",
    "Variant",
    "add",
    "batch_norm",
    "channel_sums",
    "conv2d",
    "conv_transpose2d",
    "copy",
    "copy_into",
    "crop",
    "cross_entropy",
    "current_backend",
    "current_policy",
    "empty",
    "join",
    "max_pool2d",
    "observe",
    "on_compile",
    "on_device",
    "policy",
    "relu",
    "resize",
    "set_num_threads",
    "sgd",
    "surround",
    "table",
    "use",
    "use_backend",
]
