"""Every operation: its formula, its derivatives (numeric, and PyTorch's), its errors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import minunet as mn
import minunet.functional as F

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 2, shape)


# ------------------------------------------------------------- the formulas, one number after the other


def conv2d_loops(x, weight, bias=None, padding=0):
    (n, _, h, w), (o, c, kh, kw) = x.shape, weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    y = np.zeros((n, o, h + 2 * padding - kh + 1, w + 2 * padding - kw + 1))
    for place in np.ndindex(y.shape):
        image, channel, top, left = place
        y[place] = 0 if bias is None else bias[channel]
        for k, i, j in np.ndindex(c, kh, kw):
            y[place] += padded[image, k, top + i, left + j] * weight[channel, k, i, j]
    return y


def conv_transpose2d_loops(x, weight, bias=None, stride=2):
    (n, c, h, w), o = x.shape, weight.shape[1]
    y = np.zeros((n, o, h * stride, w * stride))
    for image, k, top, left in np.ndindex(n, c, h, w):
        for channel, i, j in np.ndindex(o, stride, stride):
            share = x[image, k, top, left] * weight[k, channel, i, j]
            y[image, channel, stride * top + i, stride * left + j] += share
    return y if bias is None else y + bias[:, None, None]


def max_pool2d_loops(x, size=2):
    n, c, h, w = x.shape
    y = np.zeros((n, c, h // size, w // size))
    for image, channel, i, j in np.ndindex(y.shape):
        window = x[image, channel, i * size : (i + 1) * size, j * size : (j + 1) * size]
        y[image, channel, i, j] = window.max()
    return y


def resize_loops(x, size, corners=False):
    y = np.zeros((*x.shape[:2], *size))
    for i, j in np.ndindex(*size):
        places = []
        for k, old, new in ((i, x.shape[2], size[0]), (j, x.shape[3], size[1])):
            s = k * (old - 1) / max(new - 1, 1) if corners else max(0.0, (k + 0.5) * old / new - 0.5)
            low = int(s)
            places.append((low, min(low + 1, old - 1), s - low))
        (top, bottom, v), (left, right, u) = places
        y[:, :, i, j] = (1 - v) * ((1 - u) * x[:, :, top, left] + u * x[:, :, top, right]) + v * (
            (1 - u) * x[:, :, bottom, left] + u * x[:, :, bottom, right]
        )
    return y


def batch_norm_formula(x, weight, bias, mean=None, variance=None):
    mean = x.mean(axis=(0, 2, 3)) if mean is None else mean
    variance = x.var(axis=(0, 2, 3)) if variance is None else variance
    centred = x - mean[:, None, None]
    return weight[:, None, None] * centred / np.sqrt(variance + 1e-5)[:, None, None] + bias[:, None, None]


def softmax_formula(x):
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


def sigmoid_formula(x):
    return 1 / (1 + np.exp(-x))


def log_losses(logits, target):
    """-log p of each pixel, from logits that are not large."""
    p = softmax_formula(logits)
    return -np.log(np.take_along_axis(p, target[:, None], 1)[:, 0])


def bce_formula(logits, target, weight=1):
    s = sigmoid_formula(logits)
    return (-weight * (target * np.log(s) + (1 - target) * np.log(1 - s))).mean()


def dice_formula(logits, target):
    if logits.shape[1] == 1:
        p, t = sigmoid_formula(logits), target
    else:
        p, t = softmax_formula(logits), np.eye(logits.shape[1])[target].transpose(0, 3, 1, 2)
    axes = (0, 2, 3)
    return 1 - ((2 * (p * t).sum(axes) + 1) / (p.sum(axes) + t.sum(axes) + 1)).mean()


# --------------------------------------------------------------------------- the list of cases


@dataclass(frozen=True)
class Case:
    """fn(*inputs), a formula in NumPy for it, and the same in PyTorch, where it has such an operation."""

    name: str
    fn: Callable[..., Any]
    inputs: tuple
    formula: Callable[..., Any]
    torch: Callable[..., Any] | None = None


MEAN, VARIANCE = normal(3), positive(3)
CLASSES = RNG.integers(0, 4, (2, 3, 5))
CLASSES_SOME_IGNORED = np.where(RNG.random(CLASSES.shape) < 0.3, 255, CLASSES)
CLASS_WEIGHT = positive(4)
PIXEL_WEIGHT = positive(2, 3, 5)


def torch_functions():
    import torch

    return torch.nn.functional


def torch_tensor(array):
    import torch

    return torch.from_numpy(array.copy())


def torch_concat(*inputs):
    import torch

    return torch.cat(inputs, 1)


def training_norm(x, weight, bias):
    return F.batch_norm(x, weight, bias, np.zeros(3), np.ones(3), True)


def evaluation_norm(x, weight, bias):
    return F.batch_norm(x, weight, bias, MEAN.copy(), VARIANCE.copy(), False)


def training_norm_relu(x, weight, bias):
    return F.batch_norm_relu(x, weight, bias, np.zeros(3), np.ones(3), True)


def evaluation_norm_relu(x, weight, bias):
    return F.batch_norm_relu(x, weight, bias, MEAN.copy(), VARIANCE.copy(), False)


def conv_case(name, x, weight, bias, padding):
    inputs = (normal(*x), normal(*weight), *([normal(weight[0])] if bias else []))

    def fn(x, weight, bias=None):
        return F.conv2d(x, weight, bias, padding)

    return Case(
        f"conv2d {name}", fn, inputs, lambda x, w, b=None: conv2d_loops(x, w, b, padding),
        lambda x, w, b=None: torch_functions().conv2d(x, w, b, padding=padding),
    )  # fmt: skip


def up_case(name, x, weight, bias):
    stride = weight[2]
    inputs = (normal(*x), normal(*weight), *([normal(weight[1])] if bias else []))

    def fn(x, weight, bias=None):
        return F.conv_transpose2d(x, weight, bias, stride)

    return Case(
        f"conv_transpose2d {name}", fn, inputs, lambda x, w, b=None: conv_transpose2d_loops(x, w, b, stride),
        lambda x, w, b=None: torch_functions().conv_transpose2d(x, w, b, stride=stride),
    )  # fmt: skip


def resize_case(old, new, corners=False):
    return Case(
        f"resize {old} to {new}{', corners aligned' * corners}", lambda x: F.resize(x, new, align_corners=corners),
        (normal(2, 3, *old),), lambda x: resize_loops(x, new, corners),
        lambda x: torch_functions().interpolate(x, size=new, mode="bilinear", align_corners=corners),
    )  # fmt: skip


def pool_case(size, shape):
    return Case(
        f"max_pool2d {size} of {shape}", lambda x: F.max_pool2d(x, size), (normal(*shape),),
        lambda x: max_pool2d_loops(x, size), lambda x: torch_functions().max_pool2d(x, size),
    )  # fmt: skip


def cross_entropy_case(name, formula, torch=None, target=CLASSES, **options):
    return Case(
        f"cross_entropy {name}", lambda z: F.cross_entropy(z, target, **options), (normal(2, 4, 3, 5),),
        lambda z: formula(log_losses(z, np.where(target == 255, 0, target))), torch,
    )  # fmt: skip


def torch_cross_entropy(target=CLASSES, class_weight=None, **options):
    def fn(z):
        c = None if class_weight is None else torch_tensor(class_weight)
        return torch_functions().cross_entropy(z, torch_tensor(target), c, **options)

    return fn


COUNTED = CLASSES_SOME_IGNORED != 255
C_OF_Y = CLASS_WEIGHT[CLASSES]
C_OF_COUNTED = np.where(COUNTED, C_OF_Y, 0)
TARGETS = (RNG.random((2, 1, 3, 5)) < 0.4).astype(float)
SOFT_TARGETS, LOGIT_WEIGHT = RNG.random((2, 1, 3, 5)), positive(2, 1, 3, 5)

CASES = [
    Case("add", F.add, (normal(2, 3), normal(3)), np.add, lambda a, b: a + b),
    Case("subtract", F.subtract, (normal(3), normal(2, 3)), np.subtract, lambda a, b: a - b),
    Case("multiply", F.multiply, (normal(2, 1), normal(1, 3)), np.multiply, lambda a, b: a * b),
    Case("divide", F.divide, (normal(2, 3), positive(2, 1)), np.divide, lambda a, b: a / b),
    Case("negative", F.negative, (normal(2, 3),), np.negative, lambda a: -a),
    Case("matmul", F.matmul, (normal(4, 2, 3), normal(3, 5)), np.matmul, lambda a, b: a @ b),
    Case("sum", lambda a: F.sum(a, (0, 2)), (normal(2, 3, 4),), lambda a: a.sum((0, 2)), lambda a: a.sum((0, 2))),
    Case("mean", lambda a: F.mean(a, -1, True), (normal(2, 3),), lambda a: a.mean(-1, keepdims=True),
         lambda a: a.mean(-1, keepdim=True)),
    Case("reshape", lambda a: F.reshape(a, 3, 2), (normal(2, 3),), lambda a: a.reshape(3, 2),
         lambda a: a.reshape(3, 2)),
    conv_case("3 x 3 valid with bias", (2, 3, 7, 5), (4, 3, 3, 3), True, 0),
    conv_case("3 x 3 same", (2, 3, 5, 7), (4, 3, 3, 3), False, 1),
    conv_case("1 x 1", (2, 5, 3, 3), (2, 5, 1, 1), True, 0),
    conv_case("2 x 5, padding 3", (1, 2, 5, 4), (3, 2, 2, 5), True, 3),
    conv_case("3 x 3 of one pixel", (1, 2, 1, 1), (3, 2, 3, 3), False, 1),
    up_case("2 x 2", (2, 3, 3, 4), (3, 5, 2, 2), True),
    up_case("3 x 3 without bias", (1, 2, 2, 3), (2, 3, 3, 3), False),
    Case("relu", F.relu, (normal(2, 3, 4, 5),), lambda x: np.maximum(x, 0), lambda x: x.relu()),
    pool_case(2, (2, 3, 6, 4)),
    pool_case(2, (2, 3, 7, 5)),
    pool_case(3, (1, 2, 7, 9)),
    Case("batch_norm training", training_norm, (normal(2, 3, 4, 5), positive(3), normal(3)), batch_norm_formula,
         lambda x, w, b: torch_functions().batch_norm(x, None, None, w, b, True)),
    Case("batch_norm evaluation", evaluation_norm, (normal(2, 3, 4, 5), positive(3), normal(3)),
         lambda x, w, b: batch_norm_formula(x, w, b, MEAN, VARIANCE),
         lambda x, w, b: torch_functions().batch_norm(x, torch_tensor(MEAN), torch_tensor(VARIANCE), w, b)),
    Case("batch_norm_relu training", training_norm_relu, (normal(2, 3, 4, 5), positive(3), normal(3)),
         lambda x, w, b: np.maximum(batch_norm_formula(x, w, b), 0),
         lambda x, w, b: torch_functions().batch_norm(x, None, None, w, b, True).relu()),
    Case("batch_norm_relu evaluation", evaluation_norm_relu, (normal(2, 3, 4, 5), positive(3), normal(3)),
         lambda x, w, b: np.maximum(batch_norm_formula(x, w, b, MEAN, VARIANCE), 0),
         lambda x, w, b: torch_functions().batch_norm(x, torch_tensor(MEAN), torch_tensor(VARIANCE), w, b).relu()),
    Case("concat", lambda *a: F.concat(list(a)), (normal(2, 1, 3, 4), normal(2, 3, 3, 4), normal(2, 2, 3, 4)),
         lambda *a: np.concatenate(a, 1), torch_concat),
    Case("center_crop", lambda x: F.center_crop(x, (3, 2)), (normal(2, 3, 5, 7),), lambda x: x[:, :, 1:4, 2:4],
         lambda x: x[:, :, 1:4, 2:4]),
    Case("center_pad", lambda x: F.center_pad(x, (6, 4)), (normal(2, 3, 3, 4),),
         lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 0))), lambda x: torch_functions().pad(x, (0, 0, 1, 2))),
    resize_case((3, 4), (6, 8)),
    resize_case((10, 10), (161 // 8, 161 // 8)),
    resize_case((7, 1), (3, 5)),
    resize_case((5, 6), (2, 3)),
    resize_case((3, 4), (6, 8), corners=True),
    resize_case((1, 5), (4, 1), corners=True),
    resize_case((7, 10), (5, 21), corners=True),
    Case("softmax", F.softmax, (normal(2, 4, 3, 2),), softmax_formula, lambda x: x.softmax(1)),
    Case("sigmoid", F.sigmoid, (normal(2, 4, 3, 2),), sigmoid_formula, lambda x: x.sigmoid()),
    # e: the loss of every pixel, unweighted.
    cross_entropy_case("mean", np.mean, torch_cross_entropy()),
    cross_entropy_case("sum", np.sum, torch_cross_entropy(reduction="sum"), reduction="sum"),
    cross_entropy_case("none", lambda e: e, torch_cross_entropy(reduction="none"), reduction="none"),
    cross_entropy_case("class weights", lambda e: (C_OF_Y * e).sum() / C_OF_Y.sum(),
                       torch_cross_entropy(class_weight=CLASS_WEIGHT), class_weight=CLASS_WEIGHT),
    cross_entropy_case("ignore index", lambda e: e[COUNTED].mean(),
                       torch_cross_entropy(CLASSES_SOME_IGNORED, ignore_index=255),
                       target=CLASSES_SOME_IGNORED, ignore_index=255),
    cross_entropy_case("ignored class", lambda e: e[CLASSES != 1].mean(), torch_cross_entropy(ignore_index=1),
                       ignore_index=1),
    # w never enters the divisor: with weights it is not sum(w l) / sum(w).
    cross_entropy_case("weights", lambda e: (PIXEL_WEIGHT * e).mean(), weight=PIXEL_WEIGHT),
    cross_entropy_case("weights, none", lambda e: PIXEL_WEIGHT * e, weight=PIXEL_WEIGHT, reduction="none"),
    cross_entropy_case("everything", lambda e: (PIXEL_WEIGHT * C_OF_COUNTED * e).sum() / C_OF_COUNTED.sum(),
                       target=CLASSES_SOME_IGNORED, weight=PIXEL_WEIGHT, class_weight=CLASS_WEIGHT, ignore_index=255),
    cross_entropy_case("everything, sum", lambda e: (PIXEL_WEIGHT * C_OF_COUNTED * e).sum(), reduction="sum",
                       target=CLASSES_SOME_IGNORED, weight=PIXEL_WEIGHT, class_weight=CLASS_WEIGHT, ignore_index=255),
    Case("bce", lambda x: F.binary_cross_entropy_with_logits(x, TARGETS), (normal(2, 1, 3, 5),),
         lambda x: bce_formula(x, TARGETS),
         lambda x: torch_functions().binary_cross_entropy_with_logits(x, torch_tensor(TARGETS))),
    Case("bce soft and weighted", lambda x: F.binary_cross_entropy_with_logits(x, SOFT_TARGETS, LOGIT_WEIGHT),
         (normal(2, 1, 3, 5),), lambda x: bce_formula(x, SOFT_TARGETS, LOGIT_WEIGHT),
         lambda x: torch_functions().binary_cross_entropy_with_logits(
             x, torch_tensor(SOFT_TARGETS), torch_tensor(LOGIT_WEIGHT))),
    Case("dice one logit", lambda x: F.dice_loss(x, TARGETS), (normal(2, 1, 3, 5),),
         lambda x: dice_formula(x, TARGETS)),
    Case("dice classes", lambda x: F.dice_loss(x, CLASSES), (normal(2, 4, 3, 5),), lambda x: dice_formula(x, CLASSES)),
    Case("cross entropy + dice", lambda x: F.cross_entropy(x, CLASSES) + F.dice_loss(x, CLASSES),
         (normal(2, 4, 3, 5),), lambda x: log_losses(x, CLASSES).mean() + dice_formula(x, CLASSES)),
    Case("dropout", lambda x: F.dropout(x, 0.25, np.random.default_rng(3)), (normal(2, 3, 4, 5),),
         lambda x: x * (np.random.default_rng(3).random(x.shape, dtype=np.float32) >= 0.25) / 0.75),
]  # fmt: skip

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each_case
def test_forward_is_the_formula(case, backend):
    expected = case.formula(*case.inputs)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-5)):
        inputs = [a.astype(dtype) for a in case.inputs]
        y = case.fn(*inputs)
        assert isinstance(y, mn.Tensor) and isinstance(y.data, np.ndarray)
        assert y.dtype == dtype and not y.requires_grad
        assert y.shape == np.shape(expected)
        np.testing.assert_allclose(y.data, expected, rtol=tolerance, atol=tolerance)


@each_case
def test_gradients_are_those_of_differences(case, backend):
    mn.gradcheck(case.fn, *case.inputs)


@pytest.mark.parametrize("case", [c for c in CASES if c.torch], ids=lambda case: case.name)
def test_values_and_gradients_are_those_of_torch(case):
    pytest.importorskip("torch", reason="compares with PyTorch")
    ours = [mn.Tensor(a.copy(), requires_grad=True) for a in case.inputs]
    theirs = [torch_tensor(a).requires_grad_() for a in case.inputs]
    y, z = case.fn(*ours), case.torch(*theirs)
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-11, atol=1e-13)
    g = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(g)
    z.backward(torch_tensor(g))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-10, atol=1e-13)


@each_case
def test_inputs_and_results_are_not_written_by_backward(case, backend):
    tensors = [mn.Tensor(a.copy(), requires_grad=True) for a in case.inputs]
    y = case.fn(*tensors)
    result, g = y.data.copy(), np.random.default_rng(1).standard_normal(y.shape)
    given = g.copy()
    y.backward(given)
    np.testing.assert_array_equal(given, g)
    np.testing.assert_array_equal(y.data, result)
    for tensor, a in zip(tensors, case.inputs, strict=True):
        np.testing.assert_array_equal(tensor.data, a)
        assert not np.shares_memory(tensor.grad, given)


# ------------------------------------------------------------------ what single operations promise


def test_relu_and_pool_pass_nan_on(backend):
    x = np.array([[[[np.nan, 1.0], [-1.0, 0.0]]]])
    np.testing.assert_array_equal(F.relu(x).data, [[[[np.nan, 1], [0, 0]]]])
    for turned in (x, x[:, :, ::-1], x[:, :, :, ::-1]):
        assert np.isnan(F.max_pool2d(turned).data).all()


def test_relu_has_slope_0_at_0(backend):
    x = mn.Tensor(np.array([[[[-1.0, 0.0, -0.0, 2.0]]]]), requires_grad=True)
    F.relu(x).backward(np.full(x.shape, 3.0))
    np.testing.assert_array_equal(x.grad, [[[[0, 0, 0, 3]]]])


def test_the_first_of_equal_values_gets_the_gradient(backend):
    x = mn.Tensor(np.array([[[[1.0, 2.0, 5.0], [2.0, 2.0, 6.0]]]]), requires_grad=True)
    F.max_pool2d(x).sum().backward()
    np.testing.assert_array_equal(x.grad, [[[[0, 1, 0], [0, 0, 0]]]])


def test_center_crop_leaves_the_odd_pixel_at_the_right_and_bottom():
    x = np.arange(30.0).reshape(1, 1, 5, 6)
    np.testing.assert_array_equal(F.center_crop(x, (2, 3)).data, x[:, :, 1:3, 1:4])
    assert F.center_crop(x, (5, 6)).shape == x.shape


def test_center_pad_is_undone_by_center_crop():
    x = normal(2, 3, 4, 5)
    room = np.full((2, 6, 7, 8), np.nan)
    padded = F.center_pad(x, (7, 8), out=room[:, 3:])
    assert np.shares_memory(padded.data, room) and np.isnan(room[:, :3]).all() and np.isfinite(room[:, 3:]).all()
    np.testing.assert_array_equal(F.center_crop(padded, (4, 5)).data, x)
    np.testing.assert_array_equal(padded.data[0, 0, [0, 5, 6]], 0)  # one above, two below
    assert F.center_pad(x, (4, 5)).shape == x.shape


def test_resize_to_the_same_size_changes_nothing(backend):
    x = normal(1, 2, 5, 7)
    np.testing.assert_array_equal(F.resize(x, (5, 7)).data, x)


@pytest.mark.parametrize("old, new", [((80, 80), (161, 161)), ((160, 22), (161, 23)), ((12, 12), (24, 24))])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("corners", [False, True])
def test_resize_of_real_sizes_is_that_of_torch(old, new, corners, dtype, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    x = normal(1, 2, *old).astype(dtype)
    theirs = torch.from_numpy(x.copy()).requires_grad_()
    expected = torch.nn.functional.interpolate(theirs, size=new, mode="bilinear", align_corners=corners)
    ours = mn.Tensor(x, requires_grad=True)
    y = F.resize(ours, new, align_corners=corners)
    g = normal(1, 2, *new).astype(dtype)
    y.backward(g)
    expected.backward(torch.from_numpy(g))
    # Source coordinates are rounded differently in their last place (up to 2^-23 of their size), and
    # neighbouring pixels differ by up to 8.
    tolerance = 8 * np.finfo(dtype).eps * max(old)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), atol=tolerance)
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), atol=2 * tolerance)


# -------------------------------------------------------------------------------------- batch norm


def test_running_estimates_move_as_in_torch(backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    mean, variance = normal(3), positive(3)
    expected = [torch_tensor(mean), torch_tensor(variance)]
    for _ in range(3):
        x = normal(2, 3, 4, 5) * 3 + 1
        F.batch_norm(x, np.ones(3), np.zeros(3), mean, variance, True)
        torch.nn.functional.batch_norm(torch_tensor(x), *expected, training=True)
    np.testing.assert_allclose(mean, expected[0].numpy(), rtol=1e-12)
    np.testing.assert_allclose(variance, expected[1].numpy(), rtol=1e-12)


def test_momentum_and_the_unbiased_variance():
    x = normal(2, 3, 4, 5)
    mean, variance = np.zeros(3), np.ones(3)
    F.batch_norm(x, np.ones(3), np.zeros(3), mean, variance, True, momentum=0.25)
    np.testing.assert_allclose(mean, 0.25 * x.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(variance, 0.75 + 0.25 * x.var((0, 2, 3), ddof=1), rtol=1e-12)


def test_evaluation_leaves_the_estimates_alone():
    mean, variance = normal(3), positive(3)
    before = mean.copy(), variance.copy()
    x = mn.Tensor(normal(1, 3, 1, 1), requires_grad=True)  # a single value is fine here
    F.batch_norm(x, np.ones(3), np.zeros(3), mean, variance, False).sum().backward()
    np.testing.assert_array_equal((mean, variance), before)


def test_a_later_step_does_not_change_the_gradient_of_an_earlier_one():
    """The derivative in evaluation belongs to the estimates at the time of the forward computation."""
    mean, variance = normal(3), positive(3)
    weight = mn.Tensor(positive(3), requires_grad=True)
    x = normal(2, 3, 4, 5)
    y = F.batch_norm(x, weight, np.zeros(3), mean, variance, False)
    expected = (y.data / weight.data[:, None, None]).sum((0, 2, 3))
    F.batch_norm(x + 1, weight, np.zeros(3), mean, variance, True)
    y.sum().backward()
    np.testing.assert_allclose(weight.grad, expected, rtol=1e-12)


def test_estimates_stay_as_they_are_where_training_is_impossible():
    mean, variance = np.zeros(2), np.ones(2)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        F.batch_norm(np.ones((1, 2, 1, 1)), np.ones(2), np.zeros(2), mean, variance, True)
    assert not mean.any() and (variance == 1).all()


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_relu_is_one_after_the_other_to_the_last_bit(training, backend):
    values = [normal(2, 3, 14, 15).astype(np.float32), positive(3).astype(np.float32), normal(3).astype(np.float32)]
    g = normal(2, 3, 14, 15).astype(np.float32)
    found = []
    for fused in (True, False):
        tensors = [mn.Tensor(a, requires_grad=True) for a in values]
        estimates = np.zeros(3, np.float32), np.ones(3, np.float32)
        operation = F.batch_norm_relu if fused else F.batch_norm
        y = operation(*tensors, *estimates, training)
        y = y if fused else F.relu(y)
        y.backward(g)
        found.append([y.data, *estimates, *(t.grad for t in tensors)])
    assert 0.05 < (found[0][0] > 0).mean() < 0.95
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_batch_norm_relu_has_slope_0_at_0_and_passes_nan_on(backend):
    one, zero = np.ones(1), np.zeros(1)
    x = mn.Tensor(np.array([[[[-1.0, 0.0, 2.0, np.nan]]]]), requires_grad=True)
    y = F.batch_norm_relu(x, one, zero, zero.copy(), one.copy(), False, eps=0.0)
    np.testing.assert_array_equal(y.data, [[[[0, 0, 2, np.nan]]]])
    y.backward(np.full(x.shape, 3.0))
    np.testing.assert_array_equal(x.grad, [[[[0, 0, 3, np.nan]]]])


def test_batch_norm_with_a_large_mean(backend):
    """E[x^2] - E[x]^2 would lose all digits of float32 here."""
    x = (1e4 + RNG.standard_normal((4, 2, 30, 30))).astype(np.float32)
    one, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    y = F.batch_norm(x, one, zero, zero.copy(), one.copy(), True).data
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, atol=1e-3)


# ----------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(p):
    x = np.ones((100, 1000), np.float32)
    y = F.dropout(x, p, np.random.default_rng(0)).data
    kept = y != 0
    assert y.dtype == np.float32
    np.testing.assert_allclose(y[kept], 1 / (1 - p), rtol=1e-6)
    # Six standard deviations of the mean of so many draws.
    assert abs(kept.mean() - (1 - p)) < 6 * np.sqrt(p * (1 - p) / x.size)
    assert abs(y.mean() - 1) < 6 * np.sqrt(p / (1 - p) / x.size)


def test_dropout_draws_from_its_generator():
    x = np.ones((10, 10))
    rng = np.random.default_rng(0)
    first, second = F.dropout(x, 0.5, rng).data, F.dropout(x, 0.5, rng).data
    assert (first != second).any()
    np.testing.assert_array_equal(first, F.dropout(x, 0.5, np.random.default_rng(0)).data)
    float32 = F.dropout(x.astype(np.float32), 0.5, np.random.default_rng(0)).data
    np.testing.assert_array_equal(first, float32)  # the same places in both precisions


def test_dropout_with_probability_0_draws_nothing():
    rng = np.random.default_rng(0)
    x = mn.Tensor(np.ones(3), requires_grad=True)
    assert F.dropout(x, 0, rng) is x
    assert rng.random() == np.random.default_rng(0).random()


# ------------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_logits_stay_finite(dtype, backend):
    z = np.zeros((1, 2, 1, 4), dtype)
    z[0, 0, 0], z[0, 1, 0] = (1e4, -1e4, 1e4, 0), (-1e4, 1e4, 1e4, -1e4)
    logits = mn.Tensor(z, requires_grad=True)
    loss = F.cross_entropy(logits, np.ones((1, 1, 4), int), reduction="none")
    np.testing.assert_allclose(loss.data[0, 0], [2e4, 0, np.log(2), 1e4], rtol=1e-6)
    loss.sum().backward()
    np.testing.assert_allclose(logits.grad[0, :, 0], [[1, 0, 0.5, 1], [-1, 0, -0.5, -1]], atol=1e-7)


def test_large_logits_of_the_other_outputs_stay_finite():
    x = mn.Tensor(np.array([[[[-1e4, 1e4, 1e4, -1e4]]]], np.float32), requires_grad=True)
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_array_equal(F.sigmoid(x).data, [[[[0, 1, 1, 0]]]])
        np.testing.assert_array_equal(F.softmax(x.data.reshape(1, 4, 1, 1)).data[0, :, 0, 0], [0, 0.5, 0.5, 0])
        loss = F.binary_cross_entropy_with_logits(x, np.array([[[[0, 1, 0, 1]]]]))
        assert loss.item() == 5e3
        loss.backward()
    np.testing.assert_array_equal(x.grad, [[[[0, 0, 0.25, -0.25]]]])


def test_equal_logits_cost_log_k(backend):
    loss = F.cross_entropy(np.zeros((1, 5, 2, 2)), np.zeros((1, 2, 2), int))
    assert loss.item() == pytest.approx(np.log(5), rel=1e-15)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("how", ["all ignored", "class weight 0"])
def test_without_a_counted_pixel_the_loss_is_0(how, reduction, backend):
    logits = mn.Tensor(normal(1, 2, 3, 3), requires_grad=True)
    target = np.zeros((1, 3, 3), int)
    options = {"ignore_index": 0} if how == "all ignored" else {"class_weight": [0.0, 1.0]}
    loss = F.cross_entropy(logits, target, reduction=reduction, **options)
    assert not loss.data.any()
    loss.sum().backward()
    np.testing.assert_array_equal(logits.grad, np.zeros((1, 2, 3, 3)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_ignored_pixels_do_not_leak(bad, backend):
    """Whatever stands in an ignored pixel, in its logits or its weight, loss and gradient do not see it."""
    z, target, weight = normal(1, 3, 4, 4), RNG.integers(0, 3, (1, 4, 4)), positive(1, 4, 4)
    target[0, 0], target[0, 3, 3] = -1, -1
    results = []
    for spoiled in (False, True):
        logits = z.copy()
        if spoiled:
            logits[0, :, 0], weight[0, 3, 3] = bad, bad
        tensor = mn.Tensor(logits, requires_grad=True)
        loss = F.cross_entropy(tensor, target, weight, [1.0, 2.0, 3.0], ignore_index=-1)
        loss.backward()
        results.append((loss.data, tensor.grad))
    np.testing.assert_array_equal(*[loss for loss, _ in results])
    np.testing.assert_array_equal(*[grad for _, grad in results])
    assert not results[1][1][0, :, 0].any()


def test_nan_in_a_counted_pixel_shows(backend):
    z = normal(1, 2, 2, 2)
    z[0, 0, 0, 0] = np.nan
    assert np.isnan(F.cross_entropy(z, np.ones((1, 2, 2), int)).item())
    nan_class = F.cross_entropy(normal(1, 2, 2, 2), np.zeros((1, 2, 2), int), class_weight=[np.nan, 1])
    assert np.isnan(nan_class.item())


def test_targets_and_weights_may_be_tensors_of_any_integer_dtype():
    z, expected = CASES[-1].inputs[0][:, :2], None
    target = np.arange(40).reshape(2, 4, 5) % 2
    for given in (target, mn.Tensor(target), target.astype(np.uint8), target.astype(bool), target.astype(np.int16)):
        loss = F.cross_entropy(z, given, weight=mn.Tensor(np.ones((2, 4, 5))), class_weight=mn.Tensor(np.ones(2)))
        expected = expected or loss.item()
        assert loss.item() == expected
    one = z[:, :1]
    bce = F.binary_cross_entropy_with_logits
    assert bce(one, mn.Tensor(target[:, None])).item() == bce(one, target[:, None].astype(bool)).item()


def test_float32_losses_take_float64_targets():
    z = normal(2, 1, 3, 5).astype(np.float32)
    loss = F.binary_cross_entropy_with_logits(z, TARGETS, LOGIT_WEIGHT) + F.dice_loss(z, TARGETS)
    assert loss.dtype == np.float32


def test_a_perfect_prediction_has_no_dice_loss():
    target = RNG.integers(0, 3, (2, 4, 4))
    logits = 1e3 * np.eye(3)[target].transpose(0, 3, 1, 2)
    assert F.dice_loss(logits, target).item() == pytest.approx(0, abs=1e-12)
    assert F.dice_loss(-logits, target).item() > 0.8


def test_dice_of_an_absent_class_is_finite():
    logits = np.full((1, 1, 3, 3), -1e3)
    assert F.dice_loss(logits, np.zeros((1, 1, 3, 3))).item() == 0


# -------------------------------------------------------------------------------------- empty batches


def test_an_empty_batch_has_no_gradient(backend):
    """No images: outputs without numbers, and gradients of the parameters that are 0."""
    model = mn.UNet(2, 1, (3, 5))
    loss = F.binary_cross_entropy_with_logits(model(np.zeros((0, 2, 44, 48))), np.zeros((0, 1, 4, 8)))
    assert loss.item() == 0
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name


# ------------------------------------------------------------------------------------------ errors


def z(*shape, dtype=np.float64):
    return np.zeros(shape, dtype)


BN = (z(2), z(2), z(2), z(2))
ERRORS = {
    "add shapes": (lambda: F.add(z(2, 3), z(4)), ValueError, r"broadcast.*\(2,3\) \(4,\)"),
    "add dtypes": (lambda: F.add(z(2), z(2, dtype=np.float32)), TypeError, "add: .* found float64, float32"),
    "half precision": (lambda: F.relu(z(2, dtype=np.float16)), TypeError, "relu: .* float32 or float64, found float16"),
    "foreign byte order": (lambda: F.relu(z(2, dtype=">f4")), TypeError, "relu: .* float32 or float64, found >f4"),
    "matmul shapes": (lambda: F.matmul(z(2, 3), z(2, 3)), ValueError, r"matmul: .*\(2, 3\) and \(2, 3\)"),
    "matmul vectors": (lambda: F.matmul(z(3), z(3, 2)), ValueError, r"matmul: .*\(3,\) and \(3, 2\)"),
    "reshape": (lambda: F.reshape(z(2, 3), 4), ValueError, "size 6 into shape"),
    "conv2d axes": (lambda: F.conv2d(z(2, 3, 4), z(1, 2, 3, 3)), ValueError, r"4 axes, found shapes \(2, 3, 4\)"),
    "conv2d channels": (lambda: F.conv2d(z(1, 2, 5, 5), z(4, 3, 3, 3)), ValueError, "x has 2 channels, .* expects 3"),
    "conv2d no channels": (lambda: F.conv2d(z(1, 0, 5, 5), z(4, 0, 3, 3)), ValueError, "has no numbers"),
    "up-conv no channels": (lambda: F.conv_transpose2d(z(1, 2, 5, 5), z(2, 0, 2, 2)), ValueError, "has no numbers"),
    "conv2d bias": (lambda: F.conv2d(z(1, 2, 5, 5), z(4, 2, 3, 3), z(3)), ValueError, r"bias .* \(4,\), found \(3,\)"),
    "conv2d size": (lambda: F.conv2d(z(1, 2, 2, 5), z(4, 2, 3, 3)), ValueError,
                    "2 x 5 px .* less than the kernel.s 3 x 3"),
    "conv2d padding": (lambda: F.conv2d(z(1, 2, 5, 5), z(4, 2, 3, 3), padding=-1), ValueError, "padding .* found -1"),
    "conv2d dtypes": (lambda: F.conv2d(z(1, 2, 5, 5), z(4, 2, 3, 3, dtype=np.float32)), TypeError,
                      "conv2d: all inputs"),
    "conv2d integers": (lambda: F.conv2d(z(1, 2, 5, 5, dtype=int), z(4, 2, 3, 3, dtype=int)), TypeError, "floating"),
    "up-conv stride": (lambda: F.conv_transpose2d(z(1, 2, 5, 5), z(2, 4, 3, 3)), ValueError,
                       r"\(3, 3\) must equal .* 2"),
    "up-conv channels": (lambda: F.conv_transpose2d(z(1, 2, 5, 5), z(3, 4, 2, 2)), ValueError,
                         "2 channels.* expects 3"),
    "up-conv bias": (lambda: F.conv_transpose2d(z(1, 2, 5, 5), z(2, 4, 2, 2), z(2)), ValueError,
                     r"\(4,\), found \(2,\)"),
    "pool axes": (lambda: F.max_pool2d(z(3, 4)), ValueError, r"4 axes .* found shape \(3, 4\)"),
    "pool size": (lambda: F.max_pool2d(z(1, 1, 1, 4)), ValueError, "1 x 4 px is smaller than the window of 2"),
    "pool window": (lambda: F.max_pool2d(z(1, 1, 40, 40), 17), ValueError, "kernel_size must be 1 ... 16"),
    "dropout p": (lambda: F.dropout(z(3), 1.0, RNG), ValueError, "p must be at least 0 and below 1, found 1.0"),
    "dropout nan": (lambda: F.dropout(z(3), np.nan, RNG), ValueError, "found nan"),
    "batch_norm single": (lambda: F.batch_norm(z(1, 2, 1, 1), *BN, True), ValueError, r"found shape \(1, 2, 1, 1\)"),
    "batch_norm shapes": (lambda: F.batch_norm(z(1, 3, 4, 4), *BN, True), ValueError, r"of shape \(3,\), found \(2,\)"),
    "batch_norm axes": (lambda: F.batch_norm(z(4, 2), *BN, True), ValueError, r"x \(4, 2\) needs"),
    "concat sizes": (lambda: F.concat([z(1, 2, 3, 3), z(1, 2, 3, 4)]), ValueError, "all but the channels must agree"),
    "concat axes": (lambda: F.concat([z(2, 3), z(2, 3)]), ValueError, "all but the channels must agree"),
    "concat nothing": (lambda: F.concat([]), ValueError, r"all but the channels must agree, found shapes \[\]"),
    "crop": (lambda: F.center_crop(z(1, 1, 4, 4), (5, 2)), ValueError,
             r"cannot cut 5 x 2 px out of shape \(1, 1, 4, 4\)"),
    "crop nothing": (lambda: F.center_crop(z(1, 1, 4, 4), (0, 2)), ValueError, "cannot cut 0 x 2 px"),
    "pad": (lambda: F.center_pad(z(1, 1, 4, 4), (5, 3)), ValueError, r"cannot make 5 x 3 px of shape \(1, 1, 4, 4\)"),
    "pad axes": (lambda: F.center_pad(z(4, 4), (5, 5)), ValueError, r"cannot make 5 x 5 px of shape \(4, 4\)"),
    "resize": (lambda: F.resize(z(1, 1, 4, 4), (0, 2)), ValueError, r"positive size, .*\(0, 2\)"),
    "ce shapes": (lambda: F.cross_entropy(z(1, 3, 4, 4), z(1, 4, 5, dtype=int)), ValueError,
                  r"need a target of shape \(1, 4, 4\), found \(1, 4, 5\)"),
    "ce axes": (lambda: F.cross_entropy(z(4, 3), z(4, dtype=int)), ValueError,
                r"logits \(N, K, H, W\) of shape \(4, 3\)"),
    "ce float target": (lambda: F.cross_entropy(z(1, 3, 4, 4), z(1, 4, 4)), ValueError, "integers, found float64"),
    "ce too large": (lambda: F.cross_entropy(z(1, 3, 1, 1), np.array([[[3]]])), ValueError, r"0 ... 2, found 3"),
    "ce negative": (lambda: F.cross_entropy(z(1, 3, 1, 1), np.array([[[-1]]])), ValueError, r"0 ... 2, found -1"),
    "ce not the ignored": (lambda: F.cross_entropy(z(1, 3, 1, 1), np.array([[[254]]]), ignore_index=255), ValueError,
                           r"0 ... 2 or be 255, found 254"),
    "ce weight": (lambda: F.cross_entropy(z(1, 3, 4, 4), z(1, 4, 4, dtype=int), z(4, 4)), ValueError,
                  r"weight must have shape \(1, 4, 4\), found \(4, 4\)"),
    "ce class weight": (lambda: F.cross_entropy(z(1, 3, 4, 4), z(1, 4, 4, dtype=int), class_weight=z(2)), ValueError,
                        r"class_weight must have shape \(3,\), found \(2,\)"),
    "ce reduction": (lambda: F.cross_entropy(z(1, 3, 4, 4), z(1, 4, 4, dtype=int), reduction="max"), ValueError,
                     "reduction must be 'mean', 'sum' or 'none', found 'max'"),
    "bce target": (lambda: F.binary_cross_entropy_with_logits(z(1, 1, 4, 4), z(1, 4, 4)), ValueError,
                   r"target must have shape \(1, 1, 4, 4\), found \(1, 4, 4\)"),
    "bce weight": (lambda: F.binary_cross_entropy_with_logits(z(1, 1, 4, 4), z(1, 1, 4, 4), z(4, 4)), ValueError,
                   r"weight must have shape \(1, 1, 4, 4\), found \(4, 4\)"),
    "dice one logit": (lambda: F.dice_loss(z(1, 1, 4, 4), z(1, 4, 4)), ValueError,
                       r"target must have shape \(1, 1, 4, 4\)"),
    "dice classes": (lambda: F.dice_loss(z(1, 3, 4, 4), np.full((1, 4, 4), 3)), ValueError, "0 ... 2, found 3"),
}  # fmt: skip


@pytest.mark.parametrize("call, error, message", ERRORS.values(), ids=ERRORS)
def test_errors_say_what_is_wrong(call, error, message, backend):
    with pytest.raises(error, match=message):
        call()
