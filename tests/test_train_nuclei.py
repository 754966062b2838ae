"""bench/train_nuclei.py, on generated cells: from a folder to model, numbers and card."""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import minunet as mn
from minunet.data import Coding, cells
from minunet.model_files import boxed
from minunet.scores.matching import average_precision

SCRIPT = Path(__file__).resolve().parents[1] / "bench" / "train_nuclei.py"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("train_nuclei", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["train_nuclei"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["train_nuclei"]


def write(folder, images, labels):
    for kind, arrays in (("images", images), ("labels", labels)):
        (folder / kind).mkdir(parents=True)
        for k, array in enumerate(arrays):
            np.save(folder / kind / f"{k}.npy", array)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Ten images to train on; of other sizes two grey ones and one in colour to score on."""
    place = tmp_path_factory.mktemp("nuclei")
    images, labels = cells(10, size=48)
    one, other = cells(2, size=64, seed=1), cells(1, size=40, seed=2)
    colour = np.stack([255 - other[0][0], other[0][0], other[0][0]], axis=-1)
    return write(place / "one", images, labels), write(place / "mixed", [*one[0], colour], [*one[1], *other[1]])


@pytest.fixture(scope="module")
def made(script, folders, tmp_path_factory):
    place = tmp_path_factory.mktemp("made")
    arguments = [folders[0], "--mixed", folders[1], "--run", place / "run", "--out", place / "out"]
    with mn.use_backend("numpy"):  # nothing to compile
        script.main([*map(str, arguments), "--steps", "3", "--features", "2,3", "--seed", "5"])
    return place


def test_model_numbers_and_card(made, monkeypatch):
    out = made / "out"
    assert {file.name for file in out.iterdir()} == {"nuclei.safetensors", "nuclei.json", "nuclei.md"}
    numbers = json.loads((out / "nuclei.json").read_text())
    content = (out / "nuclei.safetensors").read_bytes()
    assert (numbers["bytes"], numbers["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert numbers["stored"] == "int8" and numbers["training"]["steps"] == 3 and numbers["training"]["seed"] == 5
    assert numbers["training"]["images"] == 8 and len(numbers["validation"]) == 2
    assert [found["images"] for found in numbers["scores"].values()] == [2, 2, 1]
    card = (out / "nuclei.md").read_text()
    assert "$" not in card and "| nan" not in card and "--features 2,3 --seed 5 --steps 3" in card
    for found in numbers["scores"].values():
        assert f"{found['mean_iou']:.3f}" in card and f"{found['ap']['0.7']:.3f}" in card
    monkeypatch.setattr(boxed, "FOLDER", out)
    model = mn.load("nuclei")
    assert model.features == (2, 3) and (model.out_channels, model.coding) == (3, Coding("borders"))
    short = boxed.card("nuclei")
    assert "mean IoU of cells" in short and "Not for diagnosis" in short and "## Limits" not in short


def test_scores_are_those_of_the_file(made, folders):
    """Mean IoU and AP, computed here once more from predictions."""
    model = mn.load(made / "out" / "nuclei.safetensors")
    numbers = json.loads((made / "out" / "nuclei.json").read_text())["scores"]["fluorescence of other sizes"]
    ious, found, truths = [], [], []
    for k in range(2):
        labels = np.load(folders[1] / "labels" / f"{k}.npy")
        p = mn.predict(model, np.load(folders[1] / "images" / f"{k}.npy"))
        mask = 1 - p[0] > 0.5
        ious.append((mask & (labels > 0)).sum() / (mask | (labels > 0)).sum())
        found.append(mn.label_instances(p))
        truths.append(labels)
    assert numbers["mean_iou"] == pytest.approx(np.mean(ious))
    assert numbers["lowest_iou"] == pytest.approx(min(ious))
    expected = {f"{t:g}": ap for t, ap in average_precision(found, truths).items()}
    assert numbers["ap"] == pytest.approx(expected)


def test_a_run_that_is_there_is_taken(script, made, folders, tmp_path):
    arguments = [folders[0], "--mixed", folders[1], "--run", made / "run", "--out", tmp_path]
    script.main([*map(str, arguments)])
    assert (tmp_path / "nuclei.safetensors").read_bytes() == (made / "out" / "nuclei.safetensors").read_bytes()


def test_a_file_that_is_too_large_is_refused(script, made, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "MOST_BYTES", 1000)
    arguments = [folders[0], "--mixed", folders[1], "--run", made / "run", "--out", tmp_path]
    with pytest.raises(SystemExit, match=r"the file would have .* bytes, and 1,000 are the most"):
        script.main([*map(str, arguments)])
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_told(script, tmp_path, capsys):
    for options, message in (([], "required: data, --mixed, --run"), (
        ["x", "--mixed", "m", "--run", str(tmp_path)], "has no model: give --minutes or --steps"
    )):  # fmt: skip
        with pytest.raises(SystemExit):
            script.main(options)
        assert message in capsys.readouterr().err
