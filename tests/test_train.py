"""The training loop: it learns, repeats itself to the bit, keeps the best, and plans its time."""

import math

import numpy as np
import pytest

import minunet as mn
from minunet.data import cells, from_arrays
from minunet.errors import UsageError, WorkFailed
from minunet.training import budget
from minunet.training.history import History, State
from minunet.training.train import LOSSES, Recipe, Trainer, default_crop, evenly, learning_rate


def network(**options):
    shape = {"in_channels": 1, "out_channels": 2, "features": (4, 8), "padding": "same"}
    return mn.UNet(**{**shape, "norm": "batch", "seed": 1, **options})


@pytest.fixture(scope="module")
def data():
    dataset = from_arrays(*cells(10, size=32, seed=3), target="instances")
    return dataset.subset(range(7)), dataset.subset(range(7, 10))


def state(model):
    return {name: array.copy() for name, array in model.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_it_learns(data):
    training, validation = data
    history = mn.fit(network(), training, validation, steps=60, lr=0.1, weight_map=False, score="iou")
    losses = [record["loss"] for record in history.records[1:]]
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    assert history.best_score > history.records[0]["score"] + 0.2


def test_two_runs_are_equal_to_the_bit(data):
    training, validation = data
    models = [network(dropout=0.2), network(dropout=0.2)]
    for model in models:
        mn.fit(model, training, validation, steps=5, seed=4)
    assert_same(state(models[0]), state(models[1]))
    other = network(dropout=0.2)
    mn.fit(other, training, validation, steps=5, seed=5)
    assert not np.array_equal(other.state_dict()["final_conv.weight"], models[0].state_dict()["final_conv.weight"])


def test_reports_do_not_change_a_run(data):
    """Looking at the validation images leaves no trace in what is learned."""
    training, validation = data
    with_look, without = network(), network()
    seen = []

    def report(record):
        if record["step"] == record["steps"]:
            seen.append(state(with_look))

    mn.fit(with_look, training, validation, steps=5, report=report)
    mn.fit(without, training, steps=5)
    assert_same(seen[0], state(without))


def test_the_best_weights_are_left_in_the_model(data):
    training, validation = data
    model, best = network(), []

    def report(record):
        if record.get("best"):
            best.append(state(model))

    history = mn.fit(model, training, validation, steps=24, lr=0.3, report=report)
    assert_same(state(model), best[-1])
    scores = {r["step"]: r["score"] for r in history.records if "score" in r and r["step"]}
    assert history.best_score == max(scores.values()) == scores[history.best_step]
    after = Trainer(model, training, validation, Recipe()).validate()
    assert after["score"] == history.best_score


def test_records(data):
    training, validation = data
    heard, ticks = [], []
    history = mn.fit(
        network(), training, validation, steps=30, report=heard.append,
        progress=lambda done, loss: ticks.append(done),
    )  # fmt: skip
    assert heard == history.records
    assert ticks == list(range(1, 31))
    assert [record["step"] for record in heard] == list(range(31))
    assert all(record["steps"] == history.steps == 30 for record in heard)
    assert sum("score" in record for record in heard) == 1 + budget.VALIDATIONS
    assert "loss" not in heard[0] and "score" in heard[-1]
    for record in heard[1:]:
        assert record["images_per_second"] > 0 and record["lr"] > 0 and record["loss"] > 0


def test_without_validation_the_last_weights_stay(data):
    history = mn.fit(network(), data[0], steps=3)
    assert history.best_step is None and history.best_score is None
    assert not any("score" in record for record in history.records)


def test_the_model_takes_over_preprocessing_and_coding(data):
    model = network()
    mn.fit(model, data[0], steps=1)
    assert model.preprocessing == data[0].preprocessing
    assert model.coding == data[0].coding


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(data, loss):
    check_loss(network(out_channels=1 if loss == "bce" else 2), data, loss)


def test_dice_of_a_single_logit(data):
    check_loss(network(out_channels=1), data, "dice")


def check_loss(model, data, loss):
    history = mn.fit(model, *data, steps=2, loss=loss)
    assert 0 < history.records[-1]["loss"] < 5
    assert 0 < history.records[-1]["validation_loss"] < 5


def test_a_single_logit_takes_bce_by_itself(data):
    assert Trainer(network(out_channels=1), *data, Recipe()).loss_name == "bce"


def test_a_valid_network_trains(data):
    model = network(features=(4,), padding="valid", norm=None)
    trainer = Trainer(model, *data, Recipe(crop=(36, 28)))
    x, target, weight = trainer.batch(0)
    assert x.shape == (8, 1, 36, 28) and target.shape == weight.shape == (8, 20, 12)
    history = mn.fit(model, *data, steps=2, crop=(36, 28))
    assert history.best_step is not None


@pytest.mark.parametrize("augment", ["flips", "full"])
def test_any_number_of_workers_gives_the_same_weights(data, augment):
    found = []
    for workers in (0, 1, 3):
        model = network()
        history = mn.fit(model, *data, steps=6, crop=16, augment=augment, foreground=0.5, workers=workers)
        found.append(state(model))
        assert all(0 < record["waiting"] < 1 for record in history.records[1:])
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])


