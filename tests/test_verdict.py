"""A model that is of no use is told, with its likely cause; a useful one never."""

import re
import warnings

import numpy as np
import pytest

import minunet as mn
from minunet.data import cells, from_arrays
from minunet.training import verdict
from minunet.training.history import History
from minunet.training.train import Recipe, Trainer

BASELINES = {"all background": 0.0, "Otsu": 0.5}


@pytest.fixture(scope="module")
def data():
    dataset = from_arrays(*cells(6, size=16, seed=3), target="instances")
    return dataset.subset(range(4)), dataset.subset([4, 5])


def trainer(data, **recipe):
    made = Trainer(mn.UNet(1, 2, features=(1,), padding="same"), *data, Recipe(**recipe))
    made.baselines = BASELINES
    return made


def history(looks, steps=1000, losses=(1.0, 0.1)):
    """A run with these (score, share of the foreground in the predictions), evenly spaced."""
    found = History(steps)
    found.records.append({"step": 0, "steps": steps, "score": 0.0, "predicted": [1.0, 0.0]})
    for i, (score, share) in enumerate(looks, 1):
        loss = float(np.interp(i, (1, len(looks)), losses))
        record = {"step": steps * i // len(looks), "steps": steps, "loss": loss, "score": score}
        found.records.append(record | {"predicted": [1 - share, share], "best": found.would_be_best(score)})
    return found


def halfway(looks, data, **options):
    """What is said after each look, in a run of which so many are known."""
    whole, said = history(looks, **options), []
    for count in range(1, len(whole.records)):
        said.append(verdict.on_the_way(History(whole.steps, whole.records[: count + 1]), trainer(data)))
    return said


def test_useful_runs_are_left_in_peace(data):
    for looks in ([(0.51, 0.2)], [(0.0, 0.0), (0.2, 0.9), (0.9, 0.3)], [(0.9, 0.3), (0.0, 0.0)]):
        assert verdict.at_the_end(history(looks), trainer(data)) is None
    assert halfway([(0.1, 0.1)] * 12, data) == [None] * 12
    assert halfway([(0.0, 0.0)] * 5 + [(0.1, 0.1)] * 7, data) == [None] * 12


def test_predictions_of_one_class_are_told(data):
    text = verdict.at_the_end(history([(0.0, 0.0)] * 4, losses=(1, 1)), trainer(data))
    assert text.startswith("this model is of no use: every pixel of the validation images is predicted as background. ")
    text = verdict.at_the_end(history([(0.3, 1.0)] * 4), trainer(data))
    assert "predicted as foreground" in text


def test_a_score_below_the_baselines_is_told(data):
    text = verdict.at_the_end(history([(0.3, 0.4), (0.5, 0.4)]), trainer(data))
    assert text.startswith("this model is of little use: its score of 0.500 is no better than 0.500 for 'Otsu', ")


def test_foreground_without_cells_is_told(data):
    found = history([(0.3, 0.4), (0.4, 0.4)])
    for record in found.records:
        record["mean_iou"] = 1.0  # of any two masks at most
    text = verdict.at_the_end(found, trainer(data))
    assert text.startswith("this model finds foreground, a mean IoU of 1.000, but tells cells apart no better than")
    assert "its mean AP of cells is 0.400, that of 'Otsu' 0.500" in text
    found.records[-1]["mean_iou"] = 0.0
    assert verdict.at_the_end(found, trainer(data)).startswith("this model is of little use: its score of 0.400")


def test_one_class_everywhere_is_told_once_halfway(data):
    said = halfway([(0.0, 0.0)] * 12, data)
    assert [i for i, text in enumerate(said, 1) if text] == [6]
    assert said[5].startswith("halfway, every pixel of the validation images is predicted as background: ")
    assert halfway([(0.0, 0.0)] * 12, data, steps=48) == [None] * 12  # too early to judge


@pytest.mark.parametrize(
    "options, recipe, words",
    [
        ({"losses": (1, 0.99)}, {"lr": 0.5}, "did not fall .1.000 at first, 0.990 at last. .*0.5: try --lr 0.05"),
        ({"losses": (1, 0.2)}, {}, "The loss of training fell from 1.000 to 0.200, so .* masks belong"),
        ({"steps": 40}, {"batch_size": 1}, "It had 40 steps, which is little: train longer"),
        ({"steps": 8}, {"batch_size": 1}, "It had 8 steps and saw each image 2.0 times, which is little: train longer"),
        ({"steps": 400}, {"batch_size": 1}, "The loss of training"),
    ],
)  # fmt: skip
def test_the_likely_cause(data, options, recipe, words):
    text = verdict.at_the_end(history([(0.0, 0.0)] * 4, **options), trainer(data, **recipe))
    assert re.search(words, text), text


def dataset_of(*masks):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, mask.shape, dtype=np.uint8) for mask in masks]
    return from_arrays(images, masks, target="binary")


