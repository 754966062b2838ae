"""The C export as WebAssembly: the same logits as minunet, in the memory that was planned."""

import c_programs as programs
import c_wasm as wasm
import pytest

pytestmark = pytest.mark.skipif(programs.clang() is None, reason="ziglang, which has clang, is not installed")


@pytest.mark.parametrize("build", wasm.BUILDS)
@pytest.mark.parametrize(("seed", "memory"), [(1, "default"), (5, "low")])
def test_generated_networks(seed, memory, build, tmp_path):
    model, size = programs.generated(seed)
    source = programs.exported(model, size, tmp_path, memory)
    programs.check(wasm.answer(source, build, model, size), model, size)


def test_an_access_beyond_the_memory_is_caught(tmp_path):
    model, size = programs.generated(5)
    source = programs.exported(model, size, tmp_path)
    with pytest.raises(AssertionError, match="memory access out of bounds"):
        wasm.answer(source, "vectors", model, size, missing=64)
