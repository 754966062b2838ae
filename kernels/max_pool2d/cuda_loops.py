"""max_pool2d as loops over windows (CUDA); pictures are read and written as they lie in memory."""

from ..cuda import Source, loops, picture, writable_picture

SOURCE = Source(__file__)


def forward(x, kernel_size, out, argmax):
    """As reference.forward; the usual window of 2 x 2 has a kernel of its own."""
    n, c, height, width = out.shape
    pixels = n * height * width
    with writable_picture(out) as y, writable_picture(argmax) as places:
        grid = loops.pixel_grid(pixels, c, x.dtype)
        arguments = picture(x), y, places, height, width, pixels, c
        if kernel_size == 2:
            SOURCE.launch("forward_2", x.dtype, *grid, *arguments)
        else:
            SOURCE.launch("forward", x.dtype, *grid, *arguments, kernel_size)


def backward(grad, argmax, kernel_size, out):
    """As reference.backward."""
    (n, c, height, width), (rows, columns) = grad.shape, out.shape[2:]
    high, wide = -(-rows // kernel_size), -(-columns // kernel_size)
    windows = n * high * wide
    with writable_picture(out) as gx:
        SOURCE.launch(
            "backward", grad.dtype, *loops.pixel_grid(windows, c, grad.dtype), picture(grad), picture(argmax), gx,
            height, width, high, wide, rows, columns, windows, c, kernel_size,
        )  # fmt: skip
