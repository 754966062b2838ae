"""What every test gets: the same random numbers each run, and the way to the real data."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cuda_emulator import compiler
from hypothesis import settings
from in_browser import Browser

import minunet as mn
from minunet.kernels import registry

# No deadline: the first call of a kernel compiles it. Derandomized: a run is a fact, not a draw.
settings.register_profile("minunet", deadline=None, derandomize=True)
settings.load_profile("minunet")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without a C++ compiler there is no emulator; what only intercepts CuPy's calls needs none."""
    if item.get_closest_marker("cuda_emulated") and item.path.name != "test_cupy_contract.py" and compiler() is None:
        pytest.skip("the emulator of CUDA kernels needs a C++ compiler (g++), and there is none")


@pytest.fixture(autouse=True)
def seed() -> None:
    """Tests make their own generators; this covers code that uses the global ones."""
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def choices() -> Iterator[None]:
    """What a test, or a command that it runs, sets for the whole process is not in force in the next one."""
    before = list(registry._backend), list(registry._policy), dict(registry._overrides)
    yield
    registry._backend[:], registry._policy[:] = before[:2]
    registry._overrides.clear()
    registry._overrides.update(before[2])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, which lies beside the checkout and is not part of it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data sets are not here (../shared/data)")
    return SHARED_DATA


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless browser that all tests share; each opens pages of its own."""
    with Browser() as started:
        yield started


@pytest.fixture(params=["numpy", "numba"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs once on each backend."""
    if request.param == "numba":
        pytest.importorskip("numba", reason="the numba backend needs Numba")
    with mn.use_backend(request.param):
        yield request.param
