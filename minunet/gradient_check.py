"""Analytic gradients held against numeric ones, in float64, along random directions."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from minunet.kernels import cases

from . import device, kernels
from . import functional as F
from .autograd import Tensor, no_grad


def gradcheck(
    fn: Callable[..., Tensor],
    *inputs: Any,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    directions: int = 3,
    seed: int = 0,
) -> bool:
    """Check d(sum(w * fn(*inputs))) for random weights w, for each input along random directions d.

    A correct VJP gives  <grad, d> = (f(x + eps d) - f(x - eps d)) / (2 eps)  up to rounding and O(eps^2); two
    evaluations a direction instead of two an element.  The upstream gradient w is random, since with ones errors of
    opposite sign cancel.  inputs: float64 arrays or Tensors are checked, everything else is passed through.  Kinks
    (relu at 0, equal values in a pooling window) must not lie within eps of the inputs.  On the backend "cuda", and for
    inputs that lie on a GPU, fn is computed there, and what it gives compared on the host.

    Returns True; raises AssertionError with the numbers of every direction that disagrees, or is not finite.
    """
    rng = np.random.default_rng(seed)
    values = [kernels.copy(F._array(v)) if _checked(v) else v for v in inputs]
    tensors: list[Any] = [Tensor(v, requires_grad=True) if _checked(v) else v for v in values]
    if not any(map(_checked, inputs)):
        raise ValueError("gradcheck: no input is a float64 array or Tensor")
    output = fn(*tensors)
    upstream = rng.standard_normal(output.shape)
    output.backward(device.beside(upstream, output.data))
    faults = []
    for k, tensor in enumerate(tensors):
        if not _checked(inputs[k]):
            continue
        analytic = np.zeros(tensor.shape) if tensor.grad is None else device.to_host(tensor.grad)
        for _ in range(directions):
            d = rng.standard_normal(tensor.shape)
            d /= np.linalg.norm(d) or 1.0
            numeric = _slope(fn, values, k, d, upstream, eps)
            expected = float((analytic * d).sum())
            allowed = atol + rtol * max(abs(numeric), float(np.linalg.norm(analytic)))
            if not abs(expected - numeric) <= allowed < np.inf:
                faults.append(f"input {k}: analytic {expected:.12g}, numeric {numeric:.12g}")
    if faults:
        raise AssertionError("gradients differ: " + "; ".join(faults))
    return True


def _slope(fn, values, k, d, upstream, eps) -> float:
    ends = []
    for sign in (1, -1):
        moved = [Tensor(v) if _checked(v) else v for v in values]
        moved[k] = Tensor(values[k] + device.beside(sign * eps * d, values[k]))
        with no_grad():
            ends.append(float((device.to_host(fn(*moved).data) * upstream).sum()))
    return (ends[0] - ends[1]) / (2 * eps)


def _array(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


def _checked(value: Any) -> bool:
    return getattr(_array(value), "dtype", None) == np.float64


# ------------------------------------------------------------------------------------- every operation

INPUTS = 1  # seed of the inputs: not gradcheck's own, or the upstream gradient would equal the first input


def check_all(pattern: str = "") -> Iterator[tuple[str, str | None]]:
    """Run all `checks` whose name contains `pattern`; yields each name with None, or with what is wrong."""
    for name, check in checks().items():
        if pattern in name:
            try:
                check()
            except AssertionError as error:
                yield name, str(error)
            else:
                yield name, None


def checks() -> dict[str, Callable[[], bool]]:
    """Gradient checks by name: every variant of every operation's kernel on its test cases, and the other operations.

    Those of the backend "cuda" where it is in force, else the host's, without Numba those of NumPy alone.  A variant
    that rounds its inputs is left out: differences of its results say nothing.
    """
    variants = cases.device_variants if device.current() == "cuda" else cases.variants
    found: dict[str, Callable[[], bool]] = {}
    for case in cases.select("test", dtype="float64"):
        if case.kernel not in _WITH_KERNEL:
            continue
        for variant in variants(case.kernel):
            if variant.product_error:
                continue
            found[f"{case.name}-{variant.name}"] = partial(_check_kernel, case, variant.name)
    for name, (fn, *shapes) in OPERATIONS.items():
        found[name] = partial(_check_operation, fn, shapes)
    return found


def _check_kernel(case: cases.Case, variant: str) -> bool:
    values = "distinct" if case.kernel in ("relu", "max_pool2d") else "floats"
    calls = {call.function: call.inputs for call in cases.calls(case, values, seed=INPUTS)}
    with kernels.use(**{case.kernel: variant}):
        return all(gradcheck(fn, *inputs) for fn, *inputs in _WITH_KERNEL[case.kernel](case.sizes, calls))


def _batch_norm(sizes, calls):
    i = calls["normalize"]
    operation = F.batch_norm_relu if i["relu"] else F.batch_norm
    for training in (True, False):
        def fn(x, weight, bias, training=training):
            mean, variance = i["mean"].copy(), i["inv_std"].copy()  # moved in place: each call gets its own
            return operation(x, weight, bias, mean, variance, training)
        yield fn, i["x"], i["weight"], i["bias"]  # fmt: skip


def _cross_entropy(sizes, calls):
    logits, target = calls["forward"]["logits"], calls["forward"]["target"]
    class_weight = np.arange(1.0, sizes["classes"] + 1)
    for reduction in ("mean", "sum", "none"):
        def fn(z, reduction=reduction):
            weight = np.abs(calls["backward"]["grad"])
            return F.cross_entropy(z, target, weight, class_weight, ignore_index=-1, reduction=reduction)
        yield fn, logits  # fmt: skip


# For each kernel: (sizes, inputs of each of its functions) -> operations with the inputs to check them at.
_WITH_KERNEL: dict[str, Callable[[dict, dict], Any]] = {
    "conv2d": lambda sizes, calls: [
        (fn, *itertools.islice(calls["forward"].values(), 4)) for fn in (F.conv2d, F.conv2d_relu)
    ],
    "conv_transpose2d": lambda sizes, calls: [
        (partial(F.conv_transpose2d, stride=sizes["s"]), *calls["forward"].values())
    ],
    "max_pool2d": lambda sizes, calls: [(F.max_pool2d, *calls["forward"].values())],
    "relu": lambda sizes, calls: [(F.relu, *calls["forward"].values())],
    "resize": lambda sizes, calls: [
        (
            partial(F.resize, size=(sizes["to_h"], sizes["to_w"]), align_corners=bool(sizes["corners"])),
            calls["forward"]["x"],
        )
    ],
    "batch_norm": _batch_norm,
    "cross_entropy": _cross_entropy,
}

_CLASSES = np.arange(2 * 5 * 7).reshape(2, 5, 7) % 3
_SHARES = (np.arange(2 * 5 * 7).reshape(2, 1, 5, 7) % 4) / 3

# Operations of NumPy alone: the function and the shapes of its inputs, drawn at random.
OPERATIONS: dict[str, tuple] = {
    "add": (F.add, (3, 5), (5,)),
    "subtract": (F.subtract, (5,), (2, 3, 5)),
    "multiply": (F.multiply, (3, 1), (1, 5)),
    "divide": (lambda a, b: F.divide(a, F.add(F.multiply(b, b), 1)), (3, 5), (5,)),
    "negative": (F.negative, (3, 5)),
    "matmul": (F.matmul, (2, 3, 5), (5, 7)),
    "sum": (lambda a: F.sum(a, axis=(0, 2), keepdims=True), (2, 3, 5)),
    "mean": (lambda a: F.mean(a, axis=1), (2, 3, 5)),
    "reshape": (lambda a: F.reshape(a, (5, 6)), (2, 3, 5)),
    "dropout": (lambda a: F.dropout(a, 0.5, np.random.default_rng(0)), (2, 3, 5, 7)),
    "concat": (lambda a, b: F.concat([a, b]), (2, 3, 5, 7), (2, 1, 5, 7)),
    "center_crop": (lambda a: F.center_crop(a, (3, 4)), (2, 3, 5, 7)),
    "center_pad": (lambda a: F.center_pad(a, (7, 8)), (2, 3, 5, 7)),
    "softmax": (F.softmax, (2, 3, 5, 7)),
    "sigmoid": (F.sigmoid, (2, 3, 5, 7)),
    "binary_cross_entropy_with_logits": (
        lambda z: F.binary_cross_entropy_with_logits(z, _SHARES, 1 + _SHARES), (2, 1, 5, 7)
    ),
    "dice_loss-softmax": (lambda z: F.dice_loss(z, _CLASSES), (2, 3, 5, 7)),
    "dice_loss-sigmoid": (lambda z: F.dice_loss(z, _SHARES), (2, 1, 5, 7)),
}  # fmt: skip


def _check_operation(fn: Callable[..., Tensor], shapes: list[tuple[int, ...]]) -> bool:
    rng = np.random.default_rng(INPUTS)
    return gradcheck(fn, *(rng.standard_normal(shape) for shape in shapes))
