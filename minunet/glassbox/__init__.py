"""A model on one image with nothing hidden: one HTML file that computes the whole pass itself, and shows every sum.

subject.py: what is computed; reference.py: the same in Python; box.py: what travels; page.py: the file.
stepper.py: a page of one stepper alone.
js/ is the page's arithmetic, page/ its drawing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from minunet.unet import UNet

MODES = ("train", "eval")
MAX_MB = 8.0


class GlassBox:
    """The page: a notebook shows it, `save` writes it."""

    def __init__(self, html: str) -> None:
        self.html = html

    def __repr__(self) -> str:
        return f"<glass box, {len(self.html.encode()) / 1e6:.1f} MB: a notebook shows it, .save('page.html') writes it>"

    def _repr_html_(self) -> str:
        from html import escape  # late, since `import minunet` imports this file

        return f'<iframe srcdoc="{escape(self.html)}" style="width:100%;height:50rem;border:1px solid"></iframe>'

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all."""
        from minunet.files import atomic_write

        atomic_write(path, lambda file: file.write(self.html.encode()))


def glassbox(
    model: UNet,
    image: np.ndarray,
    mask: np.ndarray | None = None,
    path: str | os.PathLike[str] | None = None,
    mode: str = "train",
    max_mb: float = MAX_MB,
    pixel: tuple[int, int] | None = None,
    files: tuple[str, str] | None = None,
) -> GlassBox:
    """One forward and backward pass of the model on an image, as a page in which every number can be asked for its sum.

    image: (H, W), (H, W, C) or (C, H, W) as it comes from its file; the model's preprocessing is applied.
    mask: (H, W), in the coding of the model's training masks; without it the model's own prediction is the target.
    path: where the page is written to, if given. mode: "train" or "eval", which it opens in; the model stays as it is.
    max_mb: largest size of the page, in 10^6 bytes. pixel: (y, x) of the logits that is shown first.
    files: names of image and mask, for the title and in errors.

    The page computes in float64 from weights, image and mask, and compares itself with a float64 run of minunet.
    Raises UsageError for another mode, a pixel outside the logits, and a page that would be larger than max_mb;
    DataError where image or mask do not fit the model; OSError where the page cannot be written.
    """
    from dataclasses import replace

    from minunet.errors import UsageError
    from minunet.glassbox import box, page, reference
    from minunet.glassbox.subject import subject

    if mode not in MODES:
        raise UsageError(f"mode must be train or eval, found {mode!r}")
    found = subject(model, image, mask, files)
    height, width = found.target.shape[1:]
    if pixel is not None and not (0 <= pixel[0] < height and 0 <= pixel[1] < width):
        raise UsageError(f"pixel {pixel[0]},{pixel[1]} lies outside the logits of {height} x {width} px")
    _refuse_large(model, found.x, max_mb)
    found = replace(found, masks=reference.draw_masks(reference.in_float64(model), found.x))
    contents: dict[str, Any] = box.contents(model, found, mode) | {"pixel": pixel}
    result = GlassBox(page.page(model, contents, os.path.basename(files[0]) if files else "an image"))
    size = len(result.html.encode()) / 1e6
    if size > max_mb:
        raise UsageError(f"the page would have {size:.1f} MB, more than {max_mb:g}: {_REMEDY}")
    if path is not None:
        result.save(path)
    return result


def __getattr__(name: str) -> Any:
    """`stepper_page` is imported when it is first used: `import minunet` imports this file."""
    if name != "stepper_page":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from minunet.glassbox.stepper import stepper_page

    return stepper_page


_REMEDY = "give a smaller model or image, or allow more with max_mb (--max-mb)"


def _refuse_large(model: UNet, x: np.ndarray, max_mb: float) -> None:
    """Before anything is computed: the weights alone, as base64, may be too large."""
    from minunet.errors import UsageError

    numbers = x.size + sum(parameter.data.size for parameter in model.parameters())
    size = numbers * model.dtype.itemsize * 4 / 3 / 1e6
    if size > max_mb:
        raise UsageError(f"weights and image alone take {size:.1f} MB in the page, more than {max_mb:g}: {_REMEDY}")
