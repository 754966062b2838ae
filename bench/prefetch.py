"""What making batches costs a training step: python bench/prefetch.py IMAGES MASKS

The same network takes steps on batches that are made in its own thread (0 workers) and ahead of it in others, with
flips alone and with everything that `--recipe cells` does.  The ways take turns, so that what else the machine does
hits all alike; the median of each counts.  Waiting is the time that steps stand still for their batch.
"""

import argparse
import itertools
import statistics
import time

import minunet as mn
from minunet.data import load_folder
from minunet.training.prefetch import Prefetcher
from minunet.training.recipes import named_recipe
from minunet.training.train import Trainer

WAYS = list(itertools.product(("flips", "cells"), (0, 1, 2)))  # recipe, workers


def turn(trainer: Trainer, workers: int, steps: int) -> tuple[list[float], float]:
    """Seconds of each of some steps, and the share of them that was waited."""
    seconds = []
    with Prefetcher(trainer.batch, workers=workers) as batches:
        trainer.step(0, 0.01, batches.get(0))  # the first batch cannot have been made ahead
        batches.waited = 0.0
        for step in range(1, steps + 1):
            begin = time.perf_counter()
            trainer.step(step, 0.01, batches.get(step))
            seconds.append(time.perf_counter() - begin)
    return seconds, batches.waited / sum(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images")
    parser.add_argument("masks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    asked = parser.parse_args()
    dataset = load_folder(asked.images, asked.masks)
    trainers = {}
    for name in ("flips", "cells"):
        recipe = named_recipe("cells") if name == "cells" else named_recipe(weight_map=False)
        model = mn.UNet(dataset.channels, dataset.coding.classes, (16, 32, 64, 128), padding="same", norm="batch")
        trainers[name] = Trainer(model, dataset, None, recipe)
        trainers[name].warm_up()
    seconds, waits = {way: [] for way in WAYS}, {way: [] for way in WAYS}
    for _ in range(asked.rounds):
        for name, workers in WAYS:
            found, waited = turn(trainers[name], workers, asked.steps)
            seconds[name, workers] += found
            waits[name, workers].append(waited)
    print("batches  workers  ms a step  waiting")
    for way in WAYS:
        step, waited = 1e3 * statistics.median(seconds[way]), statistics.mean(waits[way])
        print(f"{way[0]:7}  {way[1]:7}  {step:9.0f}  {waited:7.1%}")


if __name__ == "__main__":
    main()
