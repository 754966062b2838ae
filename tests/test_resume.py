"""Interrupted and resumed is the same as never stopped: weights, momentum, records, random numbers, to the bit."""

import functools
import os
import signal
import time

import numpy as np
import pytest

import minunet as mn
from minunet.data import DataError, cells, from_arrays
from minunet.errors import UsageError
from minunet.training import budget, checkpoint
from minunet.training.train import Recipe, Trainer

STEPS = 16  # with a record each, a look at most of them, and 4 epochs
RECIPE = {"batch_size": 2, "crop": 16, "lr": 0.1}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # nobody pulls the plug here
    with mn.use_backend("numpy"):  # nothing to compile
        yield


@pytest.fixture(scope="module")
def data():
    dataset = from_arrays(*cells(10, size=24, seed=3), target="instances")
    return dataset.subset(range(7)), dataset.subset(range(7, 10))


def network(**options):
    shape = {"features": (2,), "padding": "same", "norm": "batch", "dropout": 0.3, "seed": 1}
    return mn.UNet(1, 2, **shape | options)


def timeless(records):
    times = {"seconds", "images_per_second", "waiting", "step_seconds", "validation_seconds"}
    return [{name: value for name, value in record.items() if name not in times} for record in records]


def outcome(path, model, history):
    """All that a run leaves behind, times excepted."""
    kept = checkpoint.read(path)
    random = kept.description["random"]
    return {**model.state_dict(), **kept.tensors}, timeless(history.records), history.stopped_by, random


def assert_same(one, other):
    assert one[0].keys() == other[0].keys()
    for name in one[0]:
        np.testing.assert_array_equal(one[0][name], other[0][name], err_msg=name, strict=True)
    assert one[1:] == other[1:]


def train(data, path, **options):
    model = network()
    history = mn.fit(model, *data, checkpoint=path, **RECIPE | options)
    return outcome(path, model, history)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The run that was never stopped."""
    with mn.use_backend("numpy"):
        return train(data, tmp_path_factory.mktemp("whole") / "c.safetensors", steps=STEPS)


def interrupt_at(step):
    """A callback for `progress` that presses Ctrl-C after a step."""

    def progress(done, loss):
        if done == step:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("stops", [[1], [2], [3], [7], [14], [15], [1, 2, 9], [4, 4, 12]], ids=str)
def test_stopped_anywhere_and_resumed(data, whole, tmp_path, stops):
    path = tmp_path / "c.safetensors"
    for stop in stops:
        resume = {"resume": True} if path.exists() else {"steps": STEPS}
        with pytest.raises(KeyboardInterrupt):
            train(data, path, progress=interrupt_at(stop), **resume)
            raise KeyboardInterrupt  # a stop that lies behind: the run was not asked to stop again
        assert checkpoint.read(path).done >= stop
    assert_same(train(data, path, resume=True), whole)


@pytest.mark.parametrize("place", ["validate", "report", "_record"])
@pytest.mark.parametrize("call", [1, 6])
def test_stopped_between_the_steps(data, whole, tmp_path, monkeypatch, place, call):
    """Ctrl-C while the validation images are looked at, and while the caller saves the best model."""
    path, calls = tmp_path / "c.safetensors", []

    def interrupt(*_):
        calls.append(None)
        if len(calls) == call:
            raise KeyboardInterrupt

    def interrupted(method):
        @functools.wraps(method)
        def wrapper(*arguments):
            result = method(*arguments)
            interrupt()
            return result

        return wrapper

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if place != "report":
            patch.setattr(Trainer, place, interrupted(getattr(Trainer, place)))
        train(data, path, steps=STEPS, report=interrupt if place == "report" else None)
    assert_same(train(data, path, resume=True), whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", ["forward", "backward", "update"])
def test_a_signal_within_a_step_waits_for_its_end(data, whole, tmp_path, monkeypatch, number, place):
    path = tmp_path / "c.safetensors"
    if number == signal.SIGTERM:  # as the command line does
        monkeypatch.setattr(signal, "default_int_handler", signal.default_int_handler)
        before = signal.signal(number, signal.default_int_handler)
    owner, name = {
        "forward": (mn.UNet, "forward"),
        "backward": (mn.Tensor, "backward"),
        "update": (mn.SGD, "_update"),
    }[place]
    method, calls = getattr(owner, name), []

    def signalled(*arguments, **options):
        calls.append(None)
        if len(calls) == 80:
            os.kill(os.getpid(), number)
            time.sleep(0.001)  # here it would be raised
        return method(*arguments, **options)

    try:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(owner, name, signalled)
            if place != "update":  # 18 calls a step; of the others it is one
                calls += [None] * 75
            train(data, path, steps=STEPS)
    finally:
        if number == signal.SIGTERM:
            signal.signal(number, before)
    assert 0 < checkpoint.read(path).done < STEPS
    assert_same(train(data, path, resume=True), whole)


def test_the_second_signal_does_not_wait_and_the_last_checkpoint_stays(data, whole, tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    update, calls = mn.SGD._update, []

    def signalled(*arguments):
        calls.append(None)
        if len(calls) > 110:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.001)
        return update(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mn.SGD, "_update", signalled)
        train(data, path, steps=STEPS)
    calls_a_step = len(network().parameters())
    assert len(calls) == 112 and len(calls) % calls_a_step  # only some weights had moved
    assert checkpoint.read(path).done <= len(calls) // calls_a_step
    assert_same(train(data, path, resume=True), whole)


def test_a_signal_outside_of_steps_acts_at_once(data, tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(data, path, steps=STEPS, report=lambda record: os.kill(os.getpid(), signal.SIGINT))
    assert checkpoint.read(path).done == 0


def test_training_outside_of_the_main_thread(data, whole, tmp_path):
    """There Python has no signals to hold back."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(train, data, tmp_path / "c.safetensors", steps=STEPS).result()
    assert_same(found, whole)


