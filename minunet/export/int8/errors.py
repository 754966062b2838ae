"""How far each layer's integers are from the float32 that they stand for, over the images to calibrate with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from minunet.export.c.network import CONV, READ, UP, Network
from minunet.export.c.source import KINDS
from minunet.export.int8 import floats, reference
from minunet.export.int8.quantization import Numbers

BATCHES = 4  # that are looked at, of all


def real(values: np.ndarray, numbers: Numbers) -> np.ndarray:
    """The float64 that a layer's bytes, or the last convolution's sums, stand for."""
    if values.dtype == np.uint8:
        return (values.astype(np.float64) - numbers.zero) * numbers.scale
    return values * numbers.step.astype(np.float64)[:, None, None]


def table(network: Network, integers: Sequence[Numbers], batches: Iterable[np.ndarray]) -> list[str]:
    """A line for each layer that computes: its signal-to-noise ratio, 10 log10(sum r^2 / sum (r - integer's)^2) dB, and
    the largest error as a share of its largest value."""
    shown = [i for i, layer in enumerate(network) if layer.kind in (READ, CONV, UP)]
    signal, noise, worst, largest = np.zeros((4, len(network)))
    count = 0
    for x in islice(batches, BATCHES):
        count += len(x)
        pairs = zip(floats.outputs(network, x), reference.outputs(network, integers, x), strict=True)
        for i, (wanted, found) in enumerate(pairs):
            if i not in shown:
                continue
            difference = real(found, integers[i]) - wanted
            signal[i] += np.square(wanted, dtype=np.float64).sum()
            noise[i] += np.square(difference).sum()
            worst[i] = max(worst[i], np.abs(difference).max())
            largest[i] = max(largest[i], np.abs(wanted).max())
    lines = [f"int8 beside float32, on {count} windows of the images to calibrate with:"]
    lines.append("  layer            size   channels   signal/noise   largest error")
    for i in shown:
        layer = network[i]
        size = f"{layer.height}x{layer.width}"
        ratio = f"{10 * np.log10(signal[i] / noise[i]):.1f} dB" if noise[i] and signal[i] else "-"
        share = f"{100 * worst[i] / largest[i]:.1f} %" if largest[i] else "-"
        lines.append(f"  {i:3d} {_name(network, i):8s}{size:>10s}{layer.channels:11d}{ratio:>15s}{share:>16s}")
    return lines


def _name(network: Network, i: int) -> str:
    return "logits" if network[-1].sources == (i,) else KINDS[network[i].kind].lower()
