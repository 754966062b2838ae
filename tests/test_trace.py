"""mn.trace: what it records, that it names the operation and the line of a planted NaN, and that it leaves no trace."""

import ast
import gc
import inspect
import math
import re
import threading
import weakref
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from counted import code_lines

import minunet as mn
import minunet.functional as F
from minunet import autograd
from minunet.display.observing import observe
from minunet.display.trace_drawing import levels

NAMES = {
    "valid": ({"features": (2, 4)}, 2, (60, 76)),
    "same": ({"features": (2, 4), "padding": "same", "norm": "batch", "dropout": 0.2}, 2, (21, 32)),
    "one logit": ({"features": (2, 4), "padding": "same"}, 1, (16, 16)),
    "float64": ({"features": (2,), "padding": "same", "norm": "batch", "dtype": np.float64}, 3, (9, 8)),
}


@pytest.fixture(autouse=True)
def numpy_kernels():
    with mn.use_backend("numpy"), np.errstate(all="ignore"):  # overflows are what is tested here
        yield


def traced(name, loss=None):
    options, classes, size = NAMES[name]
    model = mn.UNet(1, classes, seed=2, **options)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 1, *size)).astype(model.dtype)
    target = rng.integers(0, 2, (2, *model.output_size(size)))
    with mn.trace() as t:
        logits = model(x)
        if classes == 1:
            F.binary_cross_entropy_with_logits(logits, target[:, None].astype(model.dtype)).backward()
        else:
            F.cross_entropy(logits, target).backward()
    return model, t


@pytest.fixture(scope="module")
def recorded():
    with mn.use_backend("numpy"):
        return {name: traced(name) for name in NAMES}


EVERY = pytest.mark.parametrize("name", NAMES)


# ------------------------------------------------------------------------------------------ what is recorded


@EVERY
def test_every_parameter_and_activation_is_there_with_its_norms(name, recorded):
    model, t = recorded[name]
    seen = {operand.name: operand for operation in t.operations for operand in operation.operands if operand.name}
    parameters = dict(model.named_parameters())
    assert seen.keys() == parameters.keys()
    for parameter, operand in seen.items():
        tensor = parameters[parameter]
        assert operand.norm == pytest.approx(np.linalg.norm(tensor.data.astype(float)))
        assert operand.gradient == pytest.approx(np.linalg.norm(tensor.grad.astype(float)), rel=1e-5, abs=1e-12)
        assert (operand.shape, operand.dtype, operand.bytes) == (tensor.shape, tensor.dtype, tensor.data.nbytes)
    assert all(o.gradient is not None and o.backward_seconds >= 0 and o.seconds >= 0 for o in t.operations)
    assert {str(o.dtype) for o in t.operations} == {str(model.dtype)}
    assert t.first_nonfinite is None and [o.number for o in t.operations] == list(range(len(t.operations)))


@EVERY
def test_operations_belong_to_the_layer_whose_parameters_they_take(name, recorded):
    _, t = recorded[name]
    for operation in t.operations:
        for operand in operation.operands:
            assert not operand.name or operand.name.rpartition(".")[0] == operation.layer


def test_values_norms_and_lines_of_a_small_sum():
    a = mn.Tensor(np.array([3.0, 4.0]), requires_grad=True)
    with mn.trace() as t:
        y = a * 2.0
        z = F.sum(y * y)
        z.backward()
    assert [o.name for o in t.operations] == ["multiply", "multiply", "sum"]
    first, second, last = t.operations
    assert (first.norm, second.norm, last.norm) == pytest.approx((10, math.hypot(36, 64), 100))
    assert (last.gradient, second.gradient, first.gradient) == pytest.approx((1, math.sqrt(2), 20))
    assert first.operands[0].source is None and [o.source for o in second.operands] == [0, 0]
    assert first.operands[0].gradient == pytest.approx(40) and first.operands[1].gradient is None
    lines = [int(o.line.rpartition(":")[2]) for o in t.operations]
    assert lines[1] == lines[2] == lines[0] + 1 and all(o.line.startswith(__file__) for o in t.operations)
    assert first.shape == (2,) and first.bytes == 16 and last.shape == ()


