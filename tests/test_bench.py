"""minunet bench: limits, contenders, checks before timing, memory, user's kernels, reports.  Never how fast it is."""

import importlib.util
import json
import math
import subprocess
import sys
import textwrap
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import minunet as mn
from minunet import timing
from minunet.bench import command, contenders, kernels, limits, memory, networks, report, roofline, user_kernel, works
from minunet.bench.cost import Cost, of_call
from minunet.cli import main
from minunet.errors import UsageError, WorkFailed
from minunet.kernels import KERNELS, cases
from minunet.kernels import threads as kernel_threads

VALID = works.Work("valid", "a small network", {"features": (4, 8)}, (1, 1, 60, 76), ("infer", "train"))
SAME = works.Work("same", "another", {"features": (4, 8, 16), "padding": "same", "norm": "batch"}, (2, 1, 32, 48),
                  ("infer", "train"))  # fmt: skip
BOTH = pytest.mark.parametrize("work", [VALID, SAME], ids=lambda work: work.name)
KNOWN = limits.Limits(2, {"float32": 100e9, "float64": 50e9}, 10e9, "made up")
HERE = [name for name in contenders.NEEDS if name in contenders.available()]


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    monkeypatch.setattr(timing, "REST", 0)


@pytest.fixture(autouse=True)
def restore_threads():
    before = kernel_threads.count()
    yield
    mn.set_num_threads(before)


@pytest.fixture
def hasty(monkeypatch):
    """Limits are measured by very little work."""
    monkeypatch.setattr(limits, "TRIALS", 2)
    monkeypatch.setattr(limits, "TRIAL_SECONDS", 1e-4)
    monkeypatch.setattr(limits, "array_bytes", lambda: 1 << 18)
    monkeypatch.setattr(limits, "_found", {})


# ---------------------------------------------------------------------------------------------------- limits


def test_limits_are_measured_once_and_again_when_asked(hasty, monkeypatch):
    first = limits.measure()
    assert first.threads == kernel_threads.count()
    assert min(first.bandwidth, *first.peak.values()) > 0 and set(first.peak) == {"float32", "float64"}
    assert limits.measure() is first
    slow = limits.Limits(first.threads, {"float32": 1.0, "float64": 1e30}, 1.0, "slow")
    monkeypatch.setattr(limits, "_measure", lambda count: slow)
    again = limits.measure(again=True)
    assert again.peak == {"float32": first.peak["float32"], "float64": 1e30} and again.bandwidth == first.bandwidth


def test_without_numba_numpy_stands_in_and_it_is_said(hasty, monkeypatch):
    monkeypatch.setattr(limits, "find_spec", lambda name: None)
    found = limits.measure()
    assert "NumPy" in found.how and "Numba is not installed" in str(found) and found.peak["float32"] > 0


def test_the_loop_of_multiply_adds_does_what_it_counts():
    pytest.importorskip("numba", reason="needs Numba")
    from minunet.bench import loops

    once = loops.multiply_adds(1, np.dtype("float32"))  # compares the sums with the right ones
    assert loops.multiply_adds(10, np.dtype("float32")) == 10 * once


def test_copy_and_triad():
    pytest.importorskip("numba", reason="needs Numba")
    from minunet.bench import loops

    x, y, z = (np.arange(1000, dtype=np.float32) * k for k in (1, 2, 0))
    loops.triad(x, y, z)
    np.testing.assert_array_equal(z, 7 * x)
    loops.copy(y, z)
    np.testing.assert_array_equal(z, y)


@pytest.mark.parametrize("case", cases.select("test"), ids=str)
def test_costs_are_those_of_the_case_list(case):
    for call in cases.calls(case):
        found = kernels.cost_of(case.kernel, call)
        assert (found.flops, found.bytes, found.dtype) == (call.flops, call.bytes, case.dtype), call.function


