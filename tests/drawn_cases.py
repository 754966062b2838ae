"""Cases of generated sizes, for tests of variants: hypothesis draws them."""

from hypothesis import strategies as st

from minunet.kernels import cases

# Around the widths and heights of register tiles (8, 14, 16, 32), the chunks of channels (64, 256) and the
# blocks of columns (96).
CHANNELS = st.sampled_from([1, 2, 3, 5, 7, 8, 9, 13, 14, 15, 16, 17, 24, 31, 32, 33, 40, 63, 64, 65, 255, 256, 257])
SIDES = st.one_of(st.integers(1, 20), st.sampled_from([27, 28, 29, 47, 48, 49, 95, 96, 97, 98, 111, 112, 113, 193]))
IMAGES = st.integers(1, 3)
DTYPES = st.sampled_from(["float32", "float32", "float64"])
LAYOUTS = st.sampled_from(cases.LAYOUTS)
SMALL = 3_000_000  # multiply-adds of a generated convolution, at most about


def fitting(side, least, rest):
    """A side that is at least `least`, cut so that `rest` multiply-adds a unit of it stay SMALL."""
    return max(1, least, min(side, SMALL // rest))


@st.composite
def convolutions(draw):
    n, c, o = draw(IMAGES), draw(CHANNELS), draw(CHANNELS)
    kh, kw = draw(st.sampled_from([(1, 1), (3, 3), (3, 3), (2, 2), (5, 5), (1, 3), (3, 2), (5, 1)]))
    padding = draw(st.integers(0, 3))
    w = fitting(draw(SIDES), kw - 2 * padding, n * c * o * kh * kw)
    h = fitting(draw(SIDES), kh - 2 * padding, n * c * o * kh * kw * w)
    bias, relu = draw(st.integers(0, 1)), draw(st.integers(0, 1))
    sizes = dict(n=n, c=c, o=o, h=h, w=w, kh=kh, kw=kw, padding=padding, bias=bias, relu=relu)
    return cases.Case("conv2d", sizes, draw(DTYPES))


@st.composite
def up_convolutions(draw):
    n, c, o, s = draw(IMAGES), draw(CHANNELS), draw(CHANNELS), draw(st.integers(1, 3))
    w = fitting(draw(SIDES), 1, n * c * o * s * s)
    h = fitting(draw(SIDES), 1, n * c * o * s * s * w)
    sizes = dict(n=n, c=c, o=o, h=h, w=w, s=s, bias=draw(st.integers(0, 1)))
    return cases.Case("conv_transpose2d", sizes, draw(DTYPES))


@st.composite
def others(draw):
    """Cases of the kernels whose work is not sums over channels."""
    kernel = draw(st.sampled_from(["max_pool2d", "relu", "batch_norm", "resize", "cross_entropy", "sgd"]))
    n, c, h, w = draw(IMAGES), draw(st.integers(1, 40)), draw(SIDES), draw(SIDES)
    sizes = dict(n=n, c=c, h=h, w=w)
    if kernel == "max_pool2d":
        k = draw(st.integers(1, 3))
        sizes |= dict(h=max(h, k), w=max(w, k), k=k)
    elif kernel == "resize":
        sizes |= dict(to_h=draw(st.one_of(st.just(2 * h), SIDES)), to_w=draw(st.one_of(st.just(2 * w), SIDES)))
        sizes |= dict(corners=draw(st.integers(0, 1)))
    elif kernel == "cross_entropy":
        sizes = dict(n=n, classes=draw(st.integers(1, 20)), h=h, w=w)
    elif kernel == "batch_norm":
        sizes |= dict(relu=draw(st.integers(0, 1)))
    elif kernel == "sgd":
        sizes = dict(count=c * h * w, decay=draw(st.integers(0, 1)), nesterov=draw(st.integers(0, 1)))
    return cases.Case(kernel, sizes, draw(DTYPES))
