"""Winograd's transforms, and what is particular to the variants that use them."""

import numpy as np
import pytest

import minunet as mn
from minunet import kernels
from minunet.kernels import KERNELS, cases
from minunet.kernels.winograd import F2, F4, both_axes, matrix, matrix_2d

ALGORITHMS = pytest.mark.parametrize("a", [F2, F4], ids=["F2", "F4"])


@ALGORITHMS
def test_the_transforms_are_a_correlation(a):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((a.p, a.p)), rng.standard_normal((3, 3))
    u, v, back = matrix(a.weight, 3), matrix(a.picture, a.p), matrix(a.output, a.p)
    expected = [[(x[i : i + 3, j : j + 3] * w).sum() for j in range(a.m)] for i in range(a.m)]
    np.testing.assert_allclose(back @ ((u @ w @ u.T) * (v @ x @ v.T)) @ back.T, expected, atol=1e-13)


@ALGORITHMS
def test_the_transforms_of_gradients_are_the_transposed_matrices(a):
    np.testing.assert_allclose(matrix(a.gradient, a.m), matrix(a.output, a.p).T, atol=1e-15)
    np.testing.assert_allclose(matrix(a.weight_gradient, a.p), matrix(a.weight, 3).T, atol=1e-15)


@ALGORITHMS
def test_both_axes_and_its_matrix_agree(a):
    tile = np.random.default_rng(1).standard_normal((a.p, a.p))
    flat = matrix_2d(a.picture, a.p) @ tile.reshape(-1)
    np.testing.assert_allclose(np.array(both_axes(a.picture, tile.tolist())).reshape(-1), flat, atol=1e-13)


def winograd_variants():
    return [v.name for v in cases.variants("conv2d") if "winograd" in v.name]


SHAPES = [  # n, c, o, h, w, padding: remainders of tiles, vectors and panels; few tiles; many weights
    (2, 19, 23, 17, 29, 1),
    (1, 8, 8, 9, 8, 0),
    (1, 70, 130, 14, 14, 1),
    (1, 260, 260, 11, 13, 1),
    (1, 5, 40, 8, 3, 2),
]


