"""The public interface: every name is documented, and those that others rely on have their parameters."""

import importlib.util
import inspect
import re
import types
from pathlib import Path

import pytest

import minunet as mn
import minunet.data
import minunet.functional as F
import minunet.kernels
import minunet.nn
import minunet.optim

DOCS = Path(__file__).resolve().parents[1] / "docs"
MODULES = (mn, F, minunet.nn, minunet.optim, minunet.data, minunet.kernels)

# What users and examples rely on: names and parameters in order, each with its default where it has one. More
# parameters may follow, each with a default. "..." ends what is promised.
CONTRACT = """
Tensor(data, requires_grad=False)
Tensor.numpy()
Tensor.item()
Tensor.backward(grad=None)
Tensor.retain_grad()
Tensor.sum(axis=None, keepdims=False)
Tensor.mean(axis=None, keepdims=False)
Tensor.reshape(*shape)
no_grad()
functional.conv2d(x, weight, bias=None, padding=0)
functional.conv_transpose2d(x, weight, bias=None, stride=2)
functional.max_pool2d(x, kernel_size=2)
functional.relu(x)
functional.dropout(x, p, rng)
functional.batch_norm(x, weight, bias, running_mean, running_var, training)
functional.concat(tensors)
functional.center_crop(x, size)
functional.resize(x, size)
functional.softmax(x)
functional.sigmoid(x)
functional.cross_entropy(logits, target, weight=None, class_weight=None, ignore_index=None, reduction='mean')
functional.binary_cross_entropy_with_logits(logits, target, weight=None)
functional.dice_loss(logits, target)
UNet(in_channels=1, out_channels=2, features=(64, 128, 256, 512), padding='valid', norm=None, dropout=0.0, \
dtype=float32, seed=0)
UNet.parameters()
UNet.named_parameters()
UNet.train()
UNet.eval()
UNet.zero_grad()
UNet.state_dict()
UNet.load_state_dict(state)
UNet.output_size(size)
UNet.to(device)
SGD(parameters, lr=0.01, momentum=0.99, weight_decay=0.0, nesterov=False)
SGD.step()
SGD.zero_grad()
fit(model, dataset)
use_backend(name)
policy(name)
set_num_threads(n)
explain(model, size)
save(model, path, dtype=None)
load(path)
predict(model, image, tile=None, tta=False)
gradcheck(fn, *inputs)
weight_map(labels, w0=10.0, sigma=5.0, class_weight=None)
separate_touching(labels)
elastic_deform(image, labels, weight, sigma=10.0, grid=3, rng=...)
load_torch(path, mapping=None)
export(model, path, to=..., size=...)
trace()
glassbox(model, image, mask=None, path=None)
FileFormatError
label_instances(probability, threshold=0.5, min_size=...)
"""
COMING = {"load_torch", "export", "glassbox"}  # promised, and checked from the day on that they are there
PROMISES = CONTRACT.replace("\\\n", "").split("\n")[1:-1]


def names_of(module):
    """The public names of a module: what it lists, else what is defined in it."""
    listed = getattr(module, "__all__", None)
    return listed or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def undocumented(module):
    """Public functions, classes and methods of a module that say nothing about themselves.

    Three kinds need no words of their own: `forward`, which the class describes, properties that the class's words
    name, and methods of one line that hand on to the function of functional.py of the same name.
    """
    missing = []
    for name in names_of(module):
        value = getattr(module, name)
        if isinstance(value, type):
            missing += [name] * (not vars(value).get("__doc__"))
            missing += [f"{name}.{member}" for member in _methods_without_words(value)]
        elif isinstance(value, types.ModuleType) or callable(value):
            missing += [name] * (not inspect.getdoc(value))
    return missing


def _methods_without_words(cls):
    for name, member in vars(cls).items():
        is_public = not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
        if not is_public or member.__doc__ or name == "forward":
            continue
        if isinstance(member, property):
            is_told = f"`{name}`" in (cls.__doc__ or "")
        else:
            is_told = bool(getattr(getattr(F, name, None), "__doc__", None))
        if not is_told:
            yield name


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_name_is_documented(module):
    assert names_of(module) and undocumented(module) == []


