"""Which variant runs: signatures, overrides, backends and what is said where there is none."""

import sys
from itertools import count

import numpy as np
import pytest

import minunet as mn
from minunet import kernels
from minunet.kernels import KERNELS, Kernel, KernelNotFound, Variant, cases, registry

needs_numba = pytest.mark.skipif(len(cases.variants("relu")) < 2, reason="Numba is not installed")
numbers = count()

GOOD = "def forward(x, out):\n    out[...] = x\n"


@pytest.fixture
def make_kernel(tmp_path, monkeypatch):
    """Kernels from files in a temporary package; what is declared is forgotten after the test."""
    monkeypatch.setattr(registry, "KERNELS", dict(KERNELS))
    monkeypatch.syspath_prepend(tmp_path)

    def make(rule=None, backends=("numpy",), **files):
        package = f"room{next(numbers)}"
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        for name, source in files.items():
            (tmp_path / package / f"{name}.py").write_text(source)
        variants = tuple(Variant(name, b, "") for name, b in zip(files, backends * len(files), strict=False))
        return Kernel("room", package, ("forward",), variants, rule)

    yield make
    for name in [name for name in sys.modules if name.startswith("room")]:
        del sys.modules[name]


def test_every_listed_variant_has_the_references_signatures():
    for kernel in KERNELS.values():
        for variant in cases.variants(kernel.name):
            kernel.load(variant.name)


@pytest.mark.parametrize(
    "source, message",
    [
        ("def forward(x, result): ...", r"forward takes \(x, result\), expected \(x, out\)"),
        ("def forward(out, x): ...", r"takes \(out, x\), expected \(x, out\)"),
        ("def forward(x, out, fast): ...", r"takes \(x, out, fast\), expected \(x, out\)"),
        ("def backward(x, out): ...", r"lacks forward\(x, out\)"),
    ],
)
def test_a_variant_with_another_signature_is_refused(make_kernel, source, message):
    kernel = make_kernel(reference=GOOD, other=source)
    kernel.load("reference")
    with pytest.raises(TypeError, match=message):
        kernel.load("other")
    with mn.use_backend("numpy"), pytest.raises(TypeError, match=message):
        kernel.run("forward", x=np.ones(3), out=np.ones(3))


def test_a_kernel_for_an_unknown_backend_is_refused(make_kernel):
    with pytest.raises(ValueError, match="room: variant 'reference' names no known backend: 'abacus'"):
        make_kernel(reference=GOOD, backends=("abacus",))


def test_a_missing_implementation_names_kernel_and_backend(make_kernel):
    kernel = make_kernel(reference=GOOD, backends=("numba",))
    with mn.use_backend("numpy"), pytest.raises(KernelNotFound, match=r"kernel room has no implementation .* 'numpy'"):
        kernel.run("forward", x=np.ones(3), out=np.ones(3))


def test_the_last_variant_listed_runs_and_a_rule_decides_otherwise(make_kernel):
    with mn.use_backend("numpy"):
        assert make_kernel(reference=GOOD, other=GOOD).choose() == "other"
        seen = []
        kernel = make_kernel(lambda *given: seen.append(given) or "reference", reference=GOOD, other=GOOD)
        out = np.zeros(3)
        kernel.run("forward", x=np.ones(3), out=out)
        assert out.sum() == 3
        ((backend, arguments),) = seen
        assert backend == "numpy" and list(arguments) == ["x", "out"]


def test_overrides_nest_and_are_taken_back():
    with mn.use_backend("numpy"):
        conv2d = KERNELS["conv2d"]
        before = conv2d.choose()
        with kernels.use(conv2d="reference", relu="reference"):
            assert conv2d.choose() == "reference"
            with kernels.use(conv2d="im2col"):
                assert conv2d.choose() == "im2col" and KERNELS["relu"].choose() == "reference"
                with kernels.use(conv2d=None):
                    assert conv2d.choose() == before
                assert conv2d.choose() == "im2col"
            with pytest.raises(ZeroDivisionError), kernels.use(conv2d="im2col"):
                raise ZeroDivisionError
            assert conv2d.choose() == "reference"
        assert conv2d.choose() == before


def test_an_override_without_a_block_lasts():
    with kernels.use(conv2d=None):
        kernels.use(conv2d="im2col")
        assert KERNELS["conv2d"].choose() == "im2col"
    assert "conv2d" not in registry._overrides


def test_the_override_is_what_runs(monkeypatch):
    called = []
    monkeypatch.setattr(KERNELS["relu"].load("reference"), "forward", lambda x, out: called.append(x.shape))
    with kernels.use(relu="reference"):
        kernels.relu.forward(np.ones((1, 2, 3, 5)))
    assert called == [(1, 2, 3, 5)]


@needs_numba
def test_backends_nest_and_are_taken_back():
    before = registry.current_backend()
    with mn.use_backend("numpy"):
        assert registry.current_backend() == "numpy"
        with mn.use_backend("numba"):
            assert registry.current_backend() == "numba" and KERNELS["conv_transpose2d"].choose() == "direct"
        assert registry.current_backend() == "numpy" and KERNELS["conv_transpose2d"].choose() == "gemm"
    assert registry.current_backend() == before


def test_unknown_names():
    with pytest.raises(KernelNotFound, match=r"no kernel 'conv3d'; there are: .*conv2d"):
        kernels.use(conv3d="reference")
    with pytest.raises(KernelNotFound, match="conv2d has no variant 'fastest'; it has: reference, im2col"):
        kernels.use(conv2d="fastest")
    with pytest.raises(KernelNotFound, match="relu has no variant 'im2col'"):
        kernels.use(conv2d="reference", relu="im2col")
    assert "conv2d" not in registry._overrides, "half of a refused override stayed"
    with pytest.raises(ValueError, match="backend 'cuda12' is not known; there are: numpy"):
        mn.use_backend("cuda12")


def test_numba_asked_for_but_not_installed(monkeypatch):
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install"):
        mn.use_backend("numba")
    with pytest.raises(ImportError, match="pip install"):
        kernels.use(conv2d="direct")
    assert "conv2d" not in registry._overrides


def test_table_shows_every_variant_and_marks_what_runs():
    with mn.use_backend("numpy"), kernels.use(conv2d="reference"):
        lines = kernels.table().splitlines()
    assert len(lines) == 1 + sum(len(k.variants) for k in KERNELS.values())
    assert any(line.split()[:3] == ["conv2d", "reference", "*"] for line in lines)
    assert sum("*" in line.split()[:3] for line in lines) == len(KERNELS)


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", True, None])
def test_number_of_threads_must_be_a_positive_integer(n):
    with pytest.raises(ValueError, match="positive integer"):
        mn.set_num_threads(n)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_number_of_threads_in_the_environment(monkeypatch, text):
    monkeypatch.setattr(kernels.threads, "_count", [])
    monkeypatch.setenv("MINUNET_NUM_THREADS", "3")
    assert kernels.threads.count() == 3
    monkeypatch.setattr(kernels.threads, "_count", [])
    monkeypatch.setenv("MINUNET_NUM_THREADS", text)
    with pytest.raises(ValueError, match="MINUNET_NUM_THREADS"):
        kernels.threads.count()