def inputs(shape, weight_factor=1, largest=2):
    n, c, o, h, w, padding = shape
    rng = np.random.default_rng(0)

    def draw(*size):
        return rng.integers(-largest, largest + 1, size).astype(np.float32)

    grad = draw(n, o, h + 2 * padding - 2, w + 2 * padding - 2)
    return draw(n, c, h, w), draw(o, c, 3, 3) * np.float32(weight_factor), grad


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("variant", winograd_variants())
def test_integers_with_weights_that_are_multiples_of_9_are_exact(variant, shape):
    """G has denominators 4, 6, 12 and 24 along an axis: on multiples of 9 only powers of two are left."""
    x, weight, grad = inputs(shape, weight_factor=9)
    with kernels.use(conv2d=variant):
        y = kernels.conv2d.forward(x, weight, padding=shape[-1])
        gx = kernels.conv2d.backward_input(grad, weight, shape[-1], x.shape[2:])
    with kernels.use(conv2d="reference"):
        np.testing.assert_array_equal(y, kernels.conv2d.forward(x, weight, padding=shape[-1]))
        np.testing.assert_array_equal(gx, kernels.conv2d.backward_input(grad, weight, shape[-1], x.shape[2:]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("variant", winograd_variants())
def test_the_error_stays_below_what_is_stated(variant, shape):
    """3e-4 standard deviations of the result, for numbers of unit size."""
    n, c, o, h, w, padding = shape
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((n, c, h, w)), rng.standard_normal((o, c, 3, 3)) / np.sqrt(9 * c)
    grad = rng.standard_normal((n, o, h + 2 * padding - 2, w + 2 * padding - 2))
    single = [a.astype(np.float32) for a in (x, weight, grad)]
    found, expected = [], []
    for name, results, (image, kernel, upstream) in (
        (variant, found, single), ("reference", expected, (x, weight, grad)),
    ):  # fmt: skip
        with kernels.use(conv2d=name):
            results.append(kernels.conv2d.forward(image, kernel, padding=padding, relu=True))
            results.append(kernels.conv2d.backward_input(upstream, kernel, padding, (h, w)))
            results.append(kernels.conv2d.backward_weight(upstream, image, padding, (3, 3)))
    for a, b in zip(found, expected, strict=True):
        assert np.abs(a - b).max() < 3e-4 * b.std()


@pytest.mark.parametrize("variant", winograd_variants())
def test_the_same_bits_with_any_number_of_threads(variant):
    module = KERNELS["conv2d"].load(variant)
    before = kernels.threads.count()
    try:
        for shape in SHAPES:
            sizes = dict(zip("ncohw", shape, strict=False), kh=3, kw=3, padding=shape[-1], bias=1, relu=1)
            for call in cases.calls(cases.Case("conv2d", sizes), "floats"):
                results = []
                for count in (1, 2, 3):
                    mn.set_num_threads(count)
                    results.append(cases.run(module, call)["out"].tobytes())
                assert results[0] == results[1] == results[2], (shape, call.function)
    finally:
        mn.set_num_threads(before)


# ------------------------------------------------------------------------------------------------ the rule


def chosen(c, o, side, *, dtype=np.float32, k=3, n=1, backend="numba"):
    arguments = {"weight": np.empty((o, c, k, k), dtype), "out": np.empty((n, o, side, side), dtype)}
    with kernels.use_backend(backend):
        return KERNELS["conv2d"].choose(arguments)


@pytest.mark.parametrize("variant", ["direct", "few_channels"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_part_of_a_picture_gets_the_bits_of_the_whole(variant, dtype):
    """What exact policies promise to tiles: at any place, and in any width, also one below a register tile's."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    module = KERNELS["conv2d"].load(variant)
    for c, o in [(1, 16), (3, 8), (4, 64), (4, 3), (2, 17)]:
        x, weight = rng.standard_normal((1, c, 30, 61)).astype(dtype), rng.standard_normal((o, c, 3, 3)).astype(dtype)
        bias = rng.standard_normal(o).astype(dtype)
        whole = kernels.empty((1, o, 28, 59), dtype)
        module.forward(x, weight, bias, 0, True, whole)
        for left, width in [(0, 1), (3, 2), (7, 13), (11, 14), (5, 40), (0, 59), (58, 1)]:
            part = kernels.empty((1, o, 9, width), dtype)
            module.forward(x[:, :, 4:15, left : left + width + 2], weight, bias, 0, True, part)
            np.testing.assert_array_equal(part, whole[:, :, 4:13, left : left + width])


def test_the_exact_rule_does_not_look_at_the_size():
    """Else a tile could be computed by another kernel than the whole picture."""
    pytest.importorskip("numba")
    with mn.policy("exact"):
        for c, o in [(1, 64), (4, 4), (5, 64), (64, 2)]:
            assert len({chosen(c, o, side) for side in (1, 3, 14, 100, 1000)}) == 1


def test_the_rule():
    pytest.importorskip("numba")
    assert chosen(64, 64, 100) == "winograd4"
    assert chosen(64, 64, 100, backend="numpy") == "winograd_gemm"
    assert chosen(64, 64, 100, dtype=np.float64) == "direct"
    assert chosen(64, 64, 100, k=1) == "direct"
    assert chosen(1, 64, 100) == "few_channels"
    assert chosen(64, 2, 100) == "direct"
    assert chosen(64, 64, 4) == "direct" and chosen(64, 64, 4, n=4) == chosen(64, 64, 8) == "winograd4"
    numpy = {"backend": "numpy"}
    assert chosen(64, 64, 8, **numpy) == "im2col" and chosen(64, 64, 8, n=8, **numpy) == "winograd_gemm"
    with mn.policy("exact"):
        assert chosen(64, 64, 100) == "direct"
        assert chosen(64, 64, 100, backend="numpy") == "im2col"
    with kernels.use(conv2d="winograd2"):
        assert chosen(64, 2, 3) == "winograd2"


def test_the_rule_does_not_depend_on_the_number_of_threads():
    before = kernels.threads.count()
    try:
        picks = set()
        for count in (1, 2, 7):
            mn.set_num_threads(count)
            picks.add((chosen(64, 64, 100, backend="numpy"), chosen(16, 16, 12, backend="numpy")))
    finally:
        mn.set_num_threads(before)
    assert len(picks) == 1


def test_policy_is_a_context_manager_and_names_what_there_is():
    assert kernels.current_policy() == "fast"
    with mn.policy("exact"):
        assert kernels.current_policy() == "exact"
        with mn.policy("fast"):
            assert kernels.current_policy() == "fast"
        assert kernels.current_policy() == "exact"
    assert kernels.current_policy() == "fast"
    with pytest.raises(ValueError, match="'quick' is not known; there are: fast, exact"):
        mn.policy("quick")
