"""The exported page in a browser: what its user sees, saves and is told."""

import base64

import c_programs as programs
import exported_pages as pages
import numpy as np
import pytest

import minunet as mn
from minunet.display.pictures import overlay

Image = pytest.importorskip("PIL.Image", reason="PNG files are written by Pillow")
pytestmark = pytest.mark.skipif(programs.clang() is None, reason="ziglang, which has clang, is not installed")

IMAGE = pages.picture(50, 70, 7, grey=True)
READY = "!document.getElementById('result').hidden"
FAILED = "!document.getElementById('error').hidden"


@pytest.fixture(scope="module")
def model():
    return pages.network(1, 3, (4, 6), 7, padding="same")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    """page.html, and files for it."""
    made = tmp_path_factory.mktemp("page")
    mn.export(model, made / "page.html", "html", size=(16, 16))
    Image.fromarray(IMAGE[..., 0]).save(made / "spots.png")
    Image.fromarray(pages.picture(20, 30, 1, grey=False)).save(made / "colours.png")
    Image.fromarray((IMAGE[..., 0].astype(np.uint16) << 8) + 7).save(made / "deep.png")
    Image.fromarray(np.dstack([IMAGE, np.full(IMAGE.shape[:2], 128, np.uint8)])).save(made / "glass.png")
    Image.fromarray(IMAGE[..., 0]).save(made / "spots.tif")
    Image.new("1", (4100, 4100)).save(made / "large.png")
    Image.fromarray(pages.picture(1200, 1200, 2, grey=True)[..., 0]).save(made / "slow.png")
    (made / "text.png").write_text("no image")
    (made / "empty.png").touch()
    return made


@pytest.fixture
def page(browser, folder):
    opened = browser.open(folder / "page.html")
    yield opened
    assert (opened.errors, opened.requests) == ([], [])
    opened.close()


def text(page, name: str) -> str:
    return page.evaluate(f"document.getElementById('{name}').textContent")


def given(page, file) -> None:
    page.choose_files("#file", file)
    page.wait_for(f"{READY} || {FAILED}")


def pixels(page, name: str) -> np.ndarray:
    """(H, W, 3) of a canvas."""
    found = page.evaluate(f"""(() => {{
        const canvas = document.getElementById('{name}');
        const {{ data }} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.height, canvas.width, btoa(String.fromCharCode(...data))];
    }})()""")
    return np.frombuffer(base64.b64decode(found[2]), np.uint8).reshape(found[0], found[1], 4)[..., :3]


def test_an_image_is_segmented_and_saved(page, folder, model, tmp_path):
    assert page.evaluate("document.querySelector('label').control.id") == "file"
    page.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    given(page, folder / "spots.png")
    _, classes, clear = pages.expected(model, IMAGE[..., 0])
    assert clear.all() and set(classes.flat) == {0, 1, 2}
    drawn = overlay(IMAGE[..., 0], classes)
    np.testing.assert_array_equal(pixels(page, "overlay"), drawn)
    assert "70 x 50 px, computed in" in text(page, "status")
    assert page.evaluate("document.getElementById('working').hidden")
    shares = [100 * (classes == number).mean() for number in range(3)]
    for number, share in enumerate(shares):
        assert f"{number}: class {number}, {share:.1f} %" in text(page, "legend")
    labels = page.evaluate("[...document.querySelectorAll('canvas')].map((each) => each.getAttribute('aria-label'))")
    assert all(labels) and "spots.png" in labels[0] and f"{shares[1]:.1f} %" in labels[1]
    page.download_to(tmp_path)
    for button, name in (("save-mask", "spots_mask.png"), ("save-overlay", "spots_overlay.png")):
        page.press("Tab")
        while page.evaluate("document.activeElement.id") != button:
            assert page.evaluate("document.activeElement.tagName") != "BODY", "it cannot be reached by keys"
            page.press("Tab")
        page.press("Enter")
        wait_for_file(page, tmp_path / name)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "spots_mask.png")), classes)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "spots_overlay.png"))[..., :3], drawn)


def wait_for_file(page, path) -> None:
    for _ in range(500):
        if path.exists() and path.stat().st_size:
            return
        page.evaluate("new Promise((done) => setTimeout(done, 20))")
    raise AssertionError(f"{path.name} was not saved: {sorted(path.parent.iterdir())}")


@pytest.mark.parametrize(("file", "message"), [
    ("text.png", "text.png is no image that this browser can read: give a PNG or JPEG file."),
    ("empty.png", "empty.png is no image that this browser can read: it is empty."),
    ("spots.tif", "spots.tif is no image that this browser can read: it is a TIFF file"),
    ("large.png", "large.png has 4100 x 4100 px, and this page takes 16,777,216 at most"),
])  # fmt: skip
def test_what_is_no_image_for_it(page, folder, file, message):
    given(page, folder / file)
    assert text(page, "error").startswith(message) and not page.evaluate(READY)
    given(page, folder / "spots.png")
    assert page.evaluate(READY) and not page.evaluate(FAILED)


@pytest.mark.parametrize(("file", "note"), [
    ("deep.png", "16 bits a channel"),
    ("glass.png", "transparent parts"),
    ("colours.png", "its luminance is used"),
    ("spots.png", ""),
])  # fmt: skip
def test_what_is_told_of_an_image(page, folder, file, note):
    given(page, folder / file)
    assert page.evaluate(READY)
    assert note in text(page, "notes") and bool(note) == bool(text(page, "notes"))


def test_a_long_work_is_cancelled_and_another_image_dropped(page, folder):
    page.choose_files("#file", folder / "slow.png")
    page.wait_for("/tile [1-9]\\d* of 5625/.test(document.getElementById('status').textContent)")
    assert page.evaluate("document.getElementById('progress').max") == 5625
    page.press("Escape")
    assert text(page, "status") == "Cancelled." and page.evaluate("document.getElementById('working').hidden")
    page.choose_files("#file", folder / "slow.png")  # given up for the next one
    page.wait_for("/tile [1-9]/.test(document.getElementById('status').textContent)")
    file = base64.b64encode((folder / "spots.png").read_bytes()).decode()
    page.evaluate(f"""(() => {{
        const data = new DataTransfer();
        const bytes = Uint8Array.from(atob('{file}'), (letter) => letter.charCodeAt(0));
        for (const name of ['dropped.png', 'another.png']) data.items.add(new File([bytes], name));
        const given = {{ dataTransfer: data, bubbles: true, cancelable: true }};
        return document.body.dispatchEvent(new DragEvent('drop', given));
    }})()""")
    page.wait_for(READY)
    assert text(page, "status").startswith("dropped.png: 70 x 50 px")
    assert "Of the 2 files this is the first" in text(page, "notes")


def test_a_narrow_window_in_the_dark(page, folder):
    page.view(360, 640, dark=True)
    given(page, folder / "spots.png")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("Math.min(...[...document.querySelectorAll('canvas')].map((c) => c.clientWidth))") > 300
    light = page.evaluate("getComputedStyle(document.body).color.match(/\\d+/g).map(Number)")
    assert min(light) > 200
