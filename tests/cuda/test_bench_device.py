"""`minunet bench --device cuda`: its way through the stand-in for CuPy (never how fast it is), and without a GPU."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from cuda_emulator import emulated

from minunet import timing
from minunet.bench import command, contenders, networks, works
from minunet.bench.gpu import command as gpu
from minunet.bench.gpu import device, kernels
from minunet.cli import main
from minunet.errors import UsageError
from minunet.kernels import KERNELS, cases
from minunet.kernels.cuda import cupy, driver

CASE = "conv2d-n2-c3-o5-h7-w11-kh3-kw3-padding1-bias1-relu0-float32"
VALID = works.Work("valid", "a small network", {"features": (4, 8)}, (1, 1, 60, 76), ("infer", "train"))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(timing, "REST", 0)
    monkeypatch.setattr(timing, "TURN", 0)
    monkeypatch.setattr(device, "ROW", 1e-3)


@pytest.fixture
def standin():
    with emulated("fast") as module:
        yield module


@pytest.fixture
def no_gpu(monkeypatch):
    def missing():
        raise driver.DeviceNotFound("the NVIDIA driver finds no GPU; compute on the CPU")

    monkeypatch.setattr(driver, "_found", missing)
    monkeypatch.setattr(driver, "_cupy", [])


def test_without_a_gpu_it_says_so_in_one_line(no_gpu, capsys):
    assert main(["bench", "--device", "cuda"]) == 2
    assert capsys.readouterr().err == "minunet: the NVIDIA driver finds no GPU; compute on the CPU\n"
    with pytest.raises(UsageError, match="finds no GPU"):
        command.bench(command.BenchOptions(kernel="relu", device="cuda"))


@pytest.mark.parametrize(
    "given, reason",
    [
        ({"kernel": "conv2d", "file": "mine.py"}, "--kernel FILE is timed on the CPU"),
        ({"works": ("memory",)}, "--works memory measures the CPU"),
        ({"on_paper": True}, "--on-paper speaks of"),
    ],
)
def test_what_does_not_go_together(given, reason):
    with pytest.raises(UsageError, match=reason):
        command.BenchOptions(device="cuda", **given)


# ---------------------------------------------------------------------------------------------------------- a kernel


@pytest.mark.cuda_emulated
def test_one_kernel(standin, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["bench", "conv2d", "--device", "cuda", "--case", CASE, "--rounds", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "emulated device" in said and "does not tell its clocks" in said and "nan" not in said
    results = json.loads((out / "results.json").read_text())
    assert [one["function"] for one in results["kernels"]] == list(KERNELS["conv2d"].functions)
    for one in results["kernels"]:
        assert one["wrong"] == {}
        assert set(one["contenders"]) >= {v.name for v in cases.device_variants("conv2d")}
        assert all(len(c["seconds"]) == 2 and min(c["seconds"]) > 0 for c in one["contenders"].values())
    assert results["versions"]["cupy"] == "emulated"


@pytest.mark.cuda_emulated
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_function_of_every_kernel(kernel, standin):
    case = max(cases.select("test", kernel, "float32"), key=lambda case: len(case.name))
    for function in KERNELS[kernel].functions:
        found = kernels.measure(case, function, rounds=1)
        assert found.wrong == {} and set(found.seconds) == {v.name for v in cases.device_variants(kernel)}


@pytest.mark.cuda_emulated
def test_what_is_wrong_is_not_timed(standin, monkeypatch):
    module = KERNELS["relu"].load("cuda_loops")

    def wrong(x, out):
        out[...] = 1

    monkeypatch.setattr(module, "forward", wrong)
    found = kernels.measure(cases.select("test", "relu", "float32")[1], "forward", rounds=1)
    assert found.seconds == {} and found.wrong["cuda_loops"].startswith("AssertionError: relu.forward: out")


@pytest.mark.cuda_emulated
def test_arrays_are_sent_as_they_lie(standin):
    for layout in ("contiguous", "channels_last"):
        x = cases.poisoned((2, 3, 4, 5), np.float32, layout)[0]
        x[...] = np.arange(x.size).reshape(x.shape)
        there = kernels.sent(x)
        assert there.strides == x.strides and (cupy().asnumpy(there) == x).all()


# -------------------------------------------------------------------------------------------------------- a network


@pytest.mark.cuda_emulated
@pytest.mark.parametrize("mode", VALID.modes)
def test_a_network_is_checked_against_the_cpu(mode, standin):
    found = networks.compare(VALID, mode, ["minunet cuda"], 1, rounds=1)
    assert found.wrong == {} and [r.contender for r in found.results] == ["minunet cuda"]
    assert found.results[0].error < 1e-3


@pytest.mark.cuda_emulated
def test_a_wrong_step_is_not_timed(standin, monkeypatch):
    honest = contenders.Minunet.gradients

    def gradients(self):
        found = honest(self)
        return {name: -g for name, g in found.items()} if self.kind == "cuda" else found

    monkeypatch.setattr(contenders.Minunet, "gradients", gradients)
    found = networks.compare(VALID, "train", ["minunet cuda"], 1, rounds=1)
    assert found.results == [] and "has a cosine of -" in found.wrong["minunet cuda"]


@pytest.mark.cuda_emulated
def test_the_command_for_networks(standin, monkeypatch, capsys):
    monkeypatch.setattr(works, "networks", lambda quick=False: {"valid": VALID})
    monkeypatch.setattr(contenders, "on_device", lambda: ["minunet cuda"])
    gpu.on_device(command.BenchOptions(device="cuda", rounds=1))
    said = capsys.readouterr().out
    assert said.count("minunet cuda") == 2 and "a small network, 1 x 60 x 76: training step" in said


# ------------------------------------------------------------------------------------------------- clocks and limits


def fake(**parts):
    """A module in the place of CuPy, with a device that tells its clocks."""
    attributes = {"MultiProcessorCount": 108, "ClockRate": 1410000, "MemoryClockRate": 1593000,
                  "GlobalMemoryBusWidth": 5120}  # fmt: skip
    made = SimpleNamespace(attributes=attributes, compute_capability="80", synchronize=lambda: None)
    runtime = SimpleNamespace(getDeviceProperties=lambda number: {"name": b"A100"})
    return SimpleNamespace(cuda=SimpleNamespace(Device=lambda: made, runtime=runtime, **parts))


def test_limits_follow_from_the_attributes(monkeypatch):
    monkeypatch.setattr(driver, "_cupy", [fake()])
    found = device.limits()
    assert found.peak["float32"] == pytest.approx(19.5e12, rel=1e-3)
    assert found.peak["float64"] == pytest.approx(9.7e12, rel=5e-3)
    assert found.bandwidth == pytest.approx(2039e9, rel=1e-3)


def test_events_tell_the_time_where_there_are_some(monkeypatch):
    log = []

    class Event:
        def record(self):
            log.append("record")

        def synchronize(self):
            log.append("wait")

    monkeypatch.setattr(driver, "_cupy", [fake(Event=Event, get_elapsed_time=lambda begin, end: 6.0)])
    assert device.seconds_a_call(lambda: log.append("call"), 3) == pytest.approx(2e-3)  # 6 ms
    assert log == ["record", "call", "call", "call", "record", "wait"]
