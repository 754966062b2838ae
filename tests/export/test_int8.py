"""The C export in integers: the reference's bits on every target, in the memory that was planned."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import c_cortex_m4 as cortex
import c_programs as programs
import c_wasm as wasm
import int8_programs as integers
import numpy as np
import pytest

import minunet as mn
from minunet import cli
from minunet.data import DataError, Preprocessing, cells, write_image
from minunet.errors import UsageError
from minunet.export.c import write
from minunet.export.c.network import CONV, DOUBLE, POOL, READ, RESIZE, RESIZING, UP, WRITE, Layer, Network
from minunet.export.c.plan import MEMORY, plan
from minunet.export.int8 import calibration, errors, floats, quantization, reference
from minunet.export.int8.quantization import multipliers, quantize
from minunet.export.int8.source import OF_LOGIT

needs_gcc = pytest.mark.skipif(programs.gcc() is None, reason="no gcc, so nothing can be compiled")
needs_clang = pytest.mark.skipif(programs.clang() is None, reason="ziglang, which has clang, is not installed")
ODD = (22, 19)  # a size for tiny()


def small() -> mn.UNet:
    """The network that the goals in memory are about."""
    model = mn.UNet(1, 2, (8, 16, 32), padding="same", seed=1)
    model.preprocessing = Preprocessing(1, "standardize")
    return programs.randomized(model, np.random.default_rng(1))


def tiny(outputs: int = 3) -> mn.UNet:
    """Quick to compile and to run, with a resize on the way up of odd images."""
    model = mn.UNet(1, outputs, (5, 8), padding="same", norm="batch", seed=2)
    model.preprocessing = Preprocessing(1, "standardize")
    return programs.randomized(model, np.random.default_rng(2))


class TestBits:
    """C against the reference: nothing differs."""

    @needs_gcc
    @pytest.mark.parametrize("seed", range(4))
    def test_every_byte_of_every_layer(self, seed, tmp_path):
        model, size = programs.generated(seed)
        integers.exported(model, size, tmp_path)
        integers.check_every_layer(programs.gcc(), tmp_path, model, size, *programs.STRICT, "-O1")

    @needs_gcc
    @pytest.mark.parametrize("memory", MEMORY)
    @pytest.mark.parametrize("seed", [5, 8])
    def test_generated_networks_under_the_sanitizers(self, seed, memory, tmp_path):
        model, size = programs.generated(seed)
        integers.exported(model, size, tmp_path, memory)
        program = programs.compiled(programs.gcc(), tmp_path, *programs.STRICT, *programs.WATCHED)
        integers.check_program(program, model, size)

    @needs_gcc
    @pytest.mark.parametrize("flags", [("-O3", "-march=native", "-ffp-contract=fast"), ("-Os",)])
    def test_whatever_the_compiler_may_do(self, flags, tmp_path):
        """Fused multiplications and additions of floats among it."""
        integers.exported(tiny(), ODD, tmp_path)
        integers.check_program(programs.compiled(programs.gcc(), tmp_path, "-std=gnu99", *flags), tiny(), ODD)

    @needs_clang
    def test_clang(self, tmp_path):
        integers.exported(tiny(1), ODD, tmp_path, "low")
        program = programs.compiled(programs.clang(), tmp_path, *programs.STRICT, "-O2")
        integers.check_program(program, tiny(1), ODD)
        integers.exported(tiny(), ODD, tmp_path)
        integers.check_every_layer(programs.clang(), tmp_path, tiny(), ODD, *programs.STRICT, "-O2")

    @needs_clang
    @pytest.mark.parametrize("build, memory", [("plain", "low"), ("vectors", "default")])
    def test_wasm(self, build, memory, tmp_path):
        source = integers.exported(tiny(), ODD, tmp_path, memory)
        found = wasm.answer(source, build, tiny(), ODD, integers.numbers(tiny(), ODD))
        integers.check(found, tiny(), ODD)

    @needs_gcc
    def test_padded_skips(self, tmp_path):
        model = programs.randomized(mn.UNet(1, 2, (3, 4), "same", "batch", skip_fit="pad"), np.random.default_rng(0))
        model.preprocessing = Preprocessing(1, "standardize")
        integers.exported(model, (23, 21), tmp_path)
        integers.check_every_layer(programs.gcc(), tmp_path, model, (23, 21), *programs.STRICT, *programs.WATCHED)

    @needs_gcc
    def test_large_weights_lie_in_a_file_of_their_own(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys.modules[write.__module__], "INSIDE", 1000)
        source = integers.exported(tiny(), ODD, tmp_path)
        assert (tmp_path / "unet.bin").stat().st_size == int(re.search(r"WEIGHTS_BYTES (\d+)", source.read_text())[1])
        program = programs.compiled(programs.gcc(), tmp_path, *programs.STRICT, *programs.WATCHED)
        integers.check_program(program, tiny(), ODD)

    @needs_gcc
    def test_the_self_test_finds_a_changed_weight(self, tmp_path):
        source = integers.exported(tiny(), ODD, tmp_path)
        text = source.read_text()
        weight = re.search(r"weights\[\] = \{\n(-?\d+),", text)
        source.write_text(text[: weight.start(1)] + f"{int(weight[1]) // 2 + 50}" + text[weight.end(1) :])
        program = programs.compiled(programs.gcc(), tmp_path, "-O1")
        assert programs.answer(program, tiny(), ODD).wrong > 10


class TestMemory:
    def test_of_the_small_network(self):
        network = Network(small(), (64, 64))
        assert plan(network, "default", OF_LOGIT).numbers <= 98_304
        assert plan(network, "low", OF_LOGIT).numbers <= 65_536

    @pytest.mark.parametrize("memory", MEMORY)
    def test_a_row_of_logits_is_enough(self, memory):
        """However many classes there are."""
        network = Network(mn.UNet(1, 200, (8, 16), padding="same"), (32, 32))
        planned = plan(network, memory, OF_LOGIT)
        assert planned.places[-2].rows == 1
        assert planned.places[-2].stride == 32 * 200 * 4
        assert planned.numbers < 32 * 32 * 24 + 32 * 200 * 4

    @needs_gcc
    @pytest.mark.skipif(shutil.which("nm") is None, reason="no nm, which reads the size of a symbol")
    @pytest.mark.parametrize("memory", MEMORY)
    def test_the_bytes_printed_are_those_of_the_arena(self, memory, tmp_path):
        shown = integers.shown(tiny(), ODD)
        lines = write(tiny(), tmp_path / "unet.c", ODD, memory=memory, dtype="int8", calibrate=shown)
        printed = int(re.search(r"arena ([\d,]+) bytes", "\n".join(lines))[1].replace(",", ""))
        subprocess.run(["gcc", *programs.STRICT, "-c", "unet.c"], cwd=tmp_path, check=True)
        text = subprocess.run(["nm", "-S", "unet.o"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        symbols = {line.split()[-1]: line.split() for line in text.splitlines()}
        assert int(symbols["unet_arena"][1], 16) == printed
        assert {fields[-2] for fields in symbols.values()} == {"T", "t", "r", "b"}  # no data, nothing from outside


@needs_clang
@pytest.mark.skipif(not cortex.has_unicorn(), reason="unicorn, which executes the code, is not installed")
class TestCortexM4:
    @pytest.mark.parametrize("memory", MEMORY)
    def test_code_is_small(self, memory, tmp_path):
        sizes = cortex.sizes(integers.exported(small(), (64, 64), tmp_path, memory), "-Os")
        assert sizes[".text"] <= 4096
        assert ".data" not in sizes
        assert sizes[".bss"] == plan(Network(small(), (64, 64)), memory, OF_LOGIT).numbers

    @pytest.mark.parametrize("memory", MEMORY)
    def test_the_same_bits_and_nothing_else_is_touched(self, memory, tmp_path):
        model = tiny()
        program = cortex.linked(integers.exported(model, ODD, tmp_path, memory), "-O2")
        network, layers = integers.integers(model, ODD)
        arena = plan(network, memory, OF_LOGIT).numbers
        for at_end in (False, True):
            numbers, (_, image) = integers.numbers(model, ODD), programs.images(model, ODD)
            run = cortex.execute(program, "unet_predict", numbers.tobytes(), 4 * 3 * 22 * 19, arena, at_end)
            assert run.out == reference.logits(network, layers, numbers[None]).tobytes()
            assert run.stack <= 1024
            run = cortex.execute(program, "unet_segment", image.tobytes(), 22 * 19, arena, at_end)
            logits = reference.logits(network, layers, integers.prepared(model, image)[None])[0]
            assert run.out == logits.argmax(0).astype(np.uint8).tobytes()

    def test_instructions_of_the_small_network(self, tmp_path):
        """A quarter of it: 32 x 32 px are 9 million products."""
        model, size = small(), (32, 32)
        program = cortex.linked(integers.exported(model, size, tmp_path), "-O2")
        network, layers = integers.integers(model, size)
        numbers = integers.numbers(model, size)
        run = cortex.execute(program, "unet_predict", numbers.tobytes(), 4 * 2 * 32 * 32,
                             plan(network, "default", OF_LOGIT).numbers)  # fmt: skip
        assert run.out == reference.logits(network, layers, numbers[None]).tobytes()
        assert run.instructions <= 36_000_000


class TestReference:
    """The reference itself, against sums in Python and against float32."""

    @pytest.mark.parametrize("seed", range(6))
    def test_it_is_near_to_the_network(self, seed):
        model, size = programs.generated(seed)
        network, layers = integers.integers(model, size)
        x = np.stack([model.preprocessing(image, channels_last=True) for image in integers.shown(model, size)])
        expected = list(floats.outputs(network, x))
        np.testing.assert_allclose(expected[-1], model(x).data, atol=1e-4 * np.abs(expected[-1]).max())
        found = reference.logits(network, layers, x)
        error = np.square(found - expected[-1]).sum() / np.square(expected[-1]).sum()
        assert error < 0.02  # 17 dB

    def test_a_convolution_is_its_sums(self):
        """Pixel by pixel in Python's whole numbers: windows that reach beyond the border, two zeros, a cropped skip."""
        rng = np.random.default_rng(0)
        model = mn.UNet(1, 2, (3,), padding="valid", seed=0)
        network, layers = integers.integers(model, (28, 20))
        joined = next(i for i, layer in enumerate(network) if len(layer.sources) == 2)
        layer, numbers = network[joined], layers[joined]
        shapes = [(1, network[i].channels, network[i].height, network[i].width) for i in layer.sources]
        bytes_of = [rng.integers(0, 256, shape).astype(np.uint8) for shape in shapes]
        sources = [(values, layers[i].zero) for values, i in zip(bytes_of, layer.sources, strict=True)]
        assert [zero for _, zero in sources] == [0, 128]
        sums = reference.convolved(layer, numbers, sources)
        skip, up = (values[0].astype(int).tolist() for values, _ in sources)
        margin = (network[layer.sources[0]].height - layer.height - 2) // 2
        for o, y, x in [(0, 0, 0), (2, 5, 1), (1, layer.height - 1, layer.width - 1)]:
            total = int(numbers.bias[o])
            for c in range(6):
                for i in range(3):
                    for j in range(3):
                        value = skip[c][y + i + margin][x + j + margin] if c < 3 else up[c - 3][y + i][x + j]
                        total += value * int(numbers.weight[o, c, i, j])
            assert sums[0, o, y, x] == total

    def test_rounding_is_half_up_and_clamped(self):
        half, quarter = 1 << 30, 1 << 29  # multipliers of 1/4 and 1/8
        numbers = _numbers(zero=128, multiplier=[half, quarter], shift=[0, 0])
        sums = np.array([[-2, -3, 2, 6, 10**6, -(10**6)], [4, -4, -5, 12, -12, 2**31 - 1]])
        found = reference.narrowed(sums[None, :, None], numbers)[0, :, 0]
        exact = np.floor(sums / [[4], [8]] + 0.5) + 128
        np.testing.assert_array_equal(found, exact.clip(0, 255))

    @pytest.mark.parametrize("factor", [0.25, 0.2, 1e-3, 3.3e-6, 2.0**-24, 1e-9, 1e-30])
    def test_multipliers(self, factor):
        m, shift = multipliers(np.array([factor]))
        assert shift[0] <= quantization.LARGEST_SHIFT
        assert abs(int(m[0]) / 2.0 ** (32 + int(shift[0])) - factor) <= max(factor * 2.0**-30, 2.0**-55)

    def test_the_input_is_clamped_and_never_not_a_number(self):
        numbers = _numbers(zero=128, scale=0.5)
        x = np.array([0, 0.25, -0.25, -0.26, 1e30, -1e30, np.inf, -np.inf, np.nan, 63.4], np.float32)
        found = reference.quantized(x, numbers)
        np.testing.assert_array_equal(found, [128, 129, 128, 127, 255, 0, 255, 0, 0, 255])

    @pytest.mark.parametrize("kind", RESIZING)
    def test_resizing_is_bilinear(self, kind):
        up = "bilinear" if kind == DOUBLE else "transpose"
        network = Network(mn.UNet(1, 1, (5, 8), padding="same", up=up), ODD)
        i = next(i for i, layer in enumerate(network) if layer.kind == kind)
        layer, source = network[i], network[network[i].sources[0]]
        x = np.random.default_rng(1).integers(0, 256, (2, 3, source.height, source.width)).astype(np.uint8)
        size, corners = (layer.height, layer.width), kind == DOUBLE
        expected = mn.functional.resize(x.astype(np.float32), size, align_corners=corners).data
        assert np.abs(reference.resized(layer, x) - expected).max() <= 0.5 + 255 / 256


