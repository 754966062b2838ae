"""Bounds and predicted times on paper: the calls are those of the program, the arithmetic is right by hand."""

import numpy as np
import pytest

import minunet as mn
import minunet.functional as F
from minunet.bench import works
from minunet.bench.cost import Cost, of_call
from minunet.bench.gpu import compiled, paper, sass, steps, table
from minunet.bench.gpu.devices import DEVICES, Device
from minunet.bench.gpu.launches import Launch
from minunet.cli import main
from minunet.extras import MissingExtra
from minunet.kernels import observe

A100 = next(device for device in DEVICES if device.name.startswith("A100"))
H100 = next(device for device in DEVICES if device.name.startswith("H100"))
NETWORKS = pytest.mark.parametrize(
    "work",
    [
        works.Work("valid", "", {"features": (4, 8)}, (1, 1, 60, 76)),
        works.Work("same", "", {"features": (4, 8), "padding": "same", "norm": "batch"}, (2, 1, 33, 48)),
    ],
    ids=lambda work: work.name,
)


@pytest.fixture
def no_compiler(monkeypatch):
    def missing():
        raise MissingExtra("NVRTC is not here")

    monkeypatch.setattr(compiled, "nvrtc", missing)


# ---------------------------------------------------------------------------------------------------------- the calls


@pytest.mark.parametrize("training", [False, True])
@NETWORKS
def test_calls_are_those_of_a_real_step(work, training):
    """The same kernels with the same work, in the same order, as where everything is computed."""
    model, seen = work.model(), []

    def observer(kernel, function, variant, arguments, run):
        cost = of_call(kernel, function, arguments)
        seen.append((kernel, function, cost.flops, cost.bytes))
        run()

    x, target = work.draw(0, model)
    with mn.use_backend("numpy"), observe(observer):
        if training:
            F.cross_entropy(model.train()(x), target).backward()
            mn.SGD(model.parameters(), lr=0.1, momentum=0.9).step()
        else:
            with mn.no_grad():
                model.eval()(x)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    found = steps.calls(model, work.shape, training)
    assert [(c.kernel, c.function, c.cost.flops, c.cost.bytes) for c in found if c.kernel] == seen
    for call in found:
        assert call.cost.bytes > 0 and bool(call.launches) == bool(call.kernel), call
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_operations_of_a_step():
    """3 times the multiply-adds of the forward pass, but for the first layer: it has no gradient to its input, and is
    computed again."""
    work = works.networks(quick=True)["paper"]
    model = work.model()
    forward = sum(call.cost.flops for call in steps.calls(model, work.shape, training=False))
    assert forward == pytest.approx(work.flops("infer", model), rel=1e-12)
    step = steps.calls(model, work.shape, training=True)
    first = next(call for call in step if call.layer == "downs.0.conv.0").cost.flops
    again = sum(call.operation == "conv2d.forward" for call in step)
    assert sum(call.cost.flops for call in step) == pytest.approx(3 * forward - first + again * first, rel=1e-12)


# -------------------------------------------------------------------------------------------------------- arithmetic


def test_data_sheets():
    assert [round(device.peak / 1e12, 1) for device in DEVICES] == [82.6, 19.5, 66.9]
    assert len({device.architecture for device in DEVICES}) == len(DEVICES) == 3


def test_the_roofline():
    device = Device("", 80, multiprocessors=10, cores=100, clock=1e9, bandwidth=1e11)
    assert device.peak == 2e12
    assert device.least_seconds(4e12, 1.0) == 2 and device.least_seconds(1.0, 3e11) == 3


def test_what_is_issued():
    """128 cores: every instruction takes a slot.  64: a multiply-add takes two, in which others are issued."""
    assert H100.issued(100, 80) == 0.8 and A100.issued(100, 80) == 1.0
    assert A100.issued(300, 75) == 0.5 and H100.issued(100, 100) == 1.0


def loop(**changed):
    given = dict(file="f", kernel="correlate_wide", dtype="float32", architecture=90, instructions=500, arithmetic=400,
                 sums=64, around=100, rounds=4, kinds=())  # fmt: skip
    return table.Loop(**{**given, **changed})


def call(flops, shape, blocks, **changed):
    launch = Launch("f", "correlate_wide", "float32", (blocks,), (128,), 0, 1000)
    given = dict(layer="", operation="", shape=shape, cost=Cost(flops, 1000.0), kernel="conv2d", function="forward",
                 variant="", launches=(launch,))  # fmt: skip
    return steps.Call(**{**given, **changed})


def test_shares_of_a_loop():
    assert loop().share == 0.8 and loop().stage_share == 1600 / 2100


def test_a_prediction_by_hand(monkeypatch):
    """133 blocks of 128 x 64 sums on 132 multiprocessors: one of them has two."""
    monkeypatch.setattr(paper, "loops", lambda *_: {"correlate_wide": loop()})
    shape = (1, 64, 133, 128)
    flops = 2.0 * 64 * 133 * 128 * 72  # 72 = 9 phases of 8 terms
    seconds = 1600 / 2100 * 133 / 264 * H100.peak
    found = paper.predict(call(flops, shape, 133), H100)
    assert found.compute == pytest.approx(flops / seconds, rel=1e-12)
    assert found.memory == 1000 / (0.8 * 3350e9) and found.launch == 5e-6
    assert found.seconds == found.compute + 5e-6
    fewer = paper.predict(call(flops / 72 * 65, shape, 133), H100)  # 65 terms take as long as 72
    assert fewer.compute == pytest.approx(found.compute, rel=1e-12)


def test_an_operation_of_the_library_is_bound_by_memory():
    found = paper.predict(call(0.0, (2, 3), 1, cost=Cost(0.0, 3350e6), kernel="", launches=()), H100)
    assert found.seconds == pytest.approx(1e-3 / 0.8 + 5e-6)


# -------------------------------------------------------------------------------------------------------- the command


def test_without_a_compiler_there_are_bounds(no_compiler, tmp_path, capsys):
    assert main(["bench", "--on-paper", "--quick", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "nothing here was measured" in said and "no times are predicted: NVRTC is not here" in said
    assert "| predicted |" not in said and "| bottleneck.conv.2 |" in said
    written = (tmp_path / "out" / "paper.md").read_text()
    assert "RTX 4090: least ms" in written and "training step" in written


@pytest.mark.cuda_compiled
def test_with_a_compiler_times_are_predicted(monkeypatch):
    try:
        compiled.nvrtc()
        sass.nvdisasm()
    except MissingExtra as error:
        pytest.skip(str(error))
    monkeypatch.setattr(paper, "DEVICES", (H100,))  # one takes long enough
    work = works.networks(quick=True)["paper"]
    calls = steps.calls(work.model(), work.shape, training=True)
    totals = paper.total(calls, True)[""]
    for device in paper.DEVICES:
        assert totals.least[device.name] < totals.predicted[device.name] < 100 * totals.least[device.name]
    shown = paper.functions_table("", calls, True)
    assert shown.rows[-1][0] == "all" and shown.rows[-1][1] == str(len(calls))
