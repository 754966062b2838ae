"""Batches with weights and deformation: parted cells stay parted, weights go with their pixels, foreground is found."""

import numpy as np
import pytest

from minunet.data import Augmentation, PixelWeights, Sampler, from_arrays, separate_touching, weight_map
from minunet.data.pixel_weights import balanced, instances, weights_of
from minunet.instances.components import components
from minunet.training.prefetch import Prefetcher

STILL = Augmentation(
    flips=False, rotation=0, scale=0, shift=0, elastic=0, contrast=0, gamma=0, brightness=0, blur=0, noise=0
)


def touching(count=3, side=64):
    """Images of stripes of cells, eight pixels wide, that touch each other, above background."""
    labels = np.zeros((side, side), np.uint16)
    labels[: side // 2] = 1 + np.arange(side) // 8
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, labels.shape).astype(np.uint8) for _ in range(count)]
    return from_arrays(images, [labels] * count, target="instances")


@pytest.mark.parametrize("crop", [(16, 16), (12, 20), None])
@pytest.mark.parametrize("margin", [0, 2])
def test_weights_move_with_their_pixels(crop, margin):
    """The images are the weight maps: so they must agree with the weights wherever both go."""
    dataset, weights = touching(), PixelWeights((1.0, 1.0))
    maps = [weight_map(separate_touching(ids)) for ids in dataset.ids]
    dataset.images = [found[None] for found in maps]
    sampler, seen = Sampler(dataset, 1, 2, crop, "flips", weights, output_margin=margin), 0
    for step in range(8):
        x, _, weight = sampler.batch(step)
        height, width = x.shape[2:]
        np.testing.assert_array_equal(weight, x[:, 0, margin : height - margin, margin : width - margin])
        assert weight.dtype == np.float32 and weight.flags.c_contiguous
        seen = max(seen, np.ptp(weight))
    assert seen > 5


def test_cells_that_touch_stay_parted_however_they_are_deformed():
    dataset = touching()
    sampler = Sampler(dataset, 0, 4, (48, 48), Augmentation(), PixelWeights((1.0, 1.0)))
    narrow = 0
    for step in range(10):
        x, target, weight = sampler.batch(step)
        assert x.shape == (4, 1, 48, 48) and set(np.unique(target)) <= {0, 1}
        for mask, map_ in zip(target, weight, strict=True):
            pieces = components(mask, corners=True)
            # A cell may be cut by the crop's border into pieces; what counts is that each is of one cell.
            np.testing.assert_array_equal(separate_touching(pieces), pieces)
            np.testing.assert_array_equal(map_[mask == 1], 1)
            gap = _between(pieces)
            narrow += gap.sum()
            assert (map_[gap] > 9).all()
            assert components(mask).max() > 2 or mask.mean() < 0.3
    assert narrow > 1000


def _between(pieces):
    """Background with two pieces above and below it, or left and right."""
    gap = np.zeros(pieces.shape, bool)
    for a, b in ((pieces[1:-1, :-2], pieces[1:-1, 2:]), (pieces[:-2, 1:-1], pieces[2:, 1:-1])):
        gap[1:-1, 1:-1] |= (a != 0) & (b != 0) & (a != b)
    return gap & (pieces == 0)


