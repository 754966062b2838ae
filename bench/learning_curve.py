"""How few images are enough, with and without elastic deformation: python bench/learning_curve.py IMAGES LABELS --out F

The recipe for cells is trained on 5, 10 and 30 images and judged by the same held-out images throughout.  A seed sets
the weights, the batches and which images are taken: those of a smaller number are among those of a larger one.  Runs
that the file holds already are not done again.

    python bench/learning_curve.py --out FILE.jsonl --table --plot FILE.png     shows what FILE.jsonl holds
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import runs

from minunet.data import DataError
from minunet.display.pictures import GRID, INK, MUTED
from minunet.errors import UsageError
from minunet.extras import require
from minunet.files import atomic_write

SPLIT = 0  # the seed of the split, one for all runs
WAYS: dict[str, dict[str, Any]] = {"with": {}, "without": {"elastic": 0.0}}  # elastic deformation
LOOKS = {"with": ("#0072b2", "o", "-", 1.04), "without": ("#d55e00", "s", "--", 1 / 1.04)}  # and how far aside
LEGEND = {"loc": "outside lower center", "ncols": 3, "frameon": False, "fontsize": 8.5, "labelcolor": INK}
PANELS = {"iou": "mean IoU of cells (0 to 1)", "ap50": "AP at IoU 0.5 (0 to 1)"}

Curve = dict[int, dict[int, runs.Line]]  # {number of images: {seed: line}}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = runs.parser(__doc__)
    parser.add_argument("--counts", nargs="+", type=runs.positive(int), default=[5, 10, 30], help="training images")
    parser.add_argument("--plot", metavar="FILE.png", help="draw what the file holds in the end")
    asked = parser.parse_args(arguments)
    try:
        results = runs.Results(asked.out)
        failed = 0 if asked.table else runs.do_missing(plan(asked), results, asked.images, asked.labels)
        if asked.table:
            print(tables(results.lines))
        if asked.plot:
            plot(asked.plot, results.lines)
        return 1 if failed else 0
    except (UsageError, DataError) as error:
        parser.error(str(error))


def plan(asked: argparse.Namespace) -> list[runs.Run]:
    """All the runs, seed by seed."""
    dataset = runs.data_of(asked)
    data, there = runs.fingerprint(dataset), len(dataset.split(runs.HELD_OUT, SPLIT)[0])
    if max(asked.counts) > there:
        raise UsageError(f"{max(asked.counts)} training images are asked for, and {there} are there")
    return [
        runs.Run(
            f"{count} images {way} elastic",
            runs.configuration(data, seed, split=SPLIT, images=count, **runs.budget(asked), **changes),
        )
        for seed in range(asked.seeds)
        for count in sorted(set(asked.counts))
        for way, changes in WAYS.items()
    ]


def curves(lines: Sequence[runs.Line]) -> dict[str, Curve]:
    """For each way its runs by number of images, fewest first."""
    found: dict[str, Curve] = {way: {} for way in WAYS}
    for by_seed in runs.by_variant(lines).values():
        known = next(iter(by_seed.values()))["configuration"]
        found["with" if known["training"]["elastic"] > 0 else "without"][known["images"]] = by_seed
    return {way: dict(sorted(curve.items())) for way, curve in found.items()}


def tables(lines: Sequence[runs.Line]) -> str:
    """For each experiment, the scores by number of images, and what elastic deformation adds."""
    texts = []
    for experiment in runs.experiments(lines):
        texts += [f"**{runs.heading(experiment)}**", runs.markdown(rows(experiment), "the same images without it")]
    return "\n\n".join(texts)


def rows(lines: Sequence[runs.Line]) -> list[runs.Row]:
    found = curves(lines)
    return [
        runs.Row(
            f"{count} images, {way} elastic deformation",
            runs.of_seeds(by_seed, "plain"),
            runs.of_seeds(found["without"].get(count, {}), "plain") if way == "with" else None,
            runs.steps_of(by_seed),
        )
        for way in reversed(WAYS)
        for count, by_seed in found[way].items()
    ]


def plot(path: str, lines: Sequence[runs.Line]) -> None:
    """Scores over the number of images: a point a seed, a line through the means; of the file's last experiment."""
    require("matplotlib", extra="train")
    from matplotlib.figure import Figure

    if not lines:
        raise UsageError("there is no run to be drawn yet")
    shown = runs.experiments(lines)[-1]
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    for axis, (score, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
        found = curves(shown)
        for way, curve in found.items():
            _draw_curve(axis, way, curve, score)
        if score == "iou":
            _draw_otsu(axis, shown)
        _dress(axis, sorted(found["with"] | found["without"]), title)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), **LEGEND)
    title = f"Nuclei from few images: {runs.length_of(shown)}, each seed and the mean"
    figure.suptitle(title, color=INK, fontsize=11)
    atomic_write(path, lambda file: figure.savefig(file, format="png"))


def _draw_curve(axis: Any, way: str, curve: Curve, score: str) -> None:
    color, marker, dashes, aside = LOOKS[way]
    values = {count: _values(by_seed, score) for count, by_seed in curve.items()}
    for count, found in values.items():
        axis.plot([count * aside] * len(found), found, marker, color=color, markersize=5, alpha=0.55, mew=0)
    means = [statistics.fmean(found) for found in values.values()]
    label = f"{way} elastic deformation"
    axis.plot(list(values), means, dashes, marker=marker, color=color, linewidth=1.8, markersize=6.5, label=label)


def _values(by_seed: Mapping[int, runs.Line], score: str) -> list[float]:
    return [found[score] for found in runs.of_seeds(by_seed, "plain").values()]


def _draw_otsu(axis: Any, lines: Sequence[runs.Line]) -> None:
    axis.axhline(lines[-1]["results"]["otsu_iou"], color=MUTED, linewidth=1, linestyle=":", label="Otsu's threshold")


def _dress(axis: Any, counts: Sequence[int], title: str) -> None:
    axis.set_xscale("log")
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    axis.set_xlabel("training images (number, logarithmic)", color=INK)
    axis.set_ylabel(title, color=INK)
    axis.grid(color=GRID, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GRID)
    axis.tick_params(colors=MUTED, labelsize=9)


if __name__ == "__main__":
    sys.exit(main())
