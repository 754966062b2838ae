"""A pass too large for the page: what is recorded of it is exact, and enough for every formula that is shown."""

import json

import pytest
from glassbox_cases import generated, in_node

import minunet as mn
from minunet.glassbox.recording import Recording

SEEDS = (0, 1, 2, 4, 6, 7, 9, 11)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(model, subject, recording, Node's answer) of every generated network in both modes."""
    cases = []
    with mn.use_backend("numpy"):
        for seed in SEEDS:
            model, subject = generated(seed, levels=2, features=4)
            for training in (True, False):
                found = Recording(model, subject, training, None)
                cases.append((model, subject, found, json.loads(json.dumps(found.contents(1)))))
    answers = in_node(tmp_path_factory.mktemp("node"), [{"recording": contents} for *_, contents in cases])
    return [(*case, answer) for case, answer in zip(cases, answers, strict=True)]


def test_every_formula_of_a_recording_has_all_its_terms(recorded):
    for model, _, found, _, answer in recorded:
        assert {one["name"] for one in answer["verdict"]} >= set(found.chosen), model
        wrong = [one for one in answer["verdict"] if not (one["error"] is not None and one["error"] <= 1e-9)]
        assert wrong == [], (model, found.training, found.pixel)


def test_value_and_gradient_of_every_activation(recorded):
    for _, _, found, _, answer in recorded:
        for name in ("input", *(name for name in answer["nodes"] if not name.startswith(("loss", "probabilities")))):
            assert ["values", name] in answer["formulas"] and ["gradients", name] in answer["formulas"]
            assert len(found.chosen[name]) == 4
