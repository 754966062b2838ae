"""The glass box's own arithmetic (JavaScript, in Node) against minunet in float64, its formulas against its values."""

import copy

import numpy as np
import pytest
from glassbox_cases import array, box, generated, in_node

import minunet as mn
from minunet.glassbox import reference
from minunet.glassbox.box import check_numbers, scale
from minunet.training.recipe import loss_function

SEEDS = (0, 1, 4, 6, 7, 9)  # all paddings, norms, losses; scripts do more


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(model, subject, training, Python's pass, Node's answer) of every generated network in both modes."""
    cases, boxes = [], []
    with mn.use_backend("numpy"):
        for seed in SEEDS:
            model, subject = generated(seed, levels=2, features=4)
            for training in (True, False):
                passed = reference.passed(model, subject, training)
                more = {"differences": 40, "faults": True, "steps": 2, "sgd": SGD} if training else {}
                more["steppers"] = {"each": 4, "optimizer": {**SGD, "clip": 1.0}}
                boxes.append(box(model, subject, training, tensors=True, numbers=check_numbers(passed), formulas=200,
                                 seed=seed, **more))  # fmt: skip
                cases.append((model, subject, training, passed))
    answers = in_node(tmp_path_factory.mktemp("node"), boxes)
    return [(*case, answer) for case, answer in zip(cases, answers, strict=True)]


SGD = {"lr": 0.03, "momentum": 0.9, "nesterov": True, "weightDecay": 0.01}


def test_the_cases_are_of_all_kinds(found):
    models, subjects = [case[0] for case in found], [case[1] for case in found]
    assert {model.padding for model in models} == {"same", "valid"}
    assert {model.norm for model in models} == {None, "batch"}
    assert {model.up for model in models} == {"transpose", "bilinear"}
    assert {subject.loss for subject in subjects} == {"bce", "dice", "ce", "ce+dice"}
    assert {len(subject.x) for subject in subjects} == {1, 2}
    assert any(subject.masks for subject in subjects)
    assert any(subject.weight is not None for subject in subjects)
    assert any(name.startswith("fits.") for case in found for name in case[4]["names"])  # a resized up path


def test_the_named_pass_is_the_networks_own(found):
    for model, subject, training, passed, _ in found:
        own = reference.in_float64(model).train(training)
        if not (training and subject.masks):  # the network would draw masks of its own
            with mn.use_backend("numpy"):
                logits = own(subject.x)
                weight = () if subject.weight is None else (subject.weight,)
                loss = loss_function(subject.loss, model.out_channels)(logits, subject.target, *weight)
            np.testing.assert_allclose(passed.values["final_conv"], logits.data, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(passed.values["loss"], loss.data, rtol=1e-12)


def test_all_that_a_trace_sees_is_there(found):
    """Of the network's own pass: every result and parameter by its norm, and the norm of its gradient."""
    seen = set()
    for model, subject, training, _, answer in found:
        if training and subject.masks:  # the network would draw masks of its own
            continue
        own, weight = reference.in_float64(model).train(training), () if subject.weight is None else (subject.weight,)
        with mn.use_backend("numpy"), mn.trace() as trace:
            logits = own(mn.Tensor(subject.x.astype(np.float64), requires_grad=True))
            operations = list(trace.operations)
            loss_function(subject.loss, model.out_channels)(logits, subject.target, *weight).backward()
        norms = {kind: {name: np.linalg.norm(array(packed)) for name, packed in answer[kind].items()}
                 for kind in ("values", "gradients")}  # fmt: skip
        values, gradients = np.array([[norms[kind].get(name, np.nan) for name in norms["values"]] for kind in norms])
        for operation in operations:
            pairs = np.isclose(values, operation.norm, rtol=1e-9) & np.isclose(gradients, operation.gradient, rtol=1e-9)
            assert pairs.any(), (operation.name, operation.layer, model)
            for operand in (operand for operand in operation.operands if operand.name):
                assert norms["values"][operand.name] == pytest.approx(operand.norm, rel=1e-9)
                cancelled = 1e-9 * norms["gradients"][operation.layer]  # a bias before batch norm: rounding is left
                assert norms["gradients"][operand.name] == pytest.approx(operand.gradient, rel=1e-9, abs=cancelled)
            seen |= {operation.name}
    assert {"conv_transpose2d", "max_pool2d", "center_crop", "resize", "concat", "batch_norm_relu"} <= seen