def test_the_masks_as_cause():
    empty, full = np.zeros((16, 16), np.uint8), np.full((16, 16), 255, np.uint8)
    dot = empty.copy()
    dot[8, 8:12] = 255
    masks = dataset_of(empty, empty, dot, full)
    looks = [(0.0, 0.0)] * 4
    only_empty = trainer((masks.subset([0, 1]), masks.subset([2])))
    assert "hold nothing but class 0: look at them" in verdict.at_the_end(history(looks), only_empty)
    useless_check = trainer((masks.subset([2, 3]), masks.subset([0])))
    assert "validation images are all of one class" in verdict.at_the_end(history(looks), useless_check)
    rare = (masks.subset([0, 2]), masks.subset([2]))
    text = verdict.at_the_end(history(looks), trainer(rare, loss="ce"))
    assert "Only 0.78 % of the pixels are of class 1: try --loss ce+dice" in text
    assert "--loss" not in verdict.at_the_end(history(looks), trainer(rare, loss="dice"))


def test_images_without_content_as_cause(data):
    images, labels = cells(20, size=16, seed=3)
    dataset = from_arrays([np.full_like(image, 90) for image in images[:18]] + list(images[18:]), labels)
    few_steps = history([(0.0, 0.0)] * 4, steps=4)
    text = verdict.at_the_end(few_steps, trainer((dataset, data[1])))
    assert "18 of the 20 images that it learned from hold one value everywhere" in text and "train longer" not in text
    text = verdict.at_the_end(few_steps, trainer((dataset.subset(range(1, 20)), data[1])))  # 17 of 19
    assert "train longer" in text


def test_fit_warns(data):
    model = mn.UNet(1, 2, features=(1,), padding="same")
    with mn.use_backend("numpy"), pytest.warns(verdict.UselessModel, match="It had 2 steps") as caught:
        mn.fit(model, *data, steps=2, lr=1e-9)
    assert caught[0].filename == __file__


def test_fit_does_not_warn_of_a_good_model():
    """What is rough is foreground: a threshold does not find it."""
    masks = [np.repeat(np.arange(16) // 8 ^ i % 2, 16).reshape(16, 16).astype(np.uint8) for i in range(4)]
    checks = (np.indices((16, 16)).sum(axis=0) % 2 * 200 - 100).astype(np.int16)
    striped = from_arrays([100 + mask * checks for mask in masks], masks)
    model = mn.UNet(1, 2, features=(4, 8), padding="same", norm="batch")
    with warnings.catch_warnings(), mn.use_backend("numpy"):
        warnings.simplefilter("error")
        history = mn.fit(model, striped, striped.subset([0, 1]), steps=60)
    assert history.best_score > 0.9


def test_without_validation_images_there_is_nothing_to_say(data):
    assert verdict.at_the_end(History(3, [{"step": 0}, {"step": 3, "loss": 1.0}]), trainer((data[0], None))) is None


def test_records_tell_what_was_predicted(data):
    heard = []
    with mn.use_backend("numpy"):
        mn.fit(mn.UNet(1, 2, features=(1,), padding="same"), *data, steps=1, report=heard.append)
    for record in heard:
        assert len(record["predicted"]) == 2 and sum(record["predicted"]) == pytest.approx(1)