def test_a_run_by_the_clock_goes_on_with_its_estimate(data, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "LIMIT", 1000)
    monkeypatch.setattr(budget, "steps_that_fit", lambda *_: STEPS)
    path = tmp_path / "c.safetensors"
    whole = train(data, tmp_path / "whole.safetensors", minutes=0.01)
    with pytest.raises(KeyboardInterrupt):
        train(data, path, minutes=0.01, progress=interrupt_at(7))
    assert checkpoint.read(path).steps == STEPS
    assert_same(train(data, path, resume=True), whole)


def test_a_run_whose_time_was_up_goes_on_as_if_it_had_not_been(data, whole, tmp_path):
    """The look that it ended with is not part of the run that goes on."""
    path = tmp_path / "c.safetensors"
    model = network()
    history = mn.fit(model, *data, steps=STEPS, minutes=1e-9, checkpoint=path, **RECIPE)
    assert history.stopped_by == "time" and history.stopped_at == 1
    assert "score" in history.records[-1]
    assert_same(train(data, path, resume=True), whole)


def test_resuming_within_minutes(data, whole, tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(data, path, steps=STEPS, progress=interrupt_at(5))
    history = mn.fit(network(), *data, minutes=1e-9, checkpoint=path, resume=True, **RECIPE)
    assert history.stopped_at == 5
    assert_same(train(data, path, resume=True, minutes=10), whole)


def test_patience_is_part_of_what_goes_on(data, tmp_path):
    patient = {"patience": 2, "lr": 1e-6}  # scores stay as they are
    whole = train(data, tmp_path / "whole.safetensors", steps=STEPS, **patient)
    assert whole[2] == "patience"
    assert len([record for record in whole[1] if "score" in record]) == 1 + 1 + 2  # untrained, best, two more
    path = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(data, path, steps=STEPS, progress=interrupt_at(2), **patient)
    assert_same(train(data, path, resume=True, **patient), whole)
    assert_same(train(data, path, resume=True, **patient), whole)  # ended: nothing more to do


def test_patience_needs_validation_images(data):
    with pytest.raises(UsageError, match="patience counts looks at validation images"):
        mn.fit(network(), data[0], steps=3, patience=2)


def test_a_finished_run_stays_as_it_is(data, whole, tmp_path):
    path = tmp_path / "c.safetensors"
    train(data, path, steps=STEPS)
    assert_same(train(data, path, resume=True), whole)


@pytest.mark.parametrize(
    "options, recipe",
    [
        ({"padding": "valid", "norm": None, "features": (2,)}, {"crop": 28}),
        ({"dtype": np.float64, "dropout": 0.0}, {"augment": False, "schedule": "step"}),
        ({}, {"augment": "full", "foreground": 0.5, "class_weight": "balanced", "w0": 3.0, "workers": 2}),
        ({"dropout": 0.5, "norm": None}, {"momentum": 0.0, "nesterov": False, "clip": None, "weight_decay": 1e-3}),
    ],
    ids=["valid", "float64", "full", "no momentum"],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_other_networks_and_recipes(data, tmp_path, options, recipe, suffix):
    def run(path, **more):
        model = network(**options)
        history = mn.fit(model, data[0], checkpoint=path, **RECIPE | recipe | more)
        return outcome(path, model, history)

    whole = run(tmp_path / f"whole{suffix}", steps=6)
    path = tmp_path / f"c{suffix}"
    with pytest.raises(KeyboardInterrupt):
        run(path, steps=6, progress=interrupt_at(4))
    assert_same(run(path, resume=True), whole)


def test_numba_kernels(data, tmp_path):
    pytest.importorskip("numba", reason="the numba backend needs Numba")
    with mn.use_backend("numba"):
        whole = train(data, tmp_path / "whole.safetensors", steps=6)
        path = tmp_path / "c.safetensors"
        with pytest.raises(KeyboardInterrupt):
            train(data, path, steps=6, progress=interrupt_at(4))
        assert_same(train(data, path, resume=True), whole)


# ---------------------------------------------------------------------------------- what is refused


@pytest.fixture(scope="module")
def begun(data, tmp_path_factory):
    """A run that was stopped at step 4."""
    path = tmp_path_factory.mktemp("begun") / "c.safetensors"
    with mn.use_backend("numpy"), pytest.raises(KeyboardInterrupt):
        train(data, path, steps=STEPS, progress=interrupt_at(4))
    return path


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lr": 0.2}, r"begun with lr 0\.1, not with lr 0\.2"),
        ({"crop": 8, "seed": 7}, r"begun with crop \[16, 16\], seed 0, not with crop \[8, 8\], seed 7"),
        ({"loss": "dice"}, r"loss ce\+dice, weight_map True, not with loss dice, weight_map False"),
        ({"augment": "full", "w0": 5}, r"augment flips, w0 10\.0, not with augment full, w0 5"),
        ({"weight_map": False}, "weight_map True, not with weight_map False"),
        ({"recipe": "cells", "lr": 0.3}, "begun with lr 0.1, augment flips, foreground 0.0, not with"),
        ({"steps": 31}, "is of a run of 16 steps, not of 31"),
    ],
)
def test_another_recipe_is_refused(data, begun, options, message):
    with pytest.raises(UsageError, match=message):
        train(data, begun, resume=True, **options)


