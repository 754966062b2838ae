"""mn.explain: the layers it names, what it counts for them, and that it leaves no trace."""

import threading

import numpy as np
import pytest

import minunet as mn
import minunet.functional as F
from minunet import kernels
from minunet.bench import limits
from minunet.display import info

MODELS = {
    "valid": ({"features": (4, 8)}, (60, 76)),
    "same": ({"features": (4, 8), "padding": "same", "norm": "batch", "dropout": 0.2}, (21, 32)),
}


@pytest.fixture(autouse=True)
def known_limits(monkeypatch):
    """The machine is not measured here: 100 GFLOP/s, 10 GB/s."""
    known = limits.Limits(1, {"float32": 100e9, "float64": 50e9}, 10e9, "made up")
    monkeypatch.setattr("minunet.display.explanation.measure", lambda again: known)
    return known


def model_of(name):
    arguments, size = MODELS[name]
    return mn.UNet(1, 2, **arguments), size


def expected_layers(model, size):
    """{name: (shape, multiply-adds)} by minunet info."""
    return {layer.name: (layer.shape, layer.macs) for layer in info.layers(model, size)}


def first_rows(explanation):
    """{layer: its first kernel call}: convolution, transposed convolution or pool."""
    rows = {}
    for row in explanation.rows:
        if row.variant:
            rows.setdefault(row.layer, row)
    return rows


@pytest.mark.parametrize("name", MODELS)
def test_layers_have_the_names_shapes_and_operations_of_minunet_info(name, backend):
    model, size = model_of(name)
    rows = first_rows(mn.explain(model, size, batch=3, runs=1))
    for layer, (shape, macs) in expected_layers(model, size).items():
        assert rows[layer].shape == (3, *shape), layer
        assert rows[layer].cost.flops == 2 * 3 * macs, layer
        assert rows[layer].seconds > 0


@pytest.mark.parametrize("name", MODELS)
def test_the_way_back_is_there_in_training(name, backend):
    model, size = model_of(name)
    rows = mn.explain(model, size, training=True, runs=1).rows
    back = {(row.layer, row.operation): row for row in rows if ".backward" in row.operation}
    macs = {name: macs for name, (_, macs) in expected_layers(model, size).items() if macs}
    for layer, expected in macs.items():
        kernel = "conv_transpose2d" if layer in ("ups.0", "ups.2") else "conv2d"
        assert back[layer, f"{kernel}.backward_weight"].cost.flops == 2 * expected
        assert ((layer, f"{kernel}.backward_input") in back) == (layer != "downs.0.conv.0")
    assert "pool 0" in {layer for layer, _ in back} and "loss" in {layer for layer, _ in back}


def test_one_logit_has_its_own_loss():
    model = mn.UNet(3, 1, features=(4,), padding="same")
    with mn.use_backend("numpy"):
        rows = mn.explain(model, (8, 8), training=True, runs=1).rows
    assert any(row.operation == "conv2d.backward_weight" and row.layer == "final_conv" for row in rows)


def test_the_variant_that_ran_is_named():
    model, size = model_of("valid")
    with mn.use_backend("numpy"), kernels.use(conv2d="reference", max_pool2d="reference"):
        rows = first_rows(mn.explain(model, size, runs=1))
    assert rows["downs.0.conv.0"].variant == "reference" and rows["pool 0"].variant == "reference"


def test_only_kernels_and_long_operations_are_listed():
    model, size = model_of("valid")
    explanation = mn.explain(model, size, runs=2)
    assert all(row.variant or row.seconds > 4e-3 * explanation.seconds for row in explanation.rows)
    assert explanation.rest >= 0


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(training):
    model, size = model_of("same")
    model.train()
    model.bottleneck.eval()
    parameter = model.parameters()[0]
    parameter.grad = np.full_like(parameter.data, 7)
    dropout = next(module for module in model.modules() if hasattr(module, "rng"))
    state = {name: array.copy() for name, array in model.state_dict().items()}
    random, modes = dropout.rng.bit_generator.state, [module.training for module in model.modules()]
    record = F.record

    mn.explain(model, size, training=training, runs=1)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)
    assert dropout.rng.bit_generator.state == random
    assert [module.training for module in model.modules()] == modes
    assert (parameter.grad == 7).all() and model.parameters()[1].grad is None
    assert not any("forward" in vars(module) for module in model.modules()) and F.record is record


def test_nothing_is_left_behind_by_an_error(monkeypatch):
    model, size = model_of("valid")
    record = F.record

    def fail(*_, **__):
        raise RuntimeError("planted")

    monkeypatch.setattr(type(model.final_conv), "forward", fail)
    with pytest.raises(RuntimeError, match="planted"):
        mn.explain(model, size, runs=1)
    assert not any("forward" in vars(module) for module in model.modules()) and F.record is record


def test_what_other_threads_do_is_not_counted():
    model, size = model_of("valid")
    done = threading.Event()

    def disturb():
        while not done.is_set():
            F.max_pool2d(np.zeros((1, 1, 4, 4), np.float32), 2)

    other = threading.Thread(target=disturb)
    other.start()
    try:
        rows = mn.explain(model, size, runs=3).rows
    finally:
        done.set()
        other.join()
    assert [row.layer for row in rows if row.operation == "max_pool2d"] == ["pool 0", "pool 1"]


def test_the_table(known_limits):
    model, size = model_of("valid")
    explanation = mn.explain(model, size, batch=2, runs=1)
    text = str(explanation)
    assert text == repr(explanation)
    lines = text.splitlines()
    assert lines[0].startswith("inference of 2 x 1 x 60 x 76, float32, backend ")
    assert str(known_limits) in lines[1]
    (line,) = (line for line in lines if line.startswith("bottleneck.conv.0 "))
    row = first_rows(explanation)["bottleneck.conv.0"]
    share = max(row.cost.flops / 100e9, row.cost.bytes / 10e9) / row.seconds
    assert line.split()[-1] == f"{share:.0%}" and f"{row.seconds * 1e3:.3f}" in line
    assert lines[-1].startswith("total") and "100.0%" in lines[-1]
    assert explanation.seconds == pytest.approx(sum(row.seconds for row in explanation.rows) + explanation.rest)


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        mn.explain(mn.UNet(1, 2, features=(4, 8)), (50, 50))


def test_float64():
    model = mn.UNet(1, 2, features=(4,), padding="same", dtype=np.float64)
    with mn.use_backend("numpy"):
        rows = mn.explain(model, (8, 8), runs=1).rows
    assert {row.cost.dtype for row in rows if row.variant} == {"float64"}
