"""The class for borders from end to end: wherever classes are made of probabilities, and the command line's whole way.

`undecided` is a network of which argmax would say background, while cell and border together are likelier than it.
"""

import json

import numpy as np
import pytest

import minunet as mn
from minunet import cli
from minunet.data import Coding, Preprocessing, cells, from_arrays, read_image, write_image
from minunet.display import pictures
from minunet.errors import UsageError
from minunet.scores.evaluation import evaluate
from minunet.training.recipe import Recipe
from minunet.training.runs import preview_rows
from minunet.training.train import Trainer, pixel_weights, with_weight_map

SHARES = (0.4, 0.3, 0.3)


@pytest.fixture(autouse=True)
def quick():
    with mn.use_backend("numpy"):  # nothing to compile
        yield


@pytest.fixture
def undecided():
    model = mn.UNet(1, 3, (2,), padding="same", norm="batch")
    last = model.state_dict()
    last["final_conv.weight"][...] = 0
    last["final_conv.bias"][...] = np.log(SHARES)
    model.load_state_dict(last)
    model.coding, model.preprocessing = Coding("borders"), Preprocessing(1, "none")
    return model.eval()


@pytest.fixture(scope="module")
def dataset():
    return from_arrays(*cells(4, 32), target="borders")


def full():
    """A data set whose cells, two that touch, cover both images."""
    mask = np.repeat(np.array([[1] * 8 + [2] * 8 + [0]], np.uint8), 16, axis=0)
    image = np.arange(16 * 17).astype(np.uint8).reshape(16, 17)
    found = from_arrays([image, image.T], [mask, mask.T], target="borders", preprocessing=Preprocessing(1, "none"))
    for truth in found.truth:
        truth[...] = 1
    return found


def test_all_classes_are_made_by_one_rule(undecided):
    data = full()
    trainer = Trainer(undecided, data, data, Recipe(crop=16, batch_size=1))
    look = trainer.validate()
    assert look["mean_iou"] == 1 and look["predicted"] == [0, 1]
    assert trainer.score_name == "mean AP of cells" and trainer.baselines["all background"] == 0
    found = evaluate(undecided, data)
    assert found.mean_iou_cells == 1 and found.confusion.shape == (2, 2)
    assert found.class_names == ["background", "foreground"] == ["background", *pictures.class_names(data.coding)]
    rows = preview_rows(undecided, data)
    assert all(row.predicted.all() and row.note == "IoU 1.00" for row in rows)


def test_predictions_of_files(undecided, tmp_path):
    np.save(tmp_path / "a.npy", np.arange(48, dtype=np.uint8).reshape(6, 8))
    mn.save(undecided, tmp_path / "m.npz")
    mn.predict_large(mn.load(tmp_path / "m.npz"), tmp_path / "a.npy", tmp_path / "large.npy", tmp_path / "p.npy")
    assert (np.load(tmp_path / "large.npy") == 255).all() and np.load(tmp_path / "p.npy").shape == (3, 6, 8)
    command = ["predict", tmp_path / "m.npz", tmp_path / "a.npy", "--out", tmp_path / "out", "--instances"]
    assert cli.main([*map(str, command), "--backend", "numpy"]) == 0
    mask, numbered = (next((tmp_path / "out").glob(f"a{end}.*")) for end in ("", "_instances"))
    assert (read_image(mask) == 255).all() and (read_image(numbered) == 1).all()


def test_a_notebook_shows_cells_with_their_borders(undecided):
    data = full()
    p = mn.predict(undecided, data.raw[0])
    right = mn.show(data.raw[0], data.truth[0], p, coding=undecided.coding).html
    assert right == mn.show(data.raw[0], data.truth[0], np.stack([p[0] * 0, p[0] * 0 + 1])).html
    assert right != mn.show(data.raw[0], data.truth[0], p).html


def test_masks_of_two_classes_are_scored_too_but_none_of_three(undecided):
    images, labels = cells(2, 32)
    for target in ("instances", "foreground", "borders"):
        assert evaluate(undecided, from_arrays(images, labels, target=target)).confusion.shape == (2, 2)
    with pytest.raises(UsageError, match="tells 2 classes apart, the masks have 3"):
        evaluate(undecided, from_arrays(images, [np.minimum(mask, 2) for mask in labels], target="indices"))