def test_other_kernels_are_refused(data, begun):
    pytest.importorskip("numba", reason="the numba backend needs Numba")
    with mn.use_backend("numba"), pytest.raises(UsageError, match="begun with backend numpy, not with backend numba"):
        train(data, begun, resume=True)
    with mn.policy("exact"), pytest.raises(UsageError, match="begun with policy fast, not with policy exact"):
        train(data, begun, resume=True)


def test_another_network_is_refused(data, begun):
    with pytest.raises(UsageError, match="another network than the model given"):
        mn.fit(network(features=(3,)), *data, checkpoint=begun, resume=True, **RECIPE)


def changed(dataset, i=2, **arrays):
    """The data set with other arrays for one image."""
    copy = dataset.subset(range(len(dataset)))
    for name, change in arrays.items():
        getattr(copy, name)[i] = change(getattr(copy, name)[i])
    return copy


def one_pixel(array):
    array = array.copy()
    array.flat[5] = 1 - array.flat[5]
    return array


@pytest.mark.parametrize("part", ["images", "targets", "truth"])
def test_a_changed_pixel_is_noticed(data, begun, part):
    with pytest.raises(DataError, match=r"training images are not those .* image0002 changed\. Bring the data back"):
        train((changed(data[0], **{part: one_pixel}), data[1]), begun, resume=True)
    with pytest.raises(DataError, match=r"validation images are not those .* image0009 changed"):
        train((data[0], changed(data[1], **{part: one_pixel})), begun, resume=True)