def test_what_is_updated_in_place_counts_once():
    x = np.zeros((1, 2, 3, 4), np.float32)
    assert of_call("relu", "forward", {"x": x, "out": x}) == Cost(0.0, x.nbytes, "float32")


def test_the_roofline():
    assert KNOWN.least_seconds(100e9, 0) == 1 and KNOWN.least_seconds(1, 10e9) == 1
    assert KNOWN.least_seconds(100e9, 0, "float64") == 2
    assert Cost(50e9, 1.0).share(1.0, KNOWN) == 0.5 and Cost(20.0, 10.0).intensity == 2


# ---------------------------------------------------------------------------------------------- contenders


@pytest.mark.parametrize("name", HERE)
@BOTH
def test_every_contender_computes_the_same_network(work, name):
    model = work.model()
    x, _ = work.draw(0, model)
    with mn.use_backend("numpy"):
        expected = work.model(np.float64).eval()(x.astype(np.float64)).numpy()
    timing.agree(contenders.make(name, model, work.shape, 1).infer(x), expected, 1e-3)


@pytest.mark.parametrize("name", [name for name in HERE if name in contenders.TRAINED])
@BOTH
def test_every_contender_trains_the_same_network(work, name):
    model = work.model()
    x, target = work.draw(0, model)
    rivals = [contenders.make(n, model, work.shape, 1) for n in ("minunet numpy", name)]
    losses = [rival.train(x, target) for rival in rivals]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    expected, found = (rival.gradients() for rival in rivals)
    assert found.keys() == expected.keys()
    for parameter in expected:
        assert found[parameter].shape == expected[parameter].shape


@pytest.mark.parametrize("name", [name for name in HERE if name in contenders.TRAINED])
def test_a_training_step_changes_the_parameters(name):
    model = VALID.model()
    rival = contenders.make(name, model, VALID.shape, 1)
    before = [np.array(p) for p in parameters(rival)]
    rival.train(*VALID.draw(0, model))
    changes = [np.abs(new - old).max() for new, old in zip(parameters(rival), before, strict=True)]
    assert min(changes) > 0
    assert model.parameters()[0].grad is None  # a contender has a copy


def parameters(rival):
    return [np.array(p.data if isinstance(p, mn.Tensor) else p.detach().numpy()) for p in rival.model.parameters()]


@BOTH
def test_no_value_is_one_that_a_mistake_would_hide(work):
    for name, array in work.model().state_dict().items():
        if array.ndim:
            assert not (array == 0).any() and not (array == 1).any(), name


def test_every_round_has_its_own_input():
    model = VALID.model()
    x, target = zip(*(VALID.draw(round_, model) for round_ in (-2, -1, 0)), strict=True)
    assert len({a.tobytes() for a in x}) == 3 and target[0].shape == (1, *model.output_size((60, 76)))
    np.testing.assert_array_equal(VALID.draw(0, model)[0], x[2])


def test_what_is_not_installed_is_left_out_and_named(monkeypatch):
    monkeypatch.setattr(contenders, "find_spec", lambda library: None)
    assert contenders.available() == contenders.available("train") == ["minunet numpy"]
    assert "PyTorch" in contenders.missing()
    assert "not installed, so not compared: minunet fast" in "\n".join(report.header(KNOWN, "2026-01-01"))


# ------------------------------------------------------------------------------------- checked, then timed


class Planted:
    """minunet on NumPy with a fault."""

    def __init__(self, model, fault):
        self.rival, self.fault, self.inputs = contenders.Minunet(model, "numpy"), fault, []

    def infer(self, x):
        self.inputs.append(x.copy())
        if self.fault == "raises":
            raise MemoryError("planted")
        factor = {"logits": 1.01, "nan": np.nan}.get(self.fault, 1)
        return self.rival.infer(x) * np.float32(factor)

    def train(self, x, target):
        self.inputs.append(x.copy())
        return self.rival.train(x, target) * (1.01 if self.fault == "loss" else 1)

    def gradients(self):
        found = dict(self.rival.gradients())
        if self.fault == "gradient":
            largest = max(found, key=lambda name: found[name].size)
            found[largest] = found[largest][::-1]
        return found


