"""Borders as a class of their own: by hand, by brute force, through data sets, batches and weights."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minunet.data import (
    Augmentation,
    Coding,
    DataError,
    PixelWeights,
    Sampler,
    border_classes,
    cells,
    class_map,
    decide_coding,
    from_arrays,
    weight_map,
)
from minunet.data.pixel_weights import weights_of
from minunet.instances.label import label_instances

STILL = Augmentation(
    flips=False, rotation=0, scale=0, shift=0, elastic=0, contrast=0, gamma=0, brightness=0, blur=0, noise=0
)
BORDERS = Coding("borders")


def drawn(*rows):
    return np.array([[int(c.replace(" ", "0")) for c in row] for row in rows], np.uint16)


def test_by_hand():
    labels = drawn(
        "1111222 ",
        "1111222 ",
        "1111222 ",
        "        ",
    )
    found = border_classes(labels)
    rows = ("1112212 ", "1112212 ", "2222222 ", "        ")  # the image's edge is no border
    assert found.tolist() == drawn(*rows).tolist() and found.dtype == np.uint8
    assert border_classes(np.zeros((0, 3), int)).shape == (0, 3)
    with pytest.raises(ValueError, match=r"\(H, W\), not of shape"):
        border_classes(labels[None])


@given(arrays(np.uint16, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.sampled_from([0, 1, 2, 65535])))
def test_every_pixel_by_its_neighbours(labels):
    found = border_classes(labels)
    for y, x in np.ndindex(labels.shape):
        around = labels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert found[y, x] == (0 if labels[y, x] == 0 else 1 + (around != labels[y, x]).any())


def test_the_coding():
    assert (BORDERS.classes, BORDERS.scored_classes) == (3, 2)
    assert Coding.from_json(json.loads(json.dumps(BORDERS.to_json()))) == BORDERS
    with pytest.raises(ValueError, match="cannot have the values"):
        Coding.from_json({"kind": "borders", "values": [0, 1, 2]})
    classes = np.array([[0, 1, 2]], np.uint8)
    assert BORDERS.scored(classes).tolist() == [[0, 1, 1]] and BORDERS.scored(classes).dtype == np.uint8
    assert BORDERS.decode(classes).tolist() == [[0, 255, 255]]
    assert BORDERS.encode(np.array([[0, 7, 300]])).tolist() == [[0, 1, 1]]
    indices = Coding("indices", (0, 1, 2))
    assert indices.scored_classes == 3 and indices.scored(classes) is classes


def test_foreground_is_what_is_likelier_than_background_and_the_same_everywhere():
    p = np.array([[0.4, 0.5, 0.6], [0.3, 0.25, 0.4], [0.3, 0.25, 0.0]])[:, None]
    assert class_map(p, BORDERS).tolist() == [[1, 0, 0]]
    assert class_map(p, None).tolist() == class_map(p, Coding("indices", (0, 1, 2))).tolist() == [[0, 0, 0]]
    half = np.nextafter(np.float32(0.5), np.float32(0), dtype=np.float32)
    for value in (half, np.float32(0.5), np.float32(0.49999)):  # as instances see it, to the last bit
        p = np.full((3, 4, 4), (1 - value) / 2, np.float32)
        p[0] = value
        assert (class_map(p, BORDERS) > 0).tolist() == (label_instances(p, min_size=1) > 0).tolist()


def test_a_data_set_learns_three_classes_and_is_scored_by_two():
    images, labels = cells(3, 64)
    dataset = from_arrays(images, labels, target="borders")
    assert dataset.coding == BORDERS
    for target, truth, ids, mask in zip(dataset.targets, dataset.truth, dataset.ids, labels, strict=True):
        np.testing.assert_array_equal(target, border_classes(mask))
        np.testing.assert_array_equal(truth, mask > 0)
        np.testing.assert_array_equal(target > 0, truth)
        np.testing.assert_array_equal(border_classes(ids), target)
        assert target.dtype == truth.dtype == np.uint8
    again = from_arrays(images, labels, target=dataset.coding)
    np.testing.assert_array_equal(again.targets[0], dataset.targets[0])


def test_one_cell_an_image_is_numbered_and_needs_no_more():
    mask = np.zeros((16, 16), np.uint8)
    mask[4:9, 4:9] = 255
    assert decide_coding([mask, mask.T], "borders") == BORDERS


def test_ids_drawn_as_colours():
    mask = np.zeros((8, 8, 3), np.uint8)
    mask[:4, :4], mask[:4, 4:] = (255, 0, 0), (0, 0, 255)
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    target = from_arrays([image], [mask], target="borders").targets[0]
    assert target[0].tolist() == [1, 1, 1, 2, 2, 1, 1, 1]


@pytest.mark.parametrize(("values", "words"), [((0, 255), "0, 255"), ((0, 1, 2), "0, 1, 2"), ((7, 8), "no pixel")])
def test_masks_that_do_not_number_cells_are_refused(values, words):
    mask = np.full((32, 32), values[0], np.uint8)
    mask[4::8, 4::8] = mask[5::8, 4::8] = values[1]  # many pieces of one value
    mask[20:24, 8::8] = values[-1]
    image = np.arange(1024).astype(np.uint8).reshape(32, 32)
    with pytest.raises(DataError, match=f"--target borders .*|{words}") as error:
        from_arrays([image] * 2, [mask] * 2, target="borders")
    assert words in str(error.value) and "borders" in str(error.value)


def test_never_decided_for():
    images, labels = cells(3, 64)
    assert from_arrays(images, labels).coding == Coding("instances")


def dataset_of_cells():
    return from_arrays(*cells(2, 96), target="borders")


def test_without_deformation_crops_are_cut_of_the_targets():
    dataset = dataset_of_cells()
    for augment in (None, STILL):
        sampler = Sampler(dataset, 0, 2, (96, 96), augment)
        targets = {target.tobytes() for target in sampler.batch(0).target}
        assert targets == {target.astype(np.int64).tobytes() for target in dataset.targets}


def test_borders_are_one_pixel_wide_however_cells_are_deformed():
    sampler = Sampler(dataset_of_cells(), 0, 2, (64, 64), Augmentation(scale=0.5))
    borders = 0
    for step in range(6):
        for target in sampler.batch(step).target:
            padded = np.pad(target, 1, mode="edge")
            around = np.stack([padded[y : y + 64, x : x + 64] for y in range(3) for x in range(3)])
            inside, border = target == 1, target == 2
            assert (around.min(axis=0)[inside] > 0).all()  # nothing of the inside lies at the background
            at_background_or_border = (around != 1).sum(axis=0) > 1
            assert at_background_or_border[border].all()
            borders += border.sum()
    assert borders > 1000


def test_the_weight_map_counts_gaps_that_are_in_the_masks_on_top_of_classes():
    image = np.arange(80).astype(np.uint8).reshape(8, 10)
    mask = np.zeros((8, 10), np.uint16)
    mask[:, :3], mask[:, 3:6], mask[:, 7:] = 1, 2, 3  # two that touch, and a gap of one pixel
    dataset = from_arrays([image], [mask], target="borders")
    gaps = weight_map(mask) - 1
    assert (gaps[:, 6] > 9).all() and not gaps[:, :6].any()
    np.testing.assert_array_equal(weights_of(dataset, 0, PixelWeights((1.0, 1.0, 1.0))), 1 + gaps)
    classes = (0.5, 2.0, 4.0)
    expected = np.array(classes, np.float32)[dataset.targets[0]] + gaps
    np.testing.assert_array_equal(weights_of(dataset, 0, PixelWeights(classes)), expected)
    np.testing.assert_array_equal(weights_of(dataset, 0, PixelWeights(classes, w0=0)), expected - gaps)
    found = Sampler(dataset, 0, 1, (8, 10), STILL, PixelWeights(classes)).batch(0)
    np.testing.assert_array_equal(found.weight[0], expected)
