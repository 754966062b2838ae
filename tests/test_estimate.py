"""What training would need: memory by count, held against a measured peak; what fits; what the machine has left."""

import numpy as np
import pytest

import minunet as mn
from minunet.bench import memory as measured_memory
from minunet.bench.works import PAPER, Work
from minunet.training import estimate
from minunet.training.estimate import (
    available,
    fitting,
    inference_memory,
    memory,
    smaller_crop,
    step_seconds,
    timed_part,
)

COMMON = {"features": (16, 32, 64, 128), "padding": "same", "norm": "batch"}


@pytest.mark.skipif(not measured_memory.can_be_measured(), reason="peak memory is read from /proc (Linux)")
@pytest.mark.parametrize(
    "architecture, shape, mode",
    [
        (COMMON, (8, 1, 128, 128), "train"),  # most of it are kept activations
        (PAPER, (1, 1, 252, 252), "train"),  # and here weights
        (COMMON, (1, 1, 512, 512), "infer"),
    ],
)
def test_it_is_near_the_measured_peak(architecture, shape, mode):
    """Never more than a tenth below it, where training would be refused too late, and not far above."""
    pytest.importorskip("numba", reason="the constants are those of the Numba kernels")
    work = Work("test", "", architecture, shape, (mode,))
    peak = measured_memory.peak(work, mode, "minunet fast", threads=1)
    model, size = work.model(), shape[2:]
    told = memory(model, shape[0], size) if mode == "train" else inference_memory(model, size)
    assert 0.9 * peak < told < (1 + estimate.TOLERANCE) * peak


@pytest.mark.parametrize("padding, crop", [("same", (64, 96)), ("valid", (188, 204))])
def test_memory_grows_with_all_that_needs_it(padding, crop):
    small, large = (mn.UNet(1, 2, (f, 2 * f, 4 * f, 8 * f), padding=padding) for f in (4, 8))
    more = tuple(side + 64 for side in crop)
    base = memory(small, 2, crop)
    assert base < memory(small, 4, crop) < memory(small, 8, crop)
    assert base < memory(small, 2, more)
    assert base < memory(large, 2, crop)
    assert inference_memory(small, crop) < inference_memory(small, more) < memory(small, 8, more)


def test_twice_the_precision_is_twice_the_activations():
    single, double = (mn.UNet(dtype=dtype, **COMMON) for dtype in (np.float32, np.float64))
    fixed = estimate.LIBRARY
    assert memory(double, 8, (128, 128)) - fixed == pytest.approx(2 * (memory(single, 8, (128, 128)) - fixed), rel=1e-6)


def test_fitting_halves_the_batch_first_then_the_crop():
    model = mn.UNet(**COMMON)
    asked = (8, (256, 256))
    assert fitting(model, *asked, limit=memory(model, *asked)) == asked
    assert fitting(model, *asked, limit=memory(model, *asked) - 1) == (4, (256, 256))
    assert fitting(model, *asked, limit=memory(model, 1, (256, 256)) - 1) == (1, (128, 128))
    assert fitting(model, *asked, limit=1000) is None


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_smaller_crops_are_legal_and_come_to_an_end(padding):
    model = mn.UNet(features=(4, 8, 16), padding=padding)
    crop, steps = (444, 316), 0
    while (smaller := smaller_crop(model, crop)) is not None:
        assert smaller < crop
        assert min(model.output_size(smaller)) >= 1
        crop, steps = smaller, steps + 1
    assert 2 <= steps < 10


def test_available_memory_is_the_machines():
    room = available()
    if room is None:
        pytest.skip("this system does not tell its free memory")
    assert 0 < room < 2**50


def test_no_more_is_available_than_the_control_groups_leave(tmp_path):
    """Version 2: this process's group and those around it; "max" is no limit; cached file pages can be given up."""
    group = tmp_path / "cgroup" / "a" / "b"
    group.mkdir(parents=True)
    (tmp_path / "membership").write_text("0::/a/b\n")
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("100\n")
    (group.parent / "memory.max").write_text("5000\n")
    (group.parent / "memory.current").write_text("3000\n")
    (group.parent / "memory.stat").write_text("anon 10\ninactive_file 700\n")
    assert estimate._group_rooms(tmp_path / "cgroup", tmp_path / "membership") == [2700]


def test_control_groups_of_version_1(tmp_path):
    """Inside a container the path is that of the host, and the limit stands at the top."""
    group = tmp_path / "cgroup" / "memory"
    group.mkdir(parents=True)
    (tmp_path / "membership").write_text("5:cpu,cpuacct:/x\n4:memory:/host/path\n")
    (group / "memory.limit_in_bytes").write_text("9000\n")
    (group / "memory.usage_in_bytes").write_text("4000\n")
    assert estimate._group_rooms(tmp_path / "cgroup", tmp_path / "membership") == [5000]


def test_a_long_step_is_timed_in_part():
    model = mn.UNet(**COMMON)
    assert timed_part(model, 8, (128, 128)) == (8, (128, 128))
    some, crop = timed_part(model, 8, (2048, 2048))
    assert some == 1
    assert estimate.macs(model, crop) <= estimate.PART < 2 * estimate.macs(model, crop)


def test_time_is_scaled_to_the_whole_step(monkeypatch):
    """A stopwatch that always shows one second, whatever the machine does."""
    steps = []
    monkeypatch.setattr(estimate, "_seconds", lambda action: steps.append(action()) or 1.0)
    model = mn.UNet(features=(2, 4), padding="same")
    before = {name: array.copy() for name, array in model.state_dict().items()}
    monkeypatch.setattr(estimate, "PART", estimate.macs(model, (16, 16)))
    assert step_seconds(model, 6, (16, 16)) == pytest.approx(6.0)
    assert len(steps) == estimate.ROUNDS
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("count, text", [(3e6, "3 MB"), (999.4e6, "999 MB"), (1.44e9, "1.4 GB"), (5, "1 MB")])
def test_bytes_in_words(count, text):
    assert estimate.in_words(count) == text


@pytest.mark.parametrize("seconds, text", [(0.123, "0.12 s"), (45.2, "45 s"), (600, "10 min"), (9000, "2.5 h")])
def test_seconds_in_words(seconds, text):
    assert estimate.duration(seconds) == text
