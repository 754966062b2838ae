"""Drawings of chapter 2: the graph c = a b, d = c + a, L = d c, with its gradients as autograd.py walks them."""

import numpy as np

from minunet import Tensor
from minunet.autograd import topological

from .svg import Drawing, number

PLACES = {"a": (45, 55), "b": (45, 175), "c": (165, 115), "d": (265, 55), "L": (375, 115)}
LABELS = {  # where the share of a gradient is written, beside the middle of its arrow
    ("c", "a"): (-8, 18), ("c", "b"): (-2, 24), ("d", "c"): (-20, -10), ("d", "a"): (0, -14), ("L", "d"): (20, -14),
    ("L", "c"): (0, 16),
}  # fmt: skip


def computed() -> dict[str, Tensor]:
    a, b = (Tensor(np.array(value), requires_grad=True) for value in (2.0, 3.0))
    c = a * b
    d = c + a
    return {"a": a, "b": b, "c": c, "d": d, "L": d * c}


def shares() -> tuple[list[str], dict, dict]:
    """The order of the walk, what each value holds when its turn comes, and what each use sends back."""
    tensors = computed()
    names = {id(t.node or t): name for name, t in tensors.items()}
    order = [names[id(node)] for node in reversed(topological(tensors["L"].node))]
    held, sent = {"L": 1.0}, {}
    for name in order:
        node = tensors[name].node
        for parent, vjp in node.edges if node else ():
            share = float(vjp(np.array(held[name])))
            sent[name, names[id(parent)]] = share
            held[names[id(parent)]] = held.get(names[id(parent)], 0.0) + share
    return order, held, sent


def values() -> str:
    """The graph with values going forward and shares of gradients going back."""
    tensors = computed()
    _, held, sent = shares()
    d = Drawing(420, 215, "The graph of c = a b, d = c + a, L = d c, values forward and gradients backward")
    for (user, used), share in sent.items():
        start, end = np.array(PLACES[used], float), np.array(PLACES[user], float)
        along = (end - start) / np.hypot(*(end - start))
        across = 5 * np.array([-along[1], along[0]])
        d.arrow(start + 26 * along - across, end - 26 * along - across, "up")
        d.arrow(end - 26 * along + across, start + 26 * along + across, "down")
        x, y = (start + end) / 2 + LABELS[user, used]
        d.text(x, y, number(share), "down small strong")
    for name, (x, y) in PLACES.items():
        d.box(x - 24, y - 17, 48, 34)
        d.text(x, y, f"{name} = {number(tensors[name].item())}", "up")
        d.text(x, y + 29 if name in "bcL" else y - 29, f"dL/d{name} = {number(held[name])}", "down small")
    return d.svg()


def turns() -> str:
    """A row for each turn of the walk: what each value has been sent by then."""
    order, _, sent = shares()
    names = ["L", "d", "c", "a", "b"]
    d = Drawing(408, 48 + 36 * len(order), "The walk turn by turn: gradients collected so far")
    for k, name in enumerate(names):
        d.text(125 + 62 * k, 20, f"dL/d{name}", "small")
    collected = {"L": 1.0}
    for row, name in enumerate(order):
        y = 52 + 36 * row
        d.text(44, y, f"turn of {name}", "small")
        for k, column in enumerate(names):
            x = 94 + 62 * k
            d.box(x, y - 16, 62, 32, "cell")
            if column in collected:
                d.text(x + 31, y, number(collected[column]), "strong" if column == name else "")
        for (user, used), share in sent.items():
            if user == name:
                collected[used] = collected.get(used, 0.0) + share
        d.box(94 + 62 * names.index(name), y - 16, 62, 32, "mark")
    return d.svg()
