"""What the fast policy costs in accuracy: python bench/policies.py IMAGES MASKS

For every seed the same network is trained twice, with `mn.policy("fast")` and with "exact", on the same split and
batches.  Then, on the validation images: the score of each, and how far the logits of the trained network are from
those in float64.  The runs go on side by side, each on one thread, in processes of their own.
"""

import argparse
import math
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

import minunet as mn
from minunet import data
from minunet.kernels.registry import POLICIES
from minunet.prediction.predict import predict_logits

FEATURES = (16, 32, 64, 128)
LOOKED_AT = 16  # validation images whose logits are compared


@dataclass(frozen=True)
class Run:
    """What one training gave; errors: {policy: largest difference of a logit from float64, in standard deviations}."""

    seed: int
    policy: str
    score: float
    seconds: float
    errors: dict[str, float]


def train(images: str, masks: str, steps: int, seed: int, policy: str) -> Run:
    mn.set_num_threads(1)
    mn.policy(policy)
    training, validation = data.load_folder(images, masks).split(0.2, seed)
    classes = training.coding.classes
    model = mn.UNet(training.channels, classes, FEATURES, padding="same", norm="batch", seed=seed)
    begun = time.perf_counter()
    history = mn.fit(model, training, validation, steps=steps, seed=seed, weight_map=False, score="iou")
    seconds = time.perf_counter() - begun
    return Run(seed, policy, history.best_score, seconds, logit_errors(model, validation))


def logit_errors(model: mn.UNet, validation: data.Dataset) -> dict[str, float]:
    exact = mn.UNet(**model.architecture | {"dtype": "float64"})
    state = model.state_dict()
    exact.load_state_dict({name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in state.items()})
    worst = dict.fromkeys(POLICIES, 0.0)
    for image in validation.images[:LOOKED_AT]:
        expected = predict_logits(exact, image.astype(np.float64))
        for policy in POLICIES:
            with mn.policy(policy):
                found = predict_logits(model, image)
            worst[policy] = max(worst[policy], float(np.abs(found - expected).max() / expected.std()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("masks")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    runs: list[Run] = []
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        jobs = [
            pool.submit(train, options.images, options.masks, options.steps, seed, policy)
            for seed in range(options.seeds)
            for policy in POLICIES
        ]
        print("| seed | policy | score | logits, fast | logits, exact | seconds |\n" + "|---" * 6 + "|", flush=True)
        for job in jobs:
            run = job.result()
            runs.append(run)
            print(f"| {run.seed} | {run.policy} | {run.score:.4f} | {run.errors['fast']:.1e} "
                  f"| {run.errors['exact']:.1e} | {run.seconds:.0f} |", flush=True)  # fmt: skip
    print(verdict(runs))


def verdict(runs: list[Run]) -> str:
    """The difference of the mean scores beside its standard error."""
    scores = {policy: [run.score for run in runs if run.policy == policy] for policy in POLICIES}
    means = {policy: statistics.fmean(values) for policy, values in scores.items()}
    count = min(map(len, scores.values()))
    if count < 2:
        return "one seed has no standard error"
    error = math.sqrt(sum(statistics.variance(values) / count for values in scores.values()))
    difference = means["fast"] - means["exact"]
    return (f"\nmean score: fast {means['fast']:.4f}, exact {means['exact']:.4f}; "
            f"difference {difference:+.4f}, standard error {error:.4f}")  # fmt: skip


if __name__ == "__main__":
    main()
