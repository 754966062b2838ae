"""Winograd's short convolutions: the arithmetic of F(2x2, 3x3) and F(4x4, 3x3), apart from any loop.

Two polynomials can be multiplied by evaluating both at some points, multiplying value by value, and interpolating.  A
row of m outputs of a 3-tap correlation costs 3 m multiplications; done at m + 2 points it costs m + 2.  In two
dimensions, rows first and columns then, a tile of m x m outputs costs (m + 2)^2 instead of 9 m^2: 16 instead of
36 for m = 2, 36 instead of 144 for m = 4.  For a tile x of the picture, weights w and output y (Lavin and Gray, 2016)

    U = G w G^T             weights at the points,                 3 x 3 -> p x p,       p = m + 2
    V = B^T x B             picture at the points,                 p x p -> p x p
    M[o] = sum_c U[o,c] V[c]    value by value: for each of the p p values a matrix product over the channels
    y = A^T M A             outputs from the values,               p x p -> m x m

The map from (x, w) to y is bilinear, so its derivatives are the same matrices, transposed:

    dL/dw:   dU = sum over tiles of  (A g A^T) V,    dw = G^T dU G
    dL/dx:   again a 3 x 3 correlation (functional.py), with the kernel turned by 180 degrees

The points are 0, 1, -1, infinity for m = 2 and 0, 1, -1, 2, -2, infinity for m = 4.  All numbers in the transforms are
small binary fractions but for G of m = 4, which has 1/6, 1/12 and 1/24.  In float32, results of m = 4 differ from the
direct sum by more roundings: how many is stated in `cases.py`, and tested.

Each transform below takes a list of numbers along one axis and gives a list.  The numbers are whatever has + - *:
Python's, NumPy arrays, or vector registers in machine code (`simd.Vector`), so that there is one text for all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Line = Sequence[Any]


@dataclass(frozen=True)
class Algorithm:
    """F(m x m, 3 x 3): m outputs a side from p = m + 2 inputs, and the transforms along one axis.

    weight: G, 3 -> p.  picture: B^T, p -> p.  output: A^T, p -> m.  gradient: A, m -> p.  weight_gradient: G^T, p -> 3.
    """

    m: int
    weight: Callable[[Line], list]
    picture: Callable[[Line], list]
    output: Callable[[Line], list]
    gradient: Callable[[Line], list]
    weight_gradient: Callable[[Line], list]

    @property
    def p(self) -> int:
        """Points along one axis."""
        return self.m + 2

    @property
    def points(self) -> int:
        """Points of a tile, that is multiplications for one channel and one output channel."""
        return self.p**2


def both_axes(transform: Callable[[Line], list], tile: Sequence[Line]) -> list[list]:
    """T tile T^T: the transform along the columns, then along the rows; tile[i][j] is row i, column j."""
    columns = [transform(column) for column in zip(*tile, strict=True)]
    return [transform(row) for row in zip(*columns, strict=True)]


def matrix(transform: Callable[[Line], list], size: int) -> np.ndarray:
    """The matrix of a transform of `size` numbers, in float64."""
    return np.array(transform(list(np.eye(size))))


def matrix_2d(transform: Callable[[Line], list], size: int) -> np.ndarray:
    """The matrix of `both_axes`, tiles being written as vectors row after row."""
    once = matrix(transform, size)
    return np.kron(once, once)


# ------------------------------------------------------------------------------------ m = 2, points 0, 1, -1, infinity


def _weight_2(g):
    even, odd = (g[0] + g[2]) * 0.5, g[1] * 0.5
    return [g[0], even + odd, even - odd, g[2]]


def _picture_2(d):
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _output_2(m):
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _gradient_2(y):
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _weight_gradient_2(u):
    even, odd = (u[1] + u[2]) * 0.5, (u[1] - u[2]) * 0.5
    return [u[0] + even, odd, even + u[3]]


F2 = Algorithm(2, _weight_2, _picture_2, _output_2, _gradient_2, _weight_gradient_2)

# ----------------------------------------------------------------------------- m = 4, points 0, 1, -1, 2, -2, infinity


def _weight_4(g):
    # Sums first, then one product each: sums of multiples of 9 are so divided without a rounding.
    near, far, far_odd = g[0] + g[2], g[0] + g[2] * 4.0, g[1] * 2.0
    return [
        g[0] * (1 / 4),
        (near + g[1]) * (-1 / 6),
        (near - g[1]) * (-1 / 6),
        (far + far_odd) * (1 / 24),
        (far - far_odd) * (1 / 24),
        g[2],
    ]


def _picture_4(d):
    near, near_odd = d[4] - d[2] * 4.0, d[3] - d[1] * 4.0
    far, far_odd = d[4] - d[2], (d[3] - d[1]) * 2.0
    return [
        d[0] * 4.0 - d[2] * 5.0 + d[4],
        near + near_odd,
        near - near_odd,
        far + far_odd,
        far - far_odd,
        d[1] * 4.0 - d[3] * 5.0 + d[5],
    ]


def _output_4(m):
    near, near_odd = m[1] + m[2], m[1] - m[2]
    far, far_odd = m[3] + m[4], m[3] - m[4]
    return [m[0] + near + far, near_odd + far_odd * 2.0, near + far * 4.0, near_odd + far_odd * 8.0 + m[5]]


def _gradient_4(y):
    near, near_odd = y[0] + y[2], y[1] + y[3]
    far, far_odd = y[0] + y[2] * 4.0, (y[1] + y[3] * 4.0) * 2.0
    return [y[0], near + near_odd, near - near_odd, far + far_odd, far - far_odd, y[3]]


def _weight_gradient_4(u):
    near, near_odd = (u[1] + u[2]) * (1 / 6), (u[2] - u[1]) * (1 / 6)
    far, far_odd = u[3] + u[4], u[3] - u[4]
    return [
        u[0] * 0.25 - near + far * (1 / 24),
        near_odd + far_odd * (1 / 12),
        far * (1 / 6) - near + u[5],
    ]


F4 = Algorithm(4, _weight_4, _picture_4, _output_4, _gradient_4, _weight_gradient_4)
