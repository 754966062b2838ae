"""Compiled code: kept between processes, never stale, and right for other instruction sets."""

import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minunet as mn
from minunet import kernels

pytest.importorskip("numba")
import numba

from minunet.kernels import code_cache, simd, sources

FOLDER = Path(kernels.__file__).parent


def start(code, *arguments, **environment):
    """A Python process with these environment variables changed (None: removed)."""
    env = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """What the process printed last, read as JSON, and its stderr."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1]), err


def run(code, *arguments, **environment):
    return finish(start(code, *arguments, **environment))[0]


# ------------------------------------------------------------------------------------- what a process compiles

# The kernels that predicting, and then a step of training, found in the cache and compiled.
PREDICT_AND_TRAIN = """
import json, sys
from pathlib import Path
import numpy as np
import minunet as mn
import minunet.functional as F
from minunet import cli

folder = Path(sys.argv[1])
model = mn.UNet(features=(8, 16), norm="batch", padding="same")
mn.save(model, folder / "model.npz")
np.save(folder / "image.npy", np.ones((40, 40), np.float32))
paths = [str(folder / name) for name in ("model.npz", "image.npy")]
assert cli.main(["predict", *paths, "--out", str(folder / "out"), "--backend", "numba"]) == 0
from minunet.kernels import jit
predicting = jit.statistics()
optimizer = mn.SGD(model.parameters(), lr=0.1, momentum=0.9)
F.cross_entropy(model(np.ones((2, 1, 32, 32), np.float32)), np.zeros((2, 32, 32), np.int64)).backward()
optimizer.step()
print(json.dumps([predicting, jit.statistics()]))
"""


def test_a_second_process_compiles_nothing_and_only_what_is_called_is_loaded(tmp_path):
    cache = str(code_cache.folders()[0])  # of this run of the tests: most kernels are in it already
    run(PREDICT_AND_TRAIN, tmp_path, NUMBA_CACHE_DIR=cache)
    process = start(PREDICT_AND_TRAIN, tmp_path, NUMBA_CACHE_DIR=cache)
    (predicting, training), err = finish(process)
    assert len(training) > len(predicting) > 3
    assert not any(compiled for _, compiled in training.values())
    assert not [name for name in predicting if "backward" in name or "weight_blocks" in name or "sgd" in name]
    assert "compiling" not in err


RELU = """
import json
import numpy as np
from minunet import kernels
from minunet.kernels import code_cache, jit

with kernels.use_backend("numba"):
    kernels.relu.forward(np.ones((1, 3, 9, 9), np.float32))
found = [sum(counts) for counts in zip(*jit.statistics().values())]
print(json.dumps({"found": found[0], "compiled": found[1], "folders": [str(f) for f in code_cache.folders()]}))
"""


def test_an_empty_cache_is_filled_in_the_users_cache_directory(tmp_path):
    """And nothing is written where minunet is installed."""
    before = {file for file in FOLDER.rglob("*") if "__pycache__" not in file.parts}
    variables = dict(NUMBA_CACHE_DIR=None, XDG_CACHE_HOME=None, HOME=str(tmp_path), LOCALAPPDATA=str(tmp_path))
    first = run(RELU, **variables)
    assert first["found"] == 0 and first["compiled"] > 0
    folder = Path(first["folders"][0])
    assert folder.is_relative_to(tmp_path) and len(list(folder.rglob("*.code"))) == first["compiled"]
    second = run(RELU, **variables)
    assert second["found"] > 0 and second["compiled"] == 0
    assert {file for file in FOLDER.rglob("*") if "__pycache__" not in file.parts} == before


# ------------------------------------------------------------------ a kernel in a file of the user, in this process

KERNEL = """
from minunet.kernels.jit import serial
from helper import shifted
import sizes

@serial
def inner(x):
    return shifted(x) * sizes.FACTOR

@serial
def kernel(x):
    return inner(x)
"""
SIZES = "FACTOR = 2\n"
HELPER = """
from llvmlite import ir
from numba.extending import intrinsic

SHIFT = 10

