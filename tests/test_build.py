"""Build it yourself: what is taken out, what each step checks, and the learner's folder."""

import ast
import functools
import re

import pytest

from minunet import cli, demo
from minunet.errors import UsageError
from minunet.exercises.build import STEPS, train
from minunet.exercises.build.folder import Build
from minunet.exercises.build.judge import judge, verdicts
from minunet.exercises.build.skeleton import bodies_of, functions_of, learners_text
from minunet.exercises.build.steps import GIVEN, MODULES, WRITTEN, learners_name
from minunet.exercises.judge import Wrong, expected_of

ALL = range(1, len(STEPS))
FUNCTIONS = [(step, module, name) for step in WRITTEN for module, name in step.functions()]


@functools.cache
def text_without(module, bodies):
    return learners_text(module, dict(bodies))


def write(folder, empty, **changed):
    """A learner's folder: the functions of the steps in `empty` without bodies; changed: {file: other text}."""
    for module, names in bodies_of(empty).items():
        file = folder / learners_name(module)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(changed.get(file.stem) or text_without(module, tuple(names.items())))


@functools.cache
def right_items(number):
    return expected_of(STEPS[number - 1].scenarios)


# ------------------------------------------------------------------------------------------- the skeleton


@pytest.mark.parametrize("module", MODULES)
def test_each_function_of_the_five_files_is_in_one_step_or_given(module):
    in_steps = [name for _, where, name in FUNCTIONS if where == module]
    assert sorted(in_steps + GIVEN.get(module, "").split()) == sorted(functions_of(module))


@pytest.mark.parametrize("module", MODULES)
def test_signatures_and_docstrings_stay_and_bodies_go(module):
    names = bodies_of(ALL)[module]
    whole, skeleton = learners_text(module, {}), learners_text(module, names)

    def functions(text):
        return {
            (node.name, node.lineno if node.name not in {n.rpartition(".")[2] for n in names} else 0): node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef)
        }

    kept = {ast.unparse(node.args) + str(ast.get_docstring(node)) for node in functions(skeleton).values()}
    assert kept <= {ast.unparse(node.args) + str(ast.get_docstring(node)) for node in functions(whole).values()}
    assert skeleton.count("raise NotImplementedError  # step") == len(names)
    assert "from ." not in skeleton
    assert max(map(len, skeleton.splitlines())) <= 120


def test_comments_before_a_body_go_with_it():
    text = learners_text("minunet.unet", {"UNet.forward": 19})
    assert "What is concatenated" not in text and "# Two networks" not in text
    assert "raise NotImplementedError  # step 19\n\n    def _halves" in text


# ------------------------------------------------------------------------------------------- what is judged


@pytest.mark.parametrize("done", range(len(STEPS) - 1))
def test_with_our_bodies_up_to_a_step_those_pass_and_the_next_fails(done, tmp_path):
    write(tmp_path, range(done + 1, len(STEPS)))
    looked_at = WRITTEN if done == 19 else WRITTEN[max(0, done - 1) :]  # those before have not changed
    *_, last = verdicts(looked_at, tmp_path, [right_items(step.number) for step in looked_at])
    assert last["right"] == list(range(looked_at[0].number, done + 1)) and last["step"] == done + 1
    assert last["wrong"][0] == "a body that is still empty:"
    assert re.search(rf"raise NotImplementedError  # step {done + 1}$", last["wrong"][1])


def test_with_all_our_bodies_all_steps_pass_and_the_core_trains(tmp_path):
    write(tmp_path, ())
    *_, last = verdicts(STEPS, tmp_path, [right_items(step.number) for step in STEPS])
    assert last == {"right": [*ALL, len(STEPS)], "step": len(STEPS), "wrong": None}
    losses = [float(item.value) for item in right_items(len(STEPS)) if item.tensor == "loss"]
    assert sum(losses[-5:]) / 5 < 0.7 * losses[0]  # what is trained does learn


@pytest.mark.parametrize("step", WRITTEN, ids=lambda step: str(step.number))
def test_each_function_that_returns_none_fails_its_step(step, tmp_path):
    write(tmp_path, ())
    for module, name in step.functions():
        file, whole = tmp_path / learners_name(module), text_without(module, ())
        file.write_text(learners_text(module, {name: step.number}).replace("raise NotImplementedError  #", "return  #"))
        with pytest.raises(Wrong):
            judge(step, tmp_path, right_items(step.number))
        file.write_text(whole)


@pytest.mark.parametrize("step", WRITTEN, ids=lambda step: str(step.number))
def test_an_empty_step_fails_no_other_step(step, tmp_path):
    """Each is checked alone: with this step empty, the one after passes."""
    write(tmp_path, [step.number])
    following = WRITTEN[step.number % len(WRITTEN)]
    judge(following, tmp_path, right_items(following.number))


