"""The chain rule: accumulation, reuse, memory, and errors that say what is wrong."""

import gc
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from counted import code_lines

import minunet as mn
import minunet.functional as F
from minunet import autograd
from minunet.autograd import Node, record

NUMBERS = np.arange(1.0, 7.0).reshape(2, 3)


def leaf(value, dtype=np.float64) -> mn.Tensor:
    return mn.Tensor(np.array(value, dtype), requires_grad=True)


def operation(x: mn.Tensor, vjp, name="double") -> mn.Tensor:
    """y = 2 x with any VJP."""
    return record(name, x.data * 2, (x,), (vjp,))


def equal(array, expected) -> None:
    """Same numbers, shape and kind of object: `grad` is an array even where it has no axes."""
    assert isinstance(array, np.ndarray)
    assert array.shape == np.shape(expected)
    np.testing.assert_allclose(array, expected, rtol=1e-12)


@pytest.fixture
def no_collector():
    """Inside the test only reference counts free memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# ------------------------------------------------------------------------------------------ tensors


def test_arrays_keep_their_dtype_and_are_not_copied():
    for dtype in (np.float32, np.float64, np.int16, bool):
        array = np.ones(3, dtype)
        assert mn.Tensor(array).data is array
        assert mn.Tensor(array).numpy() is array
        assert mn.Tensor(mn.Tensor(array)).data is array


@pytest.mark.parametrize("value", [1, 2.5, [1, 2], [[1.0], [2.0]], True])
def test_numbers_and_lists_become_float32(value):
    assert mn.Tensor(value).dtype == np.float32
    assert mn.Tensor(value).shape == np.shape(value)


@pytest.mark.parametrize("number", [np.float32(2), np.float64(2), np.int8(2)])
def test_numpy_numbers_keep_their_dtype_and_become_arrays(number):
    tensor = mn.Tensor(number)
    assert isinstance(tensor.data, np.ndarray)
    assert tensor.dtype == number.dtype
    assert tensor.item() == 2


def test_text_form():
    x = leaf([1.0, 2.0], np.float32)
    assert repr(x) == "Tensor([1. 2.], float32, requires_grad=True)"
    assert repr(x * x) == "Tensor([1. 4.], float32, from multiply)"
    assert repr(mn.Tensor([1])) == "Tensor([1.], float32)"


# ---------------------------------------------------------------------------- accumulation and reuse


def test_gradients_add_up_in_leaves():
    x = leaf([1.0, 2.0])
    (3 * x).sum().backward()
    equal(x.grad, [3, 3])
    (4 * x).sum().backward()
    equal(x.grad, [7, 7])


def test_a_tensor_used_twice_gets_both_gradients():
    x = leaf(3.0)
    (x * x).backward()
    equal(x.grad, 6)
    y = leaf([1.0, 2.0])
    (y + y).sum().backward()
    equal(y.grad, [2, 2])
    z = leaf([1.0, 2.0])
    (z - z).sum().backward()
    equal(z.grad, [0, 0])


def test_diamond():
    """y = x^2 is used by two branches: its node must wait for both."""
    x = leaf(2.0)
    y = x * x
    (3 * y + y * y).backward()
    equal(x.grad, 2 * 2 * (3 + 2 * 4))


def test_branches_of_different_length():
    x = leaf(2.0)
    long = x
    for _ in range(5):
        long = long * x
    (x * long + x).backward()
    equal(x.grad, 7 * 2.0**6 + 1)


def test_only_what_is_needed_is_recorded_and_called():
    calls = []
    a, b = leaf([1.0]), mn.Tensor(np.ones(1))

    def vjp(name):
        return lambda g: calls.append(name) or g

    record("sum", a.data + b.data, (a, b), (vjp("a"), vjp("b"))).backward()
    assert calls == ["a"]
    calls.clear()
    record("sum", a.data + b.data, (b, a), (vjp("b"), vjp("a"))).backward()
    assert calls == ["a"]
    assert b.grad is None
    assert record("sum", b.data, (b,), (vjp("b"),)).node is None


def test_operations_call_no_kernel_for_inputs_without_gradient(monkeypatch):
    from minunet import kernels

    def forbidden(*_):
        raise AssertionError("this gradient was not asked for")

    monkeypatch.setattr(kernels.conv2d, "backward_input", forbidden)
    image, weight = mn.Tensor(np.ones((1, 1, 4, 4))), leaf(np.ones((1, 1, 3, 3)))
    F.conv2d(image, weight).sum().backward()
    assert weight.grad is not None


# --------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize(
    "a, b",
    [((2, 3), (3,)), ((3,), (2, 3)), ((2, 1), (1, 3)), ((), (2, 3)), ((2, 3), ()), ((4, 1, 3), (2, 1)), ((), ())],
)  # fmt: skip
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_broadcasting(name, a, b):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(1, 2, a), rng.uniform(1, 2, b)
    u, v = leaf(x), leaf(y)
    result = getattr(F, name)(u, v)
    assert isinstance(result.data, np.ndarray)
    equal(result.data, getattr(np, name)(x, y))
    g = rng.standard_normal(result.shape)
    result.backward(g)
    du, dv = {"add": (1, 1), "subtract": (1, -1), "multiply": (y, x), "divide": (1 / y, -x / y**2)}[name]
    for tensor, derivative in ((u, du), (v, dv)):
        full = g * derivative * np.ones(result.shape)
        lead = full.ndim - len(tensor.shape)
        ones = tuple(lead + k for k, n in enumerate(tensor.shape) if n == 1)
        expected = full.sum(axis=(*range(lead), *ones), keepdims=True).reshape(tensor.shape)
        equal(tensor.grad, expected)


def test_operators_with_numbers_and_arrays_on_either_side():
    x, array = leaf([1.0, 2.0]), np.array([4.0, 8.0])
    for result, value, slope in [
        (2 + x, [3, 4], 1),
        (x - 1, [0, 1], 1),
        (1 - x, [0, -1], -1),
        (3 * x, [3, 6], 3),
        (x / 2, [0.5, 1], 0.5),
        (4 / x, [4, 2], [-4, -1]),
        (-x, [-1, -2], -1),
        (array + x, [5, 10], 1),
        (array - x, [3, 6], -1),
        (array * x, [4, 16], array),
        (array / x, [4, 4], [-4, -2]),
        (np.float64(2) * x, [2, 4], 2),
        (np.float32(2) * leaf([1.0, 2.0], np.float32), [2, 4], None),
    ]:
        assert isinstance(result, mn.Tensor)
        equal(result.data, value)
        if slope is not None:
            x.grad = None
            result.sum().backward()
            equal(x.grad, np.broadcast_to(slope, 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_python_numbers_do_not_change_the_dtype(dtype):
    x = leaf([1.0, 2.0], dtype)
    loss = ((2 * x + 1) / 3 - 0.5).mean()
    assert loss.dtype == dtype
    loss.backward()
    assert x.grad.dtype == dtype


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 1), (0, 2), (-1, 0), (0, 1, 2)])
@pytest.mark.parametrize("name", ["sum", "mean"])
def test_reductions(name, axis, keepdims):
    rng = np.random.default_rng(0)
    x = leaf(rng.standard_normal((2, 3, 4)))
    y = getattr(x, name)(axis=axis, keepdims=keepdims)
    equal(y.data, getattr(np, name)(x.data, axis=axis, keepdims=keepdims))
    g = rng.standard_normal(y.shape)
    y.backward(g)
    kept = x.data.sum(axis=axis, keepdims=True)
    share = kept.size / x.data.size if name == "mean" else 1
    equal(x.grad, np.broadcast_to(g.reshape(kept.shape) * share, x.shape))


def test_reductions_of_a_number():
    x = leaf(3.0)
    (x.sum() + x.mean()).backward()
    equal(x.grad, 2)


@pytest.mark.parametrize("shape", [((3, 2),), (3, 2), (-1,), ((6,),), ([2, 3],), (1, 2, 3, 1)])
def test_reshape(shape):
    x = leaf(NUMBERS)
    y = x.reshape(*shape)
    equal(y.data, NUMBERS.reshape(*shape))
    y.backward(y.data * 2)
    equal(x.grad, NUMBERS * 2)


def test_reshape_to_one_number_and_back():
    x = leaf([[5.0]])
    y = x.reshape(())
    (y * y).backward()
    equal(x.grad, [[10.0]])


@pytest.mark.parametrize(
    "a, b",
    [((2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((6, 1, 2, 3), (5, 3, 1))],
)  # fmt: skip
def test_matmul(a, b):
    rng = np.random.default_rng(0)
    x, y = leaf(rng.standard_normal(a)), leaf(rng.standard_normal(b))
    z = x @ y
    equal(z.data, x.data @ y.data)
    g = rng.standard_normal(z.shape)
    z.backward(g)
    # The same sums, written as a sum over products with explicit broadcasting.
    u, v = np.broadcast_to(x.data, (*z.shape[:-2], *a[-2:])), np.broadcast_to(y.data, (*z.shape[:-2], *b[-2:]))
    du = np.einsum("...ik,...jk->...ij", g, v)
    dv = np.einsum("...ij,...ik->...jk", u, g)
    for tensor, full in ((x, du), (y, dv)):
        equal(tensor.grad, F._broadcast_back(full, tensor.shape))


def test_matmul_with_arrays():
    x, array = leaf(NUMBERS), np.ones((2, 2))
    equal((array @ x).data, array @ NUMBERS)
    equal((x @ NUMBERS.T).data, NUMBERS @ NUMBERS.T)


# ---------------------------------------------------------------------- no_grad, retain_grad, dtypes


def test_no_grad_records_nothing():
    x = leaf([1.0])
    with mn.no_grad():
        y = x * x
        with mn.no_grad():
            assert (x * x).node is None
        assert (x * x).node is None
    assert y.node is None and not y.requires_grad
    assert (x * x).node is not None


def test_no_grad_ends_with_an_error():
    x = leaf([1.0])
    with pytest.raises(KeyError), mn.no_grad():
        raise KeyError
    assert (x * x).requires_grad


def test_no_grad_is_for_its_thread_only():
    x, recorded = leaf([1.0]), []
    worker = threading.Thread(target=lambda: recorded.append((x * x).requires_grad))
    with mn.no_grad():
        worker.start()
        worker.join()
    assert recorded == [True]


def test_retain_grad():
    x = leaf(3.0)
    y = x * x
    z = 2 * y
    y.retain_grad()
    z.retain_grad()
    z.backward()
    equal(y.grad, 2)
    equal(z.grad, 1)
    equal(x.grad, 12)
    x.retain_grad()  # a leaf keeps its gradient anyway
    assert (x * 2).grad is None


def test_retain_grad_keeps_no_tensor_alive(no_collector):
    x = leaf(3.0)
    y = x * x
    y.retain_grad()
    dead = weakref.ref(y)
    z = 2 * y
    del y
    assert dead() is None
    z.backward()
    equal(x.grad, 12)


@pytest.mark.parametrize("dtype", [int, np.uint8, bool])
def test_integers_cannot_require_gradients(dtype):
    with pytest.raises(TypeError, match="only tensors of floating dtype can require gradients"):
        mn.Tensor(np.ones(2, dtype), requires_grad=True)


def test_dtypes_do_not_mix():
    x = leaf([1.0], np.float32)
    message = "multiply: all inputs must have one floating dtype, float32 or float64, found float32, float64"
    with pytest.raises(TypeError, match=message):
        x * leaf([1.0], np.float64)
    with pytest.raises(TypeError, match=r"add: all inputs must have one floating dtype, .* found float32, int64"):
        x + np.ones(1, np.int64)
    with pytest.raises(TypeError, match="one floating dtype"):
        mn.Tensor(np.ones(1, int)) + 1


# --------------------------------------------------------------------------- errors of backward()


def test_a_second_backward_is_an_error():
    x = leaf(2.0)
    y = x * x
    y.backward()
    with pytest.raises(RuntimeError, match=r"backward\(\) went through multiply before.*run forward again"):
        y.backward()
    equal(x.grad, 4)


def test_backward_through_a_freed_part_changes_nothing():
    x, other = leaf(2.0), leaf(1.0)
    shared = x * x
    shared.backward()
    with pytest.raises(RuntimeError, match="freed"):
        (other + shared).backward()
    assert other.grad is None
    equal(x.grad, 4)


def test_backward_needs_something_that_requires_a_gradient():
    for tensor in (mn.Tensor([1.0]), mn.Tensor([1.0]) * 2):
        with pytest.raises(RuntimeError, match="does not depend on anything that requires a gradient"):
            tensor.backward()


def test_backward_of_many_values_needs_a_gradient():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) needs `grad`, an array of that shape"):
        (leaf(NUMBERS) * 2).backward()
    one = leaf([[4.0]])
    (one * one).backward()  # one value of any shape does without
    equal(one.grad, [[8.0]])


@pytest.mark.parametrize(
    "grad, found",
    [
        (np.ones((3, 2)), r"\(3, 2\) float64"),
        (np.ones(3), r"\(3,\) float64"),
        (np.ones((2, 3), np.float32), r"\(2, 3\) float32"),
        (np.ones((2, 3), int), r"\(2, 3\) int64"),
        (1.0, r"1\.0"),
        ([[1.0] * 3] * 2, r"\[\[1\.0"),
    ],
)
def test_a_gradient_must_fit(grad, found):
    with pytest.raises(ValueError, match=rf"backward: .* shape \(2, 3\) float64, found {found}"):
        (leaf(NUMBERS) * 2).backward(grad)


WRONG_VJPS = {
    "part": lambda g: g[:1],
    "other dtype": lambda g: g.astype(np.float32),
    "nothing": lambda g: None,
    "missing broadcast": lambda g: g.sum(),
    "one more axis": lambda g: g[None],
}


@pytest.mark.parametrize("vjp", WRONG_VJPS.values(), ids=WRONG_VJPS)
def test_a_wrong_vjp_is_caught(vjp):
    with pytest.raises(ValueError, match=r"double: gradient must be an array of shape \(2, 3\) float64"):
        operation(leaf(NUMBERS), vjp).sum().backward()


def test_backward_of_a_leaf():
    x = leaf(NUMBERS)
    given = np.ones((2, 3))
    x.backward(given)
    x.backward(mn.Tensor(given))
    equal(x.grad, 2 * given)
    equal(given, np.ones((2, 3)))


# -------------------------------------------------------------------------- whose array it is


def test_leaves_never_share_a_gradient():
    a, b = leaf(NUMBERS), leaf(NUMBERS)
    y = a + b
    y.retain_grad()
    given = np.ones((2, 3))
    y.backward(given)
    for first, second in [(a, b), (a, y), (b, y)]:
        assert not np.shares_memory(first.grad, second.grad)
    for tensor in (a, b, y):
        assert not np.shares_memory(tensor.grad, given)
        tensor.grad += 1  # writable, and its own
    equal(given, np.ones((2, 3)))


def test_views_of_one_gradient_are_copied():
    a, b = leaf(np.ones((1, 1, 2, 2))), leaf(np.ones((1, 2, 2, 2)))
    F.concat([a, b]).sum().backward()
    assert not np.shares_memory(a.grad, b.grad)
    assert a.grad.flags.writeable and b.grad.flags.writeable


def test_the_given_gradient_is_never_written():
    x = leaf(NUMBERS)
    given = np.random.default_rng(0).standard_normal((2, 3))
    before = given.copy()
    given.flags.writeable = False
    y = x + x.reshape(3, 2).reshape(2, 3) + (x * x) / 2
    y.backward(given)
    y = -x
    y.backward(given)
    equal(given, before)


def test_arrays_in_a_users_hands_are_never_written():
    x = leaf(NUMBERS)
    (x * x).sum().backward()
    held, before = x.grad, x.grad.copy()
    y = x * 3
    result, value = y.data, y.data.copy()
    (y + y).sum().backward()
    equal(held, before)
    equal(result, value)
    equal(x.grad, before + 6)
    equal(x.data, NUMBERS)


# ----------------------------------------------------------------------------- depth and memory


@pytest.mark.parametrize("depth", [5_000, 50_000])
def test_deep_graphs_do_not_recurse(depth):
    x = leaf(1.0)
    y = x
    for _ in range(depth):
        y = y + x
    y.backward()
    equal(x.grad, depth + 1)


@pytest.mark.parametrize("depth", [5_000, 50_000])
def test_deep_graphs_are_deleted_without_recursion(depth):
    x = leaf(1.0)
    y = x
    for _ in range(depth):
        y = -y
    del y
    assert live_nodes() == 0


def live_nodes() -> int:
    """Nodes anywhere in memory: they have no weak references, but the collector knows them."""
    return sum(type(o) is Node for o in gc.get_objects())


@pytest.mark.parametrize("architecture", [("valid", None), ("same", "batch")])
def test_reference_counts_free_the_graph(architecture, no_collector):
    """Without the cyclic collector; after backward(), and if it is never called."""
    padding, norm = architecture
    with mn.use_backend("numpy"):
        model = mn.UNet(1, 2, (2, 3), padding, norm, dropout=0.5, dtype=np.float64)
        for run_backward in (True, False):
            image = mn.Tensor(np.random.default_rng(0).standard_normal((2, 1, 44, 44)))
            features = model.downs[0](image)
            logits = model(image)
            target = np.zeros((2, *logits.shape[2:]), int)
            loss = F.cross_entropy(logits, target) + F.dice_loss(logits, target) + features.mean()
            watched = [weakref.ref(o) for t in (image, features, logits, loss) for o in (t, t.data)]
            assert live_nodes() > 20
            if run_backward:
                loss.backward()
                assert live_nodes() == 3  # those of features, logits and loss, which nothing follows
            del image, features, logits, loss
            assert [ref() for ref in watched if ref() is not None] == []
            assert live_nodes() == 0


def test_backward_drops_gradients_and_arrays_on_the_way(no_collector):
    """At any moment of the walk at most two gradients are alive, and no array of a node that had its turn."""
    gradients, arrays, alive = [], [], []
    x = leaf(np.zeros(1000))
    y = x
    for depth in range(20):
        held = np.ones(1000)
        arrays.append(weakref.ref(held))

        def vjp(g, held=held, depth=depth):
            assert all(ref() is None for ref in arrays[depth + 1 :])
            result = g * held
            gradients.append(weakref.ref(result))
            alive.append(sum(ref() is not None for ref in gradients))
            return result

        y = operation(y, vjp)
        del held, vjp
    y.backward(np.ones(1000))
    assert max(alive) <= 2
    assert all(ref() is None for ref in (*gradients, *arrays))
    equal(x.grad, np.ones(1000))


def test_nodes_hold_no_tensor_of_a_result(no_collector):
    x = leaf(NUMBERS)
    y = F.relu(x * x)
    inner = weakref.ref(y)
    z = y.sum()
    del y
    assert inner() is None
    z.backward()
    equal(x.grad, 2 * NUMBERS)


def test_activations_that_no_vjp_needs_are_free_at_once(no_collector):
    x = leaf(NUMBERS)
    y = x + 1
    array = weakref.ref(y.data)
    z = y.sum()
    del y
    assert array() is None
    z.backward()


# ------------------------------------------------------------------------------------------ length


def test_autograd_is_at_most_120_lines_of_code():
    """The promise of the design: without blank lines, comments and docstrings."""
    assert len(code_lines(Path(autograd.__file__).read_text(encoding="utf-8"))) <= 120


def test_a_line_is_counted_where_it_holds_code():
    source = '"""Text\nof two lines."""\n\n# why\nx = (1,  # one\n     2)\n\n\ndef f():\n    """Doc."""\n    return x\n'
    assert code_lines(source) == {5, 6, 9, 11}
