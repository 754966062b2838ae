"""`minunet glassbox`: a model file and an image file in, a page out."""

from __future__ import annotations

from pathlib import Path

from minunet.data.images import read_image, read_mask
from minunet.errors import UsageError
from minunet.glassbox import glassbox
from minunet.model_files.weights import load


def glassbox_file(
    model: Path, image: Path, mask: Path | None, out: Path, mode: str, max_mb: float, pixel: tuple[int, int] | None
) -> None:
    """Write the page and say what it is. UsageError where `out` is no .html file."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out}: found the suffix {out.suffix!r}, expected .html")
    network, picture = load(model), read_image(image)
    target = None if mask is None else read_mask(mask)
    found = glassbox(network, picture, target, out, mode, max_mb, pixel, (str(image), str(mask)))
    print(f"{out}: {len(found.html.encode()) / 1e6:.1f} MB, opens in a browser from disk")
