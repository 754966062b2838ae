"""A trace as a picture: operations from left to right in time, a level down where the picture is halved.

For a U-Net that is the U, with its skips as arcs.  Plain SVG without scripts; it brings its own background and its
colours for light and for dark surroundings.  Colour never says anything alone: every bar has its operation's name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from minunet.display.trace_table import number_text, shape_text, short_line

if TYPE_CHECKING:
    from minunet.display.trace import Nonfinite, Operation, Trace

# Tints of the colours of Okabe and Ito (2008), which the colour-blind can tell apart; dark text reads on all of them.
KINDS = {
    "convolution": ("#9ecbea", ("conv2d", "conv2d_relu")),
    "batch norm": ("#d3e9f8", ("batch_norm", "batch_norm_relu")),
    "relu, dropout": ("#d9d9d9", ("relu", "dropout")),
    "halving": ("#f5b08c", ("max_pool2d",)),
    "doubling": ("#8fd9bd", ("conv_transpose2d", "resize")),
    "crop, join": ("#f8d98e", ("center_crop", "concat")),
    "other": ("#e6bfd7", ()),
}
BAR, STEP = 18, 30  # width of a bar, and from one to the next
TALL, LEVEL = 104, 170  # height of a bar, and from one level to the next
LEFT, TOP, BOTTOM = 24, 62, 40
RISE, LANE, LANES = 10, 8, 3  # the lowest arc above the bars, from one to the next, how many are told apart
LETTER = 6.2  # width of a letter, about

STYLE = """
.mn-trace{font:11px system-ui,sans-serif;max-width:none}
.mn-trace .paper{fill:#ffffff}.mn-trace .ink{fill:#1f2328}.mn-trace .on{fill:#111111;font-size:10px}
.mn-trace .way{fill:none;stroke:#57606a;stroke-width:1.3}.mn-trace .tip{fill:#57606a}
.mn-trace .bar{stroke:#57606a;stroke-width:.6}
.mn-trace .bad{stroke:#cf222e;stroke-width:3}.mn-trace .alarm{fill:#cf222e}
@media(prefers-color-scheme:dark){
.mn-trace .paper{fill:#14171c}.mn-trace .ink{fill:#e6edf3}.mn-trace .way{stroke:#9aa4af}.mn-trace .tip{fill:#9aa4af}
.mn-trace .bar{stroke:#14171c}.mn-trace .bad{stroke:#ff7b72}.mn-trace .alarm{fill:#ff7b72}}
"""


@dataclass(frozen=True)
class _Bar:
    """Where an operation is drawn: the left edge, the top, and its level (0: nothing is halved)."""

    operation: Operation
    level: int

    @property
    def x(self) -> int:
        return LEFT + self.operation.number * STEP

    @property
    def y(self) -> int:
        return TOP + self.level * LEVEL


def svg(trace: Trace) -> str:
    """The picture as the text of an <svg> element, to be shown in a page or written to a file."""
    bars = [_Bar(*each) for each in zip(trace.operations, levels(trace.operations), strict=True)]
    depth = max((bar.level for bar in bars), default=0)
    legend = _legend([bar.operation for bar in bars], TOP + (depth + 1) * LEVEL - 14)
    width = max(LEFT * 2 + len(bars) * STEP, 420, *(right for _, right in legend), _title_width(trace))
    height = TOP + (depth + 1) * LEVEL + BOTTOM - 30
    found = trace.first_nonfinite
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="mn-trace" role="img" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}">',
        f"<title>{escape(_title(trace))}</title><desc>{escape(_description(trace, depth))}</desc>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
        f'<text class="{"ink" if found is None else "alarm"}" x="{LEFT}" y="20">{escape(_title(trace))}</text>',
        *_ways(bars),
        *(_bar(bar, found, _begins_run(bars, number)) for number, bar in enumerate(bars)),
        *(text for text, _ in legend),
        "</svg>",
    ]  # fmt: skip
    return "\n".join(parts)


def levels(operations: list[Operation]) -> list[int]:
    """How often the picture that an operation makes has been halved, counted along the way that made it."""
    found: list[int] = []
    for operation in operations:
        came = [found[operand.source] for operand in operation.operands if operand.source is not None]
        level = min(came, default=0) + _descent(operation)
        found.append(max(0, level))
    return found


def _descent(operation: Operation) -> int:
    """1 where an operation makes the picture at least half as large again smaller, -1 where larger, else 0.

    Only pooling and enlarging count: a crop, or a convolution without padding, stays on its level.
    """
    if operation.name == "max_pool2d":
        return 1
    if operation.name not in ("conv_transpose2d", "resize"):
        return 0
    before, after = operation.operands[0].shape[-1], operation.shape[-1]
    return -1 if after >= 1.5 * before else 0


def _begins_run(bars: list[_Bar], number: int) -> bool:
    """Whether the operation is the first of its level, or the first since another level."""
    return number == 0 or bars[number - 1].level != bars[number].level


def _bar(bar: _Bar, found: Nonfinite | None, is_first: bool) -> str:
    """A bar with its operation, its channels and, at the beginning of a level, the size of its picture."""
    operation, middle = bar.operation, bar.x + BAR / 2
    is_bad = found is not None and found.operation is operation
    labels: list[str] = []
    if len(operation.shape) == 4:
        labels.append(f'<text class="ink" x="{middle}" y="{bar.y + TALL + 13}" text-anchor="middle">'
                      f"{operation.shape[1]}</text>")  # fmt: skip
        if is_first and not is_bad:
            size = "×".join(map(str, operation.shape[2:]))
            labels.append(f'<text class="ink" x="{bar.x}" y="{bar.y + TALL + 27}">{size}</text>')
    if is_bad and found is not None:
        word = "NaN" if found.found == "NaN" else "Inf"
        labels.append(f'<text class="alarm" x="{middle}" y="{bar.y + TALL + 27}" text-anchor="middle">{word}</text>')
    name = _fitted(operation.name)
    return (
        f"<g><title>{escape(_tooltip(operation))}</title>"
        f'<rect class="bar{" bad" * is_bad}" x="{bar.x}" y="{bar.y}" width="{BAR}" height="{TALL}" rx="3"'
        f' fill="{_colour(operation)}"/>'
        f'<text class="on" transform="translate({middle + 3.5} {bar.y + TALL - 5}) rotate(-90)">{escape(name)}</text>'
        f"{''.join(labels)}</g>"
    )


def _fitted(name: str) -> str:
    most = int((TALL - 8) / LETTER * 1.2)
    return name if len(name) <= most else name[: most - 1] + "…"


def _ways(bars: list[_Bar]) -> list[str]:
    """From every bar to those that take its result; arcs of one level that would lie on each other in lanes."""
    drawn: list[str] = []
    lanes: dict[int, list[list[tuple[int, int]]]] = {}  # level -> lane -> from and to of its arcs
    for end in bars:
        for source in sorted({o.source for o in end.operation.operands if o.source is not None}):
            start = bars[source]
            if start.level != end.level or source == end.operation.number - 1:
                drawn.append(_straight(start, end))
                continue
            lane = _free_lane(lanes.setdefault(end.level, [[] for _ in range(LANES)]), source, end.operation.number)
            drawn.append(_arc(start, end, RISE + LANE * lane))
    return drawn


def _free_lane(lanes: list[list[tuple[int, int]]], start: int, end: int) -> int:
    """The lowest lane with room between two bars, which is then taken; the highest where all are full."""
    lane = next((n for n, arcs in enumerate(lanes) if all(end <= a or b <= start for a, b in arcs)), LANES - 1)
    lanes[lane].append((start, end))
    return lane


def _straight(start: _Bar, end: _Bar) -> str:
    """To a neighbour, or around one corner to another level."""
    x, y, to = start.x + BAR, start.y + TALL / 2, end.x + BAR / 2
    if start.level == end.level:
        return _line(f"M{x} {y}H{end.x - 4}", end.x, y, "right")
    if start.level < end.level:
        return _line(f"M{x} {y}H{to}V{end.y - 5}", to, end.y, "down")
    return _line(f"M{x} {y}H{to}V{end.y + TALL + 34}", to, end.y + TALL + 29, "up")


def _arc(start: _Bar, end: _Bar, rise: int) -> str:
    x, to, y = start.x + BAR / 2, end.x + BAR / 2, start.y - rise
    return _line(f"M{x} {start.y}V{y + 6}q0 -6 6 -6H{to - 6}q6 0 6 6V{end.y - 5}", to, end.y, "down")


def _line(path: str, x: float, y: float, direction: str) -> str:
    """A path with its tip at (x, y)."""
    tips = {"right": "-6 -3.5v7z", "down": "-3.5 -6h7z", "up": "-3.5 6h7z"}
    return f'<path class="way" d="{path}"/><path class="tip" d="M{x} {y}l{tips[direction]}"/>'


def _colour(operation: Operation) -> str:
    return KINDS[_kind(operation)][0]


def _kind(operation: Operation) -> str:
    return next((kind for kind, (_, names) in KINDS.items() if operation.name in names), "other")


def _legend(operations: list[Operation], y: int) -> list[tuple[str, int]]:
    """The kinds that occur, from left to right, each with where it ends."""
    there = {_kind(operation) for operation in operations}
    x, entries = LEFT, []
    for kind, (colour, _) in KINDS.items():
        if kind in there:
            width = 18 + math.ceil(len(kind) * LETTER) + 14
            entries.append((
                f'<rect class="bar" x="{x}" y="{y}" width="12" height="12" rx="2" fill="{colour}"/>'
                f'<text class="ink" x="{x + 18}" y="{y + 10}">{kind}</text>', x + width,
            ))  # fmt: skip
            x += width
    return entries


def _title(trace: Trace) -> str:
    found = trace.first_nonfinite
    count = f"{len(trace.operations)} operations"
    if found is None:
        return f"{count}, all values finite"
    layer = f" in {found.operation.layer}" if found.operation.layer else ""
    line = f", {short_line(found.line)}" if found.line else ""
    return f"{count}; the first {found.found}: {found.operation.name}{layer}, {found.direction}{line}"


def _title_width(trace: Trace) -> int:
    return LEFT * 2 + math.ceil(len(_title(trace)) * LETTER)


def _description(trace: Trace, depth: int) -> str:
    """The picture in words, for those who do not see it."""
    kinds: dict[str, int] = {}
    for operation in trace.operations:
        kinds[operation.name] = kinds.get(operation.name, 0) + 1
    count = ", ".join(f"{number} {name}" for name, number in kinds.items())
    return (
        f"The operations of a trace from left to right in time, on {depth + 1} levels: one down where the picture is "
        f"halved, one up where it is enlarged. Lines lead from each to those that take its result. {count}."
    )


def _tooltip(operation: Operation) -> str:
    """All that is known of an operation, a line each."""
    lines = [
        f"{operation.layer}: {operation.name}" if operation.layer else operation.name,
        f"{shape_text(operation.shape)} {operation.dtype}, {operation.bytes:,} bytes",
        f"{operation.seconds * 1e3:.3f} ms, norm {number_text(operation.norm)}",
    ]
    if operation.backward_seconds is not None:
        back = f"{operation.backward_seconds * 1e3:.3f} ms"
        lines.append(f"backward {back}, norm of the gradient {number_text(operation.gradient)}")
    for operand in operation.operands:
        if operand.name:
            gradient = f", gradient {number_text(operand.gradient)}" if operand.gradient is not None else ""
            lines.append(f"{operand.name}: {shape_text(operand.shape)}, norm {number_text(operand.norm)}{gradient}")
    return "\n".join([*lines, *([short_line(operation.line)] if operation.line else [])])
