"""A run on disk, between two steps: with it an interrupted training goes on as if it had never stopped.

One file holds all of it, so that no kill between two renames can tear it: weights, estimates of batch norm, momentum,
the best weights so far, the state of the random numbers, the step (from which schedule and batches follow, see
recipe.py and data/augment.py), what was recorded, and what must be the same again: network, recipe, kernels, data.
Of the data it holds names and digests. The tensors are those of a model file, the rest is JSON; nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from minunet import kernels
from minunet.data import DataError, Dataset
from minunet.data.coding import listed
from minunet.errors import UsageError
from minunet.model_files.tensor_file import FileFormatError, parse_json
from minunet.model_files.weights import build, describe, read_tensors, write_tensors
from minunet.nn import Dropout
from minunet.training.history import History, State
from minunet.training.recipe import Recipe
from minunet.unet import UNet

if TYPE_CHECKING:
    from minunet.training.train import Trainer

FORMAT_VERSION = 1
METADATA_KEY = "minunet_checkpoint"
EVERY = 30.0  # seconds between two checkpoints, beside those at the looks at the validation images
COST = 50.0  # and at least so many times as long as writing one takes: it costs 2 % at most
_PATH = str | os.PathLike[str]


class Keeper:
    """Writes the checkpoints of one run to one file."""

    def __init__(self, path: _PATH, trainer: Trainer, settings: dict[str, Any] | None = None) -> None:
        """settings: whatever the caller wants to find again in `Checkpoint.settings`; must be JSON."""
        self.path, self.trainer, self.settings = path, trainer, settings or {}
        self.data = fingerprint(trainer)
        self.written_at: int | None = None  # the step
        self.next_time = time.monotonic() + EVERY

    def is_due(self, state: State, always: bool) -> bool:
        """Whether it is time for the next, or `always`, unless this step is on disk already."""
        return self.written_at != state.done and (always or time.monotonic() >= self.next_time)

    def write(self, state: State) -> None:
        """Replace the file; where that fails, the one before is still there."""
        begin = time.monotonic()
        trainer, model = self.trainer, self.trainer.model
        description = {
            "format_version": FORMAT_VERSION,
            "model": describe(model),
            "terms": terms(trainer),
            "steps": state.history.steps,
            "done": state.done,
            "seconds": state.seconds,
            "random": _random_state(model),
            "records": [_without_nan(record) for record in state.history.records],
            "settings": self.settings,
        }
        names = [name for name, _ in model.named_parameters()]
        velocities = dict(zip(names, trainer.optimizer.velocities, strict=True))
        tensors = {f"model.{name}": array for name, array in model.state_dict().items()}
        tensors |= {f"best.{name}": array for name, array in state.best.items()}
        tensors |= {f"velocity.{name}": array for name, array in velocities.items() if array is not None}
        tensors |= {"losses": np.array(state.losses, np.float64), **self.data}
        write_tensors(self.path, tensors, {METADATA_KEY: json.dumps(description, allow_nan=False)})
        self.written_at = state.done
        now = time.monotonic()
        self.next_time = now + max(EVERY, COST * (now - begin))


@dataclass(frozen=True)
class Checkpoint:
    """What `read` found in a file."""

    path: _PATH
    description: dict[str, Any]
    tensors: dict[str, np.ndarray]

    @property
    def done(self) -> int:
        return self.description["done"]

    @property
    def steps(self) -> int:
        return self.description["steps"]

    @property
    def history(self) -> History:
        """A new one at every call, with the records up to the checkpoint."""
        return History(self.steps, [_with_nan(record) for record in self.description["records"]])

    @property
    def settings(self) -> dict[str, Any]:
        return self.description["settings"]

    @property
    def terms(self) -> dict[str, Any]:
        return with_later_options(self.description["terms"])

    @property
    def recipe(self) -> Recipe:
        """The recipe, with crop and loss as they were chosen."""
        stored = {name: value for name, value in self.terms.items() if name not in ("backend", "policy")}
        return Recipe(**stored | {"crop": tuple(stored["crop"]), "seed": int(stored["seed"])})

    def model(self) -> UNet:
        """The network as it was, with preprocessing and coding. FileFormatError where it is none."""
        try:
            return build(self.description["model"], self._part("model."))
        except ValueError as error:
            raise FileFormatError(f"{os.fspath(self.path)}: {error}") from error

    def restore(self, trainer: Trainer) -> State:
        """Put the trainer where the run was, and return where that is.

        Raises UsageError or DataError where the trainer's network, recipe, kernels or data are not those of the run.
        """
        self._check_terms(trainer)
        self._check_data(fingerprint(trainer))
        model = trainer.model
        model.load_state_dict(self._part("model."))
        velocities = self._part("velocity.")
        trainer.optimizer.velocities = [velocities.get(name) for name, _ in model.named_parameters()]
        for module in _dropouts(model)[:1]:  # the generator is the same in all of them
            module.rng.bit_generator.state = _numbers(self.description["random"])
        losses = self.tensors["losses"].tolist()
        return State(self.history, self.done, losses, self._part("best."), self.description["seconds"])

    def _part(self, prefix: str) -> dict[str, np.ndarray]:
        return {name[len(prefix) :]: array for name, array in self.tensors.items() if name.startswith(prefix)}

    def _check_terms(self, trainer: Trainer) -> None:
        if self.description["model"]["architecture"] != trainer.model.architecture:
            raise UsageError(
                f"{os.fspath(self.path)} is of another network than the model given: {self.model()!r}, "
                f"not {trainer.model!r}"
            )
        ours = terms(trainer)
        other = [name for name in ours if ours[name] != self.terms.get(name)]
        if other:
            was, now = (", ".join(f"{name} {found.get(name)}" for name in other) for found in (self.terms, ours))
            raise UsageError(
                f"{os.fspath(self.path)} was begun with {was}, not with {now}: a resumed run goes on as it began, so "
                "leave that out, or begin a new run"
            )

    def _check_data(self, ours: dict[str, np.ndarray]) -> None:
        for kind in ("training", "validation"):
            was, now = (_digests(found, kind) for found in (self.tensors, ours))
            if list(was.items()) == list(now.items()):
                continue
            faults = [
                (f"{listed(names)} {words}")
                for words, names in {
                    "missing": [name for name in was if name not in now],
                    "new": [name for name in now if name not in was],
                    "changed": [name for name in was if now.get(name, was[name]) != was[name]],
                }.items()
                if names
            ]
            raise DataError(
                f"the {kind} images are not those that {os.fspath(self.path)} was begun with: "
                f"{'; '.join(faults) or 'another order'}. Bring the data back as they were, or begin a new run"
            )


def read(path: _PATH) -> Checkpoint:
    """The checkpoint in a file.

    Raises FileNotFoundError for a missing file and FileFormatError for one that is not wholly a checkpoint.
    """
    tensors, metadata = read_tensors(path)
    try:
        if METADATA_KEY not in metadata:
            raise FileFormatError("found tensors without the description of a checkpoint, expected a file that "
                                  "training wrote for --resume")  # fmt: skip
        description = parse_json(metadata[METADATA_KEY].encode(), "the description of the checkpoint")
        _check_description(description, tensors)
    except FileFormatError as error:
        raise FileFormatError(f"{os.fspath(path)}: {error}") from error
    return Checkpoint(path, description, tensors)


_TYPES: dict[str, Any] = {
    "format_version": int, "model": dict, "terms": dict, "steps": int, "done": int, "seconds": (int, float),
    "random": (dict, type(None)), "records": list, "settings": dict,
}  # fmt: skip
_TENSORS = {"losses"} | {f"data.{kind}.{part}" for kind in ("training", "validation") for part in ("names", "digests")}


def _check_description(description: Any, tensors: dict[str, np.ndarray]) -> None:
    if not isinstance(description, dict) or description.get("format_version") != FORMAT_VERSION:
        raise FileFormatError(f"expected a checkpoint of format version {FORMAT_VERSION}; this file is of another")
    wrong = [name for name, kind in _TYPES.items() if not isinstance(description.get(name), kind)]
    wrong += sorted(_TENSORS - tensors.keys())
    if wrong or not all(isinstance(record, dict) and "step" in record for record in description["records"]):
        raise FileFormatError(f"the checkpoint lacks {', '.join(wrong) or 'steps in its records'}")


def with_later_options(found: dict[str, Any]) -> dict[str, Any]:
    """The recipe in a checkpoint, perhaps of an earlier version: what that lacks is filled in as it was then."""
    if "score" not in found:
        found = found | {"score": "iou"}  # there was no other
    if not isinstance(found.get("augment"), bool):
        return found
    later = ("largest_crop", "elastic", "foreground", "w0", "sigma", "class_weight")
    filled = {name: getattr(Recipe, name) for name in later} | {"weight_map": False}
    return filled | found | {"augment": "flips" if found["augment"] else "none"}


def terms(trainer: Trainer) -> dict[str, Any]:
    """What decides the bits of a run beside network and data; the same after a way through JSON."""
    chosen = {"crop": list(trainer.crop), "loss": trainer.loss_name, "weight_map": trainer.weight_map}
    chosen |= {"score": trainer.score}
    recipe = asdict(trainer.recipe) | chosen
    recipe["seed"] = str(recipe["seed"])  # of any length
    backend = "cuda" if trainer.model.device == "cuda" else kernels.current_backend()
    return recipe | {"backend": backend, "policy": kernels.current_policy()}


# ----------------------------------------------------------------------------------------------- the data


def fingerprint(trainer: Trainer) -> dict[str, np.ndarray]:
    """Names and digests of the images, as tensors: there may be more of them than a header has room for."""
    found: dict[str, np.ndarray] = {}
    by_ids = trainer.weight_map or trainer.recipe.augment == "full" or trainer.score == "ap"
    for kind, dataset in (("training", trainer.dataset), ("validation", trainer.validation)):
        names = [] if dataset is None else dataset.names
        text = "\0".join(names).encode("utf-8", "surrogateescape")
        found[f"data.{kind}.names"] = np.frombuffer(text, np.uint8)
        digests = [] if dataset is None else [_digest(dataset, i, by_ids) for i in range(len(names))]
        found[f"data.{kind}.digests"] = np.array(digests, np.uint64)
    return found


def _digest(dataset: Dataset, i: int, by_ids: bool) -> int:
    """64 bits of what training is given of an image: its prepared planes, its target, its mask; perhaps instances."""
    digest = hashlib.blake2b(digest_size=8)
    instances = [dataset.ids[i]] if by_ids and dataset.ids is not None else []
    for array in (dataset.images[i], dataset.targets[i], dataset.truth[i], *instances):
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return int.from_bytes(digest.digest(), "little")


def _digests(tensors: dict[str, np.ndarray], kind: str) -> dict[str, int]:
    """{name: digest}; images of one name stand in for each other by their place."""
    names = tensors[f"data.{kind}.names"].tobytes().decode("utf-8", "surrogateescape").split("\0")
    digests = tensors[f"data.{kind}.digests"].tolist()
    found: dict[str, int] = {}
    for place, (name, digest) in enumerate(zip(names, digests, strict=False)):
        found[name if name not in found else f"{name} ({place})"] = digest
    return found


# ------------------------------------------------------------------------------------- into JSON and back


def _dropouts(model: UNet) -> list[Dropout]:
    return [module for module in model.modules() if isinstance(module, Dropout)]


def _random_state(model: UNet) -> dict[str, Any] | None:
    """State of the generator that dropout draws from; its numbers of 128 bits as texts."""
    dropouts = _dropouts(model)
    return _texts(dropouts[0].rng.bit_generator.state) if dropouts else None


def _texts(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _texts(value) for name, value in state.items()}
    return f"0x{state:x}" if isinstance(state, int) else state


def _numbers(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _numbers(value) for name, value in state.items()}
    return int(state, 16) if isinstance(state, str) and state.startswith("0x") else state


def _without_nan(record: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: null stands for it, and for infinity."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()
    }


def _with_nan(record: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in record.items()}
