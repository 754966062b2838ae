"""minunet's own file in NumPy's format: an archive of arrays, beside a JSON text that says what they are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from minunet.errors import UsageError
from minunet.model_files.weights import save

if TYPE_CHECKING:
    from minunet.unet import UNet

SUFFIX = ".npz"


def write(model: UNet, path: str | os.PathLike[str], dtype: Any = None) -> list[str]:
    """As `minunet.save`, whose `dtype` it is; UsageError for one that is unknown, or does not hold the weights."""
    try:
        save(model, path, dtype)
    except ValueError as error:
        raise UsageError(f"{os.fspath(path)}: {error}") from None
    return [f"{os.fspath(path)}: {os.path.getsize(path):,} bytes"]