def test_norms_do_not_overflow_or_underflow():
    for value in (1e300, 1e-300, np.float32(3e38), np.float32(1e-44)):
        with mn.trace() as t:
            F.reshape(np.full(4, value), 2, 2)
        assert t.operations[0].norm == pytest.approx(2 * float(value))
    with mn.trace() as t:
        F.reshape(np.full(4, np.finfo(float).max), 2, 2)
    assert t.first_nonfinite is None and math.isfinite(t.operations[0].norm)


@EVERY
def test_the_same_bits_with_and_without(name, recorded):
    """What is traced computes what it computes otherwise."""
    options, classes, size = NAMES[name]
    model = mn.UNet(1, classes, seed=2, **options)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 1, *size)).astype(model.dtype)
    target = rng.integers(0, 2, (2, *model.output_size(size)))
    if classes == 1:
        F.binary_cross_entropy_with_logits(model(x), target[:, None].astype(model.dtype)).backward()
    else:
        F.cross_entropy(model(x), target).backward()
    for (parameter, tensor), (_, other) in zip(
        model.named_parameters(), recorded[name][0].named_parameters(), strict=True
    ):
        np.testing.assert_array_equal(tensor.grad, other.grad, err_msg=parameter)


# --------------------------------------------------------------------------------- 20 planted NaN and Inf


HUGE = 1.5e308


def zeros(*shape):
    return mn.Tensor(np.zeros(shape), requires_grad=True)


def full(value, *shape):
    return np.full(shape, float(value))


# Each computes in float64 and marks the line of the operation to be found; those of BACKWARD are finite forwards.


def zero_by_zero():
    a = zeros(2)
    return F.sum(
        a  # here
        / a
    )


def one_by_zero():
    return 1.0 / zeros(2)  # here


def product():
    a = zeros(2) + HUGE
    b = a * 2.0  # here
    return b * 0.0


def sum_of_two():
    a = zeros(2) + HUGE
    return a + a  # here


def sum_of_all():
    a = zeros(2) + HUGE
    return F.sum(a)  # here


def dot_product():
    return (zeros(2, 3) + HUGE) @ full(1, 3, 2)  # here


def convolution():
    return F.conv2d(full(HUGE, 1, 2, 3, 3), zeros(1, 2, 3, 3) + 1.0)  # here


def up_convolution():
    return F.conv_transpose2d(full(HUGE, 1, 2, 3, 3), zeros(2, 1, 2, 2) + 1.0)  # here


def negative_variance():
    x = mn.Tensor(full(1, 1, 1, 2, 2))
    return F.batch_norm(x, zeros(1), zeros(1), full(0, 1), full(-1, 1), training=False)  # here


def inf_minus_inf():
    x = mn.Tensor(full(np.inf, 1, 2, 1, 1), requires_grad=True)
    return F.softmax(x)  # here


def infinite_weight():
    return F.cross_entropy(zeros(1, 2, 1, 1), np.zeros((1, 1, 1), int), weight=full(np.inf, 1, 1, 1))  # here


def own_operation():
    a = zeros(2)
    b = a + 1.0
    return autograd.record("own", b.data * np.nan, (b,), (lambda g: g,))  # here


def square_underflows():
    y = 1.0 / (zeros(2) + 1e-200)  # here
    return F.sum(y * 1e-200)


def two_large_factors():
    a = zeros(2) * 1e300  # here
    return F.sum(a * 1e300)


def gradients_that_add_up():
    a = zeros(2)
    b = a * 1.0  # here
    c = b * HUGE
    return F.sum(c + b * HUGE)


def gradients_that_add_up_in_a_leaf():
    a = zeros(2)
    b = a * HUGE  # here
    return F.sum(a * HUGE + b)


def broadcast_summed():
    y = zeros(1) - zeros(8)  # here
    return F.sum(y * HUGE)


def matrix_summed():
    y = zeros(2, 2) @ full(HUGE, 2, 3)  # here
    return F.sum(y)


def softmax_back():
    x = mn.Tensor(np.log([0.9, 0.1]).reshape(1, 2, 1, 1), requires_grad=True)
    p = F.softmax(x)  # here
    return F.sum(p * np.array([1.7e308, -1.7e308]).reshape(1, 2, 1, 1))


