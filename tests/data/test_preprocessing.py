"""From image files' arrays to network inputs."""

import json
import warnings

import numpy as np
import pytest

from minunet.data import DataError, Preprocessing
from minunet.data.preprocessing import is_grey, luminance


def colors(height=4, width=5, channels=3):
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels))
    return values.astype(np.uint8)


def test_values_as_they_are():
    image = colors()[..., 0]
    planes = Preprocessing()(image)
    assert planes.shape == (1, 4, 5) and planes.dtype == np.float32
    np.testing.assert_array_equal(planes[0], image)
    assert Preprocessing()(image, np.float64).dtype == np.float64


def test_standardize_over_all_channels():
    image = colors()
    planes = Preprocessing(3, "standardize")(image, np.float64)
    expected = (image - image.mean(dtype=np.float64)) / image.std(dtype=np.float64)
    np.testing.assert_allclose(planes, expected.transpose(2, 0, 1), rtol=1e-12)


@pytest.mark.parametrize("value", [0, 7, 0.1, 65535])
def test_standardize_constant_image(value):
    planes = Preprocessing(1, "standardize")(np.full((3, 3), value))
    assert abs(planes).max() < 1e-3


def test_standardize_does_not_depend_on_the_scale():
    image = colors()[..., 0]
    one = Preprocessing(1, "standardize")(image)
    other = Preprocessing(1, "standardize")(image.astype(np.uint16) * 257)
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        ((7, 9, 3), 3, (3, 7, 9)),
        ((3, 7, 9), 3, (3, 7, 9)),
        ((3, 7, 3), 3, (3, 3, 7)),  # both fit: the last wins
        ((7, 9, 1), 1, (1, 7, 9)),
        ((1, 7, 9), 1, (1, 7, 9)),
        ((7, 9, 5), 5, (5, 7, 9)),
        ((5, 7, 9), 5, (5, 7, 9)),
        ((7, 9, 3), None, (3, 7, 9)),
        ((3, 7, 9), None, (3, 7, 9)),
        ((7, 9, 4), 3, (3, 7, 9)),
        ((7, 9, 2), 1, (1, 7, 9)),
        ((7, 9), 3, (3, 7, 9)),
        ((7, 9, 2), 3, (3, 7, 9)),
    ],
)
def test_channel_axis(shape, channels, expected):
    assert Preprocessing(channels)(np.ones(shape)).shape == expected


def test_grey_is_repeated():
    image = colors()[..., 0]
    planes = Preprocessing(3)(image)
    assert all((plane == image).all() for plane in planes)


def test_color_in_a_grey_model_warns():
    image = colors()
    with pytest.warns(UserWarning, match="luminance"):
        planes = Preprocessing(1)(image)
    np.testing.assert_allclose(planes[0], image @ (0.299, 0.587, 0.114), rtol=1e-6)


def test_equal_channels_do_not_warn():
    image = np.repeat(colors()[..., :1], 3, axis=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(Preprocessing(1)(image)[0], image[..., 0])
    assert is_grey(image) and not is_grey(colors())
    np.testing.assert_array_equal(luminance(image), image[..., 0])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((7, 9, 6)), "no axis of 1 to 4 channels"),
        (np.zeros(7), "is not an image"),
        (np.zeros((0, 7)), "is not an image"),
        (np.zeros((1, 1, 7, 9)), "is not an image"),
        (np.zeros((7, 9), complex), "dtype complex128"),
        (np.array([["a"]]), "dtype"),
    ],
    ids=range(6),
)
def test_not_an_image(image, message):
    with pytest.raises(DataError, match=message):
        Preprocessing(1)(image)


def test_channels_that_do_not_fit():
    with pytest.raises(DataError, match="3 channels does not fit a model of 5"):
        Preprocessing(5)(np.zeros((7, 9, 3)))


def test_json_round_trip():
    for made in (Preprocessing(), Preprocessing(3, "standardize")):
        assert Preprocessing.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"channels": 1},
        {"channels": 0, "normalize": "none"},
        {"channels": True, "normalize": "none"},
        {"channels": "1", "normalize": "none"},
        {"channels": 1, "normalize": "whiten"},
        {"channels": 1, "normalize": []},
        {"channels": 1, "normalize": "none", "more": 0},
    ],
    ids=range(9),
)
def test_json_that_is_no_preprocessing(data):
    with pytest.raises(ValueError):
        Preprocessing.from_json(data)


def test_one_row_of_colours_for_a_grey_model():
    """(1, W, 3) is one channel of W x 3 pixels, as the model has one; of a picture file it is a row of colours."""
    row = np.arange(1, 16, dtype=np.uint8).reshape(1, 5, 3)
    grey = Preprocessing(1, "none")
    np.testing.assert_array_equal(grey(row), row)
    with pytest.warns(UserWarning, match="luminance"):
        assert grey(row, channels_last=True).shape == (1, 1, 5)
    assert Preprocessing(3, "none")(row).shape == Preprocessing(3, "none")(row, channels_last=True).shape == (3, 1, 5)
    assert grey(row[..., 0], channels_last=True).shape == (1, 1, 5)
