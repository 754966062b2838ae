"""Where the output of every layer lies in the arena, and in which order its rows are computed.

The unit of work is one row of one layer's output.  The layers are cut into groups; one group is finished before the
next begins, and within a group always the last layer runs whose next row can be computed.  So a plan's order is told by
its groups:

* "default": each layer is a group.  Every output is whole, and its memory is free after the last layer that reads it.
* "low": what is read inside of a group only is needed a few rows at a time, so it is a ring: row r lies at row r modulo
  the rows kept, and how many are kept is found by playing the schedule through.  Ways are tried, and the smallest
  counts.  Either each double convolution with what feeds it (pooling, up-convolution) is a group; the last layer of a
  decoder's block then writes its row r over row r of the skip, which is dead by then.  Or the whole network is one
  group: then the skips are rings too, which is less as soon as the image is higher than what the bottleneck sees.
  Or it is the default: tiny images are no higher than the rings.

Nothing is computed twice, in any plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .network import DOUBLE, POOL, RESIZE, UP, WRITE, Layer, Network

MEMORY = ("default", "low")


@dataclass(frozen=True)
class Place:
    """The rows of an output in the arena, in its units (see `plan`): the first at `start`, `stride` apart."""

    start: int
    stride: int
    rows: int


@dataclass(frozen=True)
class Plan:
    """Where each group ends (the layer after its last), the place of each layer's output, the units of the arena."""

    ends: tuple[int, ...]
    places: tuple[Place, ...]
    numbers: int


@dataclass
class _Room:
    """Memory that one output, or one and another written over it, take from the first to the last group."""

    numbers: int
    stride: int
    first: int
    last: int
    start: int = 0


def plan(network: Network, memory: str, of_logit: int = 1) -> Plan:
    """The plan of this name, one of MEMORY.

    A number takes one unit of the arena: 4 bytes in float32, 1 in int8.  of_logit: what a logit takes, 4 in int8, whose
    last sums stay 32 bits wide; then the last convolution and what hands its rows over are one group in any plan.
    """
    count = len(network)
    units = [layer.width * layer.channels for layer in network]
    units[count - 2] *= of_logit
    joined = count - 1 if of_logit > 1 else count
    layers = [*range(1, joined), count]
    if memory == "default":
        return _planned(network, layers, units)
    blocks = [i for i, layer in enumerate(network) if layer.begins][1:]
    ways = [*blocks, count], [count], layers
    return min((_planned(network, ends, units) for ends in ways), key=lambda plan: plan.numbers)


def _planned(network: Network, ends: Sequence[int], units: Sequence[int]) -> Plan:
    """The plan of these groups; units: of a row of each layer's output."""
    groups = [range(*pair) for pair in pairwise([0, *ends])]
    group_of = {i: number for number, group in enumerate(groups) for i in group}
    kept = _rows_kept(network, groups)
    rooms: list[_Room] = []
    for i, layer in enumerate(network):
        first = group_of[i]
        last = max((group_of[j] for j in _readers(network, i)), default=first)
        over = layer.over
        if over is not None and _may_overwrite(network, groups[first], kept, i, over):
            rooms[over].last = last
            rooms.append(rooms[over])
        else:
            rooms.append(_Room(kept[i] * units[i], units[i], first, last))
    numbers = _arrange(list({id(room): room for room in rooms}.values()))
    places = tuple(Place(room.start, room.stride, rows) for room, rows in zip(rooms, kept, strict=True))
    return Plan(tuple(ends), places, numbers)


def _readers(network: Network, source: int) -> list[int]:
    return [i for i, layer in enumerate(network) if source in layer.sources]


def rows_read(layer: Layer, source: Layer, row: int) -> tuple[int, int]:
    """First and last row of the source that a row of the layer is made of."""
    if layer.kind == WRITE:
        return row, row
    if layer.kind == POOL:
        return 2 * row, 2 * row + 1
    if layer.kind == UP:
        return row // 2, row // 2
    if layer.kind == RESIZE:  # at (row + 1/2) in / out - 1/2, as a fraction
        place = max((2 * row + 1) * source.height - layer.height, 0)
        low, rest = divmod(place, 2 * layer.height)
        return low, min(low + (rest > 0), source.height - 1)
    if layer.kind == DOUBLE:  # at row (in - 1) / (out - 1)
        low, rest = divmod(row * (source.height - 1), layer.height - 1)
        return low, low + (rest > 0)
    kernel = layer.weight.shape[-1]
    # The windows lie in the middle of the source; of one that lacks a row as if it had it: rounded as in C, to zero.
    first = row + int((source.height - layer.height - kernel + 1) / 2)
    return max(first, 0), min(first + kernel, source.height) - 1


