"""`minunet train --overfit`: one image is learned by heart, or the command says what may be wrong."""

import numpy as np
import pytest

import minunet as mn
from minunet import cli
from minunet.data import cells, from_arrays
from minunet.display import pictures
from minunet.training.overfit import choose, window


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pictures, "available", lambda: False)
    with mn.use_backend("numpy"):  # nothing to compile
        yield


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    images, labels = cells(3, size=48, seed=1)
    labels[0][...] = 0
    for i in range(3):
        np.save(tmp_path / "images" / f"{i}.npy", images[i])
        np.save(tmp_path / "masks" / f"{i}.npy", labels[i])
    return tmp_path


def overfit(folder, *options):
    command = ["train", folder / "images", folder / "masks", "--out", folder / "run", "--features", "4,8",
               "--threads", "1", "--overfit", *options]  # fmt: skip
    return cli.main([str(word) for word in command])


def test_an_image_is_learned(folder, capsys):
    assert overfit(folder, "--steps", "300") == 0
    said = capsys.readouterr()
    assert "image     48 x 48 px of 1, whose classes cover" in said.out  # 0 has nothing to learn
    assert "learned: mean IoU of cells 0.9" in said.out or "learned: mean IoU of cells 1.0" in said.out
    assert "values, classes and learning rate are right" in said.out and "preview.png" in said.out
    assert said.err == ""
    assert mn.load(folder / "run" / "model.safetensors").coding.kind == "instances"
    steps = len((folder / "run" / "log.jsonl").read_text().splitlines()) - 1
    assert steps < 120  # records of a whole run: it ended when the image was known


def test_an_image_by_name(folder, capsys):
    overfit(folder, "2", "--steps", "1")
    assert "px of 2, whose classes" in capsys.readouterr().out
    assert overfit(folder, "nobody", "--overwrite") == 2
    assert "--overfit nobody: there is no such image; there are 0, 1, 2" in capsys.readouterr().err


def test_what_is_not_learned_is_failed_work(folder, capsys):
    assert overfit(folder, "--steps", "12", "--lr", "1e-9") == 1
    error = capsys.readouterr().err
    assert error.startswith("minunet: not learned: mean IoU of cells 0.") and error.count("\n") == 1
    assert "It is no better than" in error and "lower --lr" in error


def test_masks_of_one_class_are_refused(folder, capsys):
    for i in range(3):
        np.save(folder / "masks" / f"{i}.npy", np.zeros((48, 48), np.uint8))
    assert overfit(folder) == 2
    capsys.readouterr()
    assert not (folder / "run").exists()


def test_it_begins_anew_each_time(folder, capsys):
    assert overfit(folder, "--resume") == 2
    assert "leave out --resume" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["grey", "colour last", "colour first"])
def test_the_window_holds_most_of_the_rarest_class(layout):
    mask = np.zeros((64, 96), np.uint8)
    mask[40:60, 70:90] = 1
    mask[0:3, 0:3] = 1
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    image = {"grey": image[..., 0], "colour last": image, "colour first": np.moveaxis(image, 2, 0)}[layout]
    one = window(from_arrays([image], [mask]), (32, 32))
    assert one.targets[0].shape == one.images[0].shape[1:] == (32, 32)
    assert one.targets[0].sum() == 400 and one.truth[0] is one.targets[0]
    rows, columns = slice(32, 64), slice(64, 96)  # the places are a quarter of the window apart
    np.testing.assert_array_equal(one.targets[0], mask[rows, columns])
    np.testing.assert_array_equal(
        one.raw[0], image[:, rows, columns] if layout == "colour first" else image[rows, columns]
    )


def test_an_image_that_is_smaller_than_the_window_is_taken_whole():
    mask = np.eye(20, 30, dtype=np.uint8)
    one = window(choose(from_arrays([mask], [mask]), ""), (32, 32))
    assert one.targets[0].shape == (20, 30)