@pytest.fixture
def plant(monkeypatch):
    """plant(fault): "bad" is a contender with that fault, which is returned once it was made."""
    made, original = [], contenders.make

    def install(fault):
        def make(name, model, shape, threads):
            if name != "bad":
                return original(name, model, shape, threads)
            if fault == "setup":
                raise RuntimeError("planted")
            made.append(Planted(model, fault))
            return made[-1]

        monkeypatch.setattr(contenders, "make", make)
        return made

    return install


@pytest.mark.parametrize("mode, fault, words", [
    ("infer", "logits", "logits differ from float64 by 0.0"),
    ("infer", "nan", "logits differ from float64 by nan"),
    ("infer", "raises", "raises MemoryError: planted"),
    ("infer", "setup", "cannot be set up: RuntimeError: planted"),
    ("train", "loss", "the loss is "),
    ("train", "gradient", "has a cosine of "),
])  # fmt: skip
def test_what_computes_something_else_is_not_timed(plant, mode, fault, words):
    plant(fault)
    comparison = networks.compare(VALID, mode, ["minunet numpy", "bad"], 1, rounds=1)
    assert [result.contender for result in comparison.results] == ["minunet numpy"]
    assert words in comparison.wrong["bad"]
    table = report.network_table(comparison, KNOWN)
    assert f"bad is not timed: {comparison.wrong['bad']}" in report.markdown(table)


@pytest.mark.parametrize("mode", ["infer", "train"])
def test_contenders_take_turns_with_fresh_inputs(plant, mode):
    made = plant(None)
    comparison = networks.compare(VALID, mode, ["minunet numpy", "bad"], 1, rounds=3)
    assert not comparison.wrong and [len(r.seconds) for r in comparison.results] == [3, 3]
    timed = len(made[0].inputs) - 1 - timing.WARM_UP
    assert timed % 3 == 0 and timed >= 2 * 3  # rows of calls, in each of three rounds
    assert len({x.tobytes() for x in made[0].inputs}) == 1 + 1 + timed  # checked, warmed up, timed
    assert all(0 <= result.error < 1e-3 for result in comparison.results)


def test_a_gradient_of_zeros_is_wrong():
    assert math.isnan(networks.cosine(np.zeros(3), np.ones(3)))
    assert networks.cosine(np.array([1.0, 0]), np.array([2.0, 0])) == pytest.approx(1)


def test_cost_per_pixel():
    sizes = [replace(SAME, shape=(1, 1, side, side)) for side in (16, 32)]
    scaling = networks.scale(sizes, "minunet numpy", 1, rounds=2)
    assert {pixels: len(s) for pixels, s in scaling.seconds.items()} == {256: 2, 1024: 2}
    known = networks.Scaling("x", {100: [1.0, 3.0, 2.0], 400: [16.0, 16.0, 1.0]})
    assert known.per_pixel() == {100: 0.02, 400: 0.04} and known.spread == pytest.approx(1)
    assert report.scaling_table([known], SAME).rows == [("x", "20000000.0", "40000000.0", "2.00")]


@pytest.mark.skipif(not memory.can_be_measured(), reason="needs Linux")
@pytest.mark.parametrize("mode", ["infer", "train"])
def test_peak_memory_in_a_process_of_its_own(mode):
    work = replace(SAME, shape=(1, 1, 256, 256))
    found = memory.peak(work, mode, "minunet numpy", 1)
    at_least = 256 * 256 * 8 * 4 * (1 if mode == "infer" else 3)  # a skip and its concatenation; all kept in training
    assert at_least < found < 500e6