def schedule(network: Network, group: range) -> Iterator[tuple[int, int]]:
    """(layer, row) in the order of computation within a group: what the C code does, step by step."""
    done = dict.fromkeys(group, 0)

    def ready(i: int) -> bool:
        layer = network[i]
        inside = [source for source in layer.sources if source in done]
        return done[i] < layer.height and all(rows_read(layer, network[s], done[i])[1] < done[s] for s in inside)

    while done[group[-1]] < network[group[-1]].height:
        i = next(i for i in reversed(group) if ready(i))
        yield i, done[i]
        done[i] += 1


def _rows_kept(network: Network, groups: Sequence[range]) -> list[int]:
    """How many rows of each output must be kept at a time: all, where a later group reads it."""
    kept = [layer.height if _readers(network, i) else 0 for i, layer in enumerate(network)]
    for group in groups:
        readers = {i: _readers(network, i) for i in group}
        most = {i: 0 for i in group if readers[i] and max(readers[i]) in group}
        done = dict.fromkeys(group, 0)
        for i, row in schedule(network, group):
            done[i] = row + 1
            if i in most:
                oldest = min(_oldest_needed(network, j, i, done[j]) for j in readers[i])
                most[i] = max(most[i], row + 1 - oldest)
        for i, rows in most.items():
            kept[i] = rows
    return kept


def _oldest_needed(network: Network, reader: int, source: int, row: int) -> int:
    """The first row of the source that the reader, about to compute this row, will still read."""
    done = row == network[reader].height
    return network[source].height if done else rows_read(network[reader], network[source], row)[0]


def _may_overwrite(network: Network, group: range, kept: Sequence[int], writer: int, over: int) -> bool:
    """Whether, in this group, each row of a whole skip is dead when the writer writes its own row there, and fits."""
    readers = [i for i in _readers(network, over) if i in group]
    own, skip = network[writer], network[over]
    whole = kept[writer] == own.height and kept[over] == skip.height
    if not readers or not whole or own.width * own.channels > skip.width * skip.channels:
        return False
    done = dict.fromkeys(group, 0)
    for i, row in schedule(network, group):
        done[i] = row + 1
        if i == writer and any(_oldest_needed(network, j, over, done[j]) <= row for j in readers):
            return False
    return True


def _arrange(rooms: Sequence[_Room]) -> int:
    """Give every room its start; the numbers that all of them take.

    Rooms that are in use at the same time must not overlap.  One after the other goes to the lowest gap that fits; of
    some orders, in which large or long-lived ones come early, the best counts.
    """
    orders = (
        lambda room: (-room.numbers, room.first),
        lambda room: (room.first, -room.numbers),
        lambda room: (room.first - room.last, -room.numbers),
        lambda room: (-room.numbers * (1 + room.last - room.first), room.first),
    )
    found = [_one_by_one(rooms, sorted(rooms, key=order)) for order in orders]
    numbers, starts = min(found, key=lambda outcome: outcome[0])
    for room, start in zip(rooms, starts, strict=True):
        room.start = start
    return numbers


def _one_by_one(rooms: Sequence[_Room], order: Sequence[_Room]) -> tuple[int, list[int]]:
    """The numbers taken, and the start of each of `rooms`, where they are placed in this order."""
    placed: list[_Room] = []
    for room in order:
        room.start = 0
        for other in sorted(placed, key=lambda other: other.start):
            together = other.first <= room.last and room.first <= other.last
            if together and room.start + room.numbers > other.start:
                room.start = max(room.start, other.start + other.numbers)
        placed.append(room)
    return max(room.start + room.numbers for room in rooms), [room.start for room in rooms]
