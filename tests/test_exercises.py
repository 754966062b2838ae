"""Thirty faults: each patch applies, each is caught where it should be, and right operations pass."""

import ast
import functools
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from exercise_solutions import SOLUTIONS
from exercise_training import Setup, falls, train

import minunet as mn
from minunet import autograd, cli, functional
from minunet.errors import UsageError
from minunet.exercises import EXERCISES, command
from minunet.exercises.judge import Wrong, compare, expected_of, judge, learners_function
from minunet.exercises.scenarios import Item
from minunet.exercises.source import docstring_of, found, imports_for, installed, patched, text_of
from minunet.exercises.workbook import Progress, broken, learners_text, verdict

BY_LABEL = {e.label: e for e in EXERCISES}
names = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: f"{e.number}-{e.label}")


def defined(exercise, text):
    """The operation that a learner's text defines."""
    names = {}
    exec(text, names)
    return names[exercise.function]


@functools.cache
def right_items(scenarios):
    return expected_of(scenarios)


def test_the_list_is_what_was_promised():
    assert len(EXERCISES) == 30
    assert sum(e.loss_falls for e in EXERCISES) >= 12
    files = {e.file.partition("/")[0] if e.file.startswith("kernels") else e.file for e in EXERCISES}
    assert files == {"minunet/unet.py", "minunet/functional.py", "minunet/autograd.py", "minunet/optim.py", "kernels"}
    assert len({(e.module, e.name, e.new) for e in EXERCISES}) == 30


@names
def test_each_fault_is_caught_at_its_tensor(exercise):
    assert broken(exercise) != text_of(exercise.module, exercise.name)  # and the patch fits once, or this raises
    with pytest.raises(Wrong) as wrong:
        judge(exercise, defined(exercise, learners_text(exercise)), right_items(exercise.scenarios))
    assert wrong.value.tensor == exercise.tensor, wrong.value


@pytest.mark.parametrize("label", BY_LABEL)
def test_the_right_source_passes(label):
    exercise = BY_LABEL[label]
    text = imports_for(exercise.module, exercise.name) + text_of(exercise.module, exercise.name)
    right = defined(exercise, "from __future__ import annotations\n" + text)
    for other in {e.scenarios: e for e in EXERCISES if e.label == label}.values():
        judge(other, right, right_items(other.scenarios))


@pytest.mark.parametrize("label", SOLUTIONS)
def test_other_right_solutions_pass(label):
    exercise = BY_LABEL[label]
    text = "import numpy as np\n" + imports_for(exercise.module, exercise.name) + SOLUTIONS[label]
    judge(exercise, defined(exercise, text), right_items(exercise.scenarios))


# ----------------------------------------------------------------------------------------- the loss, 50 steps

SETUPS = {
    "sgd.update": Setup(nesterov=True),
    "relu.backward": Setup(norm=None, clip=0.2),
    "dropout": Setup(dropout=0.3),
    "_counted_classes": Setup(ignore=True),
    "cross_entropy": Setup(class_weight=True),
    "_margin": Setup(skip_fit="pad"),
    "clip_grad_norm": Setup(clip=0.5),
}
MARKED = [e for e in EXERCISES if e.loss_falls]
SAMPLE = (6, 25, 29)
TWO_BATCHES = 26  # accumulates; the other faults of `walk` show with one batch


@pytest.mark.parametrize(
    "exercise",
    [pytest.param(e, marks=() if e.number in SAMPLE else pytest.mark.slow, id=f"{e.number}-{e.label}") for e in MARKED],
)
def test_where_the_loss_will_not_tell_it_falls(exercise):
    setup = Setup(batches=2) if exercise.number == TWO_BATCHES else SETUPS.get(exercise.label, Setup())
    reference = exercise.module.split(".")[2] if ".kernels." in exercise.module else None
    losses, logits = trained(setup, reference)
    with installed(exercise.module, exercise.name, defined(exercise, learners_text(exercise))):
        with_fault, its_logits = train(setup, reference)
    assert falls(with_fault)
    assert not (np.array_equal(losses, with_fault) and np.array_equal(logits, its_logits))  # it took part