def test_a_process_that_fails_says_why():
    if not memory.can_be_measured():
        pytest.skip("needs Linux")
    with pytest.raises(WorkFailed, match="at least one level"):
        memory.peak(replace(SAME, architecture={"features": ()}), "infer", "minunet numpy", 1)


# ------------------------------------------------------------------------------------- variants of a kernel


def small_case(kernel="relu"):
    return cases.select("test", kernel, "float32")[1]


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_variants_of_all_kernels_are_right_and_timed(kernel):
    case = small_case(kernel)
    for function in KERNELS[kernel].functions:
        found = kernels.measure(case, function, kernels.variants(kernel), 1, rounds=1, peers=False)
        assert not found.wrong
        assert list(found.seconds) == [v.name for v in cases.variants(kernel)]


@pytest.mark.parametrize("function", KERNELS["conv2d"].functions)
def test_the_peers_of_a_layer_are_right(function):
    found = kernels.measure(small_case("conv2d"), function, [], 1, rounds=1)
    assert not found.wrong
    forward_only = ["ONNX Runtime", "OpenVINO"] if function == "forward" else []
    expected = [name for name in ("PyTorch", "PyTorch channels_last", *forward_only) if name in HERE]
    assert list(found.seconds) == expected


def test_cases_by_filter_and_dtype():
    layers = kernels.select("conv2d", None, "float64")
    assert {c.name.removesuffix("-float64") for c in layers} == {
        c.name.removesuffix("-float32") for c in cases.select("bench", "conv2d")
    }
    (one,) = kernels.select("relu", "n2-c3-", "float32")
    assert one.purpose == "test"
    with pytest.raises(UsageError, match=r"no case of relu has 'c999' in its name; .*\n  relu-n"):
        kernels.select("relu", "c999", "float32")


class Doubled:
    """relu with a fault."""

    @staticmethod
    def forward(x, out):
        out[...] = np.maximum(x, 0)
        if out.ndim == 4 and out.shape[1] == 3:
            out[1, 2, 3, 4] += 2


def test_a_wrong_variant_is_described_and_not_timed():
    given = [*kernels.variants("relu"), kernels.Given("mine", Doubled)]
    found = kernels.measure(small_case(), "forward", given, 1, rounds=1)
    assert "mine" not in found.seconds and "reference" in found.seconds
    assert "out is furthest off at (1, 2, 3, 4)" in found.wrong["mine"]


# -------------------------------------------------------------------------------------------- a user's file

