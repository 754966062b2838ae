"""Elastic deformation: one field for all, no change at all where nothing moves, and values as SciPy has them."""

import time

import numpy as np
import pytest

from minunet.data import cells
from minunet.data.deform import ORDERS, displacements, elastic_deform, pixel_grid, resample

SHAPE = (40, 56)


def sample(shape=SHAPE, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(channels, *shape)).astype(np.float32)
    labels = (rng.integers(0, 4, shape) * 21).astype(np.uint16)
    return image, labels, rng.uniform(0.5, 9, shape).astype(np.float32)


def ramps(shape, places):
    """Rows and columns, read at the places: what a pixel holds is then where it comes from."""
    return resample(pixel_grid(shape), None, None, places)[0]


@pytest.mark.parametrize("order", ORDERS)
def test_a_zero_field_is_the_identity_to_the_last_bit(order):
    image, labels, weight = sample(channels=2)
    image[0, :2, :4] = [[np.nan, np.inf, -np.inf, -0.0], [5e-324, -1e-45, 3e38, -0.0]]
    weight[0, 0] = -0.0
    given = [image.copy(), labels.copy(), weight.copy()]
    result = elastic_deform(image, labels, weight, sigma=0.0, rng=1, order=order)
    for before, array, after in zip(given, (image, labels, weight), result, strict=True):
        assert after.dtype == before.dtype and after.tobytes() == before.tobytes() == array.tobytes()
        assert not np.shares_memory(after, array)


@pytest.mark.parametrize("order", ORDERS)
def test_places_of_whole_numbers_give_the_pixels_themselves(order):
    image, labels, weight = sample()
    places = pixel_grid(SHAPE)[:, ::-1, 5:30]
    for before, after in zip(
        (image[0], labels, weight), resample(image[0], labels, weight, places, order), strict=True
    ):
        np.testing.assert_array_equal(after, before[::-1, 5:30])


def test_one_field_for_all():
    """Image, labels and weight that hold the same ramp are still the same, up to rounding to the nearest."""
    ramp = np.add.outer(np.arange(64.0), 3 * np.arange(80.0)).astype(np.float32)
    image, labels, weight = elastic_deform(ramp, ramp.astype(np.int32), ramp, rng=4)
    np.testing.assert_array_equal(image, weight)
    assert np.abs(image - ramp).max() > 5  # it has moved
    # Half a pixel in each direction is 0.5 + 1.5; at the mirrored border the ramp's slope is no more than that.
    assert np.abs(labels - image).max() <= 2 + 1e-3


@pytest.mark.parametrize("order", ORDERS)
def test_the_value_comes_from_the_displaced_place(order):
    field = displacements(SHAPE, 4.0, 3, np.random.default_rng(0))
    places = (pixel_grid(SHAPE) + field).clip(2, np.array(SHAPE)[:, None, None] - 3)  # away from the mirrors
    # Both interpolations reproduce straight lines exactly.
    there = resample(pixel_grid(SHAPE), None, None, places, order)[0]
    np.testing.assert_allclose(there, places, atol=1e-4)


def test_linear_values_are_those_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    image, labels, weight = sample(channels=3)
    places = pixel_grid(SHAPE) + displacements(SHAPE, 80.0, 3, np.random.default_rng(1))
    assert places.min() < -SHAPE[0] and places.max() > SHAPE[1] + SHAPE[0]  # mirrored and mirrored again
    image_there, labels_there, weight_there = resample(image, labels, weight, places)
    for plane, there in zip((*image, weight), (*image_there, weight_there), strict=True):
        expected = ndimage.map_coordinates(plane, places, order=1, mode="mirror")
        np.testing.assert_allclose(there, expected, atol=1e-5)
    np.testing.assert_array_equal(labels_there, ndimage.map_coordinates(labels, places, order=0, mode="mirror"))


def test_cubic_values_are_those_of_the_definition():
    image, _, weight = sample()
    places = pixel_grid(SHAPE) + displacements(SHAPE, 20.0, 3, np.random.default_rng(2))
    there, _, weight_there = resample(image, None, weight, places, order=3)
    pad = 200
    wide = np.pad(image[0], pad, mode="reflect").astype(float)
    for y, x in [(0, 0), (39, 55), (20, 30), (3, 50), (38, 1)]:
        expected = 0.0
        row, column = places[:, y, x].astype(float) + pad
        for i in range(int(row) - 2, int(row) + 4):
            for j in range(int(column) - 2, int(column) + 4):
                expected += keys(row - i) * keys(column - j) * wide[i, j]
        assert there[0, y, x] == pytest.approx(expected, abs=2e-4)
    np.testing.assert_array_equal(weight_there, resample(weight, None, None, places)[0])  # linear all the same


