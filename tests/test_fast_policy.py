"""What the fast policy costs in accuracy, on a network that has been trained."""

import numpy as np
import pytest

import minunet as mn
from minunet.data import cells, from_arrays
from minunet.prediction.predict import predict_logits

BOUND = 1e-3  # of the logits' standard deviation; bench/policies.py measures 1e-5 on real images


@pytest.fixture(scope="module", params=["numpy", "numba"])
def trained(request):
    """A small network with weights and statistics as training leaves them, and a picture it was not trained on."""
    if request.param == "numba":
        pytest.importorskip("numba")
    dataset = from_arrays(*cells(9, 64, seed=3))
    model = mn.UNet(1, 2, features=(16, 32), padding="same", norm="batch", seed=1)
    with mn.use_backend(request.param):
        mn.fit(model, dataset.subset(range(8)), steps=25, batch_size=4)
        yield model, dataset.images[8]


@pytest.mark.parametrize("policy", ["fast", "exact"])
def test_logits_of_a_trained_network_are_near_those_in_float64(trained, policy):
    model, image = trained
    precise = mn.UNet(**model.architecture | {"dtype": "float64"})
    state = model.state_dict()
    precise.load_state_dict({name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in state.items()})
    expected = predict_logits(precise, image.astype(np.float64))
    with mn.policy(policy):
        found = predict_logits(model, image)
    assert np.abs(found - expected).max() <= BOUND * expected.std()
    assert not np.array_equal(found, expected)  # float32 it was
