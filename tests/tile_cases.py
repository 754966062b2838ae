"""Random networks, images and tiles; run as a script it counts the values in which tiles and whole image differ.

    python tests/tile_cases.py [--count 200] [--policy exact] [--backend numba]
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import minunet as mn


@dataclass(frozen=True)
class Case:
    """A network's arguments, the image's size, the tile and whether the eight flips and rotations are averaged."""

    architecture: dict
    size: tuple[int, int]
    tile: tuple[int, int]
    tta: bool
    seed: int

    def model(self) -> mn.UNet:
        """With biases and statistics that are not those of a fresh network, where a mistake in them would hide."""
        model = mn.UNet(**self.architecture, seed=self.seed)
        rng = np.random.default_rng(self.seed)
        state = model.state_dict()
        for name, array in state.items():
            if name.endswith("running_var"):
                state[name] = rng.uniform(0.5, 2, array.shape).astype(array.dtype)
            elif array.ndim == 1:
                state[name] = array + rng.normal(0, 0.1, array.shape).astype(array.dtype)
        model.load_state_dict(state)
        return model

    def image(self) -> np.ndarray:
        shape = (*self.size, self.architecture["in_channels"])
        return np.random.default_rng(self.seed + 1).standard_normal(shape, np.float32)

    def differing(self) -> tuple[int, float]:
        """In how many values tiles and whole image differ, and the largest difference."""
        model, image = self.model(), self.image()
        whole = mn.predict(model, image, channels_last=True, tta=self.tta)
        tiled = mn.predict(model, image, channels_last=True, tta=self.tta, tile=self.tile)
        assert whole.shape == tiled.shape == (max(model.out_channels, 2), *self.size)
        assert np.isfinite(whole).all() and whole.std() > 0
        return int((whole != tiled).sum()), float(np.abs(whole - tiled).max())


def cases(count: int, seed: int = 0) -> Iterator[Case]:
    """The same ones for the same seed; every one has more than one tile where the image has the pixels for it."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        levels = int(rng.integers(1, 5))
        first = int(rng.choice([1, 2, 3, 4, 5, 8, 16]))
        growth = int(rng.choice([1, 2])) if levels < 4 else 1
        valid = bool(rng.integers(2))
        architecture = {
            "in_channels": int(rng.integers(1, 6)),
            "out_channels": int(rng.choice([1, 2, 3, 9, 16])),
            "features": tuple(first * growth**level for level in range(levels)),
            "padding": "valid" if valid else "same",
            "norm": "batch" if rng.integers(2) else None,
            "dtype": "float64" if rng.integers(8) == 0 else "float32",
        }
        longest = 40 + 10 * 2**levels
        small = rng.integers(4) == 0  # smaller than a tile, or than the margin
        size = tuple(int(side) for side in rng.integers(1, 2 ** (levels + 1) if small else longest, 2))
        tile = tuple(int(rng.integers(1 + side // 4, 2 + side)) for side in size)  # up to some 16 of them
        yield Case(architecture, size, tile, tta=rng.integers(8) == 0, seed=number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policy", default="exact", choices=("exact", "fast"))
    parser.add_argument("--backend", default="numba", choices=("numpy", "numba"))
    options = parser.parse_args()
    values = differing = 0
    largest = 0.0
    with mn.use_backend(options.backend), mn.policy(options.policy):
        for case in cases(options.count, options.seed):
            count, difference = case.differing()
            differing, largest = differing + count, max(largest, difference)
            values += max(case.architecture["out_channels"], 2) * case.size[0] * case.size[1]
            if count and options.policy == "exact" and options.backend == "numba":
                print(f"{count} values differ by up to {difference:.2g}: {case}")
    print(
        f"{options.count} cases, {options.backend}, {options.policy}: {differing} of {values} values differ, "
        f"by at most {largest:.2g}"
    )


if __name__ == "__main__":
    main()
