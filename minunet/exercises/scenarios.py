"""What is computed with an operation: first by the right source, then by the learner's, and compared number by number.

A scenario yields `Item`s in the order in which they should be looked at: outputs before gradients. Kernels run over the
list of cases that the tests read, `minunet.kernels.cases`; the other operations over small cases of their own, in
float64, where gradients are held against numeric ones as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from minunet import functional as F
from minunet import optim
from minunet.autograd import Tensor, no_grad
from minunet.gradient_check import gradcheck
from minunet.kernels import KERNELS, cases
from minunet.unet import UNet

CLOSE = 1e-9  # of float64 results computed in another order, relative to the largest number of the tensor
STEP = 1e-6  # of central differences


@dataclass(frozen=True)
class Item:
    """One tensor of one case.

    value: an array, or None for a gradient that is missing.  tolerance: the error allowed, relative to the largest
    number of the tensor or to 1 if that is larger.  slope: for a gradient, the central difference at an index.
    """

    tensor: str
    case: str
    value: Any
    tolerance: float = CLOSE
    slope: Callable[[tuple[int, ...]], float] | None = None


Scenario = Callable[[], Iterator[Item]]


# ------------------------------------------------------------------------------------------------- kernels


def kernel(
    name: str, *extra: Callable[[], Iterator[tuple[str, cases.Call]]], functions: Collection[str] = ()
) -> Scenario:
    """A kernel's functions (none named: all) of the reference over the shipped cases, integers first; then `extra`."""

    def shipped() -> Iterator[tuple[str, cases.Call]]:
        for values in ("integers", "floats"):
            for case in cases.select("test", name):
                for call in cases.calls(case, values):
                    if not functions or call.function in functions:
                        yield f"{case.name}, {values}", call

    def scenario() -> Iterator[Item]:
        for source in (shipped, *extra):
            for case, call in source():
                for output, array in cases.run(KERNELS[name].load("reference"), call).items():
                    # Either side may differ from the truth by so many roundings.
                    rounding = 2 * call.ulps * float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
                    yield Item(f"{call.function}: {output}", case, array, rounding)

    return scenario


