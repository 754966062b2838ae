"""What each part of the recipe for cells is worth: python bench/ablation.py IMAGES LABELS --out FILE.jsonl

Every variant is trained once a seed, which sets the split, the weights and the batches, so that variants are compared
by pairs.  Each network is scored twice, by plain prediction and averaged over the eight flips and rotations.  Runs that
FILE.jsonl holds already are not done again: start it again after an interruption, or with more seeds.

    python bench/ablation.py --out FILE.jsonl --table     prints what FILE.jsonl holds as Markdown
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import runs

from minunet.data import DataError
from minunet.errors import UsageError


@dataclass(frozen=True)
class Variant:
    """How a variant differs from the recipe: what it learns, and fields of `Recipe`."""

    title: str
    changes: dict[str, Any] = field(default_factory=dict)


BASE = "recipe"
VARIANTS = {
    BASE: Variant("the recipe as it is: three classes, background, cell and border"),
    "with-weight-map": Variant("the recipe with the weight map", {"weight_map": True}),
    "two-classes": Variant(
        "two classes: touching cells parted, weight map", {"target": "instances", "weight_map": True}
    ),
    "no-weight-map": Variant(
        "two classes: touching cells parted, no weight map", {"target": "instances", "weight_map": False}
    ),
    "no-separation": Variant(
        "two classes: touching cells not parted, no weight map", {"target": "foreground", "weight_map": False}
    ),
    "no-elastic": Variant("the recipe without elastic deformation", {"elastic": 0.0}),
    "flips-only": Variant("the recipe with flips and quarter turns alone", {"augment": "flips"}),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = runs.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="NAME", help=f"of {', '.join(VARIANTS)}")
    asked = parser.parse_args(arguments)
    try:
        results = runs.Results(asked.out)
        if asked.table:
            print(tables(results.lines))
            return 0
        return 1 if runs.do_missing(plan(asked), results, asked.images, asked.labels) else 0
    except (UsageError, DataError) as error:
        parser.error(str(error))


def plan(asked: argparse.Namespace) -> list[runs.Run]:
    """All the runs, seed by seed, so that variants can be compared before the last one is done."""
    data = runs.fingerprint(runs.data_of(asked))
    return [
        runs.Run(name, runs.configuration(data, seed, **runs.budget(asked), **VARIANTS[name].changes))
        for seed in range(asked.seeds)
        for name in asked.only or VARIANTS
    ]


def tables(lines: Sequence[runs.Line]) -> str:
    """For each experiment, its variants as they are and averaged, and their differences to the recipe."""
    texts = []
    for experiment in runs.experiments(lines):
        texts += [f"**{runs.heading(experiment)}**", runs.markdown(rows(experiment), "the recipe as it is")]
    return "\n\n".join(texts)


def rows(lines: Sequence[runs.Line]) -> list[runs.Row]:
    found = runs.by_variant(lines)
    base = runs.of_seeds(found.get(BASE, {}), "plain")
    return [
        runs.Row(
            VARIANTS[name].title + more,
            runs.of_seeds(found[name], inference),
            None if (name, inference) == (BASE, "plain") else base,
            runs.steps_of(found[name]),
        )
        for inference, more in runs.INFERENCES.items()
        for name in VARIANTS
        if name in found
    ]


if __name__ == "__main__":
    sys.exit(main())