def test_missing_new_and_reordered_images_are_noticed(data, begun):
    training, validation = data
    with pytest.raises(DataError, match="image0003 missing"):
        train((training.subset([0, 1, 2, 4, 5, 6]), validation), begun, resume=True)
    renamed = training.subset(range(7))
    renamed.names[3] = "other"
    with pytest.raises(DataError, match="image0003 missing; other new"):
        train((renamed, validation), begun, resume=True)
    with pytest.raises(DataError, match="another order"):
        train((training.subset([1, 0, 2, 3, 4, 5, 6]), validation), begun, resume=True)
    with pytest.raises(DataError, match="validation images are not those"):
        train((training,), begun, resume=True)


def test_nothing_to_resume(data, tmp_path):
    with pytest.raises(FileNotFoundError):
        train(data, tmp_path / "none.safetensors", resume=True)
    with pytest.raises(UsageError, match="resume needs the file"):
        mn.fit(network(), *data, steps=1, resume=True)


def test_a_refused_resume_leaves_model_and_checkpoint(data, begun):
    before, model = begun.read_bytes(), network()
    state = {name: array.copy() for name, array in model.state_dict().items()}
    with pytest.raises(UsageError):
        mn.fit(model, *data, checkpoint=begun, resume=True, **RECIPE | {"lr": 0.5})
    with pytest.raises(UsageError):
        mn.fit(model, *data, checkpoint=begun, resume=True, steps=STEPS + 1, **RECIPE)
    assert begun.read_bytes() == before
    assert all(np.array_equal(array, state[name]) for name, array in model.state_dict().items())


def test_checkpoints_leave_no_trace_in_a_run(data, whole):
    model = network()
    history = mn.fit(model, *data, steps=STEPS, **RECIPE)
    assert timeless(history.records) == whole[1]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, whole[0][name], err_msg=name)


def test_how_often_is_the_clocks_affair_and_changes_nothing(data, whole, tmp_path, monkeypatch):
    written = []
    write = checkpoint.Keeper.write

    def note(self, state):
        written.append(state.done)
        write(self, state)

    monkeypatch.setattr(checkpoint.Keeper, "write", note)
    train(data, tmp_path / "looks.safetensors", steps=STEPS)
    looks = [done for done in range(1, STEPS + 1) if budget.falls_due(done, STEPS, budget.VALIDATIONS)]
    assert written == [0, *looks]
    written.clear()
    monkeypatch.setattr(checkpoint, "EVERY", 0)
    monkeypatch.setattr(checkpoint, "COST", 0)
    assert_same(train(data, tmp_path / "always.safetensors", steps=STEPS), whole)
    assert written == list(range(STEPS + 1))


def test_other_instances_behind_the_same_targets_are_refused(data, tmp_path):
    """They give other weights."""
    training, path = data[0], tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        mn.fit(network(), training, steps=6, checkpoint=path, progress=interrupt_at(3), **RECIPE)
    renumbered = training.subset(range(len(training)))
    renumbered.ids = [(ids > 0) * (ids.max() + 1 - ids) for ids in training.ids]
    with pytest.raises(DataError, match="changed"):
        mn.fit(network(), renumbered, checkpoint=path, resume=True, **RECIPE)


def test_checkpoints_from_before_there_were_weights_are_gone_on_with(data, tmp_path):
    """The terms of such a file lack what came later, and said of augmentation whether there was any."""
    later = ("largest_crop", "elastic", "foreground", "weight_map", "w0", "sigma", "class_weight")
    terms = checkpoint.terms(Trainer(network(), *data, Recipe(weight_map=False)))
    for augment, before in (("flips", True), ("none", False)):
        earlier = {name: value for name, value in terms.items() if name not in later} | {"augment": before}
        assert checkpoint.with_later_options(earlier) == terms | {"augment": augment}
    assert checkpoint.with_later_options(terms) is terms


def test_checkpoints_from_before_cells_were_scored_are_gone_on_with(data, tmp_path, monkeypatch):
    """Such a file does not say what the best model was chosen by, since there was nothing but the mean IoU."""
    path, terms = tmp_path / "c.safetensors", checkpoint.terms
    before = {"steps": STEPS, "score": "iou"}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "terms", lambda t: {n: v for n, v in terms(t).items() if n != "score"})
        train(data, path, progress=interrupt_at(7), **before)
    assert "score" not in checkpoint.read(path).description["terms"] and checkpoint.read(path).recipe.score == "iou"
    whole = train(data, tmp_path / "whole.safetensors", **before)
    assert_same(train(data, path, resume=True, score="iou"), whole)
    with pytest.raises(UsageError, match="begun with score iou, not with score ap"):
        train(data, path, resume=True)
