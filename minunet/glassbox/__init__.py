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

    from minunet.glassbox.subject import Subject
    from minunet.unet import UNet

MODES = ("train", "eval")
MAX_MB = 8.0
STEPS = (1, 2, 4, 8, 16)  # of a recording's pictures: every pixel, every second one ...


class GlassBox:
    """The page: a notebook shows it, `save` writes it."""

    def __init__(self, html: str) -> None:
        self.html = html

    @property
    def megabytes(self) -> float:
        """Size of the file, in 10^6 bytes."""
        return len(self.html.encode()) / 1e6

    def __repr__(self) -> str:
        return f"<glass box, {self.megabytes:.1f} MB: a notebook shows it, .save('page.html') writes it>"

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
    max_mb: largest size of the page, in 10^6 bytes. pixel: (y, x) of the logits that is shown first; None: the one of
    largest loss.
    files: names of image and mask, for the title and in errors.

    The page computes in float64 from weights, image and mask, and compares itself with a float64 run of minunet. One
    that would be larger than max_mb becomes a recording instead: pictures of one channel of every result, and exact
    numbers for all formulas of one element of each, chosen from `pixel` back to the image.
    Raises UsageError for another mode, a pixel outside the logits, and where even a recording is larger than max_mb;
    DataError where image or mask do not fit the model; OSError where the page cannot be written.
    """
    from dataclasses import replace

    from minunet.errors import UsageError
    from minunet.glassbox import reference
    from minunet.glassbox.subject import subject

    if mode not in MODES:
        raise UsageError(f"mode must be train or eval, found {mode!r}")
    found = subject(model, image, mask, files)
    height, width = found.target.shape[1:]
    if pixel is not None and not (0 <= pixel[0] < height and 0 <= pixel[1] < width):
        raise UsageError(f"pixel {pixel[0]},{pixel[1]} lies outside the logits of {height} x {width} px")
    found = replace(found, masks=reference.draw_masks(reference.in_float64(model), found.x))
    name = os.path.basename(files[0]) if files else "an image"
    result = _computing(model, found, mode, max_mb, pixel, name) or _recorded(model, found, mode, max_mb, pixel, name)
    if path is not None:
        result.save(path)
    return result


def _computing(
    model: UNet, subject: Subject, mode: str, max_mb: float, pixel: tuple[int, int] | None, name: str
) -> GlassBox | None:
    """The page that computes everything itself; None where it would be too large."""
    from minunet.glassbox import box, page

    numbers = subject.x.size + sum(parameter.data.size for parameter in model.parameters())
    if numbers * model.dtype.itemsize * 4 / 3 / 1e6 > max_mb:  # weights and image alone, in base64
        return None
    result = GlassBox(page.page(model, box.contents(model, subject, mode) | {"pixel": pixel}, name))
    return result if result.megabytes <= max_mb else None


def _recorded(
    model: UNet, subject: Subject, mode: str, max_mb: float, pixel: tuple[int, int] | None, name: str
) -> GlassBox:
    """The page of a recording, with pictures as fine as fit. UsageError where none does."""
    from minunet.errors import UsageError
    from minunet.glassbox import page
    from minunet.glassbox.recording import Recording, left_out

    recording = Recording(model, subject, mode == "train", pixel)
    for step in STEPS:
        note = f"{subject.note}. {left_out(max_mb, step)}"
        contents = {"mode": mode, "loss": subject.loss, "note": note, "recording": recording.contents(step)}
        result = GlassBox(page.page(model, contents, name))
        if result.megabytes <= max_mb:
            return result
    raise UsageError(
        f"even a recording with the coarsest pictures has {result.megabytes:.1f} MB, more than {max_mb:g}: "
        "give a smaller model or image, or allow more with max_mb (--max-mb)"
    )


def __getattr__(name: str) -> Any:
    """`stepper_page` is imported when it is first used: `import minunet` imports this file."""
    if name != "stepper_page":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from minunet.glassbox.stepper import stepper_page

    return stepper_page
