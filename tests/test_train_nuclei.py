"""bench/train_nuclei.py, on generated cells: from a folder to model, numbers and card; and its own augmentation."""

import hashlib
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import minunet as mn
from minunet import data
from minunet.data import Augmentation, Coding, Preprocessing, cells, from_arrays
from minunet.model_files import boxed
from minunet.scores.matching import average_precision

SCRIPT = Path(__file__).resolve().parents[1] / "bench" / "train_nuclei.py"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("train_nuclei", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["train_nuclei"] = module  # where dataclasses look for it
    specification.loader.exec_module(module)
    yield module
    del sys.modules["train_nuclei"]


@pytest.fixture(autouse=True)
def numpy_backend():
    with mn.use_backend("numpy"):  # nothing to compile
        yield


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


def run(script, folders, out, *options):
    arguments = [folders[0], "--mixed", folders[1], "--out", out, "--features", "2,3", "--crop", 16, "--batch", 2]
    script.main([str(argument) for argument in [*arguments, "--workers", 0, *options]])


# ---------------------------------------------------------------------------------------- from data to card


@pytest.fixture(scope="module")
def made(script, folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    with mn.use_backend("numpy"), pytest.warns(UserWarning, match="of (no|little) use"):
        run(script, folders, out, "--steps", 3)
    return out


def test_model_numbers_and_card(script, made, folders, monkeypatch):
    assert {file.name for file in made.iterdir()} == {"nuclei.safetensors", "nuclei.json", "nuclei.md"}
    numbers = json.loads((made / "nuclei.json").read_text())
    content = (made / "nuclei.safetensors").read_bytes()
    assert (numbers["bytes"], numbers["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert numbers["stored"] == "int8" and numbers["training"]["steps"] == 3
    assert [found["images"] for found in numbers["scores"].values()] == [2, 2, 2, 1]
    card = (made / "nuclei.md").read_text()
    assert "$" not in card and "| nan" not in card
    for found in numbers["scores"].values():
        assert f"{found['mean_iou']:.3f}" in card and f"{found['ap']['0.7']:.3f}" in card
    monkeypatch.setattr(boxed, "FOLDER", made)
    assert mn.load("nuclei").features == (2, 3)
    short = boxed.card("nuclei")
    assert "mean IoU of cells" in short and "Not for diagnosis" in short and "## Limits" not in short


def test_scores_are_those_of_the_file(script, made, folders):
    """Mean IoU and AP, computed here once more from predictions."""
    model = mn.load(made / "nuclei.safetensors")
    numbers = json.loads((made / "nuclei.json").read_text())["scores"]["fluorescence of other sizes"]
    ious, found, truths = [], [], []
    for k in range(2):
        labels = np.load(folders[1] / "labels" / f"{k}.npy")
        p = mn.predict(model, np.load(folders[1] / "images" / f"{k}.npy"))
        mask = p.argmax(axis=0) > 0
        ious.append((mask & (labels > 0)).sum() / (mask | (labels > 0)).sum())
        found.append(mn.label_instances(1 - p[0]))
        truths.append(labels)
    assert numbers["mean_iou"] == pytest.approx(np.mean(ious))
    assert numbers["lowest_iou"] == pytest.approx(min(ious))
    expected = {f"{t:g}": ap for t, ap in average_precision(found, truths).items()}
    assert numbers["ap"] == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_card_s_command_repeats_the_run(script, made, folders, tmp_path):
    numbers = json.loads((made / "nuclei.json").read_text())
    assert script.command(numbers) in (made / "nuclei.md").read_text()
    script.main([str(folders[0]), "--out", str(tmp_path), *script.command(numbers).split()])
    assert (tmp_path / "nuclei.safetensors").read_bytes() == (made / "nuclei.safetensors").read_bytes()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_goes_on_where_it_was(script, made, folders, tmp_path, monkeypatch):
    file = tmp_path / "run.safetensors"
    steps, one = [], script.Trainer.step

    def interrupted(trainer, step, *rest):
        if steps.append(step) or len(steps) == 3:
            raise KeyboardInterrupt
        return one(trainer, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(script.Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(script, folders, tmp_path, "--steps", 3, "--checkpoint", file)
    assert not (tmp_path / "nuclei.safetensors").exists()
    with pytest.raises(SystemExit, match=r"was begun with .*'target': 'instances'.*, not with .*'foreground'"):
        run(script, folders, tmp_path, "--resume", "--checkpoint", file, "--target", "foreground")
    run(script, folders, tmp_path, "--resume", "--checkpoint", file)
    assert (tmp_path / "nuclei.safetensors").read_bytes() == (made / "nuclei.safetensors").read_bytes()


def test_scores_of_any_model(script, made, folders, capsys):
    script.main(["--evaluate", str(made / "nuclei.safetensors"), "--mixed", str(folders[1])])
    numbers = json.loads((made / "nuclei.json").read_text())["scores"]["stained tissue (not for this model)"]
    said = capsys.readouterr().out
    assert f"| tissue | 1 | {numbers['mean_iou']:.3f} | " in said and "| fluorescence | 2 | " in said


def test_a_file_that_is_too_large_is_refused_before_the_training(script, folders, tmp_path):
    with pytest.raises(SystemExit, match=r"the file would have 3,.* bytes, and 2,000,000 are the most"):
        run(script, folders, tmp_path, "--steps", 1, "--features", "16,32,64,128", "--dtype", "float16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "give the folder"), (["x"], "give --minutes or --steps"), (["x", "--resume"], "--resume needs --checkpoint"),
     (["--evaluate", "m"], "--evaluate needs --mixed")],
)  # fmt: skip
def test_what_is_missing_is_told(script, options, message, capsys):
    with pytest.raises(SystemExit):
        script.main(options)
    assert message in capsys.readouterr().err


# ----------------------------------------------------------------------------------------- the augmentation


def test_scales_reach_as_far_as_they_say(script):
    zoom = script.Zoom(rotation=0, flips=False, shift=0, elastic=0, scale=0.25, enlarge=4)
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(400):
        places = zoom.places((100, 100), (64, 64), rng)
        widths.append(float(places[1, 0, -1] - places[1, 0, 0]))
    scales = 63 / np.array(widths)
    assert 0.8 <= scales.min() < 0.82 and 3.9 < scales.max() <= 4
    assert np.median(scales) == pytest.approx(np.sqrt(0.8 * 4), rel=0.15)  # uniform in the logarithm


def test_the_window_is_large_enough(script):
    zoom = script.Zoom(elastic=0)
    window = zoom.window((32, 32))
    rng = np.random.default_rng(0)
    for _ in range(200):
        places = zoom.places(window, (32, 32), rng)
        assert places.min() >= 0 and places.max() <= window[0] - 1


def test_enlarged_crops_are_bent_no_more_than_others(script):
    """In the crop's own pixels: the field is divided by the scale."""
    calm, bent = script.Zoom(elastic=0, scale=0), script.Zoom(elastic=1, scale=0)
    amounts = []
    for seed in range(200):
        one, other = (z.places((99, 99), (64, 64), np.random.default_rng(seed)) for z in (calm, bent))
        scale = 63 / np.hypot(*(one[:, 0, -1] - one[:, 0, 0]))
        amounts.append((scale, np.abs(other - one).mean() * scale))
    scales, amounts = np.array(amounts).T
    assert np.corrcoef(np.log(scales), amounts)[0, 1] == pytest.approx(0, abs=0.2)
    assert amounts[scales > 2].mean() == pytest.approx(amounts[scales < 2].mean(), rel=0.1)


def test_crops_on_their_own_are_standardized(script):
    off = {field: 0.0 for field in ("contrast", "gamma", "brightness", "blur", "noise")}
    rng = np.random.default_rng(0)
    image = rng.normal(3, 0.7, (1, 40, 40)).astype(np.float32)
    alone = script.Zoom(**off, alone=1).look(image, np.random.default_rng(1))
    assert alone.dtype == np.float32
    assert (alone.mean(), alone.std()) == (pytest.approx(0, abs=1e-5), pytest.approx(1, abs=1e-5))
    np.testing.assert_array_equal(script.Zoom(**off, alone=0).look(image, np.random.default_rng(1)), image)
    nothing = image / 10  # only noise: it is not made into something
    np.testing.assert_array_equal(script.Zoom(**off, alone=1).look(nothing, np.random.default_rng(1)), nothing)


def test_the_sampler_takes_it(script):
    dataset = from_arrays(*cells(4, size=64))
    sampler = data.Sampler(dataset, 0, 4, (32, 32), augment=script.Zoom(), foreground=1.0)
    one, other = sampler.batch(3), replace(sampler, augment=Augmentation()).batch(3)
    assert one.x.shape == (4, 1, 32, 32) and set(np.unique(one.target)) <= {0, 1}
    assert not np.array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.x, sampler.batch(3).x)


def test_enlarged_images(script):
    """The part around the nuclei, larger, with its labels, standardized anew."""
    image = np.zeros((40, 60), np.uint8)
    image[2:8, 50:58] = 200
    dataset = from_arrays([image, image.T.copy()], [(image > 0) * np.uint16(3), (image.T > 0) * np.uint16(2)],
                          Coding("instances"), Preprocessing(1, "standardize"), ["a", "b"])  # fmt: skip
    found = script.enlarged(dataset, 2.0)
    assert found.names == ["a x 2", "b x 2"]
    assert [i.shape for i in found.images] == [(1, 40, 60), (1, 60, 40)]
    assert [int((ids > 0).sum()) for ids in found.ids] == [4 * 6 * 8] * 2
    for k in range(2):
        assert found.images[k].mean() == pytest.approx(0, abs=1e-4)
        inside = found.images[k][0][found.ids[k] > 0]
        assert np.median(inside) > found.images[k][0][found.ids[k] == 0].max()


def test_joined(script):
    one, other = from_arrays(*cells(2, size=32)), from_arrays(*cells(3, size=48, seed=1))
    both = script.joined(one, other)
    assert len(both) == 5 and len(both.ids) == len(both.truth) == len(both.targets) == len(both.raw) == 5
    assert both.images[4] is other.images[2] and both.ids[1] is one.ids[1]
