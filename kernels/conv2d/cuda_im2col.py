"""conv2d as im2col + matrix product (GEMM) on a GPU, the one to learn from; its kernels are in cuda_im2col.cu.

Step for step what im2col.py does: the patches of a tile are written down as the rows of a matrix of columns, and that
is multiplied by the weight matrix.  What differs is what a GPU asks for:

- a tile is 64 MB of columns and not 1 MB, for there are ten thousands of threads to be kept at work;
- it is a number of pixels and not of rows, which lets the kernels count in pixels alone;
- whole patches are always written down, and their zeros outside of the picture come from a test of bounds in `im2col`
  and not from a padded copy (padding may so be negative as well, which crops).

The columns go to memory and come back, 2 kh kw numbers for each one of the picture: cuda_implicit.py does without.
"""

from math import prod

from ..cuda import Source, channels_last, cupy, picture, writable_picture
from ..cuda.arrays import empty

SOURCE = Source(__file__)
BUFFER = 64 << 20  # bytes of the matrix of columns
SHARE = 2048  # pixels that a block sums up for the gradient of the weights
THREADS = 256
SIDE, TILE = 16, 64  # threads and sums along each side of a block of a matrix product


def tiles(pixels, size, itemsize):
    """Pixels to be worked on together, as (first, number); `size` numbers in a row of columns."""
    number = max(1, min(pixels, BUFFER // (size * itemsize)))
    return [(first, min(number, pixels - first)) for first in range(0, pixels, number)]


def blocks(count, each):
    """How many blocks of `each` it takes."""
    return -(-count // each)


def columns_of(x, size, padding, outputs, tile):
    """im2col of the tile's patches of kh x kw = `size` pixels: (pixels, kh kw C).

    padding: zeros above and to the left.  outputs: height and width of the picture that the pixels are counted in.
    """
    c, height, width = x.shape[1:]
    first, number = tile
    columns = empty((number, prod(size) * c), x.dtype)
    SOURCE.launch("im2col", x.dtype, blocks(columns.size, THREADS), THREADS, picture(x), height, width, c, size,
                  padding, outputs, first, columns.size, columns)  # fmt: skip
    return columns


def correlate(x, weight, bias, padding, relu, y, shape):
    """x (N, C, H, W), weight (O, C, kh, kw), bias (O,) or None -> y, a writable picture of `shape` (N, O, H', W')."""
    o, c, kh, kw = weight.shape
    n, _, h, w = shape
    matrix = cupy().ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(-1, o)
    bias = None if bias is None else cupy().ascontiguousarray(bias)
    for tile in tiles(n * h * w, len(matrix), x.itemsize):
        columns = columns_of(x, (kh, kw), padding, (h, w), tile)
        first, number = tile
        SOURCE.launch("gemm", x.dtype, (blocks(number, TILE), blocks(o, TILE)), (SIDE, SIDE), columns, matrix, bias,
                      relu, number, kh * kw * c, o, first, h, w, y)  # fmt: skip


def forward(x, weight, bias, padding, relu, out):
    """As reference.forward."""
    with writable_picture(out) as y:
        correlate(x, weight, bias, (padding, padding), relu, y, out.shape)


def backward_input(grad, weight, padding, out):
    """As reference.backward_input: correlate with the weight turned by 180 degrees, inputs and outputs exchanged."""
    kh, kw = weight.shape[2:]
    turned = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    with writable_picture(out) as gx:
        correlate(grad, turned, None, (kh - 1 - padding, kw - 1 - padding), False, gx, out.shape)


def backward_weight(grad, x, padding, out):
    """As reference.backward_weight: the same columns, transposed, times the gradient.

    Every tile is summed in shares of SHARE pixels, and shares and tiles are added up in their order.
    """
    o, c, kh, kw = out.shape
    n, _, h, w = grad.shape
    size = kh * kw * c
    g = channels_last(grad)
    total = empty((size, o), out.dtype)
    total[...] = 0
    for tile in tiles(n * h * w, size, x.itemsize):
        columns = columns_of(x, (kh, kw), (padding, padding), (h, w), tile)
        first, number = tile
        shares = empty((blocks(number, SHARE), size, o), out.dtype)
        SOURCE.launch("gemm_transposed", x.dtype, (blocks(o, TILE), blocks(size, TILE), len(shares)), (SIDE, SIDE),
                      columns, g, number, size, o, SHARE, first, shares)  # fmt: skip
        SOURCE.launch("add_shares", x.dtype, blocks(total.size, THREADS), THREADS, shares, len(shares), total.size,
                      total)  # fmt: skip
    out[...] = total.reshape(kh, kw, c, o).transpose(3, 2, 0, 1)
