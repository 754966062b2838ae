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
from minunet.display.cell_pictures import FOUND, cell_marks
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


# ------------------------------------------------------------------------------- cells and membranes


def image_of(*rectangles):
    """Grey values (12, 24): 200 in rectangles (top, bottom, left, right), 0 elsewhere."""
    image = np.zeros((12, 24), np.uint8)
    for top, bottom, left, right in rectangles:
        image[top:bottom, left:right] = 200
    return image


def cells_of(*rectangles):
    """Numbered cells (12, 24), in the order of the rectangles."""
    labels = np.zeros((12, 24), np.uint16)
    for label, (top, bottom, left, right) in enumerate(rectangles, 1):
        labels[top:bottom, left:right] = label
    return labels


# Found as it is; found but for a fifth (IoU 0.8); not found; and 12 px of no cell. The two pixels below are too few for
# a cell, but a piece of Otsu's mask.
SEEN = image_of((0, 4, 0, 4), (0, 4, 6, 10), (6, 9, 12, 16), (11, 12, 0, 2))
CELLS = cells_of((0, 4, 0, 4), (0, 4, 6, 11), (6, 12, 19, 24))
NO_CELLS = np.zeros((12, 24), np.uint16)


def test_cells_by_hand():
    dataset = from_arrays([SEEN, NO_CELLS.astype(np.uint8)], [CELLS, NO_CELLS], "instances", names=["cells", "empty"])
    found = mn.evaluate(thresholds(100), dataset)
    # 2 of 3 predicted and 3 true cells match, 1 where the IoU must be above 0.8.
    ap = dict.fromkeys((0.5, 0.55, 0.6, 0.65, 0.7, 0.75), 2 / 4) | dict.fromkeys((0.8, 0.85, 0.9, 0.95), 1 / 5)
    assert found.average_precision == pytest.approx(ap)
    assert found.mean_average_precision == pytest.approx((6 / 2 + 4 / 5) / 10) == found.headline
    nothing, otsu = found.baselines["all background"], found.baselines["Otsu"]
    assert nothing.mean_average_precision == 0 and otsu.average_precision[0.5] == pytest.approx(2 / 5)
    assert [image.average_precision for image in found.images] == [0.5, 1.0]  # nothing to find, nothing found
    assert [image.name for image in found.worst(2)] == ["cells", "empty"]
    text = repr(found)
    assert row(text, "3 cells") == ["model", "all", "background", "Otsu"]
    assert row(text, "average precision, mean")[:2] == ["0.380", "0.000"]
    assert row(text, "  at an IoU of 0.50") == ["0.500", "0.000", "0.400"]
    assert row(text, "  at an IoU of 0.80") == ["0.200", "0.000", "0.167"]
    assert row(text, "cells predicted") == ["3", "0", "4"]
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["instances"] == {
        "true": 3,
        "predicted": 3,
        "mean_average_precision": pytest.approx(0.38),
        "average_precision": {f"{t:g}": pytest.approx(value) for t, value in ap.items()},
        "matched": {f"{t:g}": 2 if t < 0.8 else 1 for t in ap},
    }
    assert document["baselines"]["Otsu"]["instances"]["predicted"] == 4
    assert document["images"][0]["average_precision"] == 0.5


def test_cells_are_pooled_not_averaged():
    """One cell of one found, none of three: a quarter of the cells, not half of the images."""
    one = (0, 4, 0, 4)
    images, masks = [image_of(one), image_of()], [cells_of(one), cells_of(one, (0, 4, 6, 10), (6, 10, 0, 4))]
    found = mn.evaluate(thresholds(100), from_arrays(images, masks, "instances"))
    assert found.average_precision[0.5] == pytest.approx(1 / 4)


def test_the_worst_are_those_with_the_worst_cells():
    """A merged pair costs few pixels and both cells."""
    pair, single = [(0, 4, 0, 4), (0, 4, 5, 9)], (0, 4, 0, 4)
    merged, small = image_of((0, 4, 0, 9)), image_of((0, 4, 0, 3))  # IoU 8/9, and 3/4
    dataset = from_arrays([small, merged], [cells_of(single), cells_of(*pair)], "instances", names=["small", "merged"])
    found = mn.evaluate(thresholds(100), dataset)
    assert found.images[0].score < found.images[1].score
    assert [image.name for image in found.worst(2)] == ["merged", "small"]