@intrinsic
def shifted(typingctx, x):
    def emit(context, builder, signature, arguments):
        return builder.add(arguments[0], ir.Constant(arguments[0].type, SHIFT))

    return x(x), emit
"""


def write_kernel(folder):
    for name, text in {"kernel.py": KERNEL, "helper.py": HELPER, "sizes.py": SIZES}.items():
        (folder / name).write_text(text)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Executes the user's files anew, as a new process would, with an empty cache at first; returns its module."""
    (tmp_path / "user").mkdir()
    write_kernel(tmp_path / "user")
    monkeypatch.syspath_prepend(str(tmp_path / "user"))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def load():
        forget_sources()
        for name in ("kernel", "helper", "sizes"):
            sys.modules.pop(name, None)
        monkeypatch.setattr(sources, "LOADED_AT", time.time() + 10)  # files written in this test count as old
        return __import__("kernel")

    yield load
    for name in set(sys.modules) - before:
        if name in ("kernel", "helper", "sizes"):
            del sys.modules[name]


def forget_sources():
    sources.sources_of.cache_clear()
    sources._imported_files.cache_clear()


def compiled(module):
    return sum(sum(function.stats.cache_misses.values()) for function in (module.kernel, module.inner))


def code_files(tmp_path):
    return sorted((tmp_path / "cache").rglob("*.code"))


def test_kept_code_is_found_again(load, tmp_path, caplog):
    """And a program that wants to know is told of compiling: of the function called, with all that it calls."""
    caplog.set_level(logging.INFO, logger="minunet.kernels")
    told = []
    kernels.on_compile(told.append)
    try:
        module = load()
        assert module.kernel(1) == 22 and compiled(module) == 2
        assert told == [True, False]
        assert [line.split()[1] for line in caplog.messages] == ["kernel.inner", "kernel.kernel"]
        assert len(code_files(tmp_path)) == 2
        again = load()
        assert again.kernel(1) == 22 and compiled(again) == 0
        assert told == [True, False]
    finally:
        kernels.on_compile(None)


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data.replace(b"ELF", b"elf", 1)],
    ids=["half of it", "empty", "one word"],
)
def test_a_spoilt_file_is_compiled_anew(load, tmp_path, spoil):
    load().kernel(1)
    for file in code_files(tmp_path):
        file.write_bytes(spoil(file.read_bytes()))
    module = load()
    assert module.kernel(1) == 22 and compiled(module) == 2
    assert compiled(load()) == 0


def test_a_file_that_cannot_be_understood_is_compiled_anew(load, tmp_path):
    load().kernel(1)
    for file in code_files(tmp_path):
        code_cache._write(file, b"whole, but of another program")
    assert load().kernel(1) == 22


def test_an_edit_is_seen_and_older_code_goes(load, tmp_path):
    """Of the file itself, of a constant and of emitted instructions elsewhere: all of one size, within a second."""
    results = [load().kernel(1)]
    edits = [("sizes.py", "= 2", "= 3"), ("helper.py", ".add", ".sub"), ("kernel.py", "inner(x)\n", "inner(2)\n")]
    for name, old, new in edits:
        file = tmp_path / "user" / name
        file.write_text(new.join(file.read_text().rsplit(old, 1)))
        results.append(load().kernel(1))
    assert results == [22, 33, -27, -24]
    assert len(code_files(tmp_path)) == 2


def test_a_constant_that_was_set_from_elsewhere_is_seen(load):
    """As a test does, or an environment variable: code made with it is not taken for the file's."""
    module = load()
    sys.modules["sizes"].FACTOR = 5
    assert module.kernel(1) == 55
    assert load().kernel(1) == 22


def test_constants_of_all_that_is_called_count(load):
    module = load()
    found = code_cache.frozen_values(module.kernel.py_func)
    assert {"kernel.sizes.FACTOR = 2", "helper.SHIFT = 10"} <= found
    for value in (2.0, (2, (3, "a")), np.array([3, 4]), np.array([3, 5])):
        sys.modules["sizes"].FACTOR = value
        before, found = found, code_cache.frozen_values(module.kernel.py_func)
        assert found != before