def convolution_back():
    y = F.conv2d(zeros(1, 1, 3, 3), full(HUGE, 4, 1, 3, 3), padding=1)  # here
    return F.sum(y)


def up_convolution_back():
    y = F.conv_transpose2d(zeros(1, 1, 2, 2), full(HUGE, 1, 4, 2, 2))  # here
    return F.sum(y)


def batch_norm_back():
    y = F.batch_norm(zeros(1, 1, 2, 2), zeros(1) + 1e305, zeros(1), full(0, 1), full(1, 1), training=True)  # here
    return F.sum(y * np.array([1e3, -1e3, 1e3, -1e3]).reshape(1, 1, 2, 2))


def resize_back():
    y = F.resize(zeros(1, 1, 2, 2), (8, 8))  # here
    return F.sum(y * HUGE)


def own_operation_back():
    a = zeros(2) + 1.0
    y = autograd.record("own", a.data * 2, (a,), (lambda g: g * np.nan,))  # here
    return F.sum(y)


FORWARD = {
    zero_by_zero: ("divide", "NaN"),
    one_by_zero: ("divide", "infinite value"),
    product: ("multiply", "infinite value"),
    sum_of_two: ("add", "infinite value"),
    sum_of_all: ("sum", "infinite value"),
    dot_product: ("matmul", "infinite value"),
    convolution: ("conv2d", "infinite value"),
    up_convolution: ("conv_transpose2d", "infinite value"),
    negative_variance: ("batch_norm", "NaN"),
    inf_minus_inf: ("softmax", "NaN"),
    infinite_weight: ("cross_entropy", "infinite value"),
    own_operation: ("own", "NaN"),
}
BACKWARD = {
    square_underflows: ("divide", "infinite value"),
    two_large_factors: ("multiply", "infinite value"),
    gradients_that_add_up: ("multiply", "infinite value"),
    gradients_that_add_up_in_a_leaf: ("multiply", "infinite value"),
    broadcast_summed: ("subtract", "infinite value"),
    matrix_summed: ("matmul", "infinite value"),
    softmax_back: ("softmax", "infinite value"),
    convolution_back: ("conv2d", "infinite value"),
    up_convolution_back: ("conv_transpose2d", "infinite value"),
    batch_norm_back: ("batch_norm", "infinite value"),
    resize_back: ("resize", "NaN"),
    own_operation_back: ("own", "NaN"),
}


@pytest.mark.parametrize("planted", [*FORWARD, *BACKWARD], ids=lambda planted: planted.__name__)
def test_a_planted_value_is_found_with_its_operation_and_line(planted):
    lines, start = inspect.getsourcelines(planted)
    marked = start + next(n for n, line in enumerate(lines) if "# here" in line)
    with mn.trace() as t:
        result = planted()
        if result.shape:
            result = F.sum(result)
        result.backward()
    found = t.first_nonfinite
    direction = "forward" if planted in FORWARD else "backward"
    expected = (FORWARD | BACKWARD)[planted]
    assert (found.operation.name, found.found, found.direction) == (*expected, direction)
    assert found.line.rpartition(":")[0] == __file__
    assert int(found.line.rpartition(":")[2]) == marked
    assert found.line in str(found) and t.operations[found.operation.number] is found.operation
    if planted in BACKWARD:
        assert all(math.isfinite(operation.norm) for operation in t.operations)


def test_a_parameter_that_was_nan_before_is_named():
    model = mn.UNet(1, 2, features=(2, 4), padding="same")
    model.downs[1].conv.__dict__["2"].weight.data.flat[0] = np.nan
    with mn.trace() as t:
        model(np.ones((1, 1, 8, 8)))
    found = t.first_nonfinite
    assert (found.operation.layer, found.spoilt) == ("downs.1.conv.2", "downs.1.conv.2.weight")
    assert "its input is finite, up to" in found.evidence and "its weight holds NaN" in found.evidence


def test_a_gradient_that_was_given_as_nan_is_not_called_a_sum():
    a = zeros(2)
    with mn.trace() as t:
        (a * 2.0).backward(full(np.nan, 2))
    assert t.first_nonfinite.evidence == "the gradient given to it holds NaN"