def test_a_network_with_a_class_for_borders_is_scored_by_its_cells():
    """Two cells that touch: only their borders, above 200, keep them apart. Scores know two classes."""
    labels = cells_of((1, 9, 1, 9), (1, 9, 9, 17))
    image = np.where(labels > 0, 250, 0).astype(np.uint8)
    image[2:8, 2:8] = image[2:8, 10:16] = 150
    model = thresholds(100, 200)
    model.coding = Coding("borders")
    found = mn.evaluate(model, [image], [labels])
    assert found.average_precision[0.95] == 1 and found.mean_iou_cells == 1
    assert found.confusion.shape == (2, 2) and found.class_names == ["background", "foreground"]
    assert found.baselines["Otsu"].average_precision[0.5] == 0


def test_boundaries_by_hand():
    """A square of 4 x 4 found a pixel to the right: all of it lies within 2 px, half of it on the spot."""
    mask, image = cells_of((4, 8, 4, 8)).astype(np.uint8), image_of((4, 8, 5, 9))
    dataset = from_arrays([image], [mask], "indices")
    found = mn.evaluate(thresholds(100), dataset)
    assert found.boundary_f1 == 1 and found.baselines["all background"].boundary_f1 == 0
    exact = mn.evaluate(thresholds(100), dataset, tolerance=0)
    # Each boundary has 12 pixels. Of the other one's top and bottom sides 3 pixels each are met, of the others none.
    assert exact.boundary_f1 == pytest.approx(6 / 12)
    assert row(repr(exact), "boundary F1 (0 px)") == ["0.500", "0.000", "0.500"]


HALVES = np.full((9, 11), 255, np.uint8)  # two cells of 9 x 5 with a membrane between them
HALVES[:, 5] = 0


def test_perfect_membranes():
    found = mn.evaluate(thresholds(100), [HALVES], [HALVES], membranes=True)
    assert (found.membranes.v_rand, found.membranes.v_info) == (1, 1)
    assert set(vars(found.membrane_errors).values()) == {0}


def test_membranes_by_hand():
    """The membrane is seen at 0.27 only: cells that are cut off at 0.2 hang together, at 0.3 and above they do not."""
    image = np.where(HALVES > 0, 200, 99).astype(np.uint8)  # the probability of a cell is the sigmoid of value - 100
    image[4, 5] = 101  # and here, at 0.73, there is a gap
    found = mn.evaluate(thresholds(100), [image], [HALVES], membranes=True)
    # One segment of 90 pixels for two of 45: 2 (2 45^2) / (90^2 + 2 45^2).
    assert found.membranes.at[0.2][0] == found.membranes.at[0.7][0] == pytest.approx(2 / 3)
    assert found.membranes.at[0.8] == (1, 1) and found.membranes.v_rand_threshold == 0.8
    errors = found.membrane_errors
    assert errors.rand_error == pytest.approx(45 * 45 / (90 * 89 / 2))
    assert (errors.split, errors.merged) == pytest.approx((0, 1))  # a bit: which of the two cells
    assert (errors.warping_error, errors.splits, errors.mergers) == (pytest.approx(1 / 99), 0, 1)
    assert found.images[0].v_rand == 1
    text = repr(found)
    assert row(text, "V_rand, best threshold") == ["1.000", "0.667", "1.000", "0.667"]  # Otsu's is 150
    assert row(text, "warping error")[0] == "0.010101"
    assert row(text, "Dice of the membrane")[0] == f"{2 * 8 / 17:.3f}"
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))["membranes"]
    assert document["v_rand"] == 1 and document["at"]["0.2"] == [pytest.approx(2 / 3), 0]
    assert document["variation_of_information"] == pytest.approx(1)
    assert document["pixel_error"] == pytest.approx(1 / 99)


def test_membranes_are_those_of_the_function():
    rng = np.random.default_rng(0)
    images = [rng.integers(98, 104, (20, 20)).astype(np.uint8) for _ in range(2)]
    masks = [255 * (rng.random((20, 20)) < 0.7).astype(np.uint8) for _ in range(2)]
    model = thresholds(100.5)
    found = mn.evaluate(model, images, masks, membranes=True)
    assert found.membranes == mn.membrane_scores([1 - mn.predict(model, image)[0] for image in images], masks)


