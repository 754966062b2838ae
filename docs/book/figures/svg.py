"""Small drawings as SVG text: grids of numbers, boxes, arrows, curves.

Lengths are in pixels of a picture that should be at most 420 wide, so that it can be read on a phone.  Colours are
classes of docs/static/book.css: "up" and "down" (blue and orange, told apart by the colour-blind) for positive and
negative numbers.
"""

from html import escape
from itertools import pairwise

import numpy as np


class Drawing:
    """A picture that is drawn piece by piece.   title: what it shows, for those who cannot see it."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def svg(self) -> str:
        """The whole picture as one element of a page."""
        size = f'viewBox="0 0 {number(self.width)} {number(self.height)}" style="max-width: {number(self.width)}px"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(self.title)}" {size}>'
        return "\n".join([head, *self.parts, "</svg>"])

    def text(self, x: float, y: float, text: str, look: str = "") -> None:
        """A line of text, centred at (x, y); look: "start", "end", "small", "faint", "strong", "up", "down"."""
        self.parts.append(f'<text x="{number(x)}" y="{number(y)}" class="{look}">{escape(text)}</text>')

    def box(self, x: float, y: float, width: float, height: float, look: str = "cell", opacity: float = 1) -> None:
        """A rectangle; look: "cell" (its outline), "mark" (a strong one), "up", "down" (filled, see `opacity`)."""
        place = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
        fade = f' fill-opacity="{number(opacity)}"' if opacity < 1 else ""
        self.parts.append(f'<rect {place} class="{look}"{fade}/>')

    def curve(self, points: list, look: str = "line") -> None:
        """A line through points (x, y); look: "line", "up-line", "down-line"."""
        path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" class="{look}"/>')

    def arrow(self, start: tuple, end: tuple, look: str = "") -> None:
        """From one point to another; look: "", "up" or "down"."""
        start, end = np.array(start, float), np.array(end, float)
        along = (end - start) / np.hypot(*(end - start))
        across = np.array([-along[1], along[0]])
        foot = end - 9 * along
        prefix = f"{look}-" if look else ""
        self.curve([start, foot], f"{prefix}line")
        corners = " ".join(f"{number(x)},{number(y)}" for x, y in (end, foot + 4 * across, foot - 4 * across))
        self.parts.append(f'<polygon points="{corners}" class="{prefix}head"/>')

    def grid(self, x: float, y: float, values: np.ndarray, cell: float = 36, title: str = "", digits: int = 4) -> None:
        """A matrix of numbers, coloured by sign and size, its upper left corner at (x, y), its title above it."""
        values = np.asarray(values, float)
        largest = np.abs(values).max() or 1
        if title:
            self.text(x + cell * values.shape[1] / 2, y - 12, title, "small")
        for (row, column), value in np.ndenumerate(values):
            left, top = x + column * cell, y + row * cell
            self.box(left, top, cell, cell, "up" if value > 0 else "down", 0.55 * abs(value) / largest)
            self.box(left, top, cell, cell)
            self.text(left + cell / 2, top + cell / 2, number(value, digits), "" if cell > 30 else "small")

    def outline(self, x: float, y: float, rows: slice, columns: slice, cell: float = 36) -> None:
        """A strong frame around some rows and columns of a grid at (x, y)."""
        width, height = columns.stop - columns.start, rows.stop - rows.start
        self.box(x + columns.start * cell, y + rows.start * cell, width * cell, height * cell, "mark")


class Axes:
    """A place in a drawing for curves: x and y are the ranges shown there."""

    def __init__(self, drawing: Drawing, place: tuple, x: tuple, y: tuple) -> None:
        self.drawing, self.place, self.x, self.y = drawing, place, x, y
        left, top, width, height = place
        drawing.curve([(left, top), (left, top + height), (left + width, top + height)])

    def at(self, x: float, y: float) -> tuple:
        """Where the point (x, y) is in the drawing."""
        left, top, width, height = self.place
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return left + across * width, top + (1 - up) * height

    def plot(self, xs: np.ndarray, ys: np.ndarray, look: str = "up-line") -> None:
        """The curve through (xs, ys); what lies outside of the range is left out."""
        inside = [(x, y) for x, y in zip(xs, ys, strict=True) if self.y[0] <= y <= self.y[1]]
        self.drawing.curve([self.at(x, y) for x, y in inside], look)

    def ticks(self, xs: list, ys: list, format_x=str, format_y=str) -> None:
        """Numbers along both axes."""
        for x in xs:
            px, py = self.at(x, self.y[0])
            self.drawing.curve([(px, py), (px, py + 5)])
            self.drawing.text(px, py + 16, format_x(x), "small")
        for y in ys:
            px, py = self.at(self.x[0], y)
            self.drawing.curve([(px, py), (px - 5, py)])
            self.drawing.text(px - 9, py, format_y(y), "small end")

    def point(self, x: float, y: float, look: str = "up") -> None:
        """A dot."""
        px, py = self.at(x, y)
        self.drawing.parts.append(f'<circle cx="{number(px)}" cy="{number(py)}" r="5" class="{look}"/>')


def number(value: float, digits: int = 4) -> str:
    """A number as short as it can be with at most so many digits behind the point, the same on every machine."""
    text = f"{float(value):.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def chain(drawing: Drawing, points: list, look: str = "") -> None:
    """Arrows from each point to the next."""
    for start, end in pairwise(points):
        drawing.arrow(start, end, look)