def test_augmentation_true_and_false_are_flips_and_none():
    assert (Recipe(augment=True), Recipe(augment=False)) == (Recipe(), Recipe(augment="none"))


def test_where_the_weight_map_is_on(data):
    training, _ = data
    masks = [np.where(truth, 255, 0).astype(np.uint8) for truth in training.truth]
    binary = from_arrays(training.raw, masks)
    ids, pieces = Recipe(), Recipe(weight_map=True)
    assert Trainer(network(), training, None, ids).batch(0).weight.max() > 5
    assert Trainer(network(), training, None, Recipe(loss="dice")).batch(0).weight is None
    assert Trainer(network(), training, None, Recipe(weight_map=False)).batch(0).weight is None
    assert Trainer(network(), binary, None, ids).batch(0).weight is None
    assert Trainer(network(), binary, None, pieces).batch(0).weight.max() > 5


@pytest.mark.parametrize("outputs, loss", [(2, "ce"), (2, "ce+dice"), (1, "bce")])
def test_the_loss_is_weighted(data, outputs, loss):
    """One step with weights against the formula, all written out in float64."""
    trainer = Trainer(network(out_channels=outputs, dtype=np.float64), data[0], None, Recipe(loss=loss, w0=7.0))
    x, target, weight = trainer.batch(0)
    assert weight.max() > 4 and weight.dtype == np.float64
    z = trainer.model(x).data
    z = np.concatenate([np.zeros_like(z), z], axis=1) if outputs == 1 else z
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    truth = np.stack([1 - target, target], axis=1)
    expected = -(weight * np.log((p * truth).sum(axis=1))).mean()
    if loss == "ce+dice":
        each = (2 * (p * truth).sum((0, 2, 3)) + 1) / (p.sum((0, 2, 3)) + truth.sum((0, 2, 3)) + 1)
        expected += 1 - each.mean()
    assert trainer.step(0, 0.1) == pytest.approx(expected, rel=1e-9)


def test_the_validation_loss_is_weighted(data):
    plain, weighted = (Trainer(network(), *data, Recipe(weight_map=on)).validate() for on in (False, True))
    assert weighted["score"] == plain["score"] and weighted["validation_loss"] > 1.2 * plain["validation_loss"]


def test_balanced_classes_count_alike(data):
    weights = Trainer(network(), data[0], None, Recipe(weight_map=False, class_weight="balanced")).weights
    target = np.stack(data[0].targets)
    sums = [weights.classes[k] * np.count_nonzero(target == k) for k in (0, 1)]
    assert sums[0] == pytest.approx(sums[1]) == pytest.approx(target.size / 2)


