"""THE list of cases: which kernels are run at which sizes, and how well results must agree.

Tests, gradient checks and benchmarks all read it, and run every variant that a room lists: a new variant is
tested, checked and timed from the line that lists it.

A `Case` is a kernel at certain sizes in one dtype.  `calls(case, ...)` makes the arguments of every function of the
kernel from a seed, `check(variant, kernel, call)` runs one of them and holds it against the reference.  Memory
around and inside the outputs is poisoned, so that a number that is not written, or written elsewhere, shows.
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isqrt, prod, sqrt
from typing import Any

import numpy as np

from .cuda import cupy
from .registry import KERNELS, Variant

LAYOUTS = ("contiguous", "channels_last", "cropped", "sliced")
POISON = 255  # every byte of fresh memory: NaN as a float, -1 or 255 as an integer
MARGIN = 37  # numbers of poison before and after an array; odd, so that vectors are not aligned


@dataclass(frozen=True)
class Case:
    """A kernel at certain sizes.

    `purpose` is "test"; "large" for more than one of every block a kernel cuts its work into; or "bench", a layer
    of a network.
    """

    kernel: str
    sizes: dict[str, int]
    dtype: str = "float32"
    purpose: str = "test"

    @property
    def name(self) -> str:
        """All of it in one word, for instance relu-n1-c2-h3-w5-float32; a filter of pytest -k finds any part."""
        return "-".join([self.kernel, *(f"{key}{value}" for key, value in self.sizes.items()), self.dtype])

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Call:
    """One function of a kernel with its inputs, and what is asked of its outputs.

    outputs: shape and dtype by name.  ulps: the error allowed to outputs, in roundings (`eps`) of the largest number
    of the output, or of 1 if that is larger; 0 asks for the same bits.  float_ulps: the same, were the numbers no
    integers.  reason: why so much.  flops: floating-point operations of the definition, 0 where memory traffic is what
    counts.
    """

    function: str
    inputs: dict[str, Any]
    outputs: dict[str, tuple[tuple[int, ...], Any]]
    ulps: float = 0
    float_ulps: float = 0
    reason: str = "every implementation gives the same bits"
    flops: int = 0

    @property
    def bytes(self) -> int:
        """Size of all arrays read and written, each counted once."""
        read = sum(a.nbytes for a in self.inputs.values() if isinstance(a, np.ndarray))
        return read + sum(prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self.outputs.values())


# ------------------------------------------------------------------------------------- numbers and memory


def poisoned(shape: tuple[int, ...], dtype: Any, layout: str) -> tuple[np.ndarray, np.ndarray]:
    """An array whose bytes are POISON, and the bytes of the memory that it is a part of.

    layout: "contiguous"; "channels_last"; "cropped", the middle and the first channels of a larger channels-last array;
    "sliced", every other row, and every other column from right to left, of a larger array.  Without four axes an
    array is contiguous for the second and third, without two for the last.
    """
    large, images = shape, len(shape) == 4 and layout in ("channels_last", "cropped")
    if images:
        n, c, h, w = shape
        large = (n, h + 2, w + 3, c + 1) if layout == "cropped" else (n, h, w, c)
    elif layout == "sliced" and len(shape) > 1:
        large = (*shape[:-2], 2 * shape[-2], 2 * shape[-1])
    count = prod(large)
    memory = np.full((count + 2 * MARGIN) * np.dtype(dtype).itemsize, POISON, np.uint8)
    array = memory.view(dtype)[MARGIN : MARGIN + count].reshape(large)
    if images:
        top, left = ((have - need) // 2 for have, need in zip(large[1:3], (h, w), strict=True))
        return array[:, top : top + h, left : left + w, :c].transpose(0, 3, 1, 2), memory
    return array if large == shape else array[..., ::2, ::-2], memory


@dataclass
class Draw:
    """Where the numbers of a case come from.

    values: "integers"; "floats", of unit size; or "distinct", no two equal and none 0, for gradient checks of functions
    with kinks.
    """

    dtype: Any
    values: str
    layout: str
    seed: int
    largest: int = 9
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def limit(self, *terms: int) -> None:
        """Keep integers so small that sums of so many products (and one number more) are exact: below 2^24."""
        self.largest = min(9, isqrt((1 << 24) // (max(terms) + 1)))

    def __call__(self, *shape: int) -> np.ndarray:
        """Numbers of this shape."""
        if self.values == "integers":
            return self.lay(self.rng.integers(-self.largest, self.largest + 1, shape))
        if self.values == "floats":
            return self.lay(self.rng.standard_normal(shape, self.dtype))
        places = self.rng.permutation(prod(shape)).reshape(shape)
        return self.lay((places + 0.25) / places.size * 4 - 2)

    def lay(self, numbers: np.ndarray, dtype: Any = None) -> np.ndarray:
        """A copy in this draw's layout."""
        array, _ = poisoned(numbers.shape, dtype or self.dtype, self.layout)
        array[...] = numbers
        return array

    def out(self, *shape: int) -> dict[str, tuple]:
        """The one output of most functions."""
        return {"out": (shape, self.dtype)}

    def sums(self, terms: int) -> dict[str, Any]:
        """What is asked of sums of so many products."""
        ulps = 8 + 4 * sqrt(terms)
        if self.values == "integers":
            return {"ulps": 0, "float_ulps": ulps, "reason": "sums of integers below 2^24 are exact"}
        return {
            "ulps": ulps,
            "float_ulps": ulps,
            "reason": f"{terms} terms may be added in any order; rounding errors walk at random",
        }


