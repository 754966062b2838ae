"""Tiles and the whole image: the same numbers."""

import numpy as np
import pytest
from tile_cases import cases

import minunet as mn
from minunet.data import Preprocessing
from minunet.data.windows import Window
from minunet.prediction import tiling
from minunet.prediction.predict import padded, padded_size, predict_logits
from minunet.prediction.symmetries import EIGHT
from minunet.prediction.tiling import continued, fitting_tile, input_size, logits_in, reader, step, tiles
from minunet.training import estimate

COUNT, SOME = 200, 15
BOUND = 1e-3  # of the logits' standard deviation, as in test_fast_policy.py


def network(**options):
    return mn.UNet(**{"in_channels": 1, "features": (4, 8), "padding": "same", "norm": "batch", "seed": 1, **options})


def image(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


# --------------------------------------------------------------------------------------- the same numbers


def test_exact_kernels_give_the_same_bits():
    pytest.importorskip("numba", reason="NumPy's BLAS does not promise it")
    seen = set()
    with mn.use_backend("numba"), mn.policy("exact"):
        for case in cases(COUNT):
            assert case.differing()[0] == 0, case
            block = 2 ** len(case.architecture["features"])
            seen |= {case.architecture["padding"], case.tta, case.architecture["dtype"]}
            seen |= {"smaller than the margin"} if max(case.size) < 6 * block - 4 else set()
            seen |= {"larger than a tile and its context"} if min(case.size) > case.tile[0] + 12 * block else set()
    assert len(seen) == 8  # of each kind some


def test_kernels_of_unlike_roundings_would_be_noticed(monkeypatch):
    """A kernel that leaves narrow pictures to another one, which adds the bias last."""
    pytest.importorskip("numba", reason="these are Numba's kernels")
    from minunet.kernels.conv2d import direct, few_channels

    whole = few_channels.forward

    def forward(x, weight, bias, padding, relu, out):
        narrow = few_channels.missing(len(weight), out.shape[3], x.dtype) > 0
        (direct.forward if narrow else whole)(x, weight, bias, padding, relu, out)

    monkeypatch.setattr(few_channels, "forward", forward)
    with mn.use_backend("numba"), mn.policy("exact"):
        assert any(case.differing()[0] for case in cases(COUNT))


@pytest.mark.parametrize("wrong", ["margin", "phase", "edge"])
def test_a_wrong_tile_would_be_noticed(wrong, monkeypatch):
    """Planted faults: too little context, another pooling phase, the mirrored image at the edge of a padded network."""
    right = tiling._span

    def span(model, start, stop, side):
        first, last, offset = right(model, start, stop, side)
        if wrong == "margin":
            move = 2**model.levels if first > 0 and offset >= 2**model.levels else 0
            return first + move, last, offset - move
        if wrong == "phase" and first > 0 and last + 2**model.levels <= side:
            return first - 1, last + 2**model.levels - 1, offset + 1
        if wrong == "edge" and model.padding == "same":
            return first - 6 * 2**model.levels, last, offset + 6 * 2**model.levels
        return first, last, offset

    model, x = network(), image(90, 110)
    whole = mn.predict(model, x)
    monkeypatch.setattr(tiling, "_span", span)
    assert np.abs(mn.predict(model, x, tile=20) - whole).max() > 1e-4


@pytest.mark.parametrize("backend, policy", [("numpy", "exact"), ("numpy", "fast"), ("numba", "fast")])
def test_other_kernels_agree_within_rounding(backend, policy):
    if backend == "numba":
        pytest.importorskip("numba")
    allowed = 1e-5 if policy == "exact" else 1e-4
    with mn.use_backend(backend), mn.policy(policy):
        for case in cases(SOME, seed=1):
            assert case.differing()[1] <= allowed, case


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_logits_of_the_fast_policy_are_within_its_bound(padding):
    pytest.importorskip("numba")
    model, x = network(features=(16, 32), padding=padding), image(1, 150, 130).astype(np.float32)
    with mn.use_backend("numba"), mn.policy("fast"):
        whole = predict_logits(model, x)
        for window in tiles(model, x.shape[1:], (50, 60)):
            tile = logits_in(model, reader(x), x.shape[1:], window)
            assert np.abs(tile - whole[(slice(None), *window.slices)]).max() <= BOUND * whole.std()


# --------------------------------------------------------------------------------- geometry, as it is derived


def test_tiles_of_the_papers_network_step_by_384():
    """A tile of 388 px is what 572 px give."""
    paper = mn.UNet(1, 2, (1, 1, 1, 1), padding="valid")
    assert step(paper, 388) == 384
    assert input_size(paper, (4000, 4000), (388, 388)) == (572, 572)
    assert {window.top for window in tiles(paper, (1000, 10), (388, 388))} == {0, 384, 768}


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (37, 90), (200, 64)], ids=str)
def test_tiles_cover_every_pixel_once_and_their_inputs_are_legal(padding, levels, size):
    model = mn.UNet(1, 2, (1,) * levels, padding=padding)
    for tile in [(1, 1), (33, 70), (500, 500)]:
        seen, largest = np.zeros(size, int), input_size(model, size, tile)
        for window in tiles(model, size, tile):
            seen[window.slices] += 1
            assert window.top % 2**levels == window.left % 2**levels == 0
            spans = [tiling._span(model, window[i], window[i] + window[i + 2], size[i]) for i in (0, 1)]
            given = tuple(last - first for first, last, _ in spans)
            model.output_size(given)  # raises where the network would not take it
            assert given[0] <= largest[0] and given[1] <= largest[1]
        assert (seen == 1).all()


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (40, 24)], ids=str)
def test_the_whole_image_is_the_one_tile_run(padding, size):
    model, x = network(padding=padding), image(1, *size)
    top, bottom, down = tiling._span(model, 0, size[0], size[0])
    left, right, across = tiling._span(model, 0, size[1], size[1])
    found = continued(reader(x), size, Window(top, left, bottom - top, right - left))
    np.testing.assert_array_equal(found[None], padded(model, x))
    assert found.shape[1:] == padded_size(model, size) and (down, across) == (0, 0)


