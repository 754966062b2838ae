"""Drawings of chapter 3: one 3 x 3 convolution of a 4 x 4 picture, forward, as a matrix, and back."""

import numpy as np

import minunet.functional as F

from .svg import Drawing, number

X = np.array([[1, 2, 0, 1], [0, 1, 3, 1], [2, 1, 0, 2], [1, 0, 2, 1]], float)
K = np.array([[0, 1, 2], [1, -1, 0], [2, 0, 1]], float)
G = np.array([[1, 2], [-1, 3]], float)


def forward(x: np.ndarray) -> np.ndarray:
    return F.conv2d(x[None, None], K[None, None]).data[0, 0]


def gather() -> str:
    """The picture with one window, the kernel, the output."""
    d = Drawing(410, 180, "The kernel over the picture at its second place, and the output")
    d.grid(6, 30, X, 36, "picture x")
    d.outline(6, 30, slice(0, 3), slice(1, 4))
    d.text(170, 84, "·")
    d.grid(188, 30, K, 36, "kernel k")
    d.arrow((302, 84), (328, 84))
    d.grid(332, 48, forward(X) + 1, 36, "output y")
    d.outline(332, 48, slice(0, 1), slice(1, 2))
    return d.svg()


def matrix() -> str:
    """The convolution as a 4 x 16 matrix."""
    columns = [forward(unit.reshape(4, 4)).ravel() for unit in np.eye(16)]
    a = np.stack(columns, axis=1)
    d = Drawing(420, 140, "The matrix of the convolution, 4 rows and 16 columns, mostly empty")
    cell = 24
    for row, column in np.argwhere(np.ones_like(a)):
        x, y = 32 + cell * column, 30 + cell * row
        d.box(x, y, cell, cell)
        seen = 0 <= column // 4 - row // 2 < 3 and 0 <= column % 4 - row % 2 < 3
        if seen:
            d.box(x, y, cell, cell, "up" if a[row, column] >= 0 else "down", 0.12 + 0.2 * abs(a[row, column]))
            d.text(x + cell / 2, y + cell / 2, number(a[row, column]), "small")
    for k in range(4):
        d.text(32 + 4 * cell * k + 2 * cell, 18, f"row {k} of x", "small")
        d.curve([(32 + 4 * cell * k, 22), (32 + 4 * cell * k, 30 + 4 * cell)])
        d.text(15, 42 + cell * k, f"y{k // 2}{k % 2}", "small")
    return d.svg()


def patches() -> str:
    """The index map of im2col: which pixel stands where; the pixel (1, 1) is framed."""
    d = Drawing(412, 178, "Index map of im2col: four rows of nine pixels, named by row and column")
    cell = 40
    for k in range(9):
        i, j = divmod(k, 3)
        d.text(66 + cell * k, 18, f"k{i}{j}", "small")
        for row in range(4):
            pixel = (row // 2 + i, row % 2 + j)
            x, y = 46 + cell * k, 30 + 34 * row
            d.box(x, y, cell, 34)
            d.text(x + cell / 2, y + 17, f"x{pixel[0]}{pixel[1]}", "strong" if pixel == (1, 1) else "small")
    for k in range(9):  # frames last, so that nothing lies over them
        for row in range(4):
            if (row // 2 + k // 3, row % 2 + k % 3) == (1, 1):
                d.box(46 + cell * k, 30 + 34 * row, cell, 34, "mark")
    for row in range(4):
        d.text(22, 47 + 34 * row, f"y{row // 2}{row % 2}", "small")
    return d.svg()


def back() -> str:
    """g with zeros around it, the turned kernel over it, and the gradient of the picture."""
    around = np.zeros((6, 6))
    around[2:4, 2:4] = G
    gradient = F.conv2d(G[None, None], K[None, None, ::-1, ::-1], padding=2).data[0, 0]
    d = Drawing(420, 200, "The turned kernel over the gradient of the output gives the gradient of the picture")
    cell = 26
    d.grid(4, 30, around, cell, "g, zeros around it")
    d.outline(4, 30, slice(1, 4), slice(1, 4), cell)
    d.text(174, 108, "·")
    d.grid(186, 69, K[::-1, ::-1], cell, "k, turned")
    d.arrow((270, 108), (300, 108))
    d.grid(306, 56, gradient, cell, "gradient of x")
    d.outline(306, 56, slice(1, 2), slice(1, 2), cell)
    return d.svg()
