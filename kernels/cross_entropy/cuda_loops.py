"""Softmax cross entropy, a thread a pixel (CUDA)."""

from ..cuda import Source, loops, picture, writable_picture

SOURCE = Source(__file__)


def forward(logits, target, out):
    """As reference.forward; the loss is NaN where a target is none of the classes."""
    z, classes = picture(logits), logits.shape[1]
    with loops.writable_contiguous(out) as loss:
        SOURCE.launch(
            "forward", logits.dtype, *grid(target), z, loops.sides(logits.shape, z), target.size, classes,
            loops.contiguous(target), loss,
        )  # fmt: skip


def backward(grad, logits, target, out):
    """As reference.backward; the gradient is NaN where a target is none of the classes."""
    upstream, z, classes = loops.contiguous(grad), picture(logits), logits.shape[1]
    with writable_picture(out) as gz:
        SOURCE.launch(
            "backward", logits.dtype, *grid(target), upstream, z, gz, loops.sides(logits.shape, z, gz), target.size,
            classes, loops.contiguous(target),
        )  # fmt: skip


def grid(target):
    """(grid, block) with a thread a pixel."""
    return loops.share(target.size, loops.THREADS, loops.MOST_BLOCKS), loops.THREADS