@functools.cache
def trained(setup, reference):
    return train(setup, reference)


# ------------------------------------------------------------------------------------- the learner's mistakes

CLIP = BY_LABEL["clip_grad_norm"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def clip_grad_norm(:\n", "line 1 is no Python"),
        ("import minunet.nowhere\n", "ModuleNotFoundError"),
        ("raise SystemExit\n", "SystemExit"),
        ("def other(): pass\n", "no longer defines a function clip_grad_norm"),
        ("clip_grad_norm = 3\n", "no longer defines a function clip_grad_norm"),
        ("a\0b", "null bytes"),
        ("# \xff\n".encode("latin-1"), "no Python text"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(tmp_path, text, says):
    file = tmp_path / "mine.py"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Wrong, match=says):
        learners_function(CLIP, file)


def test_an_exception_is_told_with_its_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def clip_grad_norm(parameters, max_norm):\n    return 1 / 0\n")
    with pytest.raises(Wrong) as wrong:
        judge(CLIP, learners_function(CLIP, file), right_items(CLIP.scenarios), str(file))
    assert str(wrong.value).startswith("error     ZeroDivisionError: division by zero\nline      2: return 1 / 0\n")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.zeros((2, 2)), "found     shape (2, 2) float64"),
        (np.zeros(3, np.float32), "found     shape (3,) float32"),
        (None, "found     None"),
        (np.array([1.0, np.nan, 3.0]), "index     [1] of shape (3,)\nexpected  2.0\nfound     nan"),
        (np.array([1.0, 2.0, np.inf]), "index     [2] of shape (3,)"),
        (np.array([1.0, 2.0, 3.0 + 1e-8]), "in all    1 of 3 numbers are wrong"),
    ],
)
def test_what_is_wrong_with_a_tensor_is_told(value, says):
    with pytest.raises(Wrong) as wrong:
        compare(Item("t", "case", value), Item("t", "case", np.array([1.0, 2.0, 3.0])))
    assert says in str(wrong.value) and wrong.value.tensor == "t"


def test_equal_tensors_pass_with_nan_infinities_and_roundings():
    right = np.array([np.nan, np.inf, -np.inf, 1.0])
    compare(Item("t", "c", right + np.array([0, 0, 0, 1e-12])), Item("t", "c", right))
    with pytest.raises(Wrong):
        compare(Item("t", "c", -right), Item("t", "c", right))


def test_writing_outside_of_an_output_is_told():
    exercise = BY_LABEL["relu.backward"]

    def backward(grad, y, out):
        grad[...] = 0
        out[...] = 0

    with pytest.raises(Wrong, match="changed its input grad"):
        judge(exercise, backward, right_items(exercise.scenarios))


# ------------------------------------------------------------------------------------------------- the source


def test_an_installed_operation_is_used_everywhere_and_taken_out_again():
    original = functional.record
    with installed("minunet.autograd", "record", lambda *a, **k: "mine"):
        assert functional.record() == autograd.record() == "mine"
    assert functional.record is autograd.record is original
    with pytest.raises(ZeroDivisionError), installed("minunet.optim", "SGD.step", lambda self: 1 / 0):
        mn.SGD([mn.Tensor([1.0])]).step()
    assert mn.SGD.step.__qualname__ == "SGD.step"


def test_patches_fit_exactly_once():
    assert patched("a b c", "b", "x") == "a x c"
    for text in ("a c", "b b"):
        with pytest.raises(ValueError, match="exactly one place"):
            patched(text, "b", "x")


def test_source_of_decorated_functions_and_missing_ones():
    assert text_of("minunet.autograd", "no_grad").startswith("@contextmanager\ndef no_grad")
    assert "chain rule" in docstring_of("minunet.autograd", "")
    with pytest.raises(LookupError, match="nowhere"):
        found(ast.parse("def f(): pass"), "nowhere")


# --------------------------------------------------------------------------------------------- the command


def run(*arguments):
    return cli.main(["exercises", *map(str, arguments)])


