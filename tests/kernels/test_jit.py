"""Compiled code: kept between processes, never stale, and right for other instruction sets."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minunet as mn
from minunet import kernels

pytest.importorskip("numba")
from minunet.kernels import jit, simd

# Runs the functions asked for, and prints how often compiled code was found and how often it was made.
COUNT = """
import json, sys
import numpy as np
import minunet as mn
from minunet import kernels
from minunet.kernels import jit

mn.use_backend("numba")
x = np.ones((1, 3, 9, 9), np.float32)
kernels.relu.forward(x)
loops = [kernels.KERNELS["relu"].load("loops")._forward]
if "conv2d" in sys.argv:
    from minunet.kernels import correlation
    kernels.conv2d.forward(x, np.ones((5, 3, 3, 3), np.float32))
    loops.append(correlation.correlate_blocks)
stats = [f.dispatcher.stats for f in loops]
print(json.dumps({
    "hits": sum(sum(s.cache_hits.values()) for s in stats),
    "misses": sum(sum(s.cache_misses.values()) for s in stats),
    "folder": str(jit._folder()),
}))
"""


def start(code, *arguments, **environment):
    """A Python process with these environment variables changed (None: removed)."""
    env = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """What the process printed last, read as JSON."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1]), err


def test_a_second_process_compiles_nothing():
    with mn.use_backend("numba"):
        x = np.ones((1, 3, 9, 9), np.float32)
        kernels.relu.forward(x)
        kernels.conv2d.forward(x, np.ones((5, 3, 3, 3), np.float32))
    found, _ = finish(start(COUNT, "conv2d", NUMBA_CACHE_DIR=str(jit._folder())))
    assert found["hits"] == 2 and found["misses"] == 0


def test_the_cache_is_where_it_was_asked_for(tmp_path):
    first, _ = finish(start(COUNT, NUMBA_CACHE_DIR=str(tmp_path)))
    assert first["misses"] == 1 and list(tmp_path.rglob("*.nbc"))
    second, _ = finish(start(COUNT, NUMBA_CACHE_DIR=str(tmp_path)))
    assert second["hits"] == 1 and second["misses"] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME is Linux's")
def test_a_cache_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    found, err = finish(start(COUNT, NUMBA_CACHE_DIR=None, XDG_CACHE_HOME=str(tmp_path / "file"), TMPDIR=str(tmp_path)))
    assert found["folder"].startswith(str(tmp_path / "minunet-cache-"))
    assert "Traceback" not in err


@pytest.fixture
def copied_sources(tmp_path, monkeypatch):
    """The hash function looks at a copy of the kernels' sources."""
    folder = tmp_path / "kernels"
    shutil.copytree(Path(jit.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(jit, "__file__", str(folder / "jit.py"))
    return folder


def test_an_edit_of_a_shared_file_makes_compiled_code_stale(copied_sources):
    def current():
        jit.source_hash.cache_clear()
        return [jit.source_hash(copied_sources / room / "loops.py") for room in ("relu", "max_pool2d")]

    try:
        before = current()
        assert current() == before and before[0] != before[1]
        shared = copied_sources / "simd.py"
        shared.write_text(shared.read_text() + "\n")
        edited = current()
        assert all(a != b for a, b in zip(before, edited, strict=True))
        own = copied_sources / "relu" / "loops.py"
        own.write_text(own.read_text() + "\n")
        assert current()[0] != edited[0] and current()[1] == edited[1]
        helper = copied_sources / "max_pool2d" / "helper.py"  # a file that a kernel of the room may import
        helper.touch()
        assert current()[1] != edited[1]
    finally:
        jit.source_hash.cache_clear()


# ------------------------------------------------------------------------------- other instruction sets

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
    cache = str(jit._folder())
    asked = {("x86-64", "+sse,+sse2"): {"vector": 16, "fma": False}}
    if {"avx2", "fma"} <= simd.cpu_features():
        asked["haswell", AVX2] = {"vector": 32, "fma": True}
    started = [
        start(EXACT, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features, NUMBA_CACHE_DIR=cache)
        for name, features in asked
    ]
    assert [finish(process)[0] for process in started] == list(asked.values())