RELU = """
import numpy as np
from minunet.kernels.relu.reference import *

def forward(x, out):
    np.maximum(x, {floor}, out=out)
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


def verified(path):
    return kernels.verify(kernels.Given(path.name, user_kernel.load(path, KERNELS["relu"])), "relu", "float32")


def test_a_right_file(write):
    assert verified(write(RELU.format(floor=0))) == ""


def test_a_wrong_file_is_told_where_and_how_far(write):
    fault = verified(write(RELU.format(floor=-1)))
    assert fault.startswith("relu-n1-c1-h1-w1-float32, integers in arrays that lie contiguous: ") or "relu-n2" in fault
    assert "out is furthest off at (0, 0, 0" in fault and ": -1, expected 0" in fault


def test_a_file_that_raises(write):
    assert "forward raises ZeroDivisionError: " in verified(write(RELU.format(floor="1 // 0")))


def test_missing_functions_and_other_signatures_are_listed(write):
    path = write("def forward(x, y, out): ...")
    with pytest.raises(UsageError) as error:
        user_kernel.load(path, KERNELS["conv2d"])
    text = str(error.value)
    assert str(path) in text
    assert "found forward(x, y, out), expected forward(x, weight, bias, padding, relu, out)" in text
    assert "backward_input(grad, weight, padding, out) is missing" in text
    assert f"from minunet.kernels.conv2d.{KERNELS['conv2d'].variants[-1].name} import backward_input, " in text


@pytest.mark.parametrize("text, words", [
    ("def forward(:", "line 1: "),
    ("\nfrom ..arrays import nhwc", "line 2: from minunet.kernels.arrays import"),
    ("from .reference import forward", "line 1: from minunet.kernels.relu.reference import"),
    ("import no_such_library", "cannot be imported: ModuleNotFoundError: No module named 'no_such_library'"),
    ("1 / 0", "cannot be imported: ZeroDivisionError"),
])  # fmt: skip
def test_a_file_that_cannot_be_loaded(write, text, words):
    with pytest.raises(UsageError) as error:
        user_kernel.load(write(text), KERNELS["relu"])
    assert words in str(error.value) and "mine.py" in str(error.value)


def test_a_file_that_is_no_python_or_not_there(write, tmp_path):
    with pytest.raises(UsageError, match=r"ends in \.py"):
        user_kernel.load(write("x = 1", "kernel.txt"), KERNELS["relu"])
    with pytest.raises(UsageError, match="is no text"):
        path = tmp_path / "binary.py"
        path.write_bytes(b"\xff\xfe\x00")
        user_kernel.load(path, KERNELS["relu"])
    with pytest.raises(FileNotFoundError):
        user_kernel.load(tmp_path / "none.py", KERNELS["relu"])


def test_it_may_import_files_beside_it(write):
    write("FLOOR = 0", "beside_it.py")
    assert verified(write("from beside_it import FLOOR" + RELU.format(floor="FLOOR"))) == ""
    assert not any(folder == str(write("").parent) for folder in sys.path)


COMPILED = """
import numpy as np
from minunet.kernels.jit import serial
from minunet.kernels.relu.reference import *

@serial
def loop(x, out):
    for k in range(len(x)):
        out[k] = max(x[k], np.float32({floor}))

def forward(x, out):
    result = np.empty(x.size, x.dtype)
    loop(x.ravel(), result)
    out[...] = result.reshape(x.shape)
