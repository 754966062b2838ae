"""Scores against hand-made cases and plain counting; the command with its table, picture and JSON."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from threshold import thresholds

import minunet as mn
from minunet import cli
from minunet.data import Coding, DataError, from_arrays, read_image, write_image
from minunet.display.tables import Table
from minunet.errors import UsageError, WorkFailed
from minunet.scores import evaluation


def main(*arguments):
    return cli.main([str(argument) for argument in arguments])


def row(text, name):
    """The first line of a table that begins with this name, as words behind it."""
    return next(line for line in text.splitlines() if line.startswith(name)).removeprefix(name).split()


# 2 x 4 pixels, threshold 100. Truth has one missed pixel (20) and one added (200 in the second row).
IMAGE = np.array([[200, 200, 20, 0], [0, 0, 0, 200]], np.uint8)
TRUTH = np.array([[255, 255, 255, 0], [0, 0, 0, 0]], np.uint8)
EMPTY = np.zeros((2, 4), np.uint8)


def test_two_classes_by_hand():
    found = mn.evaluate(thresholds(100), [IMAGE, EMPTY], [TRUTH, EMPTY])
    assert found.confusion.tolist() == [[12, 1], [1, 2]]
    np.testing.assert_allclose(found.iou, [12 / 14, 2 / 4])
    np.testing.assert_allclose(found.dice, [24 / 26, 4 / 6])
    np.testing.assert_allclose(found.precision, [12 / 13, 2 / 3])
    np.testing.assert_allclose(found.recall, [12 / 13, 2 / 3])
    assert found.pixel_error == pytest.approx(2 / 16)
    assert found.mean_iou_cells == pytest.approx((1 / 2 + 1) / 2)  # the empty image is right
    assert found.mean_iou_classes == pytest.approx((12 / 14 + 1 / 2) / 2)
    assert [image.score for image in found.images] == [0.5, 1.0]
    assert [image.pixel_error for image in found.images] == [0.25, 0.0]


def test_the_baselines_stand_beside_the_model():
    found = mn.evaluate(thresholds(100), [IMAGE, EMPTY], [TRUTH, EMPTY])
    nothing, otsu = found.baselines["all background"], found.baselines["Otsu"]
    assert nothing.confusion.tolist() == [[13, 0], [3, 0]]
    assert nothing.mean_iou_cells == 0.5 and math.isnan(nothing.precision[1])
    # Otsu parts 200 from 0 and 20, as the model does; a constant image has nothing above its threshold.
    assert otsu.confusion.tolist() == found.confusion.tolist()
    text = repr(found)
    assert row(text, "mean IoU of cells") == ["0.750", "0.500", "0.750"]
    assert row(text, "pixel error") == ["0.125", "0.188", "0.125"]
    assert row(text, "foreground (255)") == ["0.500", "0.667", "0.667", "0.667", "18.8%"]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_scores_are_those_of_plain_counting(classes):
    rng = np.random.default_rng(classes)
    images = [rng.integers(0, 256, (9, 7)).astype(np.uint8) for _ in range(4)]
    masks = [rng.integers(0, classes, (9, 7)).astype(np.uint8) for _ in range(4)]
    cuts = np.linspace(0, 255, classes + 1)[1:-1].round() + 0.5
    found = mn.evaluate(thresholds(*cuts), from_arrays(images, masks, "indices"))
    predicted = np.concatenate([np.sum([image > cut for cut in cuts], axis=0).ravel() for image in images])
    truth = np.concatenate([mask.ravel() for mask in masks])
    for k in range(classes):
        hits = sum(p == t == k for p, t in zip(predicted, truth, strict=True))
        of_prediction, of_truth = sum(p == k for p in predicted), sum(t == k for t in truth)
        assert found.iou[k] == pytest.approx(hits / (of_prediction + of_truth - hits))
        assert found.dice[k] == pytest.approx(2 * hits / (of_prediction + of_truth))
        assert found.precision[k] == pytest.approx(hits / of_prediction)
        assert found.recall[k] == pytest.approx(hits / of_truth)
    assert found.pixel_error == pytest.approx(np.mean(predicted != truth))
    assert (found.mean_iou_cells is None) == (classes > 2)


def test_scores_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (30, 20)).astype(np.uint8), rng.integers(0, 3, (30, 20)).astype(np.uint8)
    found = mn.evaluate(thresholds(60, 190), from_arrays([image], [mask], "indices"))
    truth, predicted = mask.ravel(), (image > 60).astype(int).ravel() + (image > 190).ravel()
    precision, recall, dice, _ = sklearn.precision_recall_fscore_support(truth, predicted)
    np.testing.assert_allclose(found.precision, precision)
    np.testing.assert_allclose(found.recall, recall)
    np.testing.assert_allclose(found.dice, dice)
    np.testing.assert_allclose(found.iou, sklearn.jaccard_score(truth, predicted, average=None))
    np.testing.assert_array_equal(found.confusion, sklearn.confusion_matrix(truth, predicted))


def test_a_class_that_occurs_nowhere_has_no_number():
    """Three classes in the coding, the third in neither mask nor prediction; the second never predicted."""
    image, mask = np.zeros((2, 3), np.uint8), np.array([[0, 0, 1], [0, 0, 0]], np.uint8)
    dataset = from_arrays([image], [mask], Coding("indices", (0, 1, 2)))
    found = mn.evaluate(thresholds(100, 200), dataset)
    assert np.isnan(found.iou).tolist() == [False, False, True]
    assert np.isnan(found.precision).tolist() == [False, True, True]
    assert found.recall[1] == 0 and np.isnan(found.recall[2])
    assert found.mean_iou_classes == pytest.approx((5 / 6 + 0) / 2)  # over the classes that occur
    assert row(repr(found), "value 2") == ["-", "-", "-", "-", "0.0%"]
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["precision"] == [pytest.approx(5 / 6), None, None]
    assert document["mean_iou_cells"] is None


def test_the_worst_come_first():
    images = [np.full((2, 4), 200, np.uint8), IMAGE, EMPTY]
    found = mn.evaluate(thresholds(100), images, [EMPTY, TRUTH, EMPTY], names=["wrong", "half", "right"])
    assert [image.name for image in found.worst(3)] == ["wrong", "half", "right"]
    assert [image.index for image in found.worst(2)] == [0, 1]
    assert [image["name"] for image in found.to_json()["images"]] == ["wrong", "half", "right"]


def test_instances_count_as_they_are_given():
    """Touching cells are parted for training only: predicting both in full is no error."""
    labels = np.array([[1, 1, 2, 2]] * 3 + [[0] * 4], np.uint16)
    image = np.where(labels > 0, 200, 0).astype(np.uint8)
    dataset = from_arrays([image], [labels], "instances")
    assert (dataset.targets[0] == 0).any()
    assert mn.evaluate(thresholds(100), dataset).mean_iou_cells == 1


def test_masks_are_read_as_the_model_was_trained():
    model = thresholds(100)
    model.coding = Coding("binary", (0, 255))
    assert mn.evaluate(model, IMAGE, TRUTH).confusion.sum() == 8  # one image, one mask
    with pytest.raises(DataError, match=r"mask of image0000.*value 1"):
        mn.evaluate(model, IMAGE, TRUTH // 255)


def test_masks_of_another_order_are_refused():
    model = thresholds(100, 200)
    model.coding = Coding("levels", (0, 128, 255))
    mask = np.array([[0, 128, 255, 0]] * 2, np.uint8)
    assert mn.evaluate(model, [IMAGE], [mask]).coding == model.coding
    colors = np.stack([mask, mask * 0, mask], axis=-1)
    with pytest.raises(UsageError, match="read them with target"):
        mn.evaluate(model, from_arrays([IMAGE], [colors]))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (([IMAGE],), "give the masks too"),
        (([IMAGE], [TRUTH // 255 * np.arange(4, dtype=np.uint8)]), "tells 2 classes apart, the masks have 3"),
        ((from_arrays([IMAGE], [TRUTH]), [TRUTH]), "a Dataset holds its masks"),
        ((from_arrays([IMAGE], [TRUTH]).subset([]),), "no image"),
        (([IMAGE, IMAGE], [TRUTH]), "2 images but 1 mask"),
    ],
)
def test_what_does_not_fit_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        mn.evaluate(thresholds(100), *arguments)


def test_an_image_that_the_memory_cannot_hold_is_named(monkeypatch):
    def out_of_memory(*_):
        raise MemoryError("not enough memory for 2 x 4 px")

    monkeypatch.setattr(evaluation, "predict", out_of_memory)
    with pytest.raises(WorkFailed, match="image0000: not enough memory for 2 x 4 px"):
        mn.evaluate(thresholds(100), [IMAGE], [TRUTH])


def test_many_classes_make_short_tables():
    """Of 12 classes the baselines of each and the full confusion are left out, the frequent mistakes named."""
    levels = np.arange(12, dtype=np.uint8)
    image = np.repeat(levels, 4)[None]
    mask = image.copy()
    mask[0, :2] = 7  # two of the six pixels of class 7 are taken for 0
    found = mn.evaluate(thresholds(*(levels[1:] - 0.5)), from_arrays([image], [mask], "indices"))
    lines = [line.split() for line in repr(found).splitlines()]
    assert ["value", "7", "value", "0", "33.3%"] in lines
    assert not any(words[:1] == ["Otsu"] for words in lines)
    assert len(lines) < 35


# ---------------------------------------------------------------------------------------- the command


@pytest.fixture
def folder(tmp_path):
    """Six images of which a threshold at 100 finds most, their masks, and the model that does it."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for i in range(6):
        mask = np.zeros((24, 20), np.uint8)
        mask[4 : 10 + i, 5:15] = 255
        image = np.where(mask > 0, 180, 40) + rng.integers(-40 * i, 40 * i + 1, mask.shape)
        write_image(tmp_path / "images" / f"im{i}.png", image.clip(0, 255).astype(np.uint8))
        write_image(tmp_path / "masks" / f"im{i}_mask.png", mask)
    model = thresholds(100)
    model.coding = Coding("binary", (0, 255))
    mn.save(model, tmp_path / "model.safetensors")
    return tmp_path