def test_gradients_that_are_forgotten_inside_are_no_fault():
    a = zeros(2)
    with mn.trace() as t:
        F.sum(a * 2.0).backward()
        a.grad = None
    assert t.first_nonfinite is None


# ---------------------------------------------------------------------------- blocks, threads, what is left


def test_nested_traces_see_the_same_and_only_what_is_inside():
    a = zeros(3)
    with mn.trace() as outer:
        b = a + 1.0
        with mn.trace() as inner:
            c = b * 2.0
        F.sum(c).backward()
    assert [o.name for o in outer.operations] == ["add", "multiply", "sum"]
    assert [o.name for o in inner.operations] == ["multiply"]
    assert inner.operations[0].operands[0].source is None and outer.operations[1].operands[0].source == 0
    assert inner.operations[0].gradient is None, "its way back was after its end"
    assert all(operation.gradient is not None for operation in outer.operations)
    np.testing.assert_array_equal(a.grad, full(2, 3))


def test_an_error_inside_ends_the_trace_and_keeps_what_was_seen():
    with pytest.raises(ValueError, match="shapes"), mn.trace() as t:
        a = zeros(2, 3) + 1.0
        a @ a
    assert [o.name for o in t.operations] == ["add"] and autograd.state.observers == ()
    zeros(2) + 1.0
    assert len(t.operations) == 1


def test_no_grad():
    with mn.trace() as t, mn.no_grad():
        y = zeros(2) * 2.0
    assert y.node is None and [o.name for o in t.operations] == ["multiply"]
    assert t.operations[0].backward_seconds is None and "multiply" in t.table().text()


def test_inference_with_batch_norm_folded_into_the_convolutions():
    model = mn.UNet(1, 2, features=(2,), padding="same", norm="batch").eval()
    with mn.trace() as t, mn.no_grad():
        model(np.ones((1, 1, 4, 4)))
    assert t.operations[0].layer == "downs.0.conv.0" and t.operations[0].name == "conv2d_relu"


def test_other_threads_are_not_seen():
    with mn.trace() as t:
        thread = threading.Thread(target=lambda: zeros(2) * 2.0)
        thread.start()
        thread.join()
    assert t.operations == []