def _numbers(zero, scale=1.0, multiplier=(), shift=()):
    nothing = np.zeros(0)
    return quantization.Numbers(scale, zero, nothing, nothing, np.array(multiplier, np.int32),
                                np.array(shift, np.uint8), nothing)  # fmt: skip


class TestIntegers:
    """What is asked of the numbers themselves."""

    @pytest.mark.parametrize("seed", range(8))
    def test_scales_and_zeros(self, seed):
        network, layers = integers.integers(*programs.generated(seed))
        for layer, numbers in zip(network, layers, strict=True):
            sources = [layers[i] for i in layer.sources]
            if len(sources) == 2:
                assert sources[0].scale == sources[1].scale, "both halves are added up in one sum"
            if layer.kind in (POOL, *RESIZING):
                assert (numbers.scale, numbers.zero) == (sources[0].scale, sources[0].zero)
            if layer.kind in (CONV, UP):
                assert np.abs(numbers.weight.astype(int)).max() == 127
                assert numbers.zero == (0 if layer.relu else 128)
                axes = (1, 2, 3) if layer.kind == CONV else (0, 2, 3)
                real = numbers.weight * np.expand_dims(numbers.step / sources[0].scale, axes)
                half = np.expand_dims(numbers.step / sources[0].scale, axes) * 0.5
                assert (np.abs(real - layer.weight) <= half * 1.001).all()

    def test_sums_beyond_32_bits_are_refused(self):
        layers = [_layer(READ, ()), _layer(CONV, (0,), np.ones((1, 70_000, 1, 1), np.float32))]
        with pytest.raises(UsageError, match=r"1 x 70000 weights can sum up to 2,266,950,000 .* export it in float32"):
            quantize(_Layers(layers), [(0, 1), (0, 1)])

    def test_a_large_bias_of_small_weights_fits(self):
        weight = np.full((1, 4, 1, 1), 1e-12, np.float32)
        layers = [_layer(READ, ()), _layer(CONV, (0,), weight, np.array([3.0], np.float32))]
        numbers = quantize(_Layers(layers), [(0, 1), (0, 3)])[1]
        assert numbers.bias[0] * float(numbers.step[0]) == pytest.approx(3)

    def test_a_network_of_zeros(self):
        model = mn.UNet(1, 2, (3,), padding="same")
        for parameter in model.parameters():
            parameter.data[...] = 0
        network = Network(model, (8, 8))
        layers = quantize(network, calibration.ranges(network, [np.zeros((1, 1, 8, 8), np.float32)]))
        assert not reference.logits(network, layers, np.ones((1, 1, 8, 8), np.float32)).any()

    def test_a_range_leaves_out_what_lies_far_out(self):
        """Least squared error: found by trying all clamps on the values themselves."""
        rng = np.random.default_rng(0)
        values = np.abs(np.concatenate([rng.standard_normal(100_000), [300.0]])).astype(np.float32)
        bins = np.bincount(values.view(np.uint32) >> calibration.BITS_LEFT_OUT, minlength=calibration.BINS)
        found = calibration.best_range(bins, 127)

        def error(clamp):
            step = clamp / 127
            return np.square(np.rint(values / step).clip(0, 127) * step - values).sum()

        tried = [error(clamp) for clamp in np.geomspace(3, 300, 100)]
        assert error(found) <= 1.05 * min(tried)
        assert found < 225