PLAINLY = {
    "DoubleConv.forward": "return self.conv(x)",
    "UNet.forward": """skips = []
        x = self._checked(x)
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x)
        x = self.bottleneck(x)
        for level in range(self.levels):
            x, skip = self.ups[2 * level](x), skips.pop()
            if self.padding == "valid":
                skip = F.center_crop(skip, x.shape[2:])
            elif x.shape != skip.shape:
                x = (F.center_pad if self.skip_fit == "pad" else F.resize)(x, skip.shape[2:])
            x = self.ups[2 * level + 1](F.concat([skip, x]))
        return self.final_conv(x)""",
    "conv2d_relu": "return relu(conv2d(x, weight, bias, padding))",
    "_with_bias": "return (inputs, vjps) if bias is None else (inputs + (bias,), vjps + (bias_vjp,))",
    "topological": """waiting, order = {}, []
    def found():
        stack, seen = [root], {id(root)}
        while stack:
            node = stack.pop()
            yield node
            if isinstance(node, Node):
                if node.edges is None:
                    raise RuntimeError("freed")
                for parent, _ in node.edges:
                    waiting[id(parent)] = waiting.get(id(parent), 0) + 1
                    if id(parent) not in seen:
                        seen.add(id(parent))
                        stack.append(parent)
    list(found())
    ready = [root]
    while ready:
        node = ready.pop()
        order.append(node)
        for parent, _ in node.edges if isinstance(node, Node) else ():
            waiting[id(parent)] -= 1
            if not waiting[id(parent)]:
                ready.append(parent)
    return order[::-1]""",
    "multiply": """a, b = _operands("multiply", a, b)
    return record("product", a.data * b.data, (a, b), [_share(b, a), _share(a, b)])


def _share(other, own):
    return lambda g: _broadcast_back(g * other.data, own.shape)""",
    "Module.modules": """return iter([self, *(m for child in self._children() for m in child.modules())])

    def _children(self):
        return [value for value in vars(self).values() if isinstance(value, Module)]""",
    "SGD.step": """for k, p in enumerate(self.parameters):
            if p.grad is not None:
                if self.velocities[k] is None:
                    self.velocities[k] = np.zeros(p.data.size, p.dtype)
                self._update(p, p.grad, self.velocities[k])""",
    "softmax": """(x,) = _operands("softmax", x)
    powers = np.exp(x.data - x.data.max(1, keepdims=True))
    p = powers / powers.sum(1, keepdims=True)
    return record("softmax", p, [x], [lambda g: p * g - p * (p * g).sum(1, keepdims=True)])""",
}


def test_other_right_bodies_pass_alone_and_together(tmp_path):
    changed = {}
    for module, names in bodies_of(ALL).items():
        empty = {name: number for name, number in names.items() if name in PLAINLY}
        text = learners_text(module, empty)
        for name in sorted(empty, key=lambda name: text.index(f"def {name.rpartition('.')[2]}(self" if "." in name
                                                              else f"def {name}(")):  # fmt: skip
            text = text.replace(f"raise NotImplementedError  # step {empty[name]}", PLAINLY[name], 1)
        changed[learners_name(module).rpartition("/")[2].removesuffix(".py")] = text
    write(tmp_path, (), **changed)
    for step in STEPS:
        judge(step, tmp_path, right_items(step.number))


def test_a_fault_is_named_with_its_tensor_alone_and_in_the_training(tmp_path):
    text = learners_text("minunet.kernels.conv_transpose2d.reference", {})
    write(tmp_path, (), conv_transpose2d=text.replace("grad[:, :, i::s, j::s], weight", "grad[:, :, ::s, ::s], weight"))
    with pytest.raises(Wrong, match=r"index .*\nexpected .*\nfound") as wrong:
        judge(STEPS[11], tmp_path, right_items(12))
    assert wrong.value.tensor == "backward_input: out"
    with pytest.raises(Wrong) as wrong:
        judge(STEPS[-1], tmp_path, right_items(len(STEPS)))
    assert wrong.value.tensor == "loss"


TRAINED_WITH = {
    "minunet.autograd": "Tensor.__init__ record topological walk Tensor.backward",
    "minunet.functional": "conv2d conv2d_relu conv_transpose2d max_pool2d _batch_norm concat cross_entropy",
    "minunet.nn": "Module.named_arrays normal Conv2d.forward ConvTranspose2d.forward BatchNorm2d.forward",
    "minunet.unet": "DoubleConv.__init__ DoubleConv.forward UNet.forward UNet.output_size",
    "minunet.optim": "SGD.step SGD._update SGD.zero_grad clip_grad_norm cosine warm_up",
    "minunet.kernels.conv2d.reference": "forward backward_input backward_weight",
    "minunet.kernels.conv_transpose2d.reference": "forward backward_input backward_weight",
    "minunet.kernels.max_pool2d.reference": "forward backward",
    "minunet.kernels.batch_norm.reference": "statistics normalize backward_parameters backward_input",
    "minunet.kernels.cross_entropy.reference": "forward backward",
    "minunet.kernels.sgd.reference": "update square_sum",
}


