"""Augmentations: each function against what NumPy or SciPy does, and the recipe that draws from them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from minunet.data import augmentations as aug
from minunet.data import cells, separate_touching
from minunet.data.augmentations import Augmentation, affine_places
from minunet.data.deform import pixel_grid, resample
from minunet.data.weight_map import weight_map

NOTHING = Augmentation(False, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0)
PLACE = {"flips": True, "rotation": 180.0, "scale": 0.25, "shift": 9.0, "elastic": 10.0}
LOOK = {"contrast": 0.5, "gamma": 0.5, "brightness": 0.5, "blur": 2.0, "noise": 0.5}


@pytest.fixture(scope="module")
def sample():
    """A window of cells: image (1, h, w), labels (h, w), weight (h, w)."""
    image, labels = (every[0][:150, :170] for every in cells(1, size=180, seed=3))
    labels = separate_touching(labels)
    return ((image - image.mean()) / image.std()).astype(np.float32)[None], labels, weight_map(labels)


def places(shape=(9, 9), size=(9, 9), **arguments):
    """What a window that holds its own rows and columns looks like through the map."""
    return affine_places(shape, size, **arguments)


# --- the map


@pytest.mark.parametrize("shape", [(9, 9), (8, 8), (7, 12)])
def test_no_movement_is_the_identity(shape):
    np.testing.assert_array_equal(places(shape, shape), pixel_grid(shape))


@pytest.mark.parametrize(("shape", "size"), [((9, 9), (5, 5)), ((10, 9), (5, 4)), ((4, 5), (9, 9)), ((8, 8), (8, 3))])
def test_a_crop_is_the_middle_in_whole_pixels(shape, size):
    tops = np.array([(whole - part) // 2 for whole, part in zip(shape, size, strict=True)])
    np.testing.assert_array_equal(places(shape, size), pixel_grid(size) + tops[:, None, None])


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("quarters", [-3, -1, 1, 2, 3, 5])
def test_quarter_turns_are_those_of_numpy_to_the_last_bit(side, quarters):
    turned = np.rot90(pixel_grid((side, side)), quarters, axes=(1, 2))
    np.testing.assert_array_equal(places((side, side), (side, side), angle=90.0 * quarters), turned)


@pytest.mark.parametrize("flips", [(True, False), (False, True), (True, True)])
def test_flips_are_those_of_numpy_and_come_after_the_turn(flips):
    axes = [axis for axis, flip in zip((1, 2), flips, strict=True) if flip]
    np.testing.assert_array_equal(places((6, 9), (6, 9), flips=flips), np.flip(pixel_grid((6, 9)), axes))
    turned = np.rot90(pixel_grid((9, 9)), axes=(1, 2))
    np.testing.assert_array_equal(places(angle=90.0, flips=flips), np.flip(turned, axes))


def test_shift_and_scale():
    shift = np.array([2.0, -0.5])
    np.testing.assert_array_equal(places(shift=tuple(shift)), pixel_grid((9, 9)) + shift[:, None, None])
    twice = places(scale=2.0)  # enlarged: half as much of the window is seen
    np.testing.assert_allclose(twice[0, :, 0], np.linspace(2, 6, 9))
    np.testing.assert_allclose(twice[1, 0], np.linspace(2, 6, 9))


def test_any_angle_is_the_rotation_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    picture = cells(1, size=65, seed=0)[0][0].astype(np.float64)
    inner = np.s_[15:50, 15:50]
    for angle in (-170.0, -33.0, 12.5, 77.0):
        ours = resample(picture, None, None, places((65, 65), (65, 65), angle=angle))[0]
        theirs = ndimage.rotate(picture, angle, reshape=False, order=1)
        np.testing.assert_allclose(ours[inner], theirs[inner], atol=0.05)  # places are float32, grey values 0..255


# --- the look


def test_contrast_brightness_and_gamma(sample):
    image = sample[0]
    stronger = aug.contrast(image, 2.0)
    assert stronger.mean() == pytest.approx(image.mean(), abs=1e-5)
    assert stronger.std() == pytest.approx(2 * image.std(), rel=1e-5)
    np.testing.assert_array_equal(aug.brightness(image, 0.5), image + np.float32(0.5))
    bent = aug.gamma(image, 2.0)
    low, high = image.min(), image.max()
    np.testing.assert_allclose(bent, ((image - low) / (high - low)) ** 2 * (high - low) + low, rtol=1e-5, atol=1e-6)
    assert bent.min() == low and bent.max() == pytest.approx(high)
    flat = np.full((2, 3, 3), 7, np.float32)
    for same in (aug.gamma(flat, 2.0), aug.contrast(flat, 2.0), aug.contrast(image, 1.0), aug.gamma(image, 1.0)):
        assert same.dtype == np.float32
        np.testing.assert_allclose(same, flat if same.shape == flat.shape else image, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.2, 0.7, 2.0])
def test_blur_is_that_of_scipy(sample, sigma):
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    image = np.concatenate([sample[0], -sample[0]])[:, :40, :50]
    radius = int(np.ceil(3 * sigma))
    expected = ndimage.gaussian_filter(image, (0, sigma, sigma), mode="mirror", radius=(0, radius, radius))
    np.testing.assert_allclose(aug.blur(image, sigma), expected, atol=1e-5)
    np.testing.assert_array_equal(aug.blur(image, 0.0), image)
    assert aug.blur(image[:, :2, :1], sigma).shape == (2, 2, 1)  # smaller than the Gaussian


def test_noise_has_its_standard_deviation(sample):
    image = np.repeat(sample[0], 2, 0)
    added = aug.noise(image, 0.3, np.random.default_rng(0)) - image
    assert added.dtype == np.float32 and added.std() == pytest.approx(0.3, rel=0.02)
    assert abs(np.corrcoef(added[0].ravel(), added[1].ravel())[0, 1]) < 0.05


# --- the recipe


def test_nothing_is_the_crop_itself_to_the_last_bit(sample):
    result = NOTHING.apply(*sample, np.random.default_rng(0), (64, 71))
    for before, after in zip(sample, result, strict=True):
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(after, before[..., 43:107, 49:120])


def test_the_generator_alone_decides_in_any_thread(sample):
    recipe = Augmentation()

    def draw(seed):
        return recipe.apply(*sample, np.random.default_rng([seed]), (64, 64))

    alone = [draw(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(draw, reversed(range(8))))[::-1]
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.tobytes() == b.tobytes()
    assert len({image.tobytes() for image, _, _ in alone}) == 8


def test_the_arguments_are_left_alone(sample):
    before = [array.copy() for array in sample]
    for recipe in (Augmentation(), NOTHING):
        result = recipe.apply(*sample, np.random.default_rng(0), sample[1].shape)
        for copy, array, after in zip(before, sample, result, strict=True):
            np.testing.assert_array_equal(array, copy)
            assert not np.shares_memory(array, after)


@pytest.mark.parametrize("order", [1, 3])
def test_image_labels_and_weight_move_together(sample, order):
    """A window whose image and weight are its labels: after any movement all three still agree."""
    steps = np.add.outer(np.arange(160) // 20, np.arange(180) // 20).astype(np.int32)
    ramp = (steps - 0.0).astype(np.float32)
    recipe = replace(NOTHING, **PLACE, order=order)
    for seed in range(20):
        image, labels, weight = recipe.apply(ramp[None], steps, ramp, np.random.default_rng(seed), (64, 64))
        for array in (image[0], weight):
            assert np.abs(array - labels).max() < 1.2  # at the edge of a step, and cubic overshoots by an eighth
            assert np.mean(np.abs(array - labels) < 0.01) > 0.6  # all but the edges


def test_labels_stay_labels_and_weights_within_their_range(sample):
    for seed in range(20):
        image, labels, weight = Augmentation().apply(*sample, np.random.default_rng(seed), (64, 48))
        assert image.shape == (1, 64, 48) and labels.shape == weight.shape == (64, 48)
        assert image.dtype == weight.dtype == np.float32 and labels.dtype == sample[1].dtype
        assert set(np.unique(labels)) <= set(np.unique(sample[1]))
        assert np.isfinite(image).all()
        assert sample[2].min() - 1e-5 <= weight.min() and weight.max() <= sample[2].max() + 1e-5


@pytest.mark.parametrize("name", [*PLACE, *LOOK])
def test_each_effect_alone(sample, name):
    """What moves changes all three, what colours the image alone; and 0 is off."""
    recipe = replace(NOTHING, **{name: (PLACE | LOOK)[name]})
    moved = 0
    for seed in range(6):
        plain = NOTHING.apply(*sample, np.random.default_rng(seed), (64, 64))
        image, labels, weight = recipe.apply(*sample, np.random.default_rng(seed), (64, 64))
        if name in LOOK:
            assert (image != plain[0]).any()
            np.testing.assert_array_equal(labels, plain[1])
            np.testing.assert_array_equal(weight, plain[2])
        moved += (labels != plain[1]).any() and (weight != plain[2]).any()
    assert moved >= 3 if name in PLACE else moved == 0  # no flip at all has probability 1/4


def test_switching_one_effect_off_leaves_the_others_draws(sample):
    full = Augmentation(**PLACE, **LOOK)
    for off in ("flips", "rotation", "scale", "shift", "elastic"):
        rest = replace(full, **{off: 0})
        a, b = np.random.default_rng(1), np.random.default_rng(1)
        full.places((90, 90), (64, 64), a)
        rest.places((90, 90), (64, 64), b)
        assert a.bit_generator.state == b.bit_generator.state
    only_bright = replace(NOTHING, brightness=0.5)
    flat = np.zeros((1, 5, 5), np.float32)
    plain = only_bright.look(flat, np.random.default_rng(2))
    noisy = replace(only_bright, noise=0.1).look(flat, np.random.default_rng(2))
    assert plain[0, 0, 0] != 0 and np.abs(noisy - plain).max() < 0.5


def test_spread_scales_what_is_added():
    flat = np.zeros((1, 50, 50), np.float32)
    recipe = replace(NOTHING, brightness=0.5, noise=0.1)
    one = recipe.look(flat, np.random.default_rng(0))
    many = recipe.look(flat, np.random.default_rng(0), spread=40.0)
    np.testing.assert_allclose(many, 40 * one, rtol=1e-4, atol=1e-5)


def test_draws_fill_their_ranges():
    recipe = replace(NOTHING, rotation=30.0, scale=0.5)
    angles, scales = [], []
    for seed in range(400):
        down = np.diff(recipe.places((40, 40), (20, 20), np.random.default_rng(seed))[:, :2, 0].astype(float))[:, 0]
        angles.append(np.degrees(np.arctan2(-down[1], down[0])))
        scales.append(1 / np.hypot(*down))
    assert -30 <= min(angles) < -29 and 29 < max(angles) <= 30 and abs(np.mean(angles)) < 2
    assert 1 / 1.5 - 1e-4 <= min(scales) < 0.68 and 1.48 < max(scales) <= 1.5 + 1e-4
    assert abs(np.mean(np.log(scales))) < 0.03
    assert abs(np.corrcoef(angles, scales)[0, 1]) < 0.15


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (33, 20), (1, 1)])
@pytest.mark.parametrize(
    "recipe",
    [Augmentation(), Augmentation(rotation=20.0, shift=10.0, order=3), Augmentation(rotation=0.0, scale=0.0)],
)
def test_the_window_is_large_enough(size, recipe):
    window = np.array(recipe.window(size))
    assert ((window - size) % 2 == 0).all() and (window >= size).all()
    still = replace(recipe, elastic=0.0)
    edge = (window - 1)[:, None, None]
    outside = []
    for seed in range(60):
        inside = still.places(tuple(window), size, np.random.default_rng(seed))
        assert (inside > -1e-3).all() and (inside < edge + 1e-3).all()
        bent = recipe.places(tuple(window), size, np.random.default_rng(seed))
        outside.append(((bent < 0) | (bent > edge)).mean())
    assert np.mean(outside) < 0.01


def test_the_window_of_nothing_is_the_crop():
    assert NOTHING.window((64, 48)) == (64, 48)
    assert replace(NOTHING, rotation=90.0).window((64, 48)) == (80, 80)


def test_fields_do_not_fold_small_crops():
    """Places that turn back on themselves show in the determinant of the map's derivative."""
    recipe = replace(NOTHING, elastic=10.0)
    for side in (32, 64, 128, 256):
        for seed in range(20):
            rows, columns = recipe.places((side, side), (side, side), np.random.default_rng(seed))
            (ry, rx), (cy, cx) = np.gradient(rows), np.gradient(columns)
            assert (ry * cx - rx * cy).min() > 0


def test_without_labels_and_weight_the_image_is_the_same(sample):
    image, labels, weight = sample
    whole = Augmentation().apply(image, labels, weight, np.random.default_rng(0), (64, 64))
    alone = Augmentation().apply(image, None, None, np.random.default_rng(0), (64, 64))
    np.testing.assert_array_equal(alone[0], whole[0])
    assert alone[1] is None and alone[2] is None


def test_arguments_that_do_not_fit(sample):
    image, labels, weight = sample
    rng = np.random.default_rng(0)
    for bad in ((image[0], labels, weight), (image, labels.T, weight), (image, labels, weight[None])):
        with pytest.raises(ValueError, match="do not fit each other"):
            Augmentation().apply(*bad, rng, (64, 64))
    for name in ("rotation", "noise", "elastic"):
        for value in (-0.1, np.nan, np.inf):
            with pytest.raises(ValueError, match=f"{name} must be a number from 0 up"):
                Augmentation(**{name: value})
    with pytest.raises(ValueError, match="at least 2 points a side, not 1"):
        Augmentation(grid=1)
    with pytest.raises(ValueError, match="order must be 1 or 3, not 2"):
        Augmentation(order=2)