def test_two_threads_trace_apart():
    found = {}

    def work(count):
        with mn.trace() as t:
            a = zeros(2)
            for _ in range(count):
                a = a + 1.0
            F.sum(a).backward()
        found[count] = [(o.name, o.gradient is not None) for o in t.operations]

    threads = [threading.Thread(target=work, args=(count,)) for count in (20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for count in (20, 30):
        assert found[count] == [("add", True)] * count + [("sum", True)]


def test_a_trace_keeps_no_array():
    gc.disable()
    try:
        with mn.trace() as t:
            a = zeros(2)
            y = a * 2.0
            z = F.sum(y)
            array = weakref.ref(y.data)
            del y
            z.backward()
            del z
            assert array() is None
        leaf = weakref.ref(a)
        del a
        assert leaf() is None and len(t.operations) == 2
    finally:
        gc.enable()


def test_the_hook_is_off_outside_and_observers_see_in_turn():
    seen = []

    def observer(name, result, inputs, vjps, upstream):
        seen.append((name, result.shape))
        return vjps, upstream

    with observe(observer):
        zeros(2) + 1.0
        with observe(observer):
            zeros(3) * 1.0
    zeros(4) + 1.0
    assert seen == [("add", (2,)), ("multiply", (3,)), ("multiply", (3,))]


def test_time_of_a_nested_trace_counts_in_none(monkeypatch):
    """Looking at arrays takes a second here; no operation takes as long."""
    import time

    from minunet.display import trace as module

    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    plain = module.norm

    def slow_norm(array):
        clock[0] += 1.0
        return plain(array)

    monkeypatch.setattr(module, "norm", slow_norm)
    with mn.trace() as outer, mn.trace() as inner:
        F.sum(zeros(2) * 2.0).backward()
    for t in (outer, inner):
        assert all(o.seconds == o.backward_seconds == 0 for o in t.operations)


# ----------------------------------------------------------------------------------- the table, the picture


@EVERY
def test_the_table_has_a_row_for_every_operation_and_parameter(name, recorded):
    model, t = recorded[name]
    rows, (total,) = t.table().sections
    assert sum(not row[0].startswith(" ") for row in rows) == len(t.operations)
    assert sum(row[0].strip() in ("weight", "bias") for row in rows) == len(model.parameters())
    assert total[0] == "total" and "all values are finite" in str(t)
    assert "test_trace.py:" in str(t) and t.table().html() in t._repr_html_() and t.svg() in t._repr_html_()


@EVERY
def test_the_picture_is_the_u(name, recorded):
    model, t = recorded[name]
    depth = levels(t.operations)
    assert depth[0] == 0 and depth[-1] == 0 and max(depth) == model.levels
    downs = [depth[o.number] for o in t.operations if o.name == "max_pool2d"]
    ups = [depth[o.number] for o in t.operations if o.name == "conv_transpose2d"]
    assert downs == list(range(1, model.levels + 1)) and ups == list(reversed(range(model.levels)))

    root = ElementTree.fromstring(t.svg())
    svg = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{svg}svg" and root.get("role") == "img"
    assert [child.tag for child in root][:2] == [f"{svg}title", f"{svg}desc"]
    assert root.find(f"{svg}title").text and f"{model.levels + 1} levels" in root.find(f"{svg}desc").text
    assert "prefers-color-scheme:dark" in root.find(f"{svg}style").text
    bars = root.findall(f"{svg}g")
    assert [bar.find(f"{svg}text").text for bar in bars] == [o.name for o in t.operations]
    edges = {(o.number, p.source) for o in t.operations for p in o.operands if p.source is not None}
    ways = [path for path in root.findall(f"{svg}path") if path.get("class") == "way"]
    assert len(ways) == len(edges)
    assert sum("q" in way.get("d") for way in ways) >= model.levels  # the skips
    assert all(0 <= float(bar.find(f"{svg}rect").get("x")) < float(root.get("width")) for bar in bars)


def test_the_picture_shows_what_is_not_finite_and_escapes_names():
    with mn.trace() as t:
        a = zeros(2)
        autograd.record("<&>", a.data / 0, (a,), (lambda g: g,))
    text = t.svg()
    ElementTree.fromstring(text)
    assert "NaN" in text and "&lt;&amp;&gt;" in text and 'class="bar bad"' in text and "<&>" not in text


def test_an_empty_trace():
    with mn.trace() as t:
        pass
    assert t.first_nonfinite is None and "0 operations" in str(t)
    ElementTree.fromstring(t.svg())


# --------------------------------------------------------------------------------------------- the short core


def functions_with_vjps():
    """{name: (docstring, the lambdas and inner functions)} of all functions of functional.py that call `record`."""
    tree = ast.parse(Path(F.__file__).read_text(encoding="utf-8"))
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        calls = [n.func.id for n in ast.walk(function) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
        if "record" in calls:
            within = [node for node in ast.walk(function) if node is not function]
            vjps = [node for node in within if isinstance(node, (ast.Lambda, ast.FunctionDef))]
            yield function.name, ast.get_docstring(function), vjps


def test_every_vjp_is_at_most_15_lines_of_code_beside_its_derivation():
    """A VJP is a lambda or an inner function of an operation; its lines are those with code, as for autograd.py."""
    source = Path(F.__file__).read_text(encoding="utf-8")
    code, found = code_lines(source), 0
    for name, docstring, inner in functions_with_vjps():
        assert inner or name == "to_device", name  # its VJP is device.to_host itself
        for vjp in inner:
            found += 1
            assert len(code & set(range(vjp.lineno, vjp.end_lineno + 1))) <= 15, f"{name}, line {vjp.lineno}"
        if name in DERIVED_ELSEWHERE:
            docstring = " ".join(getattr(F, public).__doc__ for public in DERIVED_ELSEWHERE[name])
        assert re.search(r"d[lL]/d|gets its own channels of g", docstring), f"{name}: no derivation in its docstring"
    assert found > 30


DERIVED_ELSEWHERE = {"_batch_norm": ("batch_norm", "batch_norm_relu")}  # one body of two operations