def test_more_classes():
    rng = np.random.default_rng(0)
    masks = [np.repeat(np.arange(32) // 11, 32).reshape(32, 32).astype(np.uint8)] * 4
    images = [mask * 60 + rng.integers(0, 20, mask.shape, dtype=np.uint8) for mask in masks]
    model = network(out_channels=3)
    history = mn.fit(model, from_arrays(images, masks), from_arrays(images, masks), steps=12, lr=0.1)
    assert history.best_score > history.records[0]["score"]


def test_a_loss_that_is_not_finite_stops_the_run(data):
    model = network(norm=None)
    with pytest.raises(WorkFailed, match=r"no longer finite at step \d+ .*--lr"):
        mn.fit(model, data[0], steps=30, lr=1e20, clip=None, warmup=0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "needs steps, minutes or both"),
        ({"steps": 0}, "above 0"),
        ({"minutes": -1.0}, "above 0"),
        ({"steps": 1, "lr": 0}, "lr must be above 0, not 0"),
        ({"steps": 1, "lr": math.nan}, "lr must be above 0"),
        ({"steps": 1, "clip": -1}, "clip must be above 0, not -1"),
        ({"minutes": math.inf}, "minutes finite"),
        ({"steps": 1, "crop": 0}, "crop does not fit"),
        ({"steps": 1, "crop": 16.5}, "crop must be a whole number or"),
        ({"steps": 1, "crop": (16, 16, 16)}, "crop must be a whole number or"),
        ({"steps": 1, "batch_size": 0}, "batch_size must be above 0"),
        ({"steps": 1, "augment": "some"}, "augment must be one of none, flips, full, not 'some'"),
        ({"steps": 1, "class_weight": "x"}, "class_weight must be one of none, balanced"),
        ({"steps": 1, "foreground": 1.5}, "foreground is a share of the crops, from 0 to 1, not 1.5"),
        ({"steps": 1, "w0": -1}, "w0 must be a number from 0 up, not -1"),
        ({"steps": 1, "sigma": 0}, "sigma must be above 0, not 0"),
        ({"steps": 1, "elastic": math.inf}, "elastic must be a number from 0 up"),
        ({"steps": 1, "loss": "dice", "weight_map": True}, "the loss dice has no weights of pixels"),
        ({"steps": 1, "workers": -1}, "workers must be a number of threads from 0 up, not -1"),
        ({"steps": 1, "recipe": "bread"}, "recipe must be one of paper, cells, membranes, not 'bread'"),
        ({"steps": 1, "loss": "mse"}, "loss must be one of ce.*'mse'"),
        ({"steps": 1, "loss": "bce"}, "bce takes one output channel, not 2"),
        ({"steps": 1, "momentum": -1}, "momentum must be finite and at least 0"),
        ({"steps": 1, "schedule": "x"}, "schedule must be one of"),
        ({"steps": 1, "crop": 3}, "crop does not fit: an image of 3 x 3 px is too small"),
    ],
)
def test_what_cannot_be_done_is_refused(data, options, message):
    with pytest.raises(UsageError, match=message):
        mn.fit(network(), *data, **options)


def test_model_and_data_must_fit(data):
    with pytest.raises(UsageError, match="one output channel takes the loss bce or dice, not ce"):
        mn.fit(network(out_channels=1), data[0], steps=1, loss="ce")
    with pytest.raises(UsageError, match="images have 1 channels, the model takes 3"):
        mn.fit(network(in_channels=3), data[0], steps=1)
    with pytest.raises(UsageError, match="masks have 2 classes, the model has 4 output"):
        mn.fit(network(out_channels=4), data[0], steps=1)
    with pytest.raises(UsageError, match="crop does not fit"):
        mn.fit(network(padding="valid"), data[0], steps=1, crop=32)


def test_training_and_validation_must_mean_the_same(data):
    images, masks = [np.arange(256.0).reshape(16, 16)] * 2, [np.arange(256).reshape(16, 16) % 3] * 2
    three = from_arrays(images, masks)
    two = from_arrays(images, [np.where(mask == 1, 0, mask) for mask in masks])
    with pytest.raises(UsageError, match="differ in kind"):
        mn.fit(network(out_channels=3), three, two, steps=1)
    with pytest.raises(UsageError, match="differ in kind"):
        mn.fit(network(), data[0], from_arrays([np.eye(16)[..., None] * [1, 2, 3]], [np.eye(16)]), steps=1)
    # Foreground is foreground, whatever stands for it.
    mn.fit(network(), data[0], from_arrays([np.eye(16)], [255 * np.eye(16)]), steps=1)


def test_arrays_are_told_from_a_data_set():
    with pytest.raises(UsageError, match="from_arrays"):
        mn.fit(network(), np.zeros((4, 16, 16)), steps=1)


def test_the_crop_may_be_a_numpy_integer(data):
    assert Trainer(network(), *data, Recipe(crop=np.int64(16))).crop == (16, 16)


def images_of(*sizes):
    images = [np.zeros(size, np.uint8) for size in sizes]
    return from_arrays(images, [np.eye(*size, dtype=np.uint8) for size in sizes])


