"""Named recipes: sets of options that suit a kind of images, for `--recipe NAME` and `mn.fit(..., recipe=NAME)`.

Every one of them can be overridden. `Recipe` (recipe.py) explains the options of training, `UNet` those of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minunet.errors import UsageError
from minunet.training.recipe import Recipe


@dataclass(frozen=True)
class Named:
    """network: arguments of `UNet`; training: fields of `Recipe`. What is not here is as without a recipe.

    unnumbered: fields of `Recipe` that are added where masks do not number the cells
    borders: whether of masks that do, borders are learned as a class of their own (`Dataset.with_borders`)
    """

    summary: str
    network: Mapping[str, Any]
    training: Mapping[str, Any]
    unnumbered: Mapping[str, Any] = field(default_factory=dict)
    borders: bool = False


RECIPES = {
    # Ronneberger, Fischer and Brox (2015). What they do not tell is ours: the learning rate, that it grows slowly at
    # the start, and the limit of the gradient's norm; without these three, momentum 0.99 may diverge.
    "paper": Named(
        "the article's own: its network, one large tile a step, momentum 0.99, plain weighted cross entropy",
        {"features": (64, 128, 256, 512), "padding": "valid", "norm": "none", "dropout": 0.5},
        {
            "batch_size": 1,
            "largest_crop": 388,  # what a tile of 572 x 572 gives back
            "lr": 1e-3,
            "momentum": 0.99,
            "nesterov": False,
            "loss": "ce",
            "schedule": "constant",
            "augment": "full",
        },
    ),
    "cells": Named(
        "cells or nuclei that touch: their borders are a class of their own (where masks do not number the cells, gaps "
        "between them count more), all augmentation, crops where cells are",
        {},
        {"augment": "full", "foreground": 0.5},
        unnumbered={"weight_map": True},
        borders=True,
    ),
    "membranes": Named(
        "cells that fill the image, with membranes between them, as in electron micrographs",
        {},
        # Nearly every pixel of a membrane is a narrow gap: with w0 = 10 the loss would see little else.
        {"augment": "full", "weight_map": True, "w0": 2.0, "largest_crop": 256, "batch_size": 4},
    ),
}


def named(name: str) -> Named:
    """UsageError where there is no recipe of this name."""
    if name not in RECIPES:
        raise UsageError(f"recipe must be one of {', '.join(RECIPES)}, not {name!r}")
    return RECIPES[name]


def named_recipe(name: str | None = None, numbered: bool = True, **options: Any) -> Recipe:
    """The `Recipe` of this name, with these options instead of its own; without a name the defaults.

    numbered: whether the masks number the cells.
    """
    if name is None:
        return Recipe(**options)
    chosen = named(name)
    return Recipe(**{**chosen.training, **({} if numbered else chosen.unnumbered), **options})