# -------------------------------------------------------------------------- the functions of every kernel


def conv2d(draw, n, c, o, h, w, kh, kw, padding, bias, relu):
    height, width = h + 2 * padding - kh + 1, w + 2 * padding - kw + 1
    pixels, flops = n * height * width, 2 * n * height * width * c * o * kh * kw
    draw.limit(c * kh * kw, o * kh * kw, pixels)
    x, weight, grad = draw(n, c, h, w), draw(o, c, kh, kw), draw(n, o, height, width)
    b = draw(o) if bias else None
    yield Call("forward", dict(x=x, weight=weight, bias=b, padding=padding, relu=bool(relu)),
               draw.out(n, o, height, width), flops=flops, **draw.sums(c * kh * kw))  # fmt: skip
    yield Call("backward_input", dict(grad=grad, weight=weight, padding=padding), draw.out(n, c, h, w),
               flops=flops, **draw.sums(o * kh * kw))  # fmt: skip
    yield Call("backward_weight", dict(grad=grad, x=x, padding=padding), draw.out(o, c, kh, kw),
               flops=flops, **draw.sums(pixels))  # fmt: skip


def conv_transpose2d(draw, n, c, o, h, w, s, bias):
    flops = 2 * n * h * w * c * o * s * s
    draw.limit(c, o * s * s, n * h * w)
    x, weight, grad = draw(n, c, h, w), draw(c, o, s, s), draw(n, o, s * h, s * w)
    b = draw(o) if bias else None
    yield Call("forward", dict(x=x, weight=weight, bias=b), draw.out(n, o, s * h, s * w),
               flops=flops, **draw.sums(c))  # fmt: skip
    yield Call("backward_input", dict(grad=grad, weight=weight), draw.out(n, c, h, w),
               flops=flops, **draw.sums(o * s * s))  # fmt: skip
    yield Call("backward_weight", dict(grad=grad, x=x), draw.out(c, o, s, s),
               flops=flops, **draw.sums(n * h * w))  # fmt: skip


