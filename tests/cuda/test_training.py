"""Training on a GPU, from a step to the command line: same losses, no hidden transfer; over the stand-in for CuPy."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from cuda_emulator import emulated
from golden.cases import TRAININGS

import minunet as mn
from minunet import cli, device, kernels
from minunet.data import cells, from_arrays
from minunet.errors import WorkFailed
from minunet.training import train
from minunet.training.history import History, State
from minunet.training.recipe import Recipe
from minunet.training.train import Trainer

pytestmark = pytest.mark.cuda_emulated

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "losses.json").read_text())
RELATIVE = {"float32": 1e-4, "float64": 1e-9}
RECIPE = {"batch_size": 2, "crop": 16, "lr": 0.1}


@pytest.fixture
def cupy():
    with mn.use_backend("numpy"), emulated(build="fast") as cupy:  # the backend is set back where a command sets it
        cupy.transfers.reset()
        yield cupy


@pytest.fixture(scope="module")
def data():
    dataset = from_arrays(*cells(8, size=24, seed=3), target="instances")
    return dataset.subset(range(6)), dataset.subset(range(6, 8))


def network(**options):
    shape = {"features": (2,), "padding": "same", "norm": "batch", "seed": 1}
    return mn.UNet(1, 2, **shape | options)


# --------------------------------------------------------------------------------------------------- a step


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TRAININGS)
def test_losses_follow_the_stored_ones(cupy, name, dtype):
    """Both architectures, ten steps, everything computed by the CUDA kernels."""
    with mn.use_backend("cuda"):
        found = TRAININGS[name].losses(np.dtype(dtype))
    np.testing.assert_allclose(found, GOLDEN[name][dtype], rtol=RELATIVE[dtype])


@pytest.mark.parametrize("shape", [{}, {"padding": "valid", "norm": None}], ids=["same", "valid"])
@pytest.mark.parametrize("loss", ["ce", "dice", "ce+dice", "bce"])
def test_a_step_takes_one_transfer_and_a_report_one(cupy, data, shape, loss):
    model = mn.UNet(1, 1 if loss == "bce" else 2, (2,), **{"padding": "same", "norm": "batch"} | shape).to("cuda")
    trainer = Trainer(model, *data, Recipe(**RECIPE | {"crop": 24 if shape else 16}, loss=loss))
    state = State(History(10))
    for step in range(3):
        cupy.transfers.reset()
        state.losses.append(trainer.step(step, 0.1))
        state.done += 1
        found = cupy.transfers
        assert (found.to_device, found.to_host, found.synchronizations) == (1, 0, 0)
    trainer.settle(state)
    assert (cupy.transfers.to_device, cupy.transfers.to_host, cupy.transfers.synchronizations) == (1, 1, 1)
    assert [type(value) for value in state.losses] == [float] * 3
    trainer.settle(state)
    assert cupy.transfers.to_host == 1  # there is nothing left to fetch


def test_a_step_is_that_of_the_host(cupy, data):
    found = []
    for place in ("cpu", "cuda"):
        model = network(dtype=np.float64, dropout=0.3).to(place)
        trainer = Trainer(model, *data, Recipe(**RECIPE))
        losses = device.numbers([trainer.step(step, 0.1) for step in range(3)])
        found.append([losses, *(device.to_host(array) for array in model.state_dict().values())])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-11)


def test_a_look_takes_one_transfer_an_image_each_way(cupy, data):
    expected = Trainer(network(dtype=np.float64), *data, Recipe(**RECIPE)).validate()
    trainer = Trainer(network(dtype=np.float64).to("cuda"), *data, Recipe(**RECIPE))
    cupy.transfers.reset()
    found = trainer.validate()
    assert cupy.transfers.to_device == len(data[1])
    assert cupy.transfers.to_host == len(data[1]) + 1  # the losses come together at the end
    assert found["score"] == pytest.approx(expected["score"], rel=1e-9)
    assert found["validation_loss"] == pytest.approx(expected["validation_loss"], rel=1e-9)


# ---------------------------------------------------------------------------------------------------- a run


def run(data, steps=6, place="cuda", model=None, **options):
    model = network(dropout=0.3) if model is None else model
    history = mn.fit(model.to(place), *data, steps=steps, **RECIPE | options)
    return model, history


def assert_same_model(one, other):
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(device.to_host(array), device.to_host(other.state_dict()[name]), err_msg=name)


@pytest.mark.filterwarnings("ignore::minunet.training.verdict.UselessModel")
def test_a_run_is_that_of_the_host(cupy, data):
    (there, found), (_, expected) = (run(data, place=p, model=network(dtype=np.float64)) for p in ("cuda", "cpu"))
    assert there.device == "cuda"
    assert [record["step"] for record in found.records] == [record["step"] for record in expected.records]
    for one, other in zip(found.records, expected.records, strict=True):
        for name in ("loss", "score", "validation_loss", "lr"):
            assert one.get(name) == (None if name not in other else pytest.approx(other[name], rel=1e-7)), name


@pytest.mark.filterwarnings("ignore::minunet.training.verdict.UselessModel")
def test_a_run_moves_nothing_else(cupy, data, monkeypatch):
    monkeypatch.setattr(train, "SHOWN_LOSS", math.inf)
    model, images = network().to("cuda"), len(data[1])
    cupy.transfers.reset()
    _, history = run(data, model=model)
    looks, reports = sum("score" in r for r in history.records), sum(r["step"] > 0 for r in history.records)
    assert cupy.transfers.to_device == history.steps + looks * images
    # A look: each image, the losses, and whether all weights are finite. A report: the losses. Once: the one shown.
    assert cupy.transfers.to_host == looks * (images + 2) + reports + 1
    assert cupy.transfers.synchronizations == cupy.transfers.to_host


@pytest.mark.filterwarnings("ignore::minunet.training.verdict.UselessModel")
def test_an_interrupted_run_goes_on_to_the_same_bits(cupy, data, tmp_path):
    def interrupt(done, loss):
        if done == 3:
            raise KeyboardInterrupt

    whole, expected = run(data)
    with pytest.raises(KeyboardInterrupt):
        run(data, checkpoint=tmp_path / "run.npz", progress=interrupt)
    model, history = run(data, checkpoint=tmp_path / "run.npz", resume=True, model=network(dropout=0.3, seed=9))
    assert_same_model(model, whole)
    assert [r.get("loss") for r in history.records] == [r.get("loss") for r in expected.records]


@pytest.mark.filterwarnings("ignore::minunet.training.verdict.UselessModel")
def test_a_run_of_the_device_is_not_resumed_on_the_host(cupy, data, tmp_path):
    run(data, steps=1, checkpoint=tmp_path / "run.npz")
    with pytest.raises(ValueError, match="was begun with backend cuda, not with backend numpy"):
        run(data, steps=1, checkpoint=tmp_path / "run.npz", resume=True, place="cpu")


@pytest.mark.filterwarnings("ignore::minunet.training.verdict.UselessModel")
def test_the_progress_is_shown_without_a_fetch_each_step(cupy, data, monkeypatch):
    """Nor does it change a bit whether the loss is fetched for it or not."""
    seen, models = {}, []
    for seconds in (0.0, math.inf):
        monkeypatch.setattr(train, "SHOWN_LOSS", seconds)
        losses = seen[seconds] = []
        models.append(run(data, progress=lambda done, loss, losses=losses: losses.append(loss))[0])
    assert len(set(seen[0.0])) == 6
    assert seen[math.inf] == [seen[0.0][0]] * 6
    assert_same_model(*models)


def test_a_model_that_was_left_on_the_host_is_not_trained_on_the_device(cupy, data):
    model = network()
    with mn.use_backend("cuda"), pytest.raises(ValueError, match=r"the model lies on the CPU: model\.to"):
        mn.fit(model, *data, steps=1)


@pytest.mark.parametrize("odd", [np.nan, np.float32(1e38)])
def test_a_loss_that_is_not_finite_is_found_at_the_report(cupy, data, monkeypatch, odd):
    monkeypatch.setattr(train, "REPORTS", 1)  # so that the next look is after 5 of 20 steps
    plain = Trainer.batch

    def batch(self, step):
        x, *rest = plain(self, step)
        return (x * odd if step == 2 else x), *rest

    monkeypatch.setattr(Trainer, "batch", batch)
    remedy = "The images hold NaN or infinite values" if np.isnan(odd) else "Try a lower --lr than 0.1, and look"
    message = rf"^the loss is no longer finite at step 3 \(learning rate 0\.1\)\. {remedy}"
    with pytest.raises(WorkFailed, match=message):
        run(data, steps=20, schedule="constant", warmup=0)


def test_a_gradient_that_is_not_finite_is_found_too(cupy, data, monkeypatch):
    plain = Trainer._gradients

    def gradients(self, *batch):
        loss, norm = plain(self, *batch)
        return loss, norm * np.inf

    monkeypatch.setattr(Trainer, "_gradients", gradients)
    with pytest.raises(WorkFailed, match=r"^the gradient is no longer finite at step 1 "):
        run(data, steps=2)


def test_the_time_of_a_step_is_measured_with_what_it_waits_for(cupy, data):
    trainer = Trainer(network().to("cuda"), *data, Recipe(**RECIPE))
    twin = trainer.on_a_copy()
    assert twin.model.device == "cuda"
    cupy.transfers.reset()
    twin.estimate(0.2)
    assert cupy.transfers.to_host >= 2


# ------------------------------------------------------------------------------------------ the command line


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr("minunet.display.pictures.available", lambda: False)  # drawing takes longer than training
    images, masks = tmp_path / "images", tmp_path / "masks"
    for folder, arrays in zip((images, masks), cells(5, size=16, seed=2), strict=True):
        folder.mkdir()
        for i, array in enumerate(arrays):
            np.save(folder / f"{i}.npy", array)
    return tmp_path


def minunet(*arguments):
    """The command in a process that starts without a choice of backend."""
    with mn.use_backend("numpy"):
        return cli.main([str(argument) for argument in arguments])


def train_command(folders, out, *options):
    shape = ("--features", "2", "--batch", "2", "--steps", "6", "--dropout", "0.2")
    return ("train", folders / "images", folders / "masks", "--out", folders / out, *shape, *options)


def files_of(folder):
    model = mn.load(folder / "model.safetensors")
    losses = [json.loads(line).get("loss") for line in (folder / "log.jsonl").read_text().splitlines()]
    return model, losses


@pytest.fixture
def count_launches(monkeypatch):
    """How many kernels have run by name of their backend."""
    counts = {}
    plain = kernels.Kernel.load

    def load(self, name):
        counts[self.variant(name).backend] = counts.get(self.variant(name).backend, 0) + 1
        return plain(self, name)

    monkeypatch.setattr(kernels.Kernel, "load", load)
    return counts


def test_train_predict_evaluate_on_the_device(cupy, folders, capsys, count_launches):
    assert minunet(*train_command(folders, "run", "--device", "cuda")) == 0
    assert set(count_launches) == {"cuda"}
    assert json.loads((folders / "run" / "settings.json").read_text())["options"]["device"] == "cuda"
    model = folders / "run" / "model.safetensors"
    for out, where in (("there", "cuda"), ("here", "cpu")):
        command = ("predict", model, folders / "images", "--out", folders / out, "--probabilities", "--device", where)
        assert minunet(*command) == 0
    for i in range(5):
        one, other = (np.load(folders / out / f"{i}_prob.npy") for out in ("there", "here"))
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert minunet("evaluate", model, folders / "images", folders / "masks", "--device", "cuda") == 0
    capsys.readouterr()


def test_a_run_goes_on_where_it_was(cupy, folders, capsys, monkeypatch, count_launches):
    assert minunet(*train_command(folders, "whole", "--device", "cuda")) == 0
    plain, losses = train._LastLoss.__call__, []

    def interrupt(self, loss):
        losses.append(loss)
        if len(losses) == 3:
            raise KeyboardInterrupt
        return plain(self, loss)

    with monkeypatch.context() as patch:
        patch.setattr(train._LastLoss, "__call__", interrupt)
        assert minunet(*train_command(folders, "cut", "--device", "cuda")) == 130
    count_launches.clear()
    again = ("train", folders / "images", folders / "masks", "--out", folders / "cut", "--resume")
    assert minunet(*again, "--device", "cpu") == 2
    assert "was begun with --device cuda, not with --device cpu" in capsys.readouterr().err
    assert minunet(*again) == 0
    assert set(count_launches) == {"cuda"}
    (one, found), (other, expected) = files_of(folders / "cut"), files_of(folders / "whole")
    assert_same_model(one, other)
    assert found == expected


def test_a_run_of_an_earlier_version_goes_on_on_the_host(cupy, folders, capsys, monkeypatch):
    from minunet.training import resume

    plain = resume.to_store

    def of_earlier(options, trainer):
        stored = plain(options, trainer)
        del stored["options"]["device"]
        return stored

    monkeypatch.setattr("minunet.training.runs.to_store", of_earlier)
    assert minunet(*train_command(folders, "run")) == 0
    again = ("train", folders / "images", folders / "masks", "--out", folders / "run", "--resume")
    assert minunet(*again, "--device", "cpu") == 0
    assert minunet(*again, "--device", "cuda") == 2
    assert "was begun with --device cpu, not with --device cuda" in capsys.readouterr().err


def test_gradcheck_on_the_device(cupy, capsys):
    assert minunet("gradcheck", "relu-", "--device", "cuda") == 0
    output = capsys.readouterr().out
    assert "-cuda_loops\n" in output and "-blocks\n" not in output
