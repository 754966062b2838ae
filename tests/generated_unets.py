"""U-Nets of all kinds with inputs, for targets of `minunet export` to be held against minunet."""

import numpy as np

import minunet as mn
from minunet.unet import legal_sides


def unet(seed, levels=4, features=8):
    """A network in evaluation mode, with nothing at its initial value, and a prepared batch that it takes.

    levels, features: at most so many. By turns same and valid padding; sides of any remainder where they may be.
    """
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(1, levels + 1))
    widths = [int(n) for n in rng.integers(1, features + 1, depth)]
    padding, norm = ("same", "valid")[seed % 2], (None, "batch")[seed // 2 % 2]
    channels = int(rng.choice([1, 2, 3])), int(rng.choice([1, 2, 5]))
    dropout, fit, up = rng.choice([0, 0.5]), ("resize", "pad")[seed % 3 == 0], ("transpose", "bilinear")[seed % 4 > 1]
    fit = fit if padding == "same" else "resize"
    model = mn.UNet(*channels, widths, padding, norm, dropout=dropout, seed=seed, skip_fit=fit, up=up)
    for name, array in model.state_dict().items():
        if name.endswith("running_var"):
            array[...] = rng.uniform(0.2, 4, array.shape)
        elif array.ndim == 1:
            array[...] += rng.normal(0, 0.3, array.shape)
    sides = [_side(rng, padding, depth) for _ in range(2)]
    x = rng.standard_normal((int(rng.integers(1, 3)), channels[0], *sides)).astype(np.float32)
    return model.eval(), x


def _side(rng, padding, levels):
    step = 2**levels
    if padding == "same":
        return int(rng.integers(step, 3 * step + 9))
    return legal_sides(12 * step + int(rng.integers(0, 2 * step)), levels)[-1]
