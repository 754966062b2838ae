"""A trace as a table: a row for each operation, and one for each of its inputs that no operation made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from minunet.display.tables import Table

if TYPE_CHECKING:
    from minunet.display.trace import Operand, Operation, Trace

HEAD = ("layer", "operation", "result", "dtype", "line", "kB", "ms", "norm", "ms back", "gradient")
LEFT = 5


def table(trace: Trace) -> Table:
    """The operations in their order, and the sums of time; bytes and norms are not summed, they overlap."""
    rows = [row for operation in trace.operations for row in _rows(operation)]
    forward = sum(operation.seconds for operation in trace.operations)
    backward = sum(operation.backward_seconds or 0.0 for operation in trace.operations)
    total = ("total", "", "", "", "", "", _ms(forward), "", _ms(backward), "")
    return Table(HEAD, [rows, [total]], _title(trace), LEFT)


def _title(trace: Trace) -> str:
    found = trace.first_nonfinite
    return f"{len(trace.operations)} operations; " + ("all values are finite" if found is None else str(found))


def _rows(operation: Operation) -> list[tuple[str, ...]]:
    own = (
        operation.layer or "-", operation.name, shape_text(operation.shape), str(operation.dtype),
        short_line(operation.line), _kilobytes(operation.bytes), _ms(operation.seconds), number_text(operation.norm),
        "" if operation.backward_seconds is None else _ms(operation.backward_seconds),
        number_text(operation.gradient),
    )  # fmt: skip
    return [own, *(_operand_row(operand) for operand in operation.operands if _is_shown(operand))]


def _is_shown(operand: Operand) -> bool:
    """Constants of a formula, as the 2 in 2 x, would only be in the way."""
    return operand.source is None and (bool(operand.name) or len(operand.shape) > 0)


def _operand_row(operand: Operand) -> tuple[str, ...]:
    name = operand.name.rpartition(".")[2] or "input"
    place = (shape_text(operand.shape), str(np.dtype(operand.dtype)), "", _kilobytes(operand.bytes), "")
    return (f"  {name}", "", *place, number_text(operand.norm), "", number_text(operand.gradient))


def shape_text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "number"


def short_line(line: str) -> str:
    """The line without the folder of its file."""
    return os.path.basename(line)


def number_text(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}"


def _kilobytes(count: int) -> str:
    return f"{count / 1e3:,.1f}"