def test_any_window_not_only_an_aligned_one():
    model, x = network(), image(1, 61, 47).astype(np.float32) / 255
    whole = predict_logits(model, x)
    for window in [Window(0, 0, 61, 47), Window(7, 13, 1, 1), Window(33, 5, 28, 42), Window(60, 46, 1, 1)]:
        found = logits_in(model, reader(x), (61, 47), window)
        np.testing.assert_allclose(found, whole[(slice(None), *window.slices)], atol=1e-5)


# ------------------------------------------------------------------------------- the eight flips and rotations


def test_the_eight_symmetries_are_different_and_undone():
    x, size = np.arange(12).reshape(1, 3, 4), (3, 4)
    turned = [symmetry.apply(x) for symmetry in EIGHT]
    assert len({(t.shape, t.tobytes()) for t in turned}) == 8
    for symmetry, t in zip(EIGHT, turned, strict=True):
        assert t.shape[1:] == symmetry.size(size)
        np.testing.assert_array_equal(symmetry.undo(t), x)
        place = Window(*symmetry.window((1, 2, 2, 1), size))
        np.testing.assert_array_equal(t[(slice(None), *place.slices)], symmetry.apply(x[:, 1:3, 2:3]))
        assert symmetry.undo_window(place, size) == (1, 2, 2, 1)


@pytest.mark.parametrize("size", [(9, 9), (12, 7), (1, 5)], ids=str)
def test_averaging_is_the_mean_of_turned_predictions(size):
    """By np.rot90 and np.fliplr alone."""
    model, x = network(), image(*size)
    expected = np.zeros((2, *size))
    for quarters in range(4):
        for flip in (False, True):
            turned = np.rot90(np.fliplr(x) if flip else x, quarters)
            p = np.rot90(mn.predict(model, turned), -quarters, axes=(1, 2))
            expected += (p[..., ::-1] if flip else p) / 8
    found = mn.predict(model, x, tta=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - mn.predict(model, x)).max() > 1e-4
    np.testing.assert_allclose(mn.predict(model, np.rot90(x), tta=True), np.rot90(found, axes=(1, 2)), atol=1e-6)


# --------------------------------------------------------------------------------------- memory and requests


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [(3000, 3000), (100, 20000), (1, 1)], ids=str)
@pytest.mark.parametrize("limit", [1.5e8, 3e8, 1e9])
def test_the_largest_tile_within_a_limit(padding, size, limit):
    """With one tile less along the longer side it would be too much."""
    model = mn.UNet(1, 2, (16, 32, 64), padding=padding)

    def needed(tile):
        return estimate.inference_memory(model, input_size(model, size, tile))

    tile = fitting_tile(model, size, limit)
    assert needed(tile) <= limit
    count = -(-max(size) // step(model, max(tile)))
    if count > 1:
        longer = -(-max(size) // (count - 1)) + 12
        assert needed(tuple(min(side + 12, longer) for side in size)) > limit
    assert fitting_tile(model, size, 1e7) is None


def test_an_image_that_the_memory_cannot_hold_whole_is_tiled(monkeypatch):
    model, x = network(), np.broadcast_to(image(1, 5000), (5000, 5000))
    needed = estimate.inference_memory(model, padded_size(model, x.shape))
    assert needed > tiling.WORTH_A_LOOK
    sizes = []
    monkeypatch.setattr(tiling, "probabilities_in", lambda m, read, size, w, tta: sizes.append(w) or np.zeros(()))
    monkeypatch.setattr(estimate, "available", lambda: needed // 3)
    assert mn.predict(model, x).shape == (2, 5000, 5000)
    assert len(sizes) > 1
    monkeypatch.setattr(estimate, "available", lambda: tiling.least_memory(model, x.shape) // 2)
    with pytest.raises(MemoryError, match=r"5000 x 5000 px, which take about \d+ MB even in small tiles"):
        mn.predict(model, x)


@pytest.mark.parametrize("tile", [0, -1, (5,), (5, 0), (1, 2, 3), (2.5, 3), "12"])
def test_tiles_that_are_none_are_refused(tile):
    with pytest.raises(ValueError, match="tile must be a number of pixels above 0"):
        mn.predict(network(), image(9, 9), tile=tile)


def test_preprocessing_is_that_of_the_whole_image():
    model, x = network(), image(70, 50).astype(np.float32) + np.arange(50, dtype=np.float32)
    model.preprocessing = Preprocessing(1, "standardize")
    np.testing.assert_allclose(mn.predict(model, x, tile=16), mn.predict(model, x), atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    model = network()
    model.train(training) if training else model.eval()
    mn.predict(model, image(30, 30), tile=8, tta=True)
    assert model.training is training
