"""Prediction at every size, in every layout, without a trace in the model."""

import numpy as np
import pytest

import minunet as mn
from minunet.data import Preprocessing
from minunet.predict import reflection

SIZES = [(1, 1), (1, 9), (2, 3), (7, 5), (16, 16), (17, 31), (40, 24)]


def network(**options):
    shape = {"in_channels": 1, "out_channels": 2, "features": (4, 8), "padding": "same"}
    return mn.UNet(**{**shape, "norm": "batch", "seed": 1, **options})


def image(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("padding, norm", [("same", "batch"), ("valid", None)])
def test_every_size(size, padding, norm):
    p = mn.predict(network(padding=padding, norm=norm), image(*size))
    assert p.shape == (2, *size)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("features", [(4,), (4, 4), (2, 2, 2), (1, 1, 1, 1)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_reaches_the_nearest_legal_size(features, padding):
    model = network(features=features, padding=padding)
    block = 2 ** len(features)
    for side in range(1, 3 * block):
        (before, after), _ = reflection(model, (side, 1))
        padded = side + before + after
        output = model.output_size((padded, padded))[0]
        assert side <= output < side + block
        assert before == (0 if padding == "same" else 6 * block - 4)
        if padding == "same":
            assert padded % block == 0


def test_a_valid_network_sees_92_pixels_at_four_levels():
    assert reflection(network(features=(1, 1, 1, 1), padding="valid"), (388, 388))[0] == (92, 92)


def test_a_same_padded_network_is_run_on_the_reflected_image():
    model, x = network().eval(), image(10, 7)
    padded = np.pad(x, ((0, 2), (0, 1)), mode="reflect").astype(np.float32)
    with mn.no_grad():  # as in predict: batch norm goes into the weights
        logits = model(padded[None, None]).numpy()[0]
    p = mn.predict(model, x)
    e = np.exp(logits - logits.max(axis=0))
    np.testing.assert_allclose(p, (e / e.sum(axis=0))[:, :10, :7], atol=1e-6)


def test_a_valid_network_agrees_with_its_direct_output():
    """Where the network needs no reflection, predict and model say the same."""
    model, x = network(features=(4,), padding="valid", norm=None).eval(), image(28, 24)
    direct = model(x[None, None].astype(np.float32)).numpy()[0]
    assert direct.shape == (2, 12, 8)
    e = np.exp(direct - direct.max(axis=0))
    np.testing.assert_allclose(mn.predict(model, x)[:, 8:20, 8:16], e / e.sum(axis=0), atol=1e-5)


def test_one_logit_becomes_two_classes():
    model, x = network(out_channels=1).eval(), image(8, 12) / 255
    p = mn.predict(model, x)
    logit = model(x[None, None].astype(np.float32)).numpy()[0, 0]
    np.testing.assert_allclose(p[1], 1 / (1 + np.exp(-logit)), atol=1e-6)
    np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-6)


def test_layouts_of_grey_and_colour():
    grey, x = network(), image(9, 11)
    for same in (x[..., None], x[None], x.astype(np.int32), np.repeat(x[..., None], 3, axis=2)):
        np.testing.assert_array_equal(mn.predict(grey, same), mn.predict(grey, x))
    color, x = network(in_channels=3), image(9, 11, 3)
    np.testing.assert_array_equal(mn.predict(color, x), mn.predict(color, np.moveaxis(x, -1, 0)))


def test_a_tensor_is_taken_as_its_array():
    model, image = mn.UNet(1, 2, (2,), padding="same"), np.random.default_rng(0).random((9, 8), np.float32)
    np.testing.assert_array_equal(mn.predict(model, mn.Tensor(image)), mn.predict(model, image))


def test_preprocessing_of_the_model_is_applied():
    model, x = network(), image(16, 16)
    model.preprocessing = Preprocessing(1, "standardize")
    np.testing.assert_allclose(mn.predict(model, x), mn.predict(model, 3.0 * x + 7), atol=1e-5)


def test_float64_all_through():
    assert mn.predict(network(dtype=np.float64), image(8, 8)).dtype == np.float64


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    model = network()
    model.train() if training else model.eval()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    mn.predict(model, image(20, 20))
    assert model.training is training
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_the_mode_is_restored_after_an_error():
    model = network()
    model.train()
    with pytest.raises(ValueError, match="shape"):
        mn.predict(model, image(2, 3, 4, 5))
    assert model.training