def test_an_edit_while_the_process_runs_keeps_code_out_of_the_cache(load, tmp_path, monkeypatch):
    """What was loaded is not what the file holds now: it must be neither kept, nor taken for the file's."""
    module = load()
    assert module.kernel(1) == 22
    running = load()
    monkeypatch.setattr(sources, "LOADED_AT", time.time())
    time.sleep(0.1)
    (tmp_path / "user" / "helper.py").write_text(HELPER.replace("add", "sub"))
    assert running.kernel(1) == 22 and compiled(running) == 2
    assert load().kernel(1) == -18


def test_a_file_that_goes_while_the_process_runs(load, tmp_path):
    module = load()
    (tmp_path / "user" / "helper.py").unlink()
    assert module.kernel(1) == 22 and not code_files(tmp_path)


def test_types_settings_and_processors_have_files_of_their_own(load, tmp_path, monkeypatch):
    module = load()
    module.kernel(1)
    module.kernel(np.uint8(1))
    assert len(code_files(tmp_path)) == 4
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", 1)
    checked = load()
    checked.kernel(1)
    assert compiled(checked) == 2
    (cache,) = {function._cache for function in (checked.kernel,)}
    codegen = numba.core.registry.cpu_target.target_context.codegen()
    names = []
    for processor in (("x86_64", "znver4", "+avx2"), ("x86_64", "znver4", "+sse"), ("x86_64", "haswell", "+avx2")):
        monkeypatch.setattr(type(codegen), "magic_tuple", lambda self, processor=processor: processor)
        names.append(cache._name((numba.int64,), codegen))
    assert len(set(names)) == 3


def test_unused_code_goes_after_some_time(load, tmp_path):
    module = load()
    module.kernel(1)
    long_ago = time.time() - 101 * 24 * 3600
    unused, used = code_files(tmp_path)
    leftover = used.with_name("killed.part")
    leftover.touch()
    foreign = tmp_path / "cache" / "other" / "file.nbc"
    foreign.parent.mkdir()
    foreign.touch()
    for file in (unused, used, leftover, foreign):
        os.utime(file, (long_ago, long_ago))
    load().kernel(1)  # reads `used` alone: it holds what it calls
    module.kernel(np.uint8(1))  # writes, and tidies
    assert used.exists() and foreign.exists()
    assert not unused.exists() and not leftover.exists()


