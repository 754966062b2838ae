"""Every variant of every kernel against the reference: to the last bit on integers, within a bound on floats.

Nothing here names a variant: whatever a room lists is tested.
"""

import numpy as np
import pytest
from drawn_cases import LAYOUTS, convolutions, others, up_convolutions
from hypothesis import example, given, settings

import minunet as mn
from minunet.kernels import KERNELS, cases, threads


def listed(purpose, marks=lambda case, variant: ()):
    """(case, variant) for every case of the list."""
    return [
        pytest.param(case, v.name, id=f"{case.name}-{v.name}", marks=marks(case, v))
        for case in cases.select(purpose)
        for v in cases.variants(case.kernel)
    ]


def kinds_of_values(kernel):
    return ("integers", "floats") if kernel in cases.EXACT else ("floats",)


def hold_against_reference(case, values, in_layout="channels_last", out_layout="channels_last"):
    """All variants of a case's kernel."""
    for call in cases.calls(case, values, in_layout):
        expected = cases.truth(case.kernel, call)
        for v in cases.variants(case.kernel):
            module, exact = KERNELS[case.kernel].load(v.name), v.exact
            cases.check(module, case.kernel, call, out_layout, expected, exact)


def test_every_function_of_every_kernel_is_in_the_list():
    for kernel in KERNELS.values():
        for dtype in ("float32", "float64"):
            for purpose in ("test", "large"):
                first, *_ = cases.select(purpose, kernel.name, dtype)
                assert {call.function for call in cases.calls(first)} == set(kernel.functions)


@pytest.mark.parametrize("case, variant", listed("test"))
def test_case_in_every_layout(case, variant):
    module, exact = KERNELS[case.kernel].load(variant), KERNELS[case.kernel].variant(variant).exact
    for values in kinds_of_values(case.kernel):
        for in_layout, out_layout in [*zip(cases.LAYOUTS, cases.LAYOUTS, strict=True),
                                      ("channels_last", "contiguous"), ("sliced", "channels_last")]:  # fmt: skip
            for call in cases.calls(case, values, in_layout):
                cases.check(module, case.kernel, call, out_layout, exact=exact)


# -------------------------------------------------------------------------------------- generated shapes


def deep(c, o):
    return cases.Case("conv2d", dict(n=1, c=c, o=o, h=4, w=5, kh=3, kw=3, padding=1, bias=1, relu=0))


@settings(max_examples=60)
@example(deep(256, 257), "contiguous", "channels_last")
@example(deep(513, 33), "channels_last", "channels_last")
@given(convolutions(), LAYOUTS, LAYOUTS)
def test_generated_convolutions(case, in_layout, out_layout):
    hold_against_reference(case, "integers", in_layout, out_layout)


@settings(max_examples=80)
@given(up_convolutions(), LAYOUTS, LAYOUTS)
def test_generated_up_convolutions(case, in_layout, out_layout):
    hold_against_reference(case, "integers", in_layout, out_layout)


@settings(max_examples=150)
@given(others(), LAYOUTS, LAYOUTS)
def test_generated_cases_of_other_kernels(case, in_layout, out_layout):
    hold_against_reference(case, kinds_of_values(case.kernel)[0], in_layout, out_layout)


# ----------------------------------------------------------------------------------------------- threads


@pytest.fixture
def restore_threads():
    before = threads.count()
    yield
    mn.set_num_threads(before)


BLAS_MAY_DIFFER = pytest.mark.xfail(reason="BLAS cuts its work otherwise with two threads", strict=False)


def bits_mark(case, variant):
    """The definition of a convolution hands whole sums to BLAS, which need not keep the bits; everything else must."""
    return [BLAS_MAY_DIFFER] if variant.name == "reference" and case.kernel.startswith("conv") else []


@pytest.mark.parametrize("case", cases.select("large"), ids=str)
def test_large_case(case):
    hold_against_reference(case, "floats")


@pytest.mark.parametrize("case, variant", listed("large", bits_mark))
def test_the_same_bits_with_one_and_two_threads(case, variant, restore_threads):
    module = KERNELS[case.kernel].load(variant)
    for call in cases.calls(case, "floats"):
        mn.set_num_threads(1)
        one = cases.run(module, call)
        mn.set_num_threads(2)
        two = cases.run(module, call)
        for name in call.outputs:
            same = one[name].tobytes() == two[name].tobytes()  # apart: pytest would draw up the difference of the bytes
            assert same, f"{call.function}: {name} depends on the threads"


