"""Before a training: what memory it takes, and the batch and crop that fit where there is not enough."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Set
from dataclasses import replace

from minunet.errors import UsageError
from minunet.prediction.predict import padded_size
from minunet.training import estimate
from minunet.training.estimate import in_words
from minunet.training.recipe import Recipe
from minunet.training.train import Trainer
from minunet.unet import UNet

_Size = tuple[int, int]


def within_memory(trainer: Trainer, asked: Set[str], say: Callable[[str], None]) -> Recipe:
    """The trainer's recipe, with a smaller batch and crop where the machine has not the memory.

    asked: the fields of the recipe that the user chose; they stay as they are: UsageError, with what would fit,
    where they need more than there is, and a warning where it will be tight.
    """
    model, recipe, crop = trainer.model, trainer.recipe, trainer.crop
    needed, room = estimate.memory(model, recipe.batch_size, crop), estimate.room(model)
    if room is None:
        say(f"memory    about {in_words(needed)} for {_in_words(recipe.batch_size, crop)}")
        return recipe
    say(f"memory    about {in_words(needed)} of the {in_words(room)} that are free")
    _warn_of_large_images(trainer, room)
    limit = int(estimate.SHARE * room)
    if needed <= limit:
        return recipe
    batch, smaller = _fitting(model, recipe.batch_size, crop, limit, asked)
    less = estimate.memory(model, batch, smaller)
    if less <= limit:
        say(f"          that is too little, so it will be {_in_words(batch, smaller)}: about {in_words(less)}")
        return replace(recipe, batch_size=batch, crop=smaller)
    advice = _advice(model, recipe.batch_size, crop, limit)
    if needed > room:
        raise UsageError(f"{_in_words(recipe.batch_size, crop)} takes about {in_words(needed)} of memory, and "
                         f"{in_words(room)} are free: {advice}")  # fmt: skip
    warnings.warn(f"memory will be tight; {advice}", stacklevel=2)
    return recipe


def _fitting(model: UNet, batch: int, crop: _Size, limit: int, asked: Set[str]) -> tuple[int, _Size]:
    """The largest batch and crop within `limit`, of which those asked for stay; perhaps still too large."""
    while estimate.memory(model, batch, crop) > limit:
        if batch > 1 and "batch_size" not in asked:
            batch //= 2
            continue
        smaller = None if "crop" in asked else estimate.smaller_crop(model, crop)
        if smaller is None:
            break
        crop = smaller
    return batch, crop


def _advice(model: UNet, batch: int, crop: _Size, limit: int) -> str:
    found = estimate.fitting(model, batch, crop, limit)
    if found is None:
        return "nothing fits for this network: try fewer --features"
    (height, width), count = found[1], found[0]
    return f"--batch {count} --crop {height}x{width} fits"


def _warn_of_large_images(trainer: Trainer, room: int) -> None:
    """Validation takes whole images."""
    if trainer.validation is None:
        return
    sizes = [image.shape[1:] for image in trainer.validation.images]
    height, width = max(sizes, key=lambda size: size[0] * size[1])
    needed = estimate.inference_memory(trainer.model, padded_size(trainer.model, (height, width)))
    if needed > room:
        warnings.warn(
            f"a validation image of {height} x {width} px needs about {in_words(needed)}, and {in_words(room)} are "
            "free: cut the images into smaller ones, or train with --validation 0",
            stacklevel=3,
        )


def _in_words(batch: int, crop: _Size) -> str:
    return f"a batch of {batch} crops of {crop[0]} x {crop[1]} px"