def test_an_augmentation_that_does_nothing_leaves_the_crop():
    dataset, weights = touching(), PixelWeights((1.0, 1.0))
    plain = Sampler(dataset, 3, 2, (64, 64), None, weights).batch(0)
    still = Sampler(dataset, 3, 2, (64, 64), STILL, weights).batch(0)
    for one, other in zip(plain, still, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("augment", [None, "flips", Augmentation()], ids=["none", "flips", "full"])
@pytest.mark.parametrize("margin", [0, 4])
@pytest.mark.parametrize("place", [(0, 0), (95, 40), (50, 95), (48, 48)], ids=str)
def test_crops_are_placed_where_there_is_foreground(augment, margin, place):
    mask = np.zeros((96, 96), np.uint8)
    mask[tuple(slice(max(0, p - 2), p + 3) for p in place)] = 255
    dataset = from_arrays([mask], [mask], target="binary")
    found = Sampler(dataset, 0, 1, (24, 24), augment, foreground=1.0, output_margin=margin)
    assert all(found.batch(step).target.any() for step in range(30))
    chance = Sampler(dataset, 0, 1, (24, 24), augment, output_margin=margin)
    assert sum(chance.batch(step).target.any() for step in range(30)) < 15


def test_half_of_the_crops_and_images_without_foreground():
    mask = np.zeros((96, 96), np.uint8)
    mask[0, 0] = 255
    dataset = from_arrays([mask, mask], [mask, mask], target="binary")
    dataset.targets[1] = np.zeros_like(dataset.targets[1])
    sampler = Sampler(dataset, 0, 2, (16, 16), None, foreground=0.5)
    batches = [sampler.batch(step) for step in range(100)]
    assert 35 < sum(found.target.any() for found in batches) < 65
    assert not any(found.target.reshape(2, -1).any(axis=1).all() for found in batches)


def test_instances_of_masks_that_hold_none_are_pieces():
    mask = np.zeros((32, 32), np.uint8)
    mask[4:12, 4:12] = mask[12:20, 12:20] = mask[4:10, 14:20] = 1  # the first two meet at a corner
    dataset = from_arrays([mask * 9], [mask])
    found = instances(dataset, 0)
    assert found.max() == 2 and found[5, 5] == found[15, 15] != found[5, 15]
    np.testing.assert_array_equal(weights_of(dataset, 0, PixelWeights((1.0, 1.0))), weight_map(found))


def test_class_weights():
    target = np.array([[0, 0, 0, 1], [0, 0, 2, 2]])
    np.testing.assert_allclose(balanced([target[:1], target[1:]], 4), [8 / 15, 8 / 3, 8 / 6, 1])
    weights = PixelWeights((0.5, 2.0, 3.0), w0=0.0)
    np.testing.assert_array_equal(weights(target, None), [[0.5, 0.5, 0.5, 2], [0.5, 0.5, 3, 3]])
    labels = np.array([[1, 0, 2, 0]])
    expected = weight_map(labels, 4.0, 2.0, np.array([0.5, 2.0]))
    np.testing.assert_array_equal(PixelWeights((0.5, 2.0), 4.0, 2.0)((labels > 0).astype(int), labels), expected)


def test_ids_are_compact_and_kept_in_their_order():
    mask = np.array([[0, 70000, 70000, 5], [0, 0, 5, 5]], np.int64)
    dataset = from_arrays([mask % 7], [mask], target="instances")
    np.testing.assert_array_equal(dataset.ids[0], [[0, 2, 2, 1], [0, 0, 1, 1]])
    assert dataset.ids[0].dtype == np.uint8
    np.testing.assert_array_equal(dataset.targets[0], separate_touching(mask) != 0)
    assert dataset.subset([0]).ids[0] is dataset.ids[0]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_batches_do_not_depend_on_the_number_of_threads(workers):
    def sampler():
        return Sampler(touching(5), 2, 3, (32, 32), Augmentation(), PixelWeights((1.0, 1.0)), 0.5)

    expected = sampler()
    with Prefetcher(sampler().batch, 4, workers) as batches:
        for step in range(4, 16):
            for one, other in zip(batches.get(step), expected.batch(step), strict=True):
                np.testing.assert_array_equal(one, other)
    assert batches.waited > 0


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_what_goes_wrong_is_told_where_the_batch_is_wanted(workers):
    made = []

    def make(step):
        made.append(step)
        if step == 3:
            raise ValueError("no batch 3")
        return step

    with Prefetcher(make, 0, workers) as batches:
        assert [batches.get(step) for step in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="no batch 3"):
            batches.get(3)
    assert max(made) <= 3 + 2 * workers and not any(thread.is_alive() for thread in batches._threads)