def windows_with_nan() -> Iterator[tuple[str, cases.Call]]:
    """Pooling windows in which NaN stands at every place in turn, and one with two of them."""
    x = np.tile(np.array([[1.0, 5.0], [5.0, 2.0]], np.float32), (1, 1, 1, 5))
    for place in range(4):
        x[0, 0, place // 2, 2 * place + place % 2] = np.nan
    x[0, 0, :, 8] = np.nan
    shape = (1, 1, 1, 5)
    outputs: dict[str, Any] = {"out": (shape, np.float32), "argmax": (shape, np.uint8)}
    yield "five windows of 2 x 2 with NaN", cases.Call("forward", dict(x=x, kernel_size=2), outputs)


def large_logits() -> Iterator[tuple[str, cases.Call]]:
    """Logits of which the exponential overflows.  A sum that holds terms near 1000 is rounded as 1000 is."""
    logits = np.array([[[[1000.0, -1000.0, 200.0]], [[0.0, -1001.0, 201.0]]]], np.float32)
    target = np.array([[[0, 1, -1]]])
    yield "logits up to 1000", cases.Call(
        "forward", dict(logits=logits, target=target), {"out": ((1, 1, 3), np.float32)}, ulps=1000
    )


# -------------------------------------------------------------------------------------------- operations


def operation(case: str, fn: Callable[..., Tensor], inputs: Mapping[str, np.ndarray], seed: int = 1) -> Iterator[Item]:
    """Output of fn(*inputs), the gradient of each input, and these against numeric ones along random directions."""
    values = list(inputs.values())
    tensors = [Tensor(v.copy(), requires_grad=True) for v in values]
    y = fn(*tensors)
    yield Item("output", case, y.data)
    upstream = np.random.default_rng(seed).standard_normal(y.shape)
    y.backward(upstream)
    for k, (name, tensor) in enumerate(zip(inputs, tensors, strict=True)):
        yield Item(f"gradient of {name}", case, tensor.grad, CLOSE, _slope(fn, values, k, upstream))
    gradcheck(fn, *values)


def _slope(fn, values: list[np.ndarray], k: int, upstream: np.ndarray) -> Callable[[tuple[int, ...]], float]:
    """The change of sum(upstream * fn) with one number of input k, from two evaluations."""

    def slope(index: tuple[int, ...]) -> float:
        ends = []
        for step in (STEP, -STEP):
            moved = [v.copy() for v in values]
            moved[k][index] += step
            with no_grad():
                ends.append(float((fn(*map(Tensor, moved)).data * upstream).sum()))
        return (ends[0] - ends[1]) / (2 * STEP)

    return slope


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers in float64."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def products() -> Iterator[Item]:
    for a, b in (((2, 3), (2, 3)), ((3, 1), (1, 5)), ((2, 3, 5), (5,))):
        inputs = dict(a=numbers(*a), b=numbers(*b, seed=1))
        yield from operation(f"{a} times {b}", lambda a, b: F.multiply(a, b), inputs)


def cross_entropies() -> Iterator[Item]:
    logits, target = numbers(2, 3, 4, 5), np.arange(40).reshape(2, 4, 5) % 3
    weight, per_class = np.abs(numbers(2, 4, 5)) + 0.5, np.array([0.5, 2.0, 7.0])
    ignored = np.where(np.arange(5) == 1, 255, target)
    for reduction in ("none", "sum", "mean"):
        for case, labels, options in (
            ("plain", target, {}),
            ("weight", target, dict(weight=weight)),
            ("class_weight", target, dict(class_weight=per_class)),
            ("ignore_index=255", ignored, dict(ignore_index=255)),
            ("all of them", ignored, dict(weight=weight, class_weight=per_class, ignore_index=255)),
        ):  # fmt: skip
            fn = lambda z, y=labels, o=options, r=reduction: F.cross_entropy(z, y, reduction=r, **o)  # noqa: E731
            yield from operation(f"reduction={reduction!r}, {case}", fn, dict(logits=logits))


def binary_cross_entropies() -> Iterator[Item]:
    x, shares = numbers(2, 1, 4, 5), np.arange(40).reshape(2, 1, 4, 5) % 4 / 3
    bce = lambda z, **o: F.binary_cross_entropy_with_logits(z, shares, **o)  # noqa: E731
    yield from operation("targets 0, 1/3, 2/3, 1", lambda z: bce(z), dict(logits=x))
    yield from operation("with weight", lambda z: bce(z, weight=1 + shares), dict(logits=x))


def dropouts() -> Iterator[Item]:
    for p in (0.0, 0.25, 0.5):
        fn = lambda x, p=p: F.dropout(x, p, np.random.default_rng(3))  # noqa: E731
        yield from operation(f"p={p}", fn, dict(x=numbers(2, 3, 4, 5)))


def batch_norms() -> Iterator[Item]:
    x = 2 * numbers(2, 3, 4, 5) + np.arange(3.0)[:, None, None]
    inputs = dict(x=x, weight=numbers(3) + 2, bias=numbers(3, seed=1))
    for name, training in (("batch_norm", True), ("batch_norm", False), ("batch_norm_relu", True)):
        case = f"{name}, {'training' if training else 'evaluation'}"
        estimates: list[np.ndarray] = []

        def fn(x, weight, bias, name=name, training=training, estimates=estimates):
            estimates[:] = [np.full(3, 0.5), np.full(3, 2.0)]  # moved in place: each call gets its own
            return getattr(F, name)(x, weight, bias, *estimates, training)

        fn(*inputs.values())
        for which, estimate in zip(("running_mean", "running_var"), list(estimates), strict=True):
            yield Item(which, f"{case}, after one call", estimate)
        yield from operation(case, fn, inputs)


def concats() -> Iterator[Item]:
    for channels in ((2, 2), (3, 1, 2)):
        inputs = {f"tensors[{k}]": numbers(2, c, 3, 4, seed=k) for k, c in enumerate(channels)}
        yield from operation(f"{' + '.join(map(str, channels))} channels", lambda *t: F.concat(list(t)), inputs)


def crops_and_pads() -> Iterator[Item]:
    for inner, outer in (((2, 2), (4, 6)), ((3, 4), (6, 5)), ((2, 5), (7, 6))):
        sizes = f"{outer[0]} x {outer[1]} and {inner[0]} x {inner[1]} px"
        crop, pad = (lambda x, s=inner: F.center_crop(x, s)), (lambda x, s=outer: F.center_pad(x, s))
        yield from operation(f"center_crop, {sizes}", crop, dict(x=numbers(1, 2, *outer)))
        yield from operation(f"center_pad, {sizes}", pad, dict(x=numbers(1, 2, *inner)))


def convolutions() -> Iterator[Item]:
    for n in (1, 3):
        inputs = dict(x=numbers(n, 2, 4, 5), weight=numbers(3, 2, 3, 3), bias=numbers(3))
        up = dict(x=numbers(n, 2, 3, 2), weight=numbers(2, 3, 2, 2), bias=numbers(3))
        yield from operation(f"conv2d, {n} pictures", lambda x, w, b: F.conv2d(x, w, b, padding=1), inputs)
        yield from operation(f"conv_transpose2d, {n} pictures", lambda *v: F.conv_transpose2d(*v), up)


# ------------------------------------------------------------------------------------------------ the graph


def graphs() -> Iterator[Item]:
    """Results that are used once, twice, and at different distances from the loss."""
    a, b = numbers(2, 3), numbers(2, 3, seed=1)
    yield from operation("y = a b", lambda a, b: a * b, dict(a=a, b=b))
    yield from operation("y = a a", lambda a: a * a, dict(a=a))
    yield from operation("y = s + 2 s b, s = a b", lambda a, b: (s := a * b) + 2 * s * b, dict(a=a, b=b))

    def ladder(a, b):
        s = a
        for _ in range(4):
            s = s * b + s  # each s is used twice, at two distances from the loss
        return s

    yield from operation("four times s = s b + s", ladder, dict(a=a, b=b))


def two_losses() -> Iterator[Item]:
    """backward() twice, of two losses, without zero_grad between: their gradients add up."""
    x = Tensor(numbers(2, 3), requires_grad=True)
    for count in (1, 2):
        (x * x).sum().backward()
        yield Item("x.grad", f"after backward() of {count} losses", np.array(x.grad))


def owned_gradients() -> Iterator[Item]:
    """Arrays that a leaf's gradient was made of are changed in place, and so is a gradient: no other may follow."""
    given = numbers(3, 2, seed=1)
    x = Tensor(numbers(2, 3), requires_grad=True)
    x.reshape(3, 2).backward(given)
    given *= 0.5
    yield Item("x.grad", "y = x.reshape(3, 2), after the array given to backward() was halved", x.grad)
    x = Tensor(numbers(2, 3), requires_grad=True)
    kept = x * 2
    kept.retain_grad()
    flat = kept.reshape(6)
    flat.retain_grad()
    flat.backward(np.ones(6))
    assert flat.grad is not None
    flat.grad *= 0.5
    yield Item("kept.grad", "flat = kept.reshape(6), after flat.grad was halved", kept.grad)
    x = Tensor(numbers(2, 3), requires_grad=True)
    x.sum().backward()
    assert x.grad is not None
    x.grad *= 0.5
    yield Item("x.grad", "y = x.sum(), after x.grad was halved", x.grad)


# ---------------------------------------------------------------------------------------------- the network


def networks() -> Iterator[Item]:
    """Tiny networks: logits, the gradient of every parameter, and logits in evaluation."""
    for case, size, options in (
        ("padding 'same', no norm, 8 x 8 px", (8, 8), dict(padding="same")),
        ("padding 'same', batch norm, 9 x 11 px", (9, 11), dict(padding="same", norm="batch")),
        ("padding 'valid', no norm, 20 x 20 px", (20, 20), dict(padding="valid")),
        ("two levels, padded skips, 11 x 14 px", (11, 14), dict(padding="same", features=(2, 3), skip_fit="pad")),
    ):  # fmt: skip
        features: Any = options.pop("features", (2,))
        model = UNet(1, 2, features=features, dtype=np.float64, seed=1, **options)  # type: ignore[arg-type]
        logits = model(numbers(2, 1, *size))
        yield Item("logits", case, logits.data)
        logits.backward(numbers(*logits.shape, seed=2))
        for name, parameter in model.named_parameters():
            yield Item(f"gradient of {name}", case, parameter.grad)
        model.eval()
        with no_grad():
            yield Item("logits", f"{case}, evaluation", model(numbers(2, 1, *size, seed=3)).data)


# ------------------------------------------------------------------------------------------------- the step


def steps() -> Iterator[Item]:
    """Three steps of SGD with gradients that are given, in all its forms."""
    for case, options in (
        ("momentum 0", dict(momentum=0.0)),
        ("momentum 0.9", dict(momentum=0.9)),
        ("momentum 0.9, weight_decay 0.1", dict(momentum=0.9, weight_decay=0.1)),
        ("momentum 0.9, nesterov", dict(momentum=0.9, nesterov=True)),
    ):
        parameters = [Tensor(numbers(2, 3), requires_grad=True), Tensor(numbers(4), requires_grad=True)]
        optimizer = optim.SGD(parameters, lr=0.1, **options)  # type: ignore[arg-type]
        for step in range(1, 4):
            for parameter in parameters:
                parameter.grad = numbers(*parameter.shape, seed=step)
            optimizer.step()
            for k, parameter in enumerate(parameters):
                yield Item(f"parameters[{k}]", f"{case}, after step {step}", parameter.data.copy())


def clipping() -> Iterator[Item]:
    for largest in (100.0, 1.0):
        parameters = [Tensor(numbers(2, 3), requires_grad=True), Tensor(numbers(4), requires_grad=True)]
        for k, parameter in enumerate(parameters):
            parameter.grad = numbers(*parameter.shape, seed=5) * (k + 1)
        norm = optim.clip_grad_norm(parameters, largest)
        yield Item("norm (what is returned)", f"max_norm={largest:g}", np.asarray(norm))
        for k, parameter in enumerate(parameters):
            yield Item(f"parameters[{k}].grad", f"max_norm={largest:g}", parameter.grad)


def schedules() -> Iterator[Item]:
    for total, warmup in ((10, 0), (10, 3)):
        rates = [optim.cosine(step, total, 0.5, warmup) for step in range(total + 2)]
        yield Item("learning rate of each step", f"cosine, total={total}, warmup={warmup}", np.array(rates))
    for warmup in (0, 3):
        rates = [optim.step_decay(step, 0.5, every=4, warmup=warmup) for step in range(12)]
        yield Item("learning rate of each step", f"step_decay, every=4, warmup={warmup}", np.array(rates))