class _Layers(list):
    """Layers in a row, without a U-Net."""

    def inputs(self, layer):
        return Network.inputs(self, layer)


def _layer(kind, sources, weight=None, bias=None):
    arrays = {} if weight is None else {"weight": weight, "bias": np.zeros(len(weight), np.float32)}
    arrays |= {} if bias is None else {"bias": bias}
    return Layer(kind, sources, 1, 1, 4 if weight is None else len(weight), relu=kind == CONV, **arrays)


class TestCalibration:
    def test_windows_cover_the_image(self):
        model = mn.UNet(1, 2, (3,), padding="same")
        image = np.arange(20 * 25.0).reshape(20, 25)
        windows = np.concatenate(list(calibration.batches(model, [image], (8, 10))))
        assert windows.shape == (9, 1, 8, 10)
        assert set(windows.ravel()) == set(image.ravel())

    def test_batches_hold_a_few(self, monkeypatch):
        monkeypatch.setattr(calibration, "MOST_PIXELS", 3 * 64)
        model = mn.UNet(1, 2, (3,), padding="same")
        sizes = [len(batch) for batch in calibration.batches(model, [np.ones((16, 32))], (8, 8))]
        assert sizes == [3, 3, 2]

    def test_files_are_read_as_predict_reads_them(self, tmp_path):
        model = small()
        image = np.random.default_rng(0).integers(0, 255, (64, 70, 3), dtype=np.uint8)
        write_image(tmp_path / "a.png", image)
        with pytest.warns(UserWarning, match="luminance"):
            (found,) = calibration.batches(model, tmp_path, (64, 64))
            expected = model.preprocessing(image, channels_last=True)
        np.testing.assert_array_equal(found, np.stack([expected[:, :, :64], expected[:, :, 6:]]))

    @pytest.mark.parametrize("images, message", [
        ([], "there is no image to calibrate with"),
        ([np.ones((64, 63))], r"image 0: an image of 64 x 63 px is smaller than the 64 x 64 px of the export"),
        ([np.ones((64, 64, 5))], "image 0: .*1 to 4 channels"),
    ])  # fmt: skip
    def test_images_that_cannot_be_used(self, images, message):
        with pytest.raises((UsageError, DataError), match=message):
            list(calibration.batches(small(), images, (64, 64)))

    def test_a_network_that_gives_no_numbers(self):
        model = tiny()
        model.final_conv.bias.data[0] = np.inf
        with pytest.raises(DataError, match="NaN or infinite values"):
            calibration.ranges(Network(model, ODD), [np.ones((1, 1, *ODD), np.float32)])

    @pytest.mark.parametrize("normalize, value", [("none", 0), ("standardize", 90)])
    def test_images_that_show_nothing(self, normalize, value, tmp_path):
        model = tiny()
        model.preprocessing = Preprocessing(1, normalize)
        images = [np.full(ODD, value, np.uint8)]
        with pytest.raises(DataError, match="all 0 when prepared"):
            write(model, tmp_path / "unet.c", ODD, dtype="int8", calibrate=images)
        assert not list(tmp_path.iterdir())

    def test_weights_that_are_no_numbers_are_not_blamed_on_the_images(self, tmp_path):
        model = tiny()
        model.final_conv.bias.data[0] = np.nan
        with pytest.raises(UsageError, match="the model has weights that are NaN"):
            write(model, tmp_path / "unet.c", ODD, dtype="int8", calibrate=[np.ones(ODD, np.uint8)])