def test_tiles_and_turns_change_no_score_here(monkeypatch):
    asked = []
    predict = evaluation.predict
    monkeypatch.setattr(evaluation, "predict", lambda *given: asked.append(given[2:4]) or predict(*given))
    dataset = from_arrays([SEEN], [CELLS], "instances")
    plain, other = mn.evaluate(thresholds(100), dataset), mn.evaluate(thresholds(100), dataset, tile=8, tta=True)
    assert asked == [(None, False), (8, True)]
    assert plain.to_json() == other.to_json()


@pytest.mark.parametrize(
    "mask, options, words",
    [
        (np.array([[0, 1, 2]] * 3, np.uint8), {"membranes": True}, "membrane and cell, and these have 3"),
        (np.eye(3, dtype=np.uint8), {"tolerance": -1}, "number of pixels, 0 or more, not -1"),
        (np.eye(3, dtype=np.uint8), {"tolerance": math.nan}, "number of pixels"),
    ],
)
def test_scores_that_make_no_sense_are_refused(mask, options, words):
    dataset = from_arrays([mask], [mask], "indices")
    with pytest.raises(UsageError, match=words):
        mn.evaluate(thresholds(*range(1, dataset.coding.classes)), dataset, **options)


def test_cells_are_marked_as_right_missed_or_false():
    image = np.zeros(CELLS.shape, np.uint8)
    found = cells_of((0, 4, 0, 4), (0, 4, 6, 10), (6, 9, 12, 16))
    seen = cell_marks(image, CELLS, found)
    for place, name in {(3, 0): "right", (3, 9): "right", (6, 19): "missed", (6, 12): "false"}.items():
        np.testing.assert_array_equal(seen[place], FOUND[name], err_msg=name)
    assert not seen[10, 0].any() and not seen[1, 1].any()  # background, and the inside of a cell that is right
    assert seen[7, 14].any() and seen[9, 21].any()  # what is wrong is tinted inside too


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
        "boundary_f1", "boundary_tolerance", "instances", "membranes",
    }  # fmt: skip
    assert scores["instances"] is scores["membranes"] is None and scores["boundary_tolerance"] == 2
    assert f"{scores['boundary_f1']:.3f}" == row(said.out, "boundary F1 (2 px)")[0]
    assert scores["count"] == 6 and len(scores["images"]) == 6
    assert f"{scores['mean_iou_cells']:.3f}" == row(said.out, "mean IoU of cells")[0]
    each = [image["score"] for image in scores["images"]]
    assert each == sorted(each) and each[0] < 0.9 and np.mean(each) == pytest.approx(scores["mean_iou_cells"])
    picture = read_image(folder / "out" / "worst.png")
    assert min(picture.shape[:2]) > 600 and picture.std() > 10


@pytest.fixture
def numbered(folder):
    """The same images with numbered cells in their masks."""
    for path in (folder / "masks").iterdir():
        write_image(path, np.where(read_image(path) > 0, int(path.stem[2]) + 1, 0).astype(np.uint16))
    model = thresholds(100)
    model.coding = Coding("instances")
    mn.save(model, folder / "model.safetensors")
    return folder


def test_evaluate_of_cells_fits_a_terminal_and_draws_them(numbered, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    asked = ("--tta", "--tile", 16, "--tolerance", 1, "--membranes", "--json", numbered / "a")
    assert evaluate(numbered, *asked, "--out", numbered / "out") == 0
    said = capsys.readouterr().out
    assert max(map(len, said.split(str(numbered))[0].splitlines()[1:])) <= 80  # the tables
    scores = json.loads((numbered / "a").read_text())
    assert f"{scores['instances']['average_precision']['0.5']:.3f}" == row(said, "  at an IoU of 0.50")[0]
    assert f"{scores['membranes']['warping_error']:.6f}" == row(said, "warping error")[0]
    assert f"{scores['boundary_f1']:.3f}" == row(said, "boundary F1 (1 px)")[0]
    assert scores["instances"]["true"] == 6 and row(said, "6 cells")
    each = [image["average_precision"] for image in scores["images"]]
    assert each == sorted(each)
    picture = read_image(numbered / "out" / "worst.png")
    height, width = (round(11 * 10 * size) for size in (5 * 2.3 + 1.55, 4 * 2.3 + 0.15))
    assert picture.shape[:2] == (pytest.approx(height, abs=2), pytest.approx(width, abs=2))  # five rows
    assert any((picture[..., :3] == FOUND["right"]).all(axis=2).ravel())


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