def test_a_missing_docstring_would_be_noticed():
    class Bad:
        """A class."""

        def method(self):
            pass

        @property
        def value(self):
            return 1

        def sum(self):  # as functional.sum
            pass

    planted = types.ModuleType("planted", "Doc.")
    planted.__all__ = ["Bad", "function"]
    planted.Bad, planted.function = Bad, lambda: None
    assert undocumented(planted) == ["Bad.method", "Bad.value", "function"]


def test_every_module_has_its_place_in_the_reference():
    page = (DOCS / "api.rst").read_text(encoding="utf-8")
    assert re.findall(r"automodule:: (\S+)", page) == [module.__name__ for module in MODULES]


# ------------------------------------------------------------------------------------------ the contract


def found(name):
    value = mn
    for part in name.split("."):
        value = getattr(value, part)
    return value


def complaint(promise, value):
    """What of a promise "name(parameters)" does not hold for this object; "" if all does."""
    _, is_called, inside = promise.partition("(")
    if not is_called:
        return "" if isinstance(value, type) else "is no class"
    wanted = [part for part in re.split(r", (?![^(]*\))", inside.rstrip()[:-1]) if part]
    given = [p for p in inspect.signature(value).parameters.values() if p.name != "self"]
    for position, want in enumerate(wanted):
        if position >= len(given) or not _is_kept(want, given[position]):
            return f"expected {want!r} as parameter {position + 1}, found {', '.join(map(str, given))}"
    demanding = [p.name for p in given[len(wanted) :] if p.default is p.empty and p.kind not in VARIABLE]
    return f"{', '.join(demanding)} must have a default" if demanding else ""


VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _is_kept(want, parameter):
    name, _, default = want.partition("=")
    if name.startswith("*"):
        return parameter.kind is inspect.Parameter.VAR_POSITIONAL and parameter.name == name[1:]
    if name != parameter.name:
        return False
    if not default:
        return parameter.default is parameter.empty
    return parameter.default is not parameter.empty and default in ("...", _text(parameter.default))


def _text(default):
    return default.__name__ if isinstance(default, type) else repr(default)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.partition("(")[0])
def test_the_contract_is_kept(promise):
    name = promise.partition("(")[0]
    if name in COMING and name not in mn.__all__:
        pytest.skip(f"mn.{name} has not come yet")
    assert complaint(promise, found(name)) == ""


def test_what_is_promised_is_listed():
    names = {promise.partition("(")[0].partition(".")[0] for promise in PROMISES}
    assert names - COMING <= set(mn.__all__)


def test_a_broken_promise_would_be_noticed():
    def f(x, weight, bias=None, *, size=(2, 3)):
        pass

    for kept in ("f(x, weight, bias=None, size=(2, 3))", "f(x, weight)", "f(x, weight, bias=...)"):
        assert complaint(kept, f) == ""
    for broken in ("f(x)", "f(x, w)", "f(weight, x)", "f(x, weight, bias=0)", "f(x, weight=None)", "f(x, *weight)",
                   "f(x, weight, bias=None, size=(2, 4))", "f(x, weight, bias=None, size=(2, 3), more=1)"):  # fmt: skip
        assert complaint(broken, f) != "", broken
    assert complaint("f", f) == "is no class"


# --------------------------------------------------------------------------------- docstrings as pages


def restructured(text):
    spec = importlib.util.spec_from_file_location("docstrings", DOCS / "docstrings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return "\n".join(module.restructured(inspect.cleandoc(text).splitlines())).strip()


def test_formulas_keep_their_layout_and_lists_become_lists():
    page = restructured("""Sum *a* of x_1: said.

        size: (h, w) of it,
            which is set in.  batch, runs: two more.
        padding: "same", `code
        over lines`.

            y = x_1 * 2
              + 1

        The end.
        """)
    assert page == (
        "Sum \\*a\\* of x\\_1: said.\n\n\n"
        "- **size**: (h, w) of it, which is set in.\n\n"
        "- **batch, runs**: two more.\n\n"
        '- **padding**: "same", ``code over lines``.\n\n'
        "::\n\n        y = x_1 * 2\n          + 1\n\n"
        "The end."
    )