@pytest.mark.parametrize(
    "padding, sizes, crop",
    [
        ("same", [(128, 128)] * 3, (128, 128)),  # whole images
        ("same", [(96, 128)] * 3, (96, 128)),
        ("same", [(512, 512)] * 3, (128, 128)),  # too large: crops
        ("same", [(90, 130)] * 3, (88, 88)),  # no fitting size
        ("same", [(120, 120), (116, 112), (88, 88)], (112, 112)),
        ("same", [(5, 5)] * 2, (16, 16)),  # reflected up
        ("valid", [(120, 120)] * 2, (212, 212)),  # output 124
        ("valid", [(512, 512)] * 2, (220, 220)),  # output 132
    ],
)
def test_default_crop(padding, sizes, crop):
    model = network(features=(1, 1, 1), padding=padding, norm=None)
    assert default_crop(model, images_of(*sizes)) == crop
    model.output_size(crop)  # legal


def test_evenly_spaced_images(data):
    assert evenly(data[0], 100) is data[0]
    assert evenly(data[0], 3).names == [data[0].names[i] for i in (0, 2, 4)]


def rates(steps=40, **recipe):
    return np.array([learning_rate(Recipe(lr=1.0, **recipe), i, steps) for i in range(steps)])


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_the_rate_warms_up_and_never_passes_lr(schedule):
    values = rates(schedule=schedule, warmup=4)
    np.testing.assert_allclose(values[:5], [0.25, 0.5, 0.75, 1, 1])
    assert (np.diff(values[4:]) <= 0).all() and values[-1] > 0


def test_how_the_rate_falls():
    assert rates(schedule="cosine")[-1] < 0.01
    np.testing.assert_allclose(rates(30, schedule="step", warmup=0)[[0, 10, 20]], [1, 0.1, 0.01])
    np.testing.assert_allclose(rates(schedule="constant", warmup=0), 1)


@pytest.mark.parametrize("steps", [1, 5, 12, 13, 100, 1001])
def test_events_are_evenly_spaced_and_end_with_the_run(steps):
    due = [done for done in range(1, steps + 1) if budget.falls_due(done, steps, 12)]
    assert len(due) == min(steps, 12)
    assert due[-1] == steps
    gaps = np.diff([0, *due])
    assert gaps.max() - gaps.min() <= 1


class FakeClock:
    """A clock that only moves when something takes its time."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def takes(self, first, later):
        """An action that is slow the first time, as what compiles is."""
        seconds = iter([first])

        def action():
            self.now += next(seconds, later)

        return action


@pytest.mark.parametrize("minutes", [0.5, 5, 60])
def test_the_plan_fills_the_time(minutes):
    clock, seconds = FakeClock(), 60 * minutes
    plan = budget.estimate(seconds, clock.takes(9, 0.25), clock.takes(2, 0.5), clock)
    assert plan.step_seconds == pytest.approx(0.25)
    assert plan.validation_seconds == pytest.approx(0.5)
    whole = clock.now + plan.steps * 0.25 + (budget.VALIDATIONS + 1) * 0.5
    assert budget.AIM * seconds - 0.25 <= whole <= budget.AIM * seconds


def test_the_plan_has_at_least_one_step():
    clock = FakeClock()
    assert budget.estimate(1.0, clock.takes(50, 1), clock.takes(1, 1), clock).steps == 1


def test_slow_validations_leave_half_of_the_time_to_the_steps():
    assert budget.steps_that_fit(100, step_seconds=0.5, validation_seconds=60) == 100


def test_planning_leaves_no_trace_and_steps_repeat_the_run(data, monkeypatch):
    monkeypatch.setattr(budget, "LIMIT", 100)  # a busy machine is no reason to stop before the end
    planned, repeated = network(dropout=0.1), network(dropout=0.1)
    history = mn.fit(planned, *data, minutes=0.03)
    assert history.records[0]["step_seconds"] > 0
    mn.fit(repeated, *data, steps=history.steps)
    assert_same(state(planned), state(repeated))


def test_steps_within_minutes(data):
    assert mn.fit(network(), *data, steps=3, minutes=5).stopped_at is None
    history = mn.fit(network(), *data, steps=100_000, minutes=0.005)
    assert history.stopped_at < 100_000 and history.steps == 100_000


def test_when_the_time_is_up_the_run_ends_with_a_look(data):
    trainer = Trainer(network(), *data, Recipe())
    history = trainer.run(State(History(1000)), -math.inf, lambda record: None, lambda done, loss: None)
    assert history.stopped_at == 1 == history.best_step and history.stopped_by == "time"
    assert history.steps == 1000 and len(history.records) == 2
