"""The exported page: its arithmetic in Node beside minunet.predict; what is in it, and what is refused."""

import io
import json
import re
import subprocess
import sys

import c_programs as programs
import exported_pages as pages
import in_node
import numpy as np
import pytest

import minunet as mn
from minunet.cli import main
from minunet.data import Coding
from minunet.display.pictures import overlay
from minunet.errors import UsageError
from minunet.export import html
from minunet.prediction import tiling

needs_clang = pytest.mark.skipif(programs.clang() is None, reason="ziglang, which has clang, is not installed")


def cases():
    """Models, the tiles of their pages, and images (height, width, whether grey): smaller than a tile, larger in one
    direction or in both, of one pixel, of one row."""
    return [
        (
            pages.network(1, 2, (4, 6), 1, padding="same"),
            (20, 13),
            [(1, 1, True), (1, 50, True), (5, 7, True), (30, 25, False), (61, 83, True), (150, 21, False)],
        ),
        (
            pages.network(3, 1, (3,), 9, "none", padding="same", norm="batch"),
            (9, 16),
            [(3, 2, True), (40, 17, False), (2, 70, False)],
        ),
        (
            pages.network(1, 3, (5, 6, 7), 6, coding=Coding("borders"), padding="same", norm="batch"),
            (8, 40),
            [(30, 100, True)],
        ),
        (
            pages.network(3, 4, (3, 5), 4, padding="valid"),
            (24, 9),
            [(1, 1, False), (13, 5, True), (47, 66, False)],
        ),
        (pages.network(1, 2, (3,), 5, "none", padding="valid"), (5, 6), [(29, 18, True)]),
    ]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(model, image, what the page gives) of every case."""
    folder = tmp_path_factory.mktemp("pages")
    subjects, written = [], []
    for number, (model, tile, images) in enumerate(cases()):
        path = folder / f"{number}.html"
        mn.export(model, path, "html", size=tile)
        drawn = [pages.picture(height, width, number, grey) for height, width, grey in images]
        written.append((path, drawn))
        subjects += [(model, tile, image) for image in drawn]
    answers = pages.in_pages(folder, written)
    return [(*subject, answer) for subject, answer in zip(subjects, answers, strict=True)]


@needs_clang
def test_logits_and_classes_are_those_of_predict(found):
    for model, _, image, answer in found:
        logits, classes, clear = pages.expected(model, image)
        error = np.abs(answer.logits - logits).max() / np.abs(logits).max()
        assert error <= 1e-5, (model, image.shape)
        np.testing.assert_array_equal(answer.classes[clear], classes[clear])
        assert clear.mean() > 0.9 or clear.size < 50
        assert len(np.unique(classes)) > 1 or clear.size < 50


@needs_clang
def test_tiles_are_those_of_predict_and_all_are_told(found):
    for model, tile, image, answer in found:
        count = len(list(tiling.tiles(model, image.shape[:2], tile)))
        assert answer.told == [[done, count] for done in range(count + 1)]
    assert max(len(answer.told) for *_, answer in found) > 10


@needs_clang
def test_tiles_give_the_bits_of_the_whole_image(tmp_path):
    model = pages.network(1, 3, (4, 6), 7, padding="same")
    for name, side in (("small", 8), ("whole", 128)):
        mn.export(model, tmp_path / f"{name}.html", "html", size=(side, side))
    image = pages.picture(90, 121, 0, True)
    small, whole = pages.in_pages(tmp_path, [(tmp_path / f"{name}.html", [image]) for name in ("small", "whole")])
    assert (len(small.told), len(whole.told)) == (12 * 16 + 1, 2)
    np.testing.assert_array_equal(small.logits.view(np.int32), whole.logits.view(np.int32))


@needs_clang
def test_pictures_are_those_of_the_command_line(tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="PNG files are read by Pillow")
    model = pages.network(1, 9, (4, 6), 8, padding="same")
    mn.export(model, tmp_path / "page.html", "html")
    images = [pages.picture(33, 47, 1, True), pages.picture(20, 31, 2, False)]
    for image, answer in zip(images, pages.in_pages(tmp_path, [(tmp_path / "page.html", images)], drawn=True),
                             strict=True):  # fmt: skip
        grey = (image == image[..., :1]).all()
        np.testing.assert_array_equal(
            answer.overlay[..., :3], overlay(image[..., 0] if grey else image, answer.classes.astype(int))
        )
        with image_module.open(io.BytesIO(answer.png)) as png:
            assert png.mode == "L"
            np.testing.assert_array_equal(np.asarray(png), answer.classes)


@needs_clang
def test_the_page_is_small_and_asks_for_nothing(tmp_path):
    model = mn.UNet(1, 2, (8, 16, 32), padding="same")
    lines = mn.export(model, tmp_path / "page.html", "html", size=(64, 64))
    text = (tmp_path / "page.html").read_text()
    weights = re.search(r'id="weights">([^<]*)<', text)[1]
    assert len(text.encode()) - len(weights) <= 60_000
    assert f"{len(text.encode()):,} bytes" in lines[0] and "tiles of 64 x 64 px" in lines[1]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none';") and "http" not in policy
    assert re.findall(r"https?://\S+", text) == []
    assert "@" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)  # every part is filled in


@needs_clang
def test_class_names_tell_the_values_of_the_masks():
    model = mn.UNet(1, 3, (2,), padding="same")
    assert html.facts(model, (8, 8), (32, 32))["classes"] == ["class 0", "class 1", "class 2"]
    model.coding = Coding("levels", (0, 128, 255))
    assert html.facts(model, (8, 8), (32, 32))["classes"][1] == "class 1 (128 in the training masks)"
    model.coding = Coding("borders")
    assert html.facts(model, (8, 8), (32, 32))["classes"] == ["background", "foreground"]


@needs_clang
def test_default_tiles(tmp_path):
    for levels, side in ((1, 256), (5, 512)):
        model = mn.UNet(1, 2, (1,) * levels, padding="same")
        assert f"tiles of {side} x {side} px" in mn.export(model, tmp_path / "page.html", "html")[1]


def test_a_bilinear_up_path_is_refused(tmp_path):
    model = mn.UNet(1, 2, (2,), padding="same", up="bilinear")
    with pytest.raises(UsageError, match="bilinear up path gives other numbers than in the whole image"):
        mn.export(model, tmp_path / "page.html", "html")


@pytest.mark.parametrize(("channels", "options", "message"), [
    (2, {}, "1 or 3 channels; the model takes 2"),
    (1, {"size": (0, 8)}, r"size is \(0, 8\)"),
    (1, {"size": (8,)}, r"size is \(8,\)"),
    (1, {"size": (40_000, 8)}, "32,767"),
    (1, {"memory": "low"}, "memory: not an option of html, which has size"),
])  # fmt: skip
def test_what_cannot_be_written_is_refused(channels, options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        mn.export(mn.UNet(channels, 2, (2,), padding="same"), tmp_path / "page.html", "html", **options)
    assert list(tmp_path.iterdir()) == []


def test_weights_beyond_what_a_page_holds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(html, "MOST_WEIGHTS", 1000)
    with pytest.raises(UsageError, match="a page can hold 1,000"):
        mn.export(mn.UNet(1, 2, (4,), padding="same"), tmp_path / "page.html", "html")


def test_without_the_compiler_a_line_names_the_extra(tmp_path, monkeypatch, capsys):
    mn.save(mn.UNet(1, 2, (2,), padding="same"), tmp_path / "model.npz")
    monkeypatch.setitem(sys.modules, "ziglang", None)
    assert main(["export", str(tmp_path / "model.npz"), "--to", "html", "--out", str(tmp_path / "page.html")]) != 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and 'pip install "minunet[wasm]"' in error
    assert not (tmp_path / "page.html").exists()


@needs_clang
def test_the_command(tmp_path, capsys):
    mn.save(mn.UNet(1, 2, (2,), padding="same"), tmp_path / "model.npz")
    out = tmp_path / "page.html"
    assert main(["export", str(tmp_path / "model.npz"), "--to", "html", "--size", "32x48", "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: {out.stat().st_size:,} bytes")


@needs_clang
def test_the_joined_scripts_are_sound_and_answer_as_the_worker(tmp_path):
    """What the page itself runs, without a browser: every message of the worker, an error among them."""
    model, image = pages.network(1, 3, (4, 6), 7, padding="same"), pages.picture(20, 30, 1, True)
    mn.export(model, tmp_path / "page.html", "html", size=(16, 16))
    text = (tmp_path / "page.html").read_text()
    arithmetic, drawing = re.findall(r"<script(?: id=\"arithmetic\")?>(.*?)</script>", text, re.DOTALL)
    (tmp_path / "drawing.js").write_text(drawing)
    subprocess.run([in_node.node(), "--check", str(tmp_path / "drawing.js")], check=True)
    (tmp_path / "worker.cjs").write_text(arithmetic + WORKER)
    parts = {name: re.search(f'id="{name}">([^<]*)<', text)[1] for name in ("module", "weights")}
    facts = json.loads(re.search(r'id="facts">([^<]*)<', text)[1])
    rgba = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    job = {"parts": {"facts": facts, **parts}, "rgba": rgba.ravel().tolist(), "height": 20, "width": 30}
    progress, found, *errors = in_node.run(tmp_path / "worker.cjs", tmp_path, job)
    assert progress == [[done, 4] for done in range(5)]
    assert found["grey"] and found["transferred"] == 4
    _, classes, clear = pages.expected(model, image)
    np.testing.assert_array_equal(np.reshape(found["classes"], classes.shape)[clear], classes[clear])
    drawn = overlay(image[..., 0], np.reshape(found["classes"], classes.shape))
    np.testing.assert_array_equal(np.reshape(found["overlay"], (20, 30, 4))[..., :3], drawn)
    assert "not enough memory" in errors[0] and "no WebAssembly with vectors" in errors[1]


WORKER = """
const { readFileSync, writeFileSync } = require("node:fs");
const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const progress = [], scope = {};
const next = () => new Promise((resolve) => {
  scope.postMessage = (message, transferred) => {
    if (message.total) progress.push([message.done, message.total]);
    else resolve({ ...message, transferred: transferred?.length });
  };
});
(async () => {
  MODULES.work.serve(scope);
  await scope.onmessage({ data: job.parts });
  const answered = next();
  scope.onmessage({ data: { rgba: Uint8ClampedArray.from(job.rgba), height: job.height, width: job.width } });
  const { classes, overlay, grey, transferred } = await answered;
  const found = { classes: [...classes], overlay: [...overlay], grey, transferred };
  const tooLarge = next();
  scope.onmessage({ data: { rgba: new Uint8ClampedArray(4), height: -1, width: 1 } });
  const { error } = await tooLarge;
  const broken = next();
  MODULES.work.serve(scope);
  scope.onmessage({ data: { ...job.parts, module: btoa("no module") } });
  writeFileSync(process.argv[3], JSON.stringify([progress, found, error, (await broken).error]));
})();
"""
