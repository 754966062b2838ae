"""Ten steps of training must follow PyTorch's losses, from the same weights and batches."""

import json
from pathlib import Path

import numpy as np
import pytest
from golden.cases import TRAININGS

GOLDEN = json.loads((Path(__file__).parent / "golden" / "losses.json").read_text())
RELATIVE = {"float32": 1e-4, "float64": 1e-9}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TRAININGS)
def test_losses_follow_the_stored_ones(name, dtype, backend):
    found = TRAININGS[name].losses(np.dtype(dtype))
    np.testing.assert_allclose(found, GOLDEN[name][dtype], rtol=RELATIVE[dtype])


@pytest.mark.parametrize("name", TRAININGS)
def test_losses_follow_torch(name):
    torch = pytest.importorskip("torch", reason="compares with a running PyTorch")
    from golden.make_golden import losses

    torch.set_num_threads(1)
    expected = losses(TRAININGS[name], np.float32)
    np.testing.assert_allclose(TRAININGS[name].losses(np.float32), expected, rtol=1e-4)
    np.testing.assert_allclose(GOLDEN[name]["float32"], expected, rtol=1e-4)


@pytest.mark.parametrize("name", TRAININGS)
def test_the_losses_move(name):
    """A network that does not learn, or explodes, would show no fault of the steps."""
    losses = GOLDEN[name]["float64"]
    assert max(losses) < 3 * losses[0]
    assert np.mean(losses[-3:]) < 0.95 * losses[0]