def max_pool2d(draw, n, c, h, w, k):
    shape = (n, c, h // k, w // k)
    draw.largest = 2  # so that most windows have ties
    x, grad = draw(n, c, h, w), draw(*shape)
    argmax = draw.lay(draw.rng.integers(0, k * k, shape), np.uint8)
    yield Call("forward", dict(x=x, kernel_size=k), {**draw.out(*shape), "argmax": (shape, np.uint8)})
    yield Call("backward", dict(grad=grad, argmax=argmax, kernel_size=k), draw.out(n, c, h, w))


def relu(draw, n, c, h, w):
    draw.limit(n * h * w)
    x, grad = draw(n, c, h, w), draw(n, c, h, w)
    y = draw.lay(np.maximum(x, 0))
    yield Call("forward", dict(x=x), draw.out(n, c, h, w))
    yield Call("backward", dict(grad=grad, y=y), draw.out(n, c, h, w))
    yield Call("backward_sums", dict(grad=grad, y=y), {**draw.out(n, c, h, w), "sums": ((c,), draw.dtype)},
               **draw.sums(n * h * w))  # fmt: skip


def batch_norm(draw, n, c, h, w, relu):
    few: dict[str, Any] = {"ulps": 16, "reason": "a handful of operations an element"}
    draw.limit(n * h * w)
    x, grad = draw(n, c, h, w), draw(n, c, h, w)
    mean, inv_std, weight, bias, g1, g2 = draw(c), np.abs(draw(c)) + draw.dtype(0.5), draw(c), draw(c), draw(c), draw(c)
    y = (weight * inv_std)[:, None, None] * (x - mean[:, None, None]) + bias[:, None, None]
    grad[np.abs(y) < 1e-3] = 0  # where rounding decides whether relu lets the gradient pass
    steps = dict(x=x, mean=mean, inv_std=inv_std, weight=weight, bias=bias, relu=bool(relu))
    sums: dict[str, Any] = {**draw.sums(n * h * w), "ulps": 16 + 4 * sqrt(n * h * w)}
    yield Call("statistics", dict(x=x), {"mean": ((c,), draw.dtype), "variance": ((c,), draw.dtype)}, **sums)
    yield Call("normalize", steps, draw.out(n, c, h, w), **few)
    yield Call("backward_parameters", dict(grad=grad, **steps),
               {"grad_weight": ((c,), draw.dtype), "grad_bias": ((c,), draw.dtype)}, **sums)  # fmt: skip
    yield Call("backward_input", dict(grad=grad, **steps, mean_grad=g1, mean_grad_xhat=g2), draw.out(n, c, h, w), **few)


def resize(draw, n, c, h, w, to_h, to_w, corners):
    powers_of_two = all(size & (size - 1) == 0 and max(a, b) % min(a, b) == 0
                        for a, b in ((h, to_h), (w, to_w)) for size in [max(a, b) // min(a, b)])  # fmt: skip
    allowed: dict[str, Any]
    if powers_of_two and not corners and draw.values == "integers":
        allowed = {"ulps": 0, "reason": "at scales of 2^k all weights are short binary fractions: exact"}
    else:
        allowed = {"ulps": 8 + 4 * max(h, w, to_h, to_w), "reason": "coordinates as large as the sides are rounded"}
    how = dict(align_corners=bool(corners))
    yield Call("forward", dict(x=draw(n, c, h, w), **how), draw.out(n, c, to_h, to_w), **allowed)
    yield Call("adjoint", dict(grad=draw(n, c, to_h, to_w), **how), draw.out(n, c, h, w), **allowed)


def cross_entropy(draw, n, classes, h, w):
    reason = "exponentials and logarithms differ in their last bits"
    allowed: dict[str, Any] = {"ulps": 16 + 2 * classes, "reason": reason}
    logits, grad = draw(n, classes, h, w), draw(n, h, w)
    target = draw.lay(draw.rng.integers(-1, classes, (n, h, w)), np.int64)
    yield Call("forward", dict(logits=logits, target=target), draw.out(n, h, w), **allowed)
    yield Call("backward", dict(grad=grad, logits=logits, target=target), draw.out(n, classes, h, w), **allowed)


def sgd(draw, count, decay, nesterov):
    few: dict[str, Any] = {"ulps": 0 if draw.values == "integers" else 8, "reason": "a handful of operations a number"}
    draw.limit(count)
    # All of these short binary fractions: steps from integers are exact.
    factors = dict(lr=0.25, momentum=0.5, weight_decay=0.125 * decay, nesterov=bool(nesterov))
    arrays = {name: draw(count) for name in ("parameter", "gradient", "velocity")}
    yield Call("update", {**arrays, **factors},
               {name: ((count,), draw.dtype) for name in ("out_parameter", "out_velocity")}, **few)  # fmt: skip
    yield Call("square_sum", dict(gradient=arrays["gradient"]), {"out": ((), np.float64)}, **draw.sums(count))


MAKERS: dict[str, Callable[..., Iterator[Call]]] = {
    make.__name__: make
    for make in (conv2d, conv_transpose2d, max_pool2d, relu, batch_norm, resize, cross_entropy, sgd)
}


# Linear and selecting operations are exact on small integers; the others are compared on floats alone.
# Variants that save multiplications (Winograd's) are not: their intermediate values are larger than the result, and
# so are the roundings; what is measured is 0.3 to 1 times what is allowed to a direct sum, twice that for 1 channel.
INEXACT = 4
EXACT = ("conv2d", "conv_transpose2d", "max_pool2d", "relu", "resize", "sgd")


def calls(case: Case, values: str = "integers", layout: str = "channels_last", seed: int = 0) -> list[Call]:
    """A call of every function of the case's kernel; `values` as in `Draw`, `layout` as in `poisoned`."""
    draw = Draw(np.dtype(case.dtype).type, values, layout, seed)
    return list(MAKERS[case.kernel](draw, **case.sizes))


# ------------------------------------------------------------------------------------ running and comparing


def run(variant: Any, call: Call, layout: str = "channels_last", on_device: bool = False) -> dict[str, np.ndarray]:
    """Call a variant's function and return its outputs by name.

    layout: of the outputs, as in `poisoned`.  on_device: whether the variant takes arrays that lie on a GPU; they lie
    there as they do here, but begin at multiples of 16 bytes, so that vectors are aligned, where outputs are contiguous
    or channels-last.  AssertionError where memory next to an output, or an input, has changed.
    """
    outputs = {name: poisoned(shape, dtype, layout) for name, (shape, dtype) in call.outputs.items()}
    arrays = {name: a for name, a in call.inputs.items() if isinstance(a, np.ndarray)}
    before = {name: a.tobytes() for name, a in arrays.items()}
    arrays |= {name: array for name, (array, _) in outputs.items()}
    call_of = getattr(variant, call.function)
    if on_device:
        aligned = layout in ("contiguous", "channels_last")
        around = {name: whole(a) if name in outputs else extent(a) for name, a in arrays.items()}
        there = {name: sent(a, around[name], aligned) for name, a in arrays.items()}
        call_of(**{**call.inputs, **{name: array for name, (array, _) in there.items()}})
        for name, (_, bytes_there) in there.items():
            around[name][...] = cupy().asnumpy(bytes_there)
    else:
        call_of(**{**call.inputs, **arrays})
    for name, data in before.items():
        assert call.inputs[name].tobytes() == data, f"{call.function} changed its input {name}"
    results = {}
    for name, (array, memory) in outputs.items():
        results[name] = array.copy()
        array[...] = np.full(array.itemsize, POISON, np.uint8).view(array.dtype)[0]
        assert (memory == POISON).all(), f"{call.function} wrote outside of {name}"
    return results


def whole(array: np.ndarray) -> np.ndarray:
    """All bytes of the memory that an array is a part of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.reshape(-1, copy=False).view(np.uint8)


def extent(array: np.ndarray) -> np.ndarray:
    """The bytes from the first number of an array to its last one."""
    memory = whole(array)
    first, end = (place - memory.__array_interface__["data"][0] for place in np.lib.array_utils.byte_bounds(array))
    return memory[first:end]


def sent(array: np.ndarray, memory: np.ndarray, aligned: bool) -> tuple[Any, Any]:
    """The array on a device, with `memory`, the bytes that it is a part of, around it; and these bytes.

    aligned: whether its first number is at a multiple of 16 bytes, or one number further on.
    """
    xp = cupy()
    offset = array.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    shift = -offset % 16 + (0 if aligned else array.itemsize)
    there = xp.empty(shift + memory.size, np.uint8)[shift:]
    there[...] = xp.asarray(memory)
    return xp.ndarray(array.shape, array.dtype, there.data + offset, array.strides), there


def truth(kernel: str, call: Call) -> dict[str, np.ndarray]:
    """What the reference gives in float64 for the same inputs."""

    def precise(value):
        return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value

    results = {
        name: np.empty(shape, np.float64 if np.dtype(dtype).kind == "f" else dtype)
        for name, (shape, dtype) in call.outputs.items()
    }
    inputs = {name: precise(value) for name, value in call.inputs.items()}
    getattr(KERNELS[kernel].load("reference"), call.function)(**inputs, **results)
    return results


def compare(found: np.ndarray, expected: np.ndarray, ulps: float = 0, name: str = "result") -> None:
    """AssertionError unless `found` is `expected`, up to `ulps` (see `Call`).

    A NaN on either side is an error, and infinities must be at the same places with the same signs.
    """
    assert found.shape == expected.shape, f"{name}: shape {found.shape}, expected {expected.shape}"
    for side, array in (("found", found), ("expected", expected)):
        assert not np.isnan(array).any(), f"{name}: {np.isnan(array).sum()} of {array.size} numbers {side} are NaN"
    if ulps == 0:
        wrong = found != expected
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise AssertionError(f"{name}: {wrong.sum()} of {wrong.size} numbers differ, the first at {at}: "
                                 f"{found[at]!r}, expected {expected[at]!r}")  # fmt: skip
        return
    infinite = np.isinf(found) | np.isinf(expected)
    assert np.array_equal(found[infinite], expected[infinite]), f"{name}: infinities differ"
    found, expected = found[~infinite], expected[~infinite]
    error = np.abs(found - expected).max(initial=0)
    allowed = ulps * np.finfo(found.dtype).eps * np.abs(expected).max(initial=1)
    assert error <= allowed, f"{name}: error {error:.3g}, allowed {allowed:.3g}"


def check(
    variant: Any,
    kernel: str,
    call: Call,
    layout: str = "channels_last",
    expected: Any = None,
    exact: bool = True,
    on_device: bool = False,
    product_error: float = 0.0,
) -> None:
    """Run a call on a variant (its module) and compare all outputs with `truth`, or with `expected` if given.

    exact: as `Variant.exact`; what is not may differ by INEXACT times as many roundings, also on integers.
    on_device: as in `run`.  product_error: as `Variant.product_error`; small integers lose nothing.
    """
    expected = truth(kernel, call) if expected is None else expected
    ulps = call.ulps if exact else INEXACT * call.float_ulps
    for name, array in run(variant, call, layout, on_device).items():
        rounded = product_error / np.finfo(array.dtype).eps if ulps and array.dtype.kind == "f" else 0
        compare(array, expected[name], ulps + rounded, f"{kernel}.{call.function}: {name}")


def variants(kernel: str) -> list[Variant]:
    """The variants of a kernel that take arrays on the host; without Numba, those of the numba backend are left out."""
    here = importlib.util.find_spec("numba") is not None
    return [v for v in KERNELS[kernel].variants if v.backend == "numpy" or (here and v.backend == "numba")]


def device_variants(kernel: str) -> list[Variant]:
    """The variants of a kernel that take arrays on a GPU, whether there is one or not."""
    return [v for v in KERNELS[kernel].variants if v.backend == "cuda"]


# ------------------------------------------------------------------------------------------------- the list


def table(kernel: str, columns: str, *rows: str, purpose: str = "test") -> list[Case]:
    """A case in float32 and one in float64 a row (benchmarks: float32)."""
    dtypes = ("float32",) if purpose == "bench" else ("float32", "float64")
    sizes = [dict(zip(columns.split(), map(int, row.split()), strict=True)) for row in rows]
    return [Case(kernel, size, dtype, purpose) for dtype in dtypes for size in sizes]


CONV2D = "n  c   o    h   w   kh kw padding bias relu"
UP = "    n  c    o   h   w   s  bias"
POOL = "  n  c    h   w   k"
IMAGE = " n  c    h   w"
NORM = "  n  c    h   w   relu"
RESIZE = "n  c    h   w   to_h to_w  corners"
PIXELS = "n  classes h  w"
STEP = "  count   decay nesterov"

CASES: list[Case] = [
    *table("conv2d", CONV2D,
           "    1  1   1    1   1   1  1  0       0    1",
           "    2  3   5    7   11  3  3  1       1    0",
           "    1  5   3    11  7   3  3  0       1    1",
           "    3  2   7    5   13  1  1  0       1    0",
           "    1  3   2    13  5   2  2  1       0    1",
           "    2  7   3    7   7   5  5  2       1    0",
           "    1  2   3    5   7   1  3  3       1    1",
           "    1  3   5    7   3   3  2  2       0    0",
           "    1  19  23   17  29  3  3  1       1    1",
           "    2  8   68   9   11  3  3  1       1    1",
           "    1  36  12   6   23  3  3  0       0    1"),
    *table("conv2d", CONV2D,
           "    2  70  40   61  101 3  3  1       1    0",
           "    1  260 24   7   103 3  3  0       0    1", purpose="large"),
    *table("conv2d", CONV2D,
           "    1  1   64   572 572 3  3  0       1    0",
           "    1  64  64   570 570 3  3  0       1    1",
           "    1  128 128  282 282 3  3  0       1    0",
           "    1  512 512  66  66  3  3  0       1    1",
           "    1 1024 1024 30  30  3  3  0       1    0",
           "    1  64  2    388 388 1  1  0       1    1",
           "    4  16  16   256 256 3  3  1       0    0",
           "    4  32  32   128 128 3  3  1       0    1", purpose="bench"),
    *table("conv_transpose2d", UP,
           "              1  1    1   1   1   1  0",
           "              2  3    5   7   5   2  1",
           "              1  5    2   3   7   3  1",
           "              3  2    3   5   3   1  0",
           "              1  23   19  11  13  2  1",
           "              2  8    20  9   11  2  1"),
    *table("conv_transpose2d", UP,
           "              2  70   40  31  101 2  1", purpose="large"),
    *table("conv_transpose2d", UP,
           "              1  1024 512 28  28  2  1",
           "              1  128  64  196 196 2  1",
           "              4  32   16  128 128 2  1", purpose="bench"),
    *table("max_pool2d", POOL,
           "              1  1    1   1   1",
           "              2  3    7   5   2",
           "              1  5    11  7   3",
           "              3  17   2   13  2",
           "              2  4    9   7   2",
           "              1  8    33  35  16"),
    *table("max_pool2d", POOL,
           "              3  37   101 103 2", purpose="large"),
    *table("max_pool2d", POOL,
           "              1  64   568 568 2",
           "              4  16   256 256 2", purpose="bench"),
    *table("relu", IMAGE,
           "              1  1    1   1",
           "              2  3    5   7",
           "              1  17   11  3",
           "              2  36   17  19",
           "              1  130  3   5"),
    *table("relu", IMAGE,
           "              3  37   101 103", purpose="large"),
    *table("relu", IMAGE,
           "              1  64   570 570",
           "              4  16   256 256", purpose="bench"),
    *table("batch_norm", NORM,
           "              1  1    1   2   0",
           "              2  3    5   7   0",
           "              2  5    7   3   1",
           "              3  17   23  11  1",
           "              2  36   31  37  1",
           "              1  260  3   5   0"),
    *table("batch_norm", NORM,
           "              3  37   101 103 1", purpose="large"),
    *table("batch_norm", NORM,
           "              4  16   256 256 1",
           "              4  64   64  64  1", purpose="bench"),
    *table("resize", RESIZE,
           "              1  1    1   1   3    5     0",
           "              2  3    5   7   10   14    0",
           "              1  2    8   4   4    8     0",
           "              1  5    7   11  11   7     0",
           "              2  3    10  20  20   41    0",
           "              1  4    6   10  12   5     0",
           "              1  132  3   4   6    8     0",
           "              1  3    1   4   5    1     1",
           "              2  3    5   7   10   14    1",
           "              1  36   6   10  12   5     1"),
    *table("resize", RESIZE,
           "              3  37   60  70  101  103   0",
           "              2  19   60  70  120  140   1", purpose="large"),
    *table("resize", RESIZE,
           "              4  16   128 128 256  256   0",
           "              4  16   128 128 256  256   1", purpose="bench"),
    *table("cross_entropy", PIXELS,
           "              1  1       1  1",
           "              2  2       5  7",
           "              1  11      13 3",
           "              2  3       17 31"),
    *table("cross_entropy", PIXELS,
           "              3  5     101 103", purpose="large"),
    *table("cross_entropy", PIXELS,
           "              1  2     388 388", purpose="bench"),
    *table("sgd", STEP,
           "              1       0     0",
           "              5       1     0",
           "              7       0     1",
           "              389     1     1",
           "              20011   1     0"),
    *table("sgd", STEP,
           "              70001   1     1", purpose="large"),
    *table("sgd", STEP,
           "              2359296 1     0", purpose="bench"),
]  # fmt: skip


def select(purpose: str, kernel: str | None = None, dtype: str | None = None) -> list[Case]:
    """The cases of one purpose, of one kernel and one dtype if given."""
    return [c for c in CASES if c.purpose == purpose and kernel in (None, c.kernel) and dtype in (None, c.dtype)]