@pytest.mark.parametrize("module", TRAINED_WITH)
def test_what_trains_in_the_last_step_is_the_learners_own(module, tmp_path):
    write(tmp_path, ())
    for name in TRAINED_WITH[module].split():
        (tmp_path / learners_name(module)).write_text(learners_text(module, {name: 1}))
        with pytest.raises(Wrong, match="a body that is still empty"):
            judge(STEPS[-1], tmp_path, right_items(len(STEPS)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def walk(:\n", "autograd.py\nline 1 is no Python"),
        ("x = 1\n", "autograd.py no longer defines Tensor.__init__"),
        ("class Tensor:\n    __init__ = 3\n", "autograd.py no longer defines Tensor.__init__"),
        (None, "autograd.py is not there"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(text, says, tmp_path):
    write(tmp_path, ())
    file = tmp_path / "autograd.py"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(Wrong, match=says):
        judge(STEPS[0], tmp_path, right_items(1))


# ------------------------------------------------------------------------------------------- the command


def run(*arguments):
    return cli.main(["exercises", *map(str, arguments)])


def test_from_the_skeleton_to_the_whole_core(tmp_path, capsys):
    folder = tmp_path / "core"
    assert run("build", folder) == 0
    assert "13 files written" in capsys.readouterr().out
    assert run("check", folder) == 1
    out = capsys.readouterr().out
    assert "Step 1, a Tensor" in out and "a body that is still empty:\n  line      autograd.py, " in out
    assert run("build", folder, "--demo") == 2
    assert "step 1 is not right yet" in capsys.readouterr().err

    (folder / "autograd.py").write_text(learners_text("minunet.autograd", {}) + "print('hello')\n")
    assert run("check", folder) == 1
    out = capsys.readouterr().out
    assert "hello" in out and "x  3  the chain rule" in out and "Step 4, arithmetic" in out
    assert Build(folder).right == {1, 2, 3}

    (folder / "optim.py").unlink()
    assert run("build", folder) == 0 and run("list", folder) == 0  # what is there is left alone
    assert "1 files written" in (out := capsys.readouterr().out) and out.count("x  2  the order") == 2
    assert "hello" in (folder / "autograd.py").read_text()
    write(folder, ())
    assert run("check", folder) == 0
    assert "21 of 21 steps are right" in capsys.readouterr().out
    (folder / "autograd.py").write_text(learners_text("minunet.autograd", bodies_of(ALL)["minunet.autograd"]))
    assert run("check", folder, 2) == 1 and Build(folder).right == {1, *range(3, 22)}


def test_what_does_not_come_back_is_told_with_its_step(tmp_path):
    write(tmp_path, (), optim="while True: pass\n", nn="import os\nos._exit(3)\n")
    build = Build(tmp_path)
    step, wrong, _ = build.check(17, 19)
    assert (step, build.right) == (18, {17}) and "status 3" in wrong[0]
    step, wrong, _ = build.check(20, 20, seconds=3)
    assert step == 20 and "no end after 3 seconds" in wrong[0]


def test_the_learners_core_trains_the_demo(tmp_path, monkeypatch, capsys):
    for name, value in dict(TRAINING=4, VALIDATION=2, SHOWN=2, SIDE=64, STEPS=2).items():
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr(demo.pictures, "available", lambda: False)
    write(tmp_path, ())
    with pytest.warns(UserWarning, match="little use"):
        train.main([str(tmp_path)])
    assert (tmp_path / "demo" / "model.safetensors").is_file()
    write(tmp_path, [20])
    with pytest.raises(SystemExit, match=r"NotImplementedError\nline      (optim|sgd).py"):
        train.main([str(tmp_path)])


def test_the_texts_fit_a_terminal(capsys, tmp_path):
    assert run("build", tmp_path / "core") == 0
    capsys.readouterr()
    for step in STEPS:
        assert run("hint", step.number, "--build") == 0 and run("hint", step.number, "--build", "--more") == 0
    assert run("list", tmp_path / "core") == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    for step in STEPS:
        assert run("solution", step.number, "--build") == 0
        out = capsys.readouterr().out
        assert all(f"def {name.rpartition('.')[2]}(" in out for part in step.parts for name in part.names
                   if step is not STEPS[-1])  # fmt: skip


def test_kinds_of_exercises_are_not_mixed_and_steps_end(tmp_path, capsys):
    assert run("build", tmp_path / "core") == 0 and run("start", 30, tmp_path / "bugs") == 0
    assert run("start", 30, tmp_path / "core") == 2 and run("build", tmp_path / "bugs") == 2
    assert run("hint", 22, "--build") == 2 and run("check", tmp_path / "core", 22) == 2
    assert "there are 1 to 21" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 2}', '{"version": 1, "right": [99]}', "[" * 100_000])
def test_progress_that_is_none_of_ours_is_refused(text, tmp_path):
    (tmp_path / "build.json").write_text(text)
    with pytest.raises(UsageError, match=r"build\.json is no progress"):
        Build(tmp_path)
