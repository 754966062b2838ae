"""A pass too large for the page: what is recorded of it is exact, and enough for every formula that is shown."""

import base64
import json
import re

import numpy as np
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


def test_the_pixel_that_was_asked_for_else_the_one_of_largest_loss(recorded):
    for _, subject, found, *_ in recorded:
        assert found.chosen["final_conv"][2:] == found.pixel
        if subject.loss == "ce":
            logits = found.run.values["final_conv"][0].astype(np.float64)
            right = np.take_along_axis(logits, subject.target[:1], 0)[0]
            loss = np.log(np.exp(logits).sum(axis=0)) - right
            loss *= 1 if subject.weight is None else subject.weight[0]
            assert loss[found.pixel] == pytest.approx(loss.max())
    with mn.use_backend("numpy"):
        model, subject = generated(0, levels=2, features=4)
        assert Recording(model, subject, True, (1, 2)).chosen["final_conv"][2:] == (1, 2)


def test_pictures_become_coarser_until_they_fit():
    model, image = mn.UNet(1, 2, (16,), padding="same"), np.random.default_rng(0).normal(size=(128, 128))
    steps = []
    for limit in (0.4, 0.3):
        with mn.use_backend("numpy"):
            page = mn.glassbox(model, image, max_mb=limit)
        assert page.megabytes <= limit
        steps.append(json.loads(re.search(r'id="contents">(.*?)</script>', page.html)[1])["recording"]["step"])
        assert re.search(r"every (second|fourth|eighth) pixel of every \1 row", page.html)
    assert 1 < steps[0] < steps[1]


def test_a_picture_is_the_plane_in_255_shades(recorded):
    for _, _, found, contents, _ in recorded:
        for kind, arrays in (("values", found.run.values), ("gradients", found.run.gradients)):
            for name, (n, c, *_) in found.chosen.items():
                most, picture = (contents["maps"][kind][name][key] for key in ("most", "picture"))
                shades = np.frombuffer(base64.b64decode(picture["base64"]), np.uint8).reshape(picture["shape"])
                apart = np.abs((shades.astype(int) - 128) * most / 127 - arrays[name][n, c]).max()
                assert apart <= most / 254 * (1 + 1e-9)