def test_every_tensor_and_gradient(found):
    for model, _, training, passed, answer in found:
        for kind, arrays in (("values", passed.values), ("gradients", passed.gradients)):
            known = {name for name in answer[kind] if ".running_" not in name}
            assert known == set(arrays)
            for name, expected in arrays.items():
                computed = array(answer[kind][name])
                assert computed.shape == expected.shape
                error, size = np.abs(computed - expected).max(), scale(passed, kind, name)
                assert error <= 1e-10 * size, f"{kind} {name}, {model}, training {training}: {error} of {size}"


def test_the_page_comes_to_the_same_verdict(found):
    for *_, answer in found:
        assert all(one["error"] is not None and one["error"] <= 1e-10 for one in answer["verdict"])


def test_a_wrong_number_would_be_noticed(found, tmp_path):
    model, subject, training, passed, _ = found[0]
    wrong = copy.deepcopy(passed)
    gradient = wrong.gradients["bottleneck.conv.0.weight"]
    gradient.flat[0] += 1e-6 * np.abs(gradient).max()
    (answer,) = in_node(tmp_path, [box(model, subject, training, numbers=check_numbers(wrong))])
    first = answer["verdict"][0]
    assert (first["kind"], first["name"]) == ("gradients", "bottleneck.conv.0.weight")
    assert first["error"] > 1e-10


def test_terms_add_up_to_the_element(found):
    for *_, answer in found:
        assert answer["formulas"]["wrong"] == []
        assert answer["formulas"]["count"] >= answer["formulas"]["tensors"]  # each tensor once at least


def test_central_differences(found):
    for *_, answer in found:
        if "differences" in answer:
            assert [one for one in answer["differences"]["held"] if not one["error"] <= 1e-6] == []
            assert [one for one in answer["differences"]["free"] if not one["changed"] and one["error"] > 1e-6] == []


def test_steps_of_sgd(found):
    for model, subject, _, _, answer in found:
        if "after" not in answer:
            continue
        own = reference.in_float64(model)
        optimizer = mn.SGD(own.parameters(), lr=0.03, momentum=0.9, nesterov=True, weight_decay=0.01)
        buffers = {name: a.copy() for name, a in own.state_dict().items() if "running" in name}
        for _ in range(2):
            optimizer.zero_grad()
            with mn.use_backend("numpy"):
                reference.backward(own, subject, training=True)
            optimizer.step()
        for name, parameter in own.named_parameters():
            np.testing.assert_allclose(array(answer["after"][name]), parameter.data, rtol=1e-9, atol=1e-12)
        for name, buffer in buffers.items():  # the page leaves the running estimates alone
            np.testing.assert_array_equal(array(answer["after"][name]), buffer)


def test_every_stepper_ends_in_the_tensors_of_the_pass(found):
    seen = set()
    for model, _, training, _, answer in found:
        for one in answer["steppers"]:
            assert one["apart"] <= 1e-9 * one["size"] + 1e-15, (one, model, training)
            assert one["steps"] > 0 and one["count"] > 0 and one["sound"] and one["done"], one
            seen.add(one["kind"])
    assert seen == {"im2col", "col2im", "pool", "scatter", "concat", "skip", "batch_norm", "cross_entropy", "sgd"}


def test_faults_spoil_what_they_should_and_nothing_else(found):
    for model, *_, answer in found:
        if "faults" not in answer:
            continue
        right = {name: array(packed) for name, packed in answer["gradients"].items()}
        for fault, told in answer["faults"].items():
            gradients = {name: array(packed) for name, packed in told["gradients"].items()}
            assert set(gradients) == set(right), fault
            apart = {name for name in right if not _close(gradients[name], right[name])}
            below = f"pools.{model.levels - 1}", "bottleneck"
            above = {name for name in apart if name.startswith(("ups.", "final", "loss", "concats"))}
            if fault == "twice":
                assert apart and all(name.endswith(".bias") for name in apart)
                for name in apart:
                    np.testing.assert_allclose(gradients[name], 2 * right[name])
            elif fault == "unflipped":
                assert not any(name.startswith(("final", "loss")) for name in apart)  # a kernel of 1 x 1 has one way
            elif fault == "overwritten" and "loss.dice" in right:  # two losses of the same logits
                assert "final_conv" in above
            else:  # faults at the skips: nothing between the loss and the bottleneck is wrong
                assert not above and apart and not any(name.startswith(below) for name in apart), fault
            listed = {row["name"] for row in told["wrong"]}
            assert {name for name in apart if name.endswith((".weight", ".bias"))} >= listed
            assert told["rate"] == pytest.approx(told["stepped"], rel=1e-3, abs=1e-3), fault


def _close(a, b):
    return np.allclose(a, b, rtol=1e-9, atol=1e-12 * np.abs(b).max())