def evaluate(folder, *options):
    places = (folder / "model.safetensors", folder / "images", folder / "masks")
    return main("evaluate", *places, "--mask-suffix", "_mask", *options)


def test_evaluate_prints_draws_and_writes(folder, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert evaluate(folder, "--out", folder / "out", "--worst", 3, "--json", folder / "scores.json") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert row(said.out, "6 images") == ["model", "all", "background", "Otsu"]
    assert row(said.out, "im5") and "im0" not in said.out  # the noisiest, and the one without noise
    scores = json.loads((folder / "scores.json").read_text())
    assert set(scores) == {
        "minunet", "model", "image_folder", "mask_folder", "count", "masks", "classes", "mean_iou_cells",
        "mean_iou_classes", "pixel_error", "iou", "dice", "precision", "recall", "confusion", "baselines", "images",
    }  # fmt: skip
    assert scores["count"] == 6 and len(scores["images"]) == 6
    assert f"{scores['mean_iou_cells']:.3f}" == row(said.out, "mean IoU of cells")[0]
    each = [image["score"] for image in scores["images"]]
    assert each == sorted(each) and each[0] < 0.9 and np.mean(each) == pytest.approx(scores["mean_iou_cells"])
    picture = read_image(folder / "out" / "worst.png")
    assert min(picture.shape[:2]) > 600 and picture.std() > 10


def test_evaluate_warns_of_images_that_were_trained_on(folder, capsys):
    settings = {"options": {"images": str(folder / "images")}, "training": ["im0", "im1", "im4"]}
    (folder / "settings.json").write_text(json.dumps(settings))
    assert evaluate(folder) == 0
    said = capsys.readouterr()
    assert "trained on 3 of these 6 images" in said.err and "6 images" in said.out
    assert evaluate(folder, "--held-out") == 0
    said = capsys.readouterr()
    assert said.err == "" and "3 images" in said.out and "im4" not in said.out


@pytest.mark.parametrize("settings", ["", "[]", "{}", '{"options": {"images": "elsewhere"}, "training": ["im0"]}'])
def test_held_out_needs_the_run_of_these_images(folder, capsys, settings):
    if settings:
        (folder / "settings.json").write_text(settings)
    assert evaluate(folder) == 0
    assert capsys.readouterr().err == ""
    assert evaluate(folder, "--held-out") == 2
    assert "settings.json" in capsys.readouterr().err


def test_masks_of_other_values_are_named_and_may_be_told(folder, capsys):
    for path in (folder / "masks").iterdir():
        write_image(path, read_image(path) // 255)
    assert evaluate(folder) == 2
    said = capsys.readouterr().err
    assert "im0_mask.png" in said and "value 1 in " in said
    assert "but the model expects binary masks: 0 background, 255 foreground; correct" in said
    assert "--target auto" in said
    assert evaluate(folder, "--target", "auto") == 0
    capsys.readouterr()
    assert evaluate(folder, "--target", "binary") == 0
    assert "0 background, 1 foreground" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, words",
    [
        (("--out", "{folder}/images"), "a folder of the data"),
        (("--out", "{folder}/model.safetensors"), "is a file"),
        (("--json", "{folder}"), "give a file"),
        (("--json", "{folder}/none/a.json"), "in a folder that exists"),
        (("--mask-suffix", "_other"), "im0"),
        (("--worst", "0"), None),
    ],
)
def test_evaluate_refuses_in_words_and_writes_nothing(folder, capsys, options, words):
    before = sorted(folder.rglob("*"))
    options = [option.format(folder=folder) for option in options]
    if words is None:
        with pytest.raises(SystemExit) as end:
            evaluate(folder, *options)
        assert end.value.code == 2
    else:
        assert evaluate(folder, *options) == 2
        assert words in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_a_model_that_is_no_better_than_none_is_warned_of(folder, capsys):
    model = thresholds(300)
    model.coding = Coding("binary", (0, 255))
    mn.save(model, folder / "model.safetensors")
    assert evaluate(folder) == 0
    said = capsys.readouterr()
    assert "6 images" in said.out and said.err.count("\n") == 1
    assert "minunet: warning: on these images the model is no better" in said.err and "'Otsu'" in said.err


def test_a_reader_that_goes_away_ends_no_evaluation(folder):
    places = (folder / "model.safetensors", folder / "images", folder / "masks", "--mask-suffix", "_mask")
    command = [sys.executable, "-m", "minunet", "evaluate", *map(str, places), "--json", str(folder / "scores.json")]
    process = subprocess.Popen([*command, "--backend", "numpy"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0 and (folder / "scores.json").exists()


def test_names_that_steer_a_terminal_are_shown_escaped(capsys, monkeypatch):
    table = Table(("na\x1bme", "score"), [[("a\x1b[31m\nb", "0.5")]], "\x07title")
    table.show()
    said = capsys.readouterr().out
    assert r"a\x1b[31m\nb  " in said and "\x1b" not in said and "\x07" not in said
    pytest.importorskip("rich", reason="rich is not installed")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    table.show()
    assert r"a\x1b[31m\nb" in capsys.readouterr().out


def test_a_table_in_a_terminal_holds_what_the_plain_one_does(capsys, monkeypatch):
    pytest.importorskip("rich", reason="rich is not installed")
    table = Table(("name", "score"), [[("a[b]", "0.5"), ("  below", "-")], [("<c>", "1.0")]], "title")
    table.show()
    plain = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    table.show()
    rich = capsys.readouterr().out
    for word in ("name", "score", "a[b]", "0.5", "below", "-", "<c>", "1.0", "title"):
        assert word in plain and word in rich
    assert plain != rich
    assert "&lt;c&gt;" in table.html() and "<c>" not in table.html()
