"""conv2d as an implicit GEMM in register tiles on a GPU; the loops are in ../cuda/correlation.py.

Line for line the same as direct.py, the variant for the CPU.
"""

from ..cuda import picture, writable_picture
from ..cuda.correlation import correlate, correlate_weight


def forward(x, weight, bias, padding, relu, out):
    """As reference.forward."""
    with writable_picture(out) as y:
        correlate(picture(x), weight, bias, (padding, padding), 1, relu, y)


def backward_input(grad, weight, padding, out):
    """As reference.backward_input: correlate with the weight turned by 180 degrees, inputs and outputs exchanged."""
    kh, kw = weight.shape[2:]
    turned = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    with writable_picture(out) as gx:
        correlate(picture(grad), turned, None, (kh - 1 - padding, kw - 1 - padding), 1, False, gx)


def backward_weight(grad, x, padding, out):
    """As reference.backward_weight."""
    correlate_weight(picture(x), picture(grad), (padding, padding), 1, out)