def test_a_cache_directory_that_cannot_be_written(load, tmp_path, monkeypatch):
    """The next is a directory of this user among the temporary files; the last resort is to compile each time."""
    (tmp_path / "cache").touch()
    monkeypatch.setattr(code_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    load().kernel(1)
    (temporary,) = tmp_path.glob("minunet-cache-*")
    assert len(list(temporary.rglob("*.code"))) == 2
    assert load().kernel(1) == 22
    shutil.rmtree(temporary)
    temporary.touch()
    with pytest.warns(UserWarning, match="NUMBA_CACHE_DIR"):
        assert load().kernel(1) == 22


def test_no_home_and_no_temporary_files(load, monkeypatch):
    def no_home(cls):
        raise RuntimeError

    def no_folder():
        raise FileNotFoundError

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "home", classmethod(no_home))
    monkeypatch.setattr(code_cache.tempfile, "gettempdir", no_folder)
    with pytest.warns(UserWarning, match="there is no folder"):
        assert load().kernel(1) == 22


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="file modes are POSIX's")
def test_a_temporary_directory_that_others_can_write_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(code_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    temporary = tmp_path / f"minunet-cache-{os.getuid()}"
    assert temporary in code_cache.folders()
    temporary.mkdir(mode=0o700)
    assert temporary in code_cache.folders()
    temporary.chmod(0o777)
    assert temporary not in code_cache.folders()


def test_a_function_without_a_file_is_compiled(tmp_path):
    namespace = {}
    exec("from minunet.kernels.jit import serial\n@serial\ndef kernel(x):\n    return x + 1\n", namespace)
    assert namespace["kernel"](1) == 2


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_the_compiler_is_told_that_arrays_lie_apart():
    """The hook that `jit.apart` uses is none that Numba promises to keep; without it loops would just be slower."""
    promises = {}
    for decorator in ("serial", "apart"):
        namespace = {}
        text = f"from minunet.kernels.jit import {decorator}\n@{decorator}\ndef kernel(x, y):\n    y[0] = x[0]\n"
        exec(text, namespace)
        x, y = np.ones(3), np.zeros(3)
        namespace["kernel"](x, y)
        (code,) = namespace["kernel"].inspect_llvm().values()
        promises[decorator] = code.count("noalias")
        assert y[0] == 1
    assert promises["apart"] > promises["serial"]


# ------------------------------------------------------------------------------------- which files code depends on


def files_of(path):
    return {file.relative_to(path.parent).as_posix() for file in sources.sources_of(path).files if
            file.is_relative_to(path.parent)}  # fmt: skip


@pytest.mark.parametrize("statement", [
    "import one", "import other, one as o", "from one import x", "from one import (\n    x,  # (see\n    y,\n)",
    "from one \\\n    import x", "def f():\n    from one import x", "from folder import one",
    "from folder.one import x", "import folder.one", "import missing; import one",
    "try: import one\nexcept ImportError: pass",
])  # fmt: skip
def test_an_import_is_followed(tmp_path, monkeypatch, statement):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("one", "folder/__init__", "folder/one", "deep"):
        (tmp_path / f"{name}.py").write_text("import deep\n")
    own = tmp_path / "own.py"
    own.write_text(f"{statement}\n")
    files = files_of(own) - {"own.py", "folder/__init__.py"}
    assert files == {"folder/one.py" if "folder" in statement else "one.py", "deep.py"}


def test_relative_imports_are_followed(tmp_path):
    for name in ("a/b/own", "a/b/sibling", "a/b/__init__", "a/aunt", "a/__init__", "a/c/far"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").touch()
    own = tmp_path / "a/b/own.py"
    own.write_text("from . import sibling\nfrom ..aunt import x\nfrom .. import c\nfrom ..c import far\n")
    found = {file.relative_to(tmp_path).as_posix() for file in sources.sources_of(own).files
             if file.is_relative_to(tmp_path)}  # fmt: skip
    assert found == {"a/b/own.py", "a/b/sibling.py", "a/aunt.py", "a/c/far.py", "a/__init__.py"}


def test_our_kernels_depend_on_their_room_and_on_all_shared_files():
    relu = set(sources.sources_of(FOLDER / "relu" / "loops.py").files)
    assert set((FOLDER / "relu").glob("*.py")) <= relu
    assert {FOLDER / "simd.py", FOLDER / "correlation.py", FOLDER / "jit.py"} <= relu
    assert not {FOLDER / name for name in sources.NOT_COMPILED} & relu
    assert not [file for file in relu if file.parent == FOLDER / "conv2d"]


def test_files_left_out_compile_nothing_and_count_once_they_are_imported(tmp_path):
    for name in sources.NOT_COMPILED:
        assert not {"from .jit import", "from numba", "import numba"} & set((FOLDER / name).read_text().splitlines())
    own = tmp_path / "own.py"
    own.write_text("from minunet.kernels import blas\nfrom minunet.kernels.cases import Case\n")
    assert {FOLDER / "blas.py", FOLDER / "cases.py", FOLDER / "simd.py"} <= set(sources.sources_of(own).files)


def test_an_installed_package_is_told_by_size_and_time(tmp_path):
    package = tmp_path / "site-packages" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from . import more\n")
    (package / "more.py").touch()
    own = tmp_path / "own.py"
    own.write_text("import numpy\nimport package\n")
    sys.path.append(str(package.parent))
    try:
        found = sources.sources_of(own)
    finally:
        sys.path.remove(str(package.parent))
    assert {package / "__init__.py", Path(np.__file__)} <= set(found.installed)
    assert not set(found.files) & {package / "__init__.py", package / "more.py"}
    state = found.installed_state()
    (package / "__init__.py").write_text("# a new version\n")
    assert found.installed_state() != state


# ------------------------------------------------------------------------------------------- several processes

# Runs a kernel of a room and one of the user, and prints their results and how many functions were compiled.
BOTH = """
import json, sys
from minunet.kernels import jit
from minunet.kernels.relu import probe
sys.path.insert(0, sys.argv[1])
import kernel
print(json.dumps([probe.kernel(1), kernel.kernel(1), sum(count for _, count in jit.statistics().values())]))
"""
PROBE = KERNEL.replace("helper", "..probe_helper").replace("import sizes", "from .. import probe_sizes as sizes")


def test_an_edit_is_never_answered_with_old_code(tmp_path):
    """End to end, in a copy of minunet: a shared file of the kernels, and files beside a user's kernel."""
    package, user = tmp_path / "installed" / "minunet", tmp_path / "user"
    ignore = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(Path(mn.__file__).parent, package, ignore=ignore)
    shutil.copytree(FOLDER, package / "kernels", ignore=ignore)
    user.mkdir()
    write_kernel(user)
    shared = package / "kernels"
    (shared / "relu" / "probe.py").write_text(PROBE)
    (shared / "probe_helper.py").write_text(HELPER)
    (shared / "probe_sizes.py").write_text(SIZES)
    variables = dict(NUMBA_CACHE_DIR=str(tmp_path / "cache"), PYTHONPATH=str(package.parent))
    assert run(BOTH, user, **variables) == [22, 22, 4]
    assert run(BOTH, user, **variables) == [22, 22, 0]
    (shared / "probe_sizes.py").write_text("FACTOR = 3\n")
    (user / "sizes.py").write_text("FACTOR = 4\n")
    assert run(BOTH, user, **variables) == [33, 44, 4]
    (shared / "probe_helper.py").write_text(HELPER.replace("10", "11"))
    (user / "helper.py").write_text(HELPER.replace("builder.add", "builder.sub"))
    assert run(BOTH, user, **variables) == [36, -36, 4]


SEVERAL_TYPES = """
import json, sys
import numpy as np
from minunet.kernels import jit
sys.path.insert(0, sys.argv[1])
import kernel
print(json.dumps([[kernel.kernel(getattr(np, name)(1)) * 1.0 for name in sys.argv[2:]],
                  sum(count for _, count in jit.statistics().values())]))
"""


def test_processes_that_compile_at_the_same_moment(tmp_path):
    write_kernel(tmp_path)
    cache = dict(NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    types = ("int64", "uint8", "int32", "int64")
    started = [start(SEVERAL_TYPES, tmp_path, *order, **cache) for order in (types, types[::-1], types[1:])]
    assert all(finish(process)[0][0] == [22.0] * len(order)
               for process, order in zip(started, (types, types, types[1:]), strict=True))  # fmt: skip
    assert run(SEVERAL_TYPES, tmp_path, *types, **cache) == [[22.0] * 4, 0]


# ------------------------------------------------------------------------------------- other instruction sets

EXACT = """
import json
from minunet.kernels import KERNELS, cases, simd

case = cases.Case("conv2d", dict(n=2, c=3, o=5, h=7, w=29, kh=3, kw=3, padding=1, bias=1, relu=1))
for call in cases.calls(case, "integers"):
    cases.check(KERNELS["conv2d"].load("direct"), "conv2d", call)
print(json.dumps({"vector": simd.vector_bytes(), "fma": simd.has_fma()}))
"""

AVX2 = "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+avx,+avx2,+fma,+bmi,+bmi2"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instruction sets of x86")
def test_other_instruction_sets_are_exact_on_integers():
    """They share a cache folder with this processor's code, as on a cluster with one home directory."""
    cache = str(code_cache.folders()[0])
    asked = {("x86-64", "+sse,+sse2"): {"vector": 16, "fma": False}}
    if {"avx2", "fma"} <= simd.cpu_features():
        asked["haswell", AVX2] = {"vector": 32, "fma": True}
    started = [
        start(EXACT, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features, NUMBA_CACHE_DIR=cache)
        for name, features in asked
    ]
    assert [finish(process)[0] for process in started] == list(asked.values())
