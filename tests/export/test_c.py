"""The C export: the same logits as minunet, in the memory that was planned, without a warning."""

import c_programs as programs
import numpy as np
import pytest

import minunet as mn
from minunet.export.c.network import Network
from minunet.export.c.plan import MEMORY, plan

needs_gcc = pytest.mark.skipif(programs.gcc() is None, reason="no gcc, so nothing can be compiled")


def small() -> mn.UNet:
    """The network that the goals in memory and time are about."""
    model = mn.UNet(1, 2, (8, 16, 32), padding="same", seed=1)
    model.preprocessing = mn.data.Preprocessing(1, "standardize")
    return programs.randomized(model, np.random.default_rng(1))


@needs_gcc
@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("seed", range(5))
def test_generated_networks_in_plain_c(seed, memory, tmp_path):
    model, size = programs.generated(seed)
    programs.exported(model, size, tmp_path, memory)
    program = programs.compiled(programs.gcc(), tmp_path, *programs.STRICT, *programs.WATCHED)
    programs.check(programs.answer(program, model, size), model, size)


def test_planned_memory_of_the_small_network():
    network = Network(small(), (64, 64))
    assert 4 * plan(network, "default").numbers <= 393_216
    assert 4 * plan(network, "low").numbers <= 262_144
