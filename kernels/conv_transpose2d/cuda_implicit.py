"""conv_transpose2d in register tiles on a GPU; the loops are in ../cuda/correlation.py.

Line for line the same as direct.py, the variant for the CPU.
"""

from ..cuda import picture, writable_picture
from ..cuda.correlation import correlate, correlate_weight, scatter


def forward(x, weight, bias, out):
    """As reference.forward."""
    with writable_picture(out) as y:
        scatter(picture(x), weight, bias, y)


def backward_input(grad, weight, out):
    """As reference.backward_input: weight (C, O, s, s) read as C outputs of O inputs."""
    with writable_picture(out) as gx:
        correlate(picture(grad), weight, None, (0, 0), weight.shape[2], False, gx)


def backward_weight(grad, x, out):
    """As reference.backward_weight: here the gradient is the picture and x what is summed against it."""
    correlate_weight(picture(grad), picture(x), (0, 0), out.shape[2], out)
