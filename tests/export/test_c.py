"""The C export: the same logits as minunet, in the memory that was planned, without a warning."""

import re
import shutil
import subprocess
import sys

import c_board as board
import c_cortex_m4 as cortex
import c_programs as programs
import numpy as np
import pytest

import minunet as mn
from minunet.data import Preprocessing
from minunet.errors import UsageError
from minunet.export.c import write
from minunet.export.c.network import WRITE, Network
from minunet.export.c.plan import MEMORY, plan, rows_read, schedule

needs_gcc = pytest.mark.skipif(programs.gcc() is None, reason="no gcc, so nothing can be compiled")
needs_clang = pytest.mark.skipif(programs.clang() is None, reason="ziglang, which has clang, is not installed")


def small() -> mn.UNet:
    """The network that the goals in memory and time are about."""
    model = mn.UNet(1, 2, (8, 16, 32), padding="same", seed=1)
    model.preprocessing = Preprocessing(1, "standardize")
    return programs.randomized(model, np.random.default_rng(1))


def tiny() -> mn.UNet:
    """Quick to compile and to run, with a resize on the way up of odd images."""
    model = mn.UNet(1, 3, (5, 8), padding="same", norm="batch", seed=2)
    model.preprocessing = Preprocessing(1, "standardize")
    return programs.randomized(model, np.random.default_rng(2))


ODD = (22, 19)  # a size for tiny()


@needs_gcc
@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("seed", range(4))
def test_generated_networks_in_plain_c(seed, memory, tmp_path):
    model, size = programs.generated(seed)
    programs.exported(model, size, tmp_path, memory)
    program = programs.compiled(programs.gcc(), tmp_path, *programs.STRICT, *programs.WATCHED)
    programs.check(programs.answer(program, model, size), model, size)


@needs_gcc
@pytest.mark.parametrize("target", ["x86-64", "haswell", "native"])
def test_vectors_of_gcc(target, tmp_path):
    if target == "haswell" and not programs.has_avx2():
        pytest.skip("this processor has no AVX2")
    model, size = programs.generated(5)
    programs.exported(model, size, tmp_path, "low")
    flags = (*programs.STRICT, *programs.WATCHED, f"-march={target}", "-DUNET_SIMD")
    program = programs.compiled(programs.gcc(), tmp_path, *flags)
    programs.check(programs.answer(program, model, size), model, size)


@needs_clang
@pytest.mark.parametrize("flags", [(), ("-DUNET_SIMD", "-march=native")], ids=["plain", "vectors"])
def test_clang(flags, tmp_path):
    model = tiny()
    programs.exported(model, ODD, tmp_path, "low")
    program = programs.compiled(programs.clang(), tmp_path, *programs.STRICT, "-O2", *flags)
    programs.check(programs.answer(program, model, ODD), model, ODD)


@pytest.mark.parametrize("seed", range(30))
def test_every_row_is_there_when_it_is_read(seed):
    """Play the plan through with a map of what lies where: each number belongs to the row that is asked for."""
    model, size = programs.generated(seed)
    network = Network(model, size)
    for memory in MEMORY:
        planned = plan(network, memory)
        owner = np.full(planned.numbers, -1)
        computed = []

        def cells(i, row, owner=owner, planned=planned):
            place, layer = planned.places[i], network[i]
            start = place.start + row % place.rows * place.stride
            return owner[start : start + layer.width * layer.channels]

        first = 0
        for end in planned.ends:
            for i, row in schedule(network, range(first, end)):
                layer = network[i]
                for source in layer.sources:
                    low, high = rows_read(layer, network[source], row)
                    for needed in range(low, high + 1):
                        assert (cells(source, needed) == source * 10_000 + needed).all(), (memory, i, row, source)
                if layer.kind != WRITE:
                    found = cells(i, row)
                    assert len(found) == layer.width * layer.channels
                    found[:] = i * 10_000 + row
                computed.append((i, row))
            first = end
        assert sorted(computed) == [(i, row) for i, layer in enumerate(network) for row in range(layer.height)]


