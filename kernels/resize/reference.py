"""Bilinear resize, the definition.

Output pixel h looks at the source coordinate  s  and mixes the two neighbouring rows by its fraction; columns
likewise.  Either pixels are areas with half-pixel centres,  s = max(0, (h + 1/2) in / out - 1/2),  or with
align_corners they are points, the outer ones of which fall on each other,  s = h (in - 1) / (out - 1),  0 where
out = 1.  Per axis this is a sparse matrix A (out, in) with at most two weights a row:  y = A_rows x A_columns^T,  and
its adjoint is  A_rows^T g A_columns.
"""

import numpy as np

from ..blas import one_blas_thread


def axis_weights(size_in, size_out, dtype):
    """(low index, high index, weight of the high one) for each output position of one axis."""
    # The coordinate is computed in the array's own precision, as PyTorch does, so that float32 agrees with it.
    scale = np.asarray(size_in, dtype) / np.asarray(size_out, dtype)
    half = np.asarray(0.5, dtype)
    position = np.maximum((np.arange(size_out).astype(dtype) + half) * scale - half, 0)
    return _between(position, size_in, dtype)


def corner_weights(size_in, size_out, dtype):
    """The same with align_corners."""
    scale = np.asarray(size_in - 1, dtype) / np.asarray(max(size_out - 1, 1), dtype)
    return _between(np.arange(size_out).astype(dtype) * scale, size_in, dtype)


def weights_of(align_corners):
    """`corner_weights` or `axis_weights`."""
    return corner_weights if align_corners else axis_weights


def _between(position, size_in, dtype):
    """What `axis_weights` gives, of these source coordinates."""
    low = np.minimum(position.astype(np.int64), size_in - 1)
    high = np.minimum(low + 1, size_in - 1)
    return low, high, (position - low.astype(dtype)).astype(dtype)


def axis_matrix(size_in, size_out, dtype, align_corners):
    """The axis's weights as a dense matrix (out, in)."""
    low, high, t = weights_of(align_corners)(size_in, size_out, dtype)
    matrix = np.zeros((size_out, size_in), dtype)
    rows = np.arange(size_out)
    matrix[rows, low] += 1 - t
    matrix[rows, high] += t
    return matrix


def forward(x, align_corners, out):
    """x (N, C, H, W) -> out (N, C, H', W')."""
    rows = axis_matrix(x.shape[2], out.shape[2], x.dtype, align_corners)
    columns = axis_matrix(x.shape[3], out.shape[3], x.dtype, align_corners)
    with one_blas_thread():  # several cut the product in other places, and round differently
        out[...] = np.einsum("ph,nchw,qw->ncpq", rows, x, columns, optimize=True)


def adjoint(grad, align_corners, out):
    """grad (N, C, H', W') -> out (N, C, H, W)."""
    rows = axis_matrix(out.shape[2], grad.shape[2], grad.dtype, align_corners)
    columns = axis_matrix(out.shape[3], grad.shape[3], grad.dtype, align_corners)
    with one_blas_thread():
        out[...] = np.einsum("ph,ncpq,qw->nchw", rows, grad, columns, optimize=True)
