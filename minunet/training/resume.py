"""`minunet train --resume`: the options of the run that goes on, and whether those given agree with them."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minunet import kernels
from minunet.errors import UsageError
from minunet.training.checkpoint import Checkpoint, with_later_options

if TYPE_CHECKING:
    from minunet.training.runs import TrainOptions
    from minunet.training.train import Trainer

# What may differ from the first command: where things lie, and how long this command may take.
FREE = {"images", "masks", "out", "minutes", "resume", "overwrite", "workers"}
# Options that checkpoints of earlier versions lack, as they were then.
LATER: dict[str, Any] = {"device": "cpu", "recipe_name": None}
FLAGS = {"batch_size": "--batch", "recipe_name": "--recipe"}  # others are called like their option


def to_store(options: TrainOptions, trainer: Trainer) -> dict[str, Any]:
    """The options as they are in force, for a checkpoint: what was left open is filled in."""
    shape = trainer.model.architecture
    chosen = {name: shape[name] for name in ("features", "padding", "dropout")} | {"norm": shape["norm"] or "none"}
    decided: dict[str, Any] = {"loss": trainer.loss_name, "weight_map": trainer.weight_map, "score": trainer.score}
    recipe = replace(trainer.recipe, crop=trainer.crop, **decided)
    numbers = asdict(recipe) | {"seed": str(recipe.seed)}  # which may be longer than what JSON files may hold
    return {"options": _plain(asdict(options) | chosen | {"recipe": numbers, "asked": ()})}


def resumed(options: TrainOptions, begun: Checkpoint) -> TrainOptions:
    """The options of the run in the checkpoint, with this command's folders and minutes.

    Uses the run's backend and policy, and so its device, from here on. Raises UsageError where an option that was given
    is another than the run's.
    """
    stored = begun.settings.get("options")
    if not isinstance(stored, dict):
        raise UsageError(f"{begun.path} was not written by minunet train: go on with it where it was begun")
    stored = LATER | stored | {"recipe": with_later_options(stored["recipe"])}
    given = {name: value for name, value in _flat(_plain(asdict(options))).items() if name in options.asked - FREE}
    was = _flat(stored) | {"steps": begun.steps, "backend": begun.terms["backend"]}
    other = [name for name, value in given.items() if value != was[name]]
    if other:
        raise UsageError(
            f"the run in {options.out} was begun with {_command(was, other)}, not with {_command(given, other)}: "
            "a resumed run goes on as it began, so leave that out, or begin another run in another --out"
        )
    _use_kernels(begun)
    known = {field.name for field in fields(options)} - FREE - {"recipe", "asked", "steps", "init", "features"}
    return replace(
        options,
        **{name: stored[name] for name in known},
        features=tuple(stored["features"]),
        init=None if stored["init"] is None else Path(stored["init"]),
        steps=begun.steps,
        recipe=begun.recipe,
    )


def _use_kernels(begun: Checkpoint) -> None:
    try:
        kernels.use_backend(begun.terms["backend"])
        kernels.policy(begun.terms["policy"])
    except (ValueError, ImportError, kernels.DeviceNotFound) as error:
        raise UsageError(f"the run was begun on other kernels than there are here: {error}") from None


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    recipe = options["recipe"]
    return options | recipe | {"seed": str(recipe["seed"])}


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from JSON."""
    return json.loads(json.dumps(options, default=str))


def _command(values: dict[str, Any], names: list[str]) -> str:
    return " ".join(_flag(name, values[name]) for name in names)


def _flag(name: str, value: Any) -> str:
    flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
    if name == "crop":
        value = "x".join(map(str, value))
    if isinstance(value, list):
        value = ",".join(map(str, value))
    if isinstance(value, bool):
        value = "on" if value else "off"
    return f"no {flag}" if value is None else f"{flag} {value}"