"""


@pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="needs Numba")
def test_an_edit_is_never_answered_with_old_code(write):
    """In fresh processes, as a user would: right, then wrong, then right again."""
    outcomes = []
    code = "import sys; from minunet.cli import main; sys.exit(main(sys.argv[1:]))"
    for floor in (0, -1, 0):
        path = write(COMPILED.format(floor=floor))
        arguments = ["bench", "relu", "--kernel", path, "--case", "n1-c1-h1", "--function", "forward", "--rounds", "1"]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        outcomes.append((done.returncode, "is wrong, so it is not timed" in done.stderr))
    assert outcomes == [(0, False), (1, True), (0, False)]


# ------------------------------------------------------------------------------------------------- reports


def comparison(**seconds):
    results = [networks.Result(name.replace("_", " "), s, [2 * t for t in s], 1e9, 1e-5) for name, s in seconds.items()]
    return networks.Comparison(VALID, "infer", results)


def test_ratios_are_against_the_better_format_of_pytorch():
    found = comparison(minunet_fast=[1.0, 1.0], PyTorch=[4.0, 4.0], OpenVINO=[2.0, 3.0])
    found.results.append(networks.Result("PyTorch channels_last", [3.0, 5.0], [3.0, 5.0], 1e9, 0.0))
    assert found.ratio(report.PEERS["PyTorch"], found.results[0]) == 4.0
    found.results[-1] = networks.Result("PyTorch channels_last", [3.0, 3.0], [3.0, 3.0], 1e9, 0.0)
    table = report.network_table(found, KNOWN)
    assert table.head == ("", "ms", "after a rest", "GFLOP/s", "of peak", "x PyTorch", "x OpenVINO", "error")
    assert table.rows[0] == ("minunet fast", "1000", "2000", "1", "1%", "3.00", "2.50", "1.0e-05")
    assert table.note == "2 rounds"


def test_markdown():
    table = report.Table("A title", ("", "ms"), [("x", "1")], note="a note", wrong={"y": "is wrong"})
    assert report.markdown(table) == (
        "### A title\n\n|  | ms |\n| --- | ---: |\n| x | 1 |\n\na note\n\ny is not timed: is wrong"
    )


def test_memory_beside_the_better_format_of_pytorch():
    peaks = {"minunet numpy": {"train": 100_000_000}, "PyTorch": {"train": 200_000_000},
             "PyTorch channels_last": {"train": 50_000_000}}  # fmt: skip
    table = report.memory_table(peaks, VALID, KNOWN)
    assert table.head == ("MB", "training step", "/ PyTorch")
    assert table.rows[0] == ("minunet numpy", "100", "2.00")
    assert report.memory_table({"minunet numpy": {"train": 10**6}}, VALID, KNOWN).rows == [("minunet numpy", "1", "")]


def test_rates_of_kernels():
    table = report.rate_table("t", [("a", 0.5, Cost(25e9, 1e9)), ("b", 1.0, Cost(0.0, 5e9))], KNOWN)
    assert table.rows == [("a", "500", "50.0", "50%", "2.0", "50%"), ("b", "1000", "", "", "5.0", "50%")]


def test_milliseconds_keep_three_digits():
    assert [report.milliseconds(s) for s in (1.23456, 0.05, 0.000123456)] == ["1235", "50.0", "0.123"]


def test_json_has_no_nan():
    written = report.as_json({"a": [math.nan, 1.5], "b": (1,), 3: None})
    assert json.loads(written) == {"a": [None, 1.5], "b": [1], "3": None}


def test_rich_draws_the_same_cells():
    pytest.importorskip("rich", reason="needs rich")
    from rich.console import Console

    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(report.rich_table(report.network_table(comparison(minunet_fast=[1.0], PyTorch=[4.0]), KNOWN)))
    text = console.export_text()
    assert "minunet fast" in text and "4.00" in text and "x PyTorch" in text


def test_the_roofline_is_drawn_twice_alike(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    direct = roofline.Series("direct", [(10.0, 50e9), (0.1, 1e9), (0.0, 0.0)])
    series = [direct, roofline.Series("winograd", [(20, 2e11)])]
    levels = {"PyTorch": 60e9, "OpenVINO": 61e9}
    drawn = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        png, svg = roofline.draw(folder, KNOWN, series, levels, "A title")
        drawn.append((png.read_bytes(), svg.read_bytes()))
    assert drawn[0] == drawn[1]
    assert drawn[0][0].startswith(b"\x89PNG")
    for words in (b"peak of 2 threads 100", b"memory 10.0 GB/s", b"winograd", b"OpenVINO 61", b"A title"):
        assert words in drawn[0][1]


def test_labels_of_neighbouring_levels_are_pushed_apart():
    levels = {"a": 100.0, "b": 101.0, "c": 5.0, "d": 100.0}
    places = roofline._apart(levels, span=1e4)
    in_order = sorted(places.values())
    assert list(places) == list(levels) and places["c"] == 5
    assert min(high / low for low, high in pairwise(in_order)) > 1.3


# ------------------------------------------------------------------------------------------- the command


@pytest.fixture
def tiny(monkeypatch, hasty):
    """The command with two tiny networks."""
    small = replace(SAME, name="small", shape=(1, 1, 16, 16), modes=("infer", "train"))
    paper = replace(VALID, name="paper", modes=("infer",))
    found = {"paper": paper, "same": replace(small, name="same"), "small": small}
    monkeypatch.setattr(works, "networks", lambda quick=False: found)
    monkeypatch.setattr(works, "scaling", lambda quick=False: [replace(small, shape=(1, 1, s, s)) for s in (8, 16)])
    monkeypatch.setattr(memory, "peak", lambda work, mode, contender, threads: 10**6)


def test_the_whole_comparison(tiny, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    out = tmp_path / "new" / "folder"
    assert main(["bench", "--rounds", "1", "--threads", "1", "--out", str(out)]) == 0
    assert {p.name for p in out.iterdir()} == {"table.md", "results.json", "roofline.png", "roofline.svg"}
    shown = capsys.readouterr().out
    text = (out / "table.md").read_text(encoding="utf-8")
    for title in ("a small network, 1 x 60 x 76: inference", "another, 1 x 16 x 16: training step",
                  "another, 1 image of growing size", "memory that it takes", "downs.0.conv.0"):  # fmt: skip
        assert title in text and title in shown
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    modes = [(r["work"], r["mode"]) for r in results["networks"]]
    assert modes == [("paper", "infer"), ("same", "infer"), ("same", "train"), ("small", "infer"), ("small", "train")]
    assert set(results["networks"][0]["contenders"]) == set(HERE)
    assert results["limits"]["threads"] == 1 and results["versions"]["minunet"] == mn.__version__
    assert len(results["layers"][0]["rows"]) > 10 and "scaling" in results and len(results["memory"]) == 2


def test_works_are_chosen(tiny, capsys):
    assert main(["bench", "--works", "small", "--rounds", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("###") == 2 and "another, 1 x 16 x 16: inference" in shown


def test_a_wrong_contender_fails_the_command_at_its_end(tiny, plant, monkeypatch, capsys, tmp_path):
    plant("logits")
    monkeypatch.setitem(contenders.NEEDS, "bad", ())
    monkeypatch.setattr(contenders, "available", lambda mode="infer": ["minunet numpy", "bad"])
    assert main(["bench", "--works", "paper,small", "--rounds", "1", "--out", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "not everything could be timed" in err and "bad logits differ" in err
    assert "bad is not timed: logits differ" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_one_kernel(tiny, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    arguments = ["bench", "conv2d", "--case", "n2-c3-o5", "--function", "forward", "--rounds", "1"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "### conv2d-n2-c3-o5-h7-w11-kh3-kw3-padding1-bias1-relu0-float32: forward" in shown
    assert all(f"| {v.name} |" in shown for v in cases.variants("conv2d"))
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["kernels"][0]["function"] == "forward" and (tmp_path / "roofline.svg").exists()


def test_a_users_kernel_stands_beside_the_variants(tiny, write, capsys):
    path = write(RELU.format(floor=0))
    assert main(["bench", "relu", "--kernel", str(path), "--case", "n2-c3", "--rounds", "1"]) == 0
    assert "| mine.py |" in capsys.readouterr().out
    path = write(RELU.format(floor=1))
    assert main(["bench", "relu", "--kernel", str(path), "--case", "n2-c3", "--rounds", "1"]) == 1
    found = capsys.readouterr()
    assert "is wrong, so it is not timed" in found.err and "relu" not in found.out


@pytest.mark.parametrize("arguments, words", [
    (["conv9"], "there is no kernel 'conv9'; there are: "),
    (["--case", "x"], "--case needs the name of a kernel"),
    (["--kernel", "x.py"], "--kernel needs the name of a kernel"),
    (["--function", "forward"], "--function needs the name of a kernel"),
    (["--works", "papr"], "there is no work 'papr'; there are: paper, "),
    (["relu", "--works", "paper"], "does not go with"),
    (["relu", "--function", "sideways"], "relu has no function 'sideways'; it has: forward"),
    (["relu", "--kernel", "none.py"], "none.py: No such file"),
])  # fmt: skip
def test_what_cannot_be_done_is_said(arguments, words, capsys):
    assert main(["bench", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_works_of_the_command_are_those_that_there_are():
    assert command.WORKS[:4] == tuple(works.networks()) == tuple(works.networks(quick=True))
    for quick in (False, True):
        for work in [*works.networks(quick).values(), *works.scaling(quick)]:
            mn.UNet(1, 2, **{**work.architecture, "features": (1,) * 4}).output_size(work.shape[2:])