def keys(x):
    """Keys (1981), equation (15)."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


@pytest.mark.parametrize("grid", [2, 3, 5])
def test_the_field_is_the_grid_between_its_points(grid):
    side = 4 * (grid - 1) + 1  # every fourth pixel is a point of the grid
    field = displacements((side, side), 10.0, grid, np.random.default_rng(7))
    points = np.random.default_rng(7).normal(0, 10, (2, grid, grid))
    np.testing.assert_allclose(field[:, ::4, ::4], points, rtol=1e-5)
    padded = np.pad(points, ((0, 0), (1, 1), (1, 1)), mode="edge")
    for y, x in [(0, 1), (2, 2), (1, side - 2), (side - 1, 3)]:
        expected = sum(
            keys(y / 4 - i) * keys(x / 4 - j) * padded[:, i + 1, j + 1]
            for i in range(-1, grid + 1)
            for j in range(-1, grid + 1)
        )
        np.testing.assert_allclose(field[:, y, x], expected, atol=1e-4)


def test_the_field_has_the_given_standard_deviation_and_is_smooth():
    rng = np.random.default_rng(0)
    fields = np.stack([displacements((65, 65), 10.0, 3, rng) for _ in range(400)])
    at_points = fields[:, :, ::32, ::32]
    assert at_points.std() == pytest.approx(10, rel=0.03) and abs(at_points.mean()) < 0.5
    assert np.abs(np.diff(fields, n=2, axis=2)).max() < 0.5  # no kinks between neighbouring pixels


def test_the_generator_alone_decides():
    image, labels, weight = sample(channels=3)
    once = elastic_deform(image, labels, weight, rng=5)
    again = elastic_deform(image, labels, weight, rng=np.random.default_rng(5))
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a, b)
    np.random.seed(1)
    alone = elastic_deform(image[0], None, None, rng=5)
    np.testing.assert_array_equal(alone[0], once[0][0])
    assert alone[1] is None and alone[2] is None
    rng = np.random.default_rng(5)
    assert (elastic_deform(image, None, None, rng=rng)[0] == once[0]).all()
    assert (elastic_deform(image, None, None, rng=rng)[0] != once[0]).any()  # the generator has moved on
    assert (elastic_deform(image, None, None)[0] != elastic_deform(image, None, None)[0]).any()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint64, np.float32])
def test_labels_stay_labels(dtype):
    labels = (np.random.default_rng(0).integers(0, 2, SHAPE) * 255).astype(dtype)
    if dtype is np.uint64:
        labels[labels > 0] += np.uint64(2**63 + 1)
    there = elastic_deform(np.zeros(SHAPE), labels, None, rng=0)[1]
    assert there.dtype == dtype and set(np.unique(there)) == set(np.unique(labels))


def test_numbers_of_images():
    picture, ids = (every[0] for every in cells(1, size=64, seed=0))
    as_bytes = elastic_deform(picture, ids, None, rng=0)[0]
    as_float = elastic_deform(picture.astype(np.float64), ids, None, rng=0)[0]
    assert as_bytes.dtype == np.float32 and as_float.dtype == np.float64
    np.testing.assert_allclose(as_bytes, as_float, rtol=1e-5, atol=1e-3)
    assert picture.min() <= as_bytes.min() and as_bytes.max() <= picture.max()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (200, 301)])
def test_any_size(shape, order):
    image, labels, weight = sample(shape, channels=2)
    image_there, labels_there, weight_there = elastic_deform(image, labels, weight, rng=0, order=order)
    assert image_there.shape == image.shape and labels_there.shape == weight_there.shape == shape
    assert np.isfinite(image_there).all()
    assert weight.min() - 1e-5 <= weight_there.min() and weight_there.max() <= weight.max() + 1e-5


def test_sampling_in_bands_is_sampling_at_once():
    shape = (300, 200)
    image, labels, weight = sample(shape)
    places = pixel_grid(shape) + displacements(shape, 10.0, 3, np.random.default_rng(0))
    whole = resample(image, labels, weight, places)
    for rows in (slice(0, 1), slice(39, 42), slice(290, 300)):
        part = resample(image, labels, weight, places[:, rows])
        for a, b in zip(part, whole, strict=True):
            np.testing.assert_array_equal(a, b[..., rows, :])


def test_views_are_read_right():
    image, labels, weight = sample()
    views = image[:, ::-1, ::2], labels[::-1, ::2], weight[::-1, ::2]
    copies = [view.copy() for view in views]
    for a, b in zip(elastic_deform(*views, rng=3), elastic_deform(*copies, rng=3), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros(5)}, r"\(C, H, W\) or \(H, W\), and not empty, not of shape \(5,\)"),
        ({"image": np.zeros((0, 4, 5))}, "not empty"),
        ({"labels": np.zeros((5, 4), int)}, r"labels must be \(H, W\) as the image, \(4, 5\), not \(5, 4\)"),
        ({"weight": np.zeros((1, 4, 5))}, "weight must be"),
        ({"sigma": -1.0}, "sigma must be a number of pixels from 0 up, not -1.0"),
        ({"sigma": np.nan}, "sigma must be"),
        ({"grid": 1}, "at least 2 x 2 points, not 1 x 1"),
        ({"order": 2}, "must be 1 or 3, not 2"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        elastic_deform(**({"image": np.zeros((4, 5)), "labels": None, "weight": None, "rng": 0} | arguments))


def test_a_few_milliseconds_for_an_image():
    image, labels, weight = sample((256, 256))
    times = []
    for seed in range(10):
        start = time.process_time()
        elastic_deform(image, labels, weight, rng=seed)
        times.append(time.process_time() - start)
    assert min(times) < 0.05  # it takes about 0.005