def test_the_weight_map_is_left_out_unless_asked_for(dataset):
    assert not with_weight_map(Recipe(), "ce", dataset)
    assert with_weight_map(Recipe(weight_map=True), "ce", dataset)
    assert pixel_weights(Recipe(), False, dataset) is None
    balanced = pixel_weights(Recipe(class_weight="balanced"), False, dataset)
    counts = sum(np.bincount(target.ravel(), minlength=3) for target in dataset.targets)
    np.testing.assert_allclose(balanced.classes, counts.sum() / (3 * counts))


@pytest.mark.filterwarnings("ignore::minunet.training.verdict.UselessModel")
@pytest.mark.parametrize("options", [{}, {"augment": "full", "weight_map": True, "class_weight": "balanced"}], ids=str)
def test_stopped_and_resumed(dataset, tmp_path, options):
    options = {"steps": 6, "batch_size": 2, "crop": 16} | options

    def train(**more):
        model = mn.UNet(1, 3, (2,), padding="same", norm="batch", seed=1)
        mn.fit(model, dataset.subset([0, 1, 2]), dataset.subset([3]), **options | more)
        return model.state_dict()

    def stop(done, loss):
        if done == 3:
            raise KeyboardInterrupt

    whole = train()
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint=tmp_path / "c.npz", progress=stop)
    found = train(checkpoint=tmp_path / "c.npz", resume=True)
    for name, array in whole.items():
        np.testing.assert_array_equal(array, found[name], err_msg=name)


def test_the_whole_way_of_the_command_line(tmp_path, capsys, monkeypatch):
    """Train, go on from the model, predict, evaluate, ask the doctor."""
    pytest.importorskip("PIL", reason="Pillow is not installed")
    for folder in ("images", "masks", "halves"):
        (tmp_path / folder).mkdir()
    for k, (image, labels) in enumerate(zip(*cells(4, 32), strict=True)):
        write_image(tmp_path / "images" / f"c{k}.png", image)
        write_image(tmp_path / "masks" / f"c{k}.png", labels)
        write_image(tmp_path / "halves" / f"c{k}.png", 255 * (labels > 0).astype(np.uint8))

    def minunet(*words):
        return cli.main([str(word) for word in words])

    pair, run = (tmp_path / "images", tmp_path / "masks"), tmp_path / "run"
    short = ("--steps", 1, "--backend", "numpy")
    monkeypatch.setattr(pictures, "available", lambda: False)  # the pictures of a run take long
    assert minunet("train", *pair, "--target", "borders", "--features", "2,4", *short, "--out", run) == 0
    model = run / "model.safetensors"
    assert mn.load(model).coding == Coding("borders") and mn.load(model).out_channels == 3
    assert json.loads((run / "settings.json").read_text())["weight_map"] is False
    again = ("--out", tmp_path / "again", "--init", model, *short)
    assert minunet("train", *pair, *again) == 2  # without --target, two classes are to be learned
    assert "tells 3 classes apart, and the masks have 2" in capsys.readouterr().err
    assert minunet("train", *pair, "--target", "borders", *again) == 0
    assert minunet("predict", model, pair[0], "--out", tmp_path / "out", "--instances", "--overlay") == 0
    assert len(list((tmp_path / "out").iterdir())) == 12
    assert set(np.unique(read_image(tmp_path / "out" / "c0.png"))) <= {0, 255}
    assert minunet("evaluate", model, *pair, "--json", tmp_path / "e.json") == 0
    assert json.loads((tmp_path / "e.json").read_text())["classes"] == ["background", "foreground"]
    assert minunet("info", model) == 0
    capsys.readouterr()
    doctor = ("doctor", *pair, "--target", "borders", "--features", "2,4", "--out", tmp_path / "doc", "--show")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert minunet(*doctor) == 0
    assert "foreground" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "doc").iterdir()} == {"doctor.png", "weights.png"}
    assert minunet("train", pair[0], tmp_path / "halves", "--target", "borders", "--out", tmp_path / "no") == 2
    assert "--target borders needs instance ids" in capsys.readouterr().err and not (tmp_path / "no").exists()
