"""The CUDA kernels on a real GPU: the same case list, the same network.  Skipped, with the reason, where none is."""

import numpy as np
import pytest

import minunet as mn
import minunet.functional as F
from minunet.bench.gpu import kernels as timed
from minunet.cli import main
from minunet.kernels import KERNELS, cases, cuda

pytestmark = pytest.mark.gpu

SAME = ((layout, layout) for layout in cases.LAYOUTS)
LAYOUTS = [*SAME, ("channels_last", "contiguous"), ("sliced", "channels_last")]
ARCHITECTURES = (
    {"features": (8, 16)},
    {"features": (8, 16), "padding": "same", "norm": "batch"},
)


@pytest.fixture(scope="module", autouse=True)
def gpu():
    try:
        cuda.cupy()
    except (ImportError, cuda.DeviceNotFound) as error:
        pytest.skip(str(error))


def listed(purpose):
    """(case, variant) for every case of the list and every variant that runs on a GPU."""
    return [
        pytest.param(case, v.name, id=f"{case.name}-{v.name}")
        for case in cases.select(purpose)
        for v in cases.device_variants(case.kernel)
    ]


def has_what_it_needs(variant):
    return variant != "cuda_tensor" or int(cuda.cupy().cuda.Device().compute_capability) >= 80


def module_of(case, variant):
    """The variant's module, if this GPU has what it needs."""
    if not has_what_it_needs(variant):
        pytest.skip("tensor cores for TF32 came with compute capability 8.0")
    return KERNELS[case.kernel].load(variant)


@pytest.mark.parametrize("case, variant", listed("test"))
def test_case_in_every_layout(case, variant):
    module, v = module_of(case, variant), KERNELS[case.kernel].variant(variant)
    for values in ("integers", "floats") if case.kernel in cases.EXACT else ("floats",):
        for in_layout, out_layout in LAYOUTS:
            for call in cases.calls(case, values, in_layout):
                cases.check(module, case.kernel, call, out_layout, None, v.exact, True, v.product_error)


@pytest.mark.parametrize("case", [*cases.select("large"), *cases.select("bench")], ids=str)
def test_large_case(case):
    variants = [v for v in cases.device_variants(case.kernel) if has_what_it_needs(v.name)]
    for call in cases.calls(case, "floats"):
        expected = cases.truth(case.kernel, call)  # takes longer than all the rest
        for v in variants:
            module = module_of(case, v.name)
            cases.check(module, case.kernel, call, "channels_last", expected, v.exact, True, v.product_error)


@pytest.mark.parametrize("case, variant", listed("large"))
def test_the_same_bits_every_time(case, variant):
    module = module_of(case, variant)
    for call in cases.calls(case, "floats"):
        first, second = (cases.run(module, call, on_device=True) for _ in range(2))
        for name in first:
            assert first[name].tobytes() == second[name].tobytes(), f"{call.function}: {name}"


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=("paper", "same"))
def test_ten_steps_in_float64_are_those_of_the_cpu(architecture):
    rng = np.random.default_rng(0)
    x, losses = rng.standard_normal((2, 1, 60, 76)), {}
    for device in ("cpu", "cuda"):
        model = mn.UNet(1, 2, **architecture, dtype=np.float64).to(device)
        target = np.random.default_rng(1).integers(0, 2, (2, *model.output_size((60, 76))))
        optimizer = mn.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        losses[device] = []
        with mn.use_backend("cuda" if device == "cuda" else "numpy"):
            for _ in range(10):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), target)
                loss.backward()
                optimizer.step()
                losses[device].append(loss.item())
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-9)


def test_the_bench_runs(capsys):
    case = "conv2d-n2-c3-o5-h7-w11-kh3-kw3-padding1-bias1-relu0-float32"
    assert main(["bench", "conv2d", "--device", "cuda", "--case", case, "--rounds", "2"]) == 0
    said = capsys.readouterr().out
    assert "cuda_implicit" in said and "not timed" not in said


def test_pictures_are_sent_as_they_lie():
    x = cases.poisoned((1, 3, 4, 5), np.float32, "channels_last")[0]
    assert timed.sent(x).strides == x.strides