# ------------------------------------------------------------------------------------------------- NaN


def variants_of(kernel):
    return [pytest.param(KERNELS[kernel].load(v.name), id=v.name) for v in cases.variants(kernel)]


def with_nan(*shape, share=0.2):
    """Few different integers, so that there are ties, and NaN here and there."""
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, shape).astype(np.float32)
    x[rng.random(shape) < share] = np.nan
    return x


@pytest.mark.parametrize("relu", variants_of("relu"))
def test_nan_goes_through_relu(relu):
    x = with_nan(2, 3, 17, 19)
    y, grad = np.empty_like(x), np.empty_like(x)
    relu.forward(x, y)
    np.testing.assert_array_equal(y, np.where(np.isnan(x), np.nan, np.where(x > 0, x, 0)))
    upstream = with_nan(2, 3, 17, 19, share=0.1)[::-1].copy()
    relu.backward(upstream, y, grad)
    np.testing.assert_array_equal(grad, np.where(y == 0, 0, upstream))


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("max_pool", variants_of("max_pool2d"))
def test_nan_wins_in_max_pool(max_pool, k):
    x = with_nan(2, 3, 17, 19, share=0.1)
    n, c, h, w = 2, 3, 17 // k, 19 // k
    out, argmax, grad = np.empty((n, c, h, w), np.float32), np.empty((n, c, h, w), np.uint8), np.empty_like(x)
    max_pool.forward(x, k, out, argmax)
    windows = x[:, :, : h * k, : w * k].reshape(n, c, h, k, w, k).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h, w, k * k)
    np.testing.assert_array_equal(argmax, windows.argmax(axis=-1))  # NumPy: the first NaN, else the first maximum
    np.testing.assert_array_equal(out, windows.max(axis=-1))
    assert np.isnan(out).any() and not np.isnan(out).all()
    # A NaN of the gradient reaches the one place where the maximum was.
    upstream = np.full((n, c, h, w), np.nan, np.float32)
    max_pool.backward(upstream, argmax, k, grad)
    assert np.isnan(grad).sum() == upstream.size and np.isin(grad[~np.isnan(grad)], 0).all()


@pytest.mark.parametrize("conv2d", variants_of("conv2d"))
def test_nan_in_convolutions_goes_where_it_is_read_and_no_further(conv2d):
    x, weight = np.ones((2, 3, 11, 23), np.float32), np.ones((5, 3, 3, 3), np.float32)
    out = np.empty((2, 5, 11, 23), np.float32)
    x[1, 2, 4, 20] = np.nan
    conv2d.forward(x, weight, None, 1, False, out)
    expected = np.zeros(out.shape, bool)
    expected[1, :, 3:6, 19:22] = True
    if "winograd" in conv2d.__name__:  # there it goes to the whole tiles that read it
        near = np.zeros(out.shape, bool)
        near[1, :, 0:8, 16:23] = True
        assert np.isnan(out)[expected].all() and not np.isnan(out)[~near].any()
    else:
        np.testing.assert_array_equal(np.isnan(out), expected)
    conv2d.forward(np.ones_like(x), weight, None, 1, False, out)  # nothing is left in a buffer
    assert not np.isnan(out).any()
    weight[3, 1, 1, 1] = np.nan
    conv2d.forward(np.ones_like(x), weight, None, 1, False, out)
    np.testing.assert_array_equal(np.isnan(out).all(axis=(0, 2, 3)), np.arange(5) == 3)
    assert not np.isnan(out[:, [0, 1, 2, 4]]).any()


@pytest.mark.parametrize("cross_entropy", variants_of("cross_entropy"))
def test_cross_entropy_of_extreme_logits(cross_entropy):
    logits = np.zeros((1, 2, 1, 6), np.float32)
    logits[0, 0] = [1e4, -1e4, 1e4, np.nan, np.nan, -np.inf]  # the last: a class that is ruled out
    target = np.array([[[0, 0, 1, 0, -1, 1]]])
    loss, grad = np.empty(target.shape, np.float32), np.empty_like(logits)
    cross_entropy.forward(logits, target, loss)
    np.testing.assert_array_equal(loss, [[[0, 1e4, 1e4, np.nan, 0, 0]]])
    cross_entropy.backward(np.ones_like(loss), logits, target, grad)
    np.testing.assert_array_equal(grad[0, :, 0], [[0, -1, 1, np.nan, 0, 0], [0, 1, -1, np.nan, 0, 0]])
