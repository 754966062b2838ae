"""1,000 mutated model files; `python tests/mutated_files.py` reads 100,000."""

import random
import tracemalloc

import mutated_files
import pytest

import minunet as mn

EACH = 200


@pytest.mark.parametrize("kind", mutated_files.KINDS)
def test_mutated_files_are_refused_or_loaded(tmp_path, kind):
    mutated_files.KINDS[kind][0](random.Random(0))  # what is mutated is made once
    tracemalloc.start()
    try:
        with mn.use_backend("numpy"):
            outcomes = [mutated_files.read_mutated(tmp_path, kind, seed)[0] for seed in range(EACH)]
    finally:
        tracemalloc.stop()
    assert outcomes.count("refused") > EACH / 3 and "loaded" in outcomes