def test_planned_memory_of_the_small_network():
    model = small()
    assert 4 * plan(Network(model, (64, 64)), "default").numbers <= 393_216
    low = plan(Network(model, (64, 64)), "low").numbers
    assert 4 * low <= 262_144
    assert plan(Network(model, (640, 64)), "low").numbers == low, "a higher image takes no more"


@needs_gcc
@pytest.mark.skipif(shutil.which("nm") is None, reason="no nm, which reads the size of a symbol")
@pytest.mark.parametrize("memory", MEMORY)
def test_the_bytes_printed_are_those_of_the_arena(memory, tmp_path):
    lines = write(tiny(), tmp_path / "unet.c", ODD, name="cells", memory=memory)
    printed = int(re.search(r"arena ([\d,]+) bytes", "\n".join(lines))[1].replace(",", ""))
    subprocess.run(["gcc", *programs.STRICT, "-c", "unet.c"], cwd=tmp_path, check=True)
    text = subprocess.run(["nm", "-S", "unet.o"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    symbols = {line.split()[-1]: line.split() for line in text.splitlines()}
    assert int(symbols["cells_arena"][1], 16) == printed
    assert {name for name, fields in symbols.items() if fields[-2] == "T"} == {"cells_predict", "cells_segment"}
    assert {fields[-2] for fields in symbols.values()} == {"T", "t", "r", "b"}  # no data, nothing from outside


@needs_gcc
def test_large_weights_lie_in_a_file_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[write.__module__], "INSIDE", 1000)
    model = tiny()
    source = programs.exported(model, ODD, tmp_path)
    assert source.stat().st_size < 30_000
    program = programs.compiled(programs.gcc(), tmp_path, *programs.STRICT, *programs.WATCHED)
    programs.check(programs.answer(program, model, ODD), model, ODD)


@needs_gcc
def test_the_self_test_finds_a_changed_weight(tmp_path):
    model = tiny()
    source = programs.exported(model, ODD, tmp_path)
    text = source.read_text()
    weight = re.search(r"weights\[\] = \{\n(\S+),", text)
    source.write_text(text[: weight.start(1)] + "0.75f" + text[weight.end(1) :])
    program = programs.compiled(programs.gcc(), tmp_path, "-O1")
    assert programs.answer(program, model, ODD).wrong > 10


@pytest.mark.parametrize("options, message", [
    ({"size": (3, 64)}, "too small"),
    ({"size": (64, 64), "name": "2d"}, "name is '2d'"),
    ({"size": (64, 64), "memory": "least"}, "memory is 'least'"),
    ({"size": (40_000, 64)}, "32,767"),
    ({"size": (4000, 4000)}, "export a tile"),
])  # fmt: skip
def test_what_cannot_be_written_is_refused(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        write(tiny(), tmp_path / "unet.c", **options)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    model = tiny()
    model.final_conv.bias.data[0] = np.nan
    with pytest.raises(UsageError, match="NaN or infinite"):
        write(model, tmp_path / "unet.c", ODD)


def test_logits_that_are_no_numbers_are_refused(tmp_path):
    """Finite weights: what they give is no literal of C."""
    model = tiny()
    model.final_conv.weight.data[...] = 3e38
    with np.errstate(all="ignore"), pytest.raises(UsageError, match="infinite logits"):
        write(model, tmp_path / "unet.c", ODD)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("taken", ["unet.c", "unet.bin"])
def test_code_and_weights_are_both_written_or_neither(taken, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[write.__module__], "INSIDE", 100)
    (tmp_path / taken).mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        write(tiny(), tmp_path / "unet.c", ODD)
    assert [path.name for path in tmp_path.iterdir()] == [taken]


@pytest.mark.parametrize("size", [(2, 2), (5, 4), (5, 301), (64, 64)])
@pytest.mark.parametrize("of_logit", [1, 4])
def test_low_is_never_more_than_default(size, of_logit):
    network = Network(mn.UNet(1, 3, (3,), padding="same"), size)
    assert plan(network, "low", of_logit).numbers <= plan(network, "default", of_logit).numbers


@needs_clang
@pytest.mark.skipif(not cortex.has_unicorn(), reason="unicorn, which executes the code, is not installed")
class TestCortexM4:
    """Compiled for it, and executed where nothing but its own memory exists."""

    @pytest.mark.parametrize("memory, most", [("default", 2048), ("low", 4096)])
    def test_code_is_small(self, memory, most, tmp_path):
        source = programs.exported(small(), (64, 64), tmp_path, memory)
        sizes = cortex.sizes(source, "-Os")
        assert sizes[".text"] <= most
        assert ".data" not in sizes
        assert sizes[".bss"] == 4 * plan(Network(small(), (64, 64)), memory).numbers

    @pytest.mark.parametrize("memory", MEMORY)
    def test_instructions_and_stack_of_the_small_network(self, memory, tmp_path):
        model, size = small(), (64, 64)
        program = cortex.linked(programs.exported(model, size, tmp_path, memory), "-O2")
        numbers, _ = programs.images(model, size)
        run = cortex.execute(program, "unet_predict", numbers.tobytes(), 4 * 2 * 64 * 64, arena(model, size, memory))
        expected = programs.logits(model, numbers)
        found = np.frombuffer(run.out, np.float32).reshape(expected.shape)
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
        assert run.instructions <= 145_000_000
        assert run.stack <= 1024

    @pytest.mark.parametrize("at_end", [False, True])
    @pytest.mark.parametrize("memory", MEMORY)
    def test_nothing_else_is_touched(self, memory, at_end, tmp_path):
        model, source = tiny(), programs.exported(tiny(), ODD, tmp_path, memory)
        program, room = cortex.linked(source, "-O2"), arena(model, ODD, memory)
        numbers, image = programs.images(model, ODD)
        run = cortex.execute(program, "unet_predict", numbers.tobytes(), 4 * 3 * 22 * 19, room, at_end)
        logits = np.frombuffer(run.out, np.float32).reshape(3, *ODD)
        run = cortex.execute(program, "unet_segment", image.tobytes(), 22 * 19, room, at_end)
        classes = np.frombuffer(run.out, np.uint8).reshape(ODD)
        programs.check(programs.Answer(logits, classes, 0), model, ODD)

    def test_an_access_outside_is_caught(self, tmp_path):
        model, source = tiny(), programs.exported(tiny(), ODD, tmp_path)
        numbers, _ = programs.images(model, ODD)
        program, room = cortex.linked(source, "-O2"), arena(model, ODD, "default")
        less = -(-room // 4096) * 4096 - 4096  # whole pages, so that nothing lies behind
        with pytest.raises(AssertionError, match=r"unet_predict at 0x\w+: .*UNMAPPED"):
            cortex.execute(program, "unet_predict", numbers.tobytes(), 4 * 3 * 22 * 19, less)


@pytest.mark.skipif(bool(board.missing()), reason=f"not installed: {board.missing()}")
class TestBoard:
    """Another compiler for the Cortex-M4, and the whole processor instead of its instructions."""

    @pytest.mark.parametrize("flags", ["-O2", "-Os"])
    @pytest.mark.parametrize("memory", MEMORY)
    def test_the_self_test_passes(self, memory, flags, tmp_path):
        programs.exported(tiny(), ODD, tmp_path, memory)
        assert board.passes(tmp_path, flags)

    def test_a_changed_weight_is_found(self, tmp_path):
        source = programs.exported(tiny(), ODD, tmp_path)
        source.write_text(re.sub(r"(weights\[\] = \{\n)\S+,", r"\g<1>0.75f,", source.read_text()))
        assert not board.passes(tmp_path, "-O2")


def arena(model: mn.UNet, size: tuple[int, int], memory: str) -> int:
    return 4 * plan(Network(model, size), memory).numbers