class TestCommand:
    def test_it_prints_the_error_of_each_layer(self, tmp_path, capsys):
        mn.save(tiny(), tmp_path / "model.npz")
        np.save(tmp_path / "image.npy", integers.shown(tiny(), ODD)[0][..., 0])
        assert run(tmp_path, "--dtype", "int8", "--calibrate", str(tmp_path / "image.npy")) == 0
        lines = capsys.readouterr().out.splitlines()
        ratios = [float(match[1]) for line in lines if (match := re.search(r"([\d.]+) dB", line))]
        assert len(ratios) == sum(layer.kind in (READ, CONV, UP) for layer in Network(tiny(), ODD))
        assert min(ratios) > 15
        assert re.search(r"arena [\d,]+ bytes \(memory default\)$", lines[-1])

    @pytest.mark.parametrize("options, message", [
        (("--dtype", "int8"), "int8 needs images to calibrate with"),
        (("--calibrate", "images"), "images to calibrate with are for int8"),
        (("--dtype", "float16"), "dtype is 'float16', and C is written in float32 or int8"),
        (("--dtype", "int8", "--calibrate", "nowhere"), "nowhere: no such file or folder"),
    ])  # fmt: skip
    def test_what_is_refused(self, options, message, tmp_path, capsys):
        mn.save(tiny(), tmp_path / "model.npz")
        assert run(tmp_path, *options) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "unet.c").exists()

    def test_other_targets_do_not_calibrate(self, tmp_path):
        with pytest.raises(UsageError, match="calibrate: not an option of npz"):
            mn.export(tiny(), tmp_path / "unet.npz", to="npz", calibrate=[])


