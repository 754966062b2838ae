"""By which score a run chooses its best model: cells where masks number them, else pixels; both are recorded."""

import json

import numpy as np
import pytest
from threshold import thresholds

import minunet as mn
from minunet import cli
from minunet.data import cells, from_arrays
from minunet.errors import UsageError
from minunet.scores import choice
from minunet.training.history import History
from minunet.training.recipe import Recipe
from minunet.training.train import Trainer


@pytest.fixture(autouse=True)
def quick():
    with mn.use_backend("numpy"):  # nothing to compile
        yield


@pytest.fixture(scope="module")
def data():
    dataset = from_arrays(*cells(6, size=48, seed=3), target="instances")
    return dataset.subset(range(4)), dataset.subset([4, 5])


@pytest.fixture(scope="module")
def plain():
    """The same cells in masks of 0 and 1, which number none."""
    images, labels = cells(6, size=48, seed=3)
    dataset = from_arrays(images, [(label > 0).astype(np.uint8) for label in labels])
    return dataset.subset(range(4)), dataset.subset([4, 5])


def test_cells_are_scored_where_masks_number_them(data, plain):
    assert choice.choose(None, data[0]) == "ap" and choice.choose(None, plain[0]) == "iou"
    assert choice.choose("iou", data[0]) == "iou"
    with pytest.raises(UsageError, match="numbered cells, and the masks hold binary masks"):
        Trainer(thresholds(100), *plain, Recipe(score="ap"))
    with pytest.raises(UsageError, match="score must be one of iou, ap"):
        Recipe(score="dice")


def test_a_look_is_what_evaluate_finds(data):
    trainer = Trainer(thresholds(0.5), *data, Recipe())
    look, found = trainer.validate(), mn.evaluate(trainer.model, data[1])
    assert 0 < look["score"] == found.mean_average_precision < look["ap50"] == found.average_precision[0.5]
    assert look["mean_iou"] == found.mean_iou_cells
    assert trainer.baselines == {name: scores.headline for name, scores in found.baselines.items()}
    assert trainer.score_name == found.headline_name == "mean AP of cells"


def test_a_look_at_masks_without_cells(plain):
    trainer = Trainer(thresholds(0.5), *plain, Recipe())
    look, found = trainer.validate(), mn.evaluate(trainer.model, plain[1])
    assert look["score"] == found.mean_iou_cells == found.headline and not {"ap50", "mean_iou"} & look.keys()
    assert trainer.baselines == {name: scores.headline for name, scores in found.baselines.items()}
    assert trainer.score_name == found.headline_name == "mean IoU of cells"


def test_the_score_chooses_the_model(data):
    """The network keeps the weights of the look with the best score, whichever that is."""
    for score, name in (("ap", "score"), ("iou", "score")):
        model = mn.UNet(1, 2, features=(4, 8), padding="same", norm="batch", seed=0)
        history = mn.fit(model, *data, steps=36, batch_size=2, score=score, seed=1)
        kept = Trainer(model, *data, Recipe(score=score)).validate()
        assert 0 < kept["score"] == history.best_score == max(look[name] for look in history.looks)


def test_of_equal_scores_the_higher_iou_wins():
    history = History(3)
    looks = [(0.0, 0.2, True), (0.0, 0.4, True), (0.0, 0.3, False), (0.1, 0.1, True)]
    for step, (score, iou, best) in enumerate(looks):
        assert history.would_be_best(score, iou) is best
        history.records.append({"step": step + 1, "score": score, "mean_iou": iou, "best": best})
    assert history.best_step == 4 and not history.would_be_best(0.1, 0.1)


def test_the_command_tells_both_scores(tmp_path, capsys):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for k, (image, mask) in enumerate(zip(*cells(6, size=32, seed=2), strict=True)):
        np.save(tmp_path / "images" / f"{k}.npy", image)
        np.save(tmp_path / "masks" / f"{k}.npy", mask)
    asked = ["train", *(str(tmp_path / kind) for kind in ("images", "masks")), "--steps", "2", "--features", "2,4"]
    assert cli.main([*asked, "--out", str(tmp_path / "ap")]) == 0
    said = capsys.readouterr().out
    records = [json.loads(line) for line in (tmp_path / "ap" / "log.jsonl").read_text().splitlines()]
    last = records[-1]
    assert {"score", "ap50", "mean_iou"} <= last.keys()
    assert f"mean AP of cells {last['score']:.3f}, IoU {last['mean_iou']:.3f}" in said
    assert "best mean AP of cells" in said
    assert json.loads((tmp_path / "ap" / "settings.json").read_text())["score"] == "ap"
