"""What a training asks of the memory: told before it begins, and made smaller where nobody chose otherwise."""

import numpy as np
import pytest

import minunet as mn
from minunet.data import from_arrays
from minunet.errors import UsageError
from minunet.training import estimate
from minunet.training.memory_plan import within_memory
from minunet.training.train import Recipe, Trainer


def trainer(side=256, **recipe):
    images = [np.random.default_rng(i).integers(0, 255, (side, side), dtype=np.uint8) for i in range(2)]
    data = from_arrays(images, [(image > 128).astype(np.uint8) for image in images])
    model = mn.UNet(1, 2, features=(16, 32), padding="same", norm="batch")
    return Trainer(model, data.subset([0]), data.subset([1]), Recipe(**recipe))


def plan(monkeypatch, room, asked=(), **recipe):
    """(recipe, what was said) with so many bytes free."""
    monkeypatch.setattr(estimate, "available", lambda: room)
    said = []
    found = within_memory(trainer(**recipe), frozenset(asked), said.append)
    return found, said


def needed(batch, crop):
    return estimate.memory(trainer().model, batch, crop)


def test_enough_memory_changes_nothing(monkeypatch):
    recipe, said = plan(monkeypatch, 10**12)
    assert recipe == Recipe()
    assert len(said) == 1 and said[0].startswith("memory    about ") and said[0].endswith("1000.0 GB that are free")


def test_where_it_is_unknown_nothing_is_changed(monkeypatch):
    recipe, said = plan(monkeypatch, None)
    assert recipe == Recipe() and "for a batch of 8 crops of 128 x 128 px" in said[0]


def test_the_batch_gives_way_first_and_then_the_crop(monkeypatch):
    room = int(needed(2, (128, 128)) / estimate.SHARE) + 1
    recipe, said = plan(monkeypatch, room)
    assert (recipe.batch_size, recipe.crop) == (2, (128, 128))
    assert "too little, so it will be a batch of 2 crops of 128 x 128 px" in said[1]
    recipe, _ = plan(monkeypatch, int(needed(1, (64, 64)) / estimate.SHARE) + 1)
    assert (recipe.batch_size, recipe.crop) == (1, (64, 64))


def test_what_was_asked_for_stays(monkeypatch):
    room = int(needed(4, (64, 64)) / estimate.SHARE) + 1
    recipe, _ = plan(monkeypatch, room, asked=["batch_size"], batch_size=4)
    assert (recipe.batch_size, recipe.crop) == (4, (64, 64))
    room = int(needed(4, (128, 128)) / estimate.SHARE) + 1
    recipe, _ = plan(monkeypatch, room, asked=["crop"], crop=128)
    assert (recipe.batch_size, recipe.crop) == (4, (128, 128))


def test_what_was_asked_for_and_does_not_fit_is_refused_with_what_does(monkeypatch):
    room = int(needed(4, (128, 128)) / estimate.SHARE) + 1
    with pytest.raises(UsageError, match=r"takes about .* of memory, and .* are free: --batch 4 --crop 128x128 fits"):
        plan(monkeypatch, room, asked=["batch_size", "crop"], batch_size=8, crop=128)
    with pytest.raises(UsageError, match="nothing fits for this network: try fewer --features"):
        plan(monkeypatch, 1000)


def test_where_it_is_tight_what_was_asked_for_is_done_with_a_warning(monkeypatch):
    room = needed(8, (128, 128)) + 1
    with pytest.warns(UserWarning, match="memory will be tight; --batch 4 --crop 128x128 fits"):
        recipe, _ = plan(monkeypatch, room, asked=["batch_size", "crop"], batch_size=8, crop=128)
    assert recipe == Recipe(batch_size=8, crop=128)


def test_large_validation_images_are_warned_of(monkeypatch):
    room = estimate.inference_memory(trainer().model, (512, 512)) - 1
    monkeypatch.setattr(estimate, "available", lambda: room)
    with pytest.warns(UserWarning, match="a validation image of 512 x 512 px needs about"):
        within_memory(trainer(side=512, batch_size=1, crop=16), frozenset({"batch_size", "crop"}), lambda text: None)