def run(folder, *options: str) -> int:
    place = ["--to", "c", "--size", f"{ODD[0]}x{ODD[1]}", "--out", str(folder / "unet.c")]
    return cli.main(["export", str(folder / "model.npz"), *place, *options])


def test_the_table_shows_a_layer_that_is_far_off():
    model = tiny()
    network, layers = integers.integers(model, ODD)
    x = [integers.numbers(model, ODD)[None]]
    before = errors.table(network, layers, x)
    i = next(i for i, layer in enumerate(network) if layer.kind == CONV)
    layers[i].bias[...] += 20_000
    after = errors.table(network, layers, x)
    assert len(before) == len(after) == 2 + sum(layer.kind not in (POOL, RESIZE, WRITE) for layer in network)
    assert before[2] == after[2]
    assert before[3] != after[3]


def test_the_script_for_dice(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "bench")
    import quantized

    images, masks = cells(5, size=32)
    for kind, arrays in (("images", images), ("labels", masks)):
        (tmp_path / kind).mkdir()
        for i, array in enumerate(arrays):
            np.save(tmp_path / kind / f"{i}.npy", array)
    model = mn.UNet(1, 2, (3, 4), padding="same", seed=0)
    model.preprocessing = Preprocessing(1, "standardize")
    mn.save(model, tmp_path / "model.npz")
    places = [str(tmp_path / name) for name in ("images", "labels", "model.npz")]
    assert quantized.main([*places, "--out", str(tmp_path / "out.jsonl")]) == 0
    results = json.loads((tmp_path / "out.jsonl").read_text())["results"]
    assert results["held_out_images"] == 1
    assert 0 <= results["pixels_changed"] < 0.1
    for way in ("integers", "file float16", "file int8"):
        assert abs(results[way] - results["float32"]) < 5
    assert "lost in points: file float16" in capsys.readouterr().out
