"""Named recipes: each trains, each option goes before them, and a run remembers by which it was made."""

import json

import numpy as np
import pytest

import minunet as mn
from minunet import cli
from minunet.data import cells, from_arrays
from minunet.training.recipe import Recipe
from minunet.training.recipes import RECIPES, named, named_recipe

SMALL = {"features": (2, 4), "dropout": 0.0}


@pytest.fixture(scope="module")
def data():
    dataset = from_arrays(*cells(6, size=48, seed=1), target="instances")
    return dataset.subset(range(4)), dataset.subset((4, 5))


@pytest.mark.parametrize("name", RECIPES)
def test_each_trains(data, name):
    shape = {**named(name).network, **SMALL}
    shape["norm"] = None if shape.get("norm") == "none" else "batch"
    history = mn.fit(mn.UNet(1, 2, **shape), *data, steps=3, recipe=name)
    assert all(np.isfinite(record["loss"]) for record in history.records[1:])


def test_options_go_before_the_recipe():
    assert named_recipe() == Recipe()
    assert named_recipe("cells").augment == "full" and named_recipe("cells", augment="flips").augment == "flips"
    assert named_recipe("paper").momentum == 0.99 and named_recipe("paper", momentum=0.5).momentum == 0.5


def test_the_network_of_the_paper_is_the_paper_s():
    shape = dict(named("paper").network)
    assert shape.pop("norm") == "none"
    parameters = sum(p.data.size for p in mn.UNet(1, 2, **shape).parameters())
    assert parameters == 31_030_658


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    for kind in ("images", "masks"):
        (path / kind).mkdir()
    for k, (image, mask) in enumerate(zip(*cells(6, size=32, seed=2), strict=True)):
        np.save(path / "images" / f"{k}.npy", image)
        np.save(path / "masks" / f"{k}.npy", mask)
    return path


def train(folder, out, *options):
    return cli.main(["train", *map(str, (folder / "images", folder / "masks")), "--out", str(out), *options])


@pytest.mark.parametrize(
    ("numbered", "asked", "classes", "weight_map"),
    [
        (True, (), 3, False),
        (True, ("--weight-map", "on"), 2, True),
        (True, ("--target", "instances"), 2, True),
        (False, (), 2, True),
        (False, ("--weight-map", "off"), 2, False),
    ],
)
def test_what_the_recipe_for_cells_learns(folder, tmp_path, numbered, asked, classes, weight_map):
    if not numbered:
        for file in (folder / "masks").iterdir():
            np.save(file, (np.load(file) > 0).astype(np.uint8))
    assert train(folder, tmp_path / "run", "--recipe", "cells", "--steps", "1", "--features", "2,4", *asked) == 0
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["architecture"]["out_channels"] == classes
    assert settings["weight_map"] is weight_map


def test_a_run_remembers_its_recipe(folder, tmp_path, capsys):
    asked = ["--recipe", "cells", "--steps", "2", "--features", "2,4", "--w0", "3", "--weight-map", "on"]
    assert train(folder, tmp_path / "run", *asked) == 0
    said = capsys.readouterr().out
    assert "recipe    cells, loss ce+dice, augmentation full, weight map w0 3, sigma 5 px, foreground sought" in said
    assert "waited for batches" in said
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["options"]["recipe_name"] == "cells" and settings["weight_map"] is True
    recipe = settings["options"]["recipe"]
    assert (recipe["augment"], recipe["w0"], recipe["foreground"]) == ("full", 3.0, 0.5)
    assert settings["architecture"]["features"] == [2, 4]
    assert train(folder, tmp_path / "run", "--resume", "--recipe", "cells", "--workers", "2") == 0
    assert train(folder, tmp_path / "run", "--resume", "--recipe", "membranes") == 2
    assert "begun with --recipe cells, not with --recipe membranes" in capsys.readouterr().err
    assert train(folder, tmp_path / "run", "--resume", "--weight-map", "off") == 2
    assert "begun with --weight-map on, not with --weight-map off" in capsys.readouterr().err


def test_the_paper_s_network_can_be_made_smaller(folder, tmp_path):
    asked = ["--recipe", "paper", "--steps", "1", "--features", "2,4", "--dropout", "0"]
    assert train(folder, tmp_path / "run", *asked) == 0
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["architecture"]["padding"] == "valid" and settings["architecture"]["norm"] is None
    assert settings["options"]["recipe"]["batch_size"] == 1


def test_the_network_of_a_model_stays(folder, tmp_path):
    assert train(folder, tmp_path / "one", "--steps", "1", "--features", "2,4") == 0
    first = str(tmp_path / "one" / "model.safetensors")
    assert train(folder, tmp_path / "two", "--steps", "1", "--recipe", "paper", "--init", first) == 0
    settings = json.loads((tmp_path / "two" / "settings.json").read_text())
    assert settings["architecture"]["features"] == [2, 4] and settings["architecture"]["padding"] == "same"


def test_the_weight_map_is_for_two_classes(folder, tmp_path, capsys):
    classes = tmp_path / "classes"
    classes.mkdir()
    for k in range(6):
        np.save(classes / f"{k}.npy", np.repeat(np.arange(32, dtype=np.uint8) // 11, 32).reshape(32, 32))
    wanted = ["train", str(folder / "images"), str(classes), "--out", str(tmp_path / "run"), "--target", "indices"]
    assert cli.main([*wanted, "--steps", "1", "--weight-map", "on"]) == 2
    assert "the weight map is for cells on a background, and the masks have 3 classes" in capsys.readouterr().err