def test_from_start_to_solved(tmp_path, capsys):
    folder = tmp_path / "learning"
    assert run("start", 30, folder) == 0
    file = folder / "30_clip_grad_norm.py"
    assert str(file) in capsys.readouterr().out
    assert run("start", 30, folder) == 2  # nobody's work is overwritten unasked
    capsys.readouterr()

    file.write_text(file.read_text() + "print('hello')\n")
    assert run("check", folder) == 1
    out = capsys.readouterr().out
    assert "hello" in out and "norm (what is returned)" in out and "expected  3.1343" in out
    assert Progress(folder).solved == {30: False}

    file.write_text(file.read_text().replace(CLIP.new, CLIP.old))
    assert run("check", folder) == 0
    assert "right, in every case.\n1 of 30 solved" in capsys.readouterr().out
    assert run("list", folder) == 0
    assert "x * 30  clip_grad_norm" in capsys.readouterr().out
    assert run("start", 30, folder, "--overwrite") == 0
    assert Progress(folder).solved == {30: False}


@pytest.mark.parametrize(
    ("text", "seconds", "says"),
    [("while True: pass\n", 2, "no end after 2 seconds"), ("import os\nos._exit(3)\n", 60, r"ended before .*status 3")],
)
def test_a_file_that_does_not_come_back(tmp_path, text, seconds, says):
    file = tmp_path / "mine.py"
    file.write_text(text)
    said, _ = verdict(CLIP, file, seconds)
    (line,) = said
    assert re.search(says, line)


def test_the_texts_fit_a_terminal(capsys):
    assert run() == 0 and run("list") == 0
    assert run("hint", 30) == 0 and run("hint", 30, "--more") == 0
    for exercise in EXERCISES:
        for more in (False, True):
            command.hint_command(exercise.number, more)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("The loss will not tell you") == 2


def test_solutions_show_the_patch(capsys):
    assert run("solution", 1) == 0
    capsys.readouterr()
    for exercise in EXERCISES:
        command.solution_command(exercise.number)
        lines = capsys.readouterr().out.splitlines()
        gone, come = (" ".join(x[1:].strip() for x in lines if x[0:1] == sign and x[:3] != 3 * sign) for sign in "-+")
        assert gone and come and gone != come
        assert " ".join(exercise.explanation.split())[-30:] in " ".join(lines)


@pytest.mark.parametrize("number", [0, 31])
def test_an_exercise_that_does_not_exist(number, tmp_path, capsys):
    for action in (["start", number, tmp_path], ["check", tmp_path, number], ["hint", number], ["solution", number]):
        try:
            assert run(*action) == 2
        except SystemExit as error:  # argparse refuses 0
            assert error.code == 2
    assert "31; there are 1 to 30" in capsys.readouterr().err or number == 0


NONE_OF_OURS = ["{", "[]", "{}", '{"version": 2}', "[" * 100_000, "\0",
                json.dumps({"version": 1, "current": 99, "solved": {}}),
                json.dumps({"version": 1, "current": 1, "solved": [1]})]  # fmt: skip


@pytest.mark.parametrize("text", NONE_OF_OURS, ids=range(len(NONE_OF_OURS)))
def test_progress_that_is_none_of_ours_is_refused(tmp_path, text):
    (tmp_path / "progress.json").write_text(text)
    with pytest.raises(UsageError, match=r"progress\.json is no progress"):
        Progress(tmp_path)


def test_check_without_a_beginning(tmp_path, capsys):
    assert run("check", tmp_path) == 2
    assert "holds no exercise" in capsys.readouterr().err
    assert run("check", tmp_path, 3) == 2
    assert f"{Path('03_sgd_update.py')} is not there" in capsys.readouterr().err


def test_nothing_of_the_folder_is_imported(tmp_path, monkeypatch):
    """A file numpy.py, or enum.py, beside the learner's is not taken for NumPy."""
    for name in ("numpy.py", "enum.py"):
        (tmp_path / name).write_text("raise SystemExit('taken')\n")
    file = tmp_path / "mine.py"
    file.write_text(imports_for(CLIP.module, CLIP.name) + text_of(CLIP.module, CLIP.name))
    monkeypatch.chdir(tmp_path)
    assert os.getcwd() == str(tmp_path)
    assert verdict(CLIP, file)[0] is None
