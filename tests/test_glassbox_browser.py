"""The glass box in a browser: from disk, by mouse and by keyboard alone, and held against axe where it is installed."""

import importlib.util
import re
from pathlib import Path

import pytest

import minunet as mn
from minunet.data import synthetic
from minunet.glassbox.stepper import KINDS, stepper_page

COMPUTED = "/^computed|^recorded/.test(document.getElementById('status').textContent)"
DRAWN = "document.querySelector('svg') !== null"
AXE = ("axe_playwright_python", "axe_core_python", "axe_selenium_python")  # packages that carry the script


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A page that computes, a recording of the same, and a stepper."""
    folder = tmp_path_factory.mktemp("pages")
    images, masks = synthetic.cells(1, 32, seed=3)
    model = mn.UNet(1, 2, (3, 4), padding="same", norm="batch", dropout=0.5, seed=1)
    with mn.use_backend("numpy"):
        mn.glassbox(model, images[0], masks[0], folder / "box.html")
        mn.glassbox(model, images[0], masks[0], folder / "recording.html", max_mb=0.25)
        box = mn.glassbox(model, images[0], masks[0])
        (folder / "notebook.html").write_text(f"<!doctype html>{box._repr_html_()}", encoding="utf-8")
        (folder / "stepper.html").write_text(stepper_page("im2col"), encoding="utf-8")
    return folder


@pytest.fixture
def page(browser, files):
    """The page that computes, when it has; nothing may have gone wrong in the end."""
    page = browser.open(files / "box.html")
    page.wait_for(COMPUTED)
    yield page
    assert (page.errors, page.requests) == ([], [])
    page.close()


def text(page, selector: str) -> str:
    return page.evaluate(f"document.querySelector({selector!r}).textContent")


def choose(page, selector: str, value: str) -> None:
    """As if the user had picked this option."""
    page.evaluate(f"(() => {{ const field = document.querySelector({selector!r}); field.value = {value!r};"
                  "field.dispatchEvent(new Event('change')); })()")  # fmt: skip


def test_the_verdict_is_shown(page):
    assert re.match(r"All \d+ values and gradients agree with the Python run", text(page, "#verdict"))


def test_a_click_shows_the_terms(page):
    page.evaluate("document.querySelectorAll('.node')[2].click()")
    assert text(page, "#formula strong").startswith("downs.0.conv.1[0, ")
    assert "weight · (x − mean)" in text(page, ".law")
    first = text(page, "#formula strong")
    page.evaluate("document.querySelector('.operand').click()")
    assert text(page, "#formula strong") != first
    page.evaluate("document.getElementById('back').click()")
    assert text(page, "#formula strong") == first


def test_an_edit_computes_everything_again_and_can_be_undone(page):
    loss = text(page, "#loss")
    choose(page, "#tensor", "input")
    page.evaluate("document.getElementById('new-value').value = 900; document.getElementById('edit').requestSubmit()")
    page.wait_for("document.getElementById('verdict').textContent.startsWith('1 edit')")
    page.wait_for(COMPUTED)
    assert text(page, "#loss") != loss and "loss changed by" in text(page, "#status")
    page.evaluate("document.getElementById('undo').click()")
    page.wait_for("document.getElementById('verdict').textContent.startsWith('All')")
    assert text(page, "#loss") == loss


def test_a_numeric_gradient(page):
    choose(page, "#tensor", "final_conv.weight")
    page.evaluate("document.getElementById('compare').click()")
    said = page.wait_for("(document.getElementById('difference').textContent.includes('held') &&"
                         "document.getElementById('difference').textContent)")  # fmt: skip
    off = re.search(r"held, step [^:]*: \S+, off by (\S+?)central", said)[1].replace("−", "-")
    assert abs(float(off)) < 1e-7


def test_evaluation_mode(page):
    choose(page, "#mode", "eval")
    page.wait_for(COMPUTED)
    assert text(page, "#verdict").startswith("All")


def test_every_stepper_steps_to_the_end(page):
    kinds = page.evaluate("[...document.querySelectorAll('#stepper option')].map((option) => option.value)")
    assert set(kinds) == set(KINDS)
    for kind in kinds:
        choose(page, "#stepper", kind)
        if kind == "sgd":
            page.evaluate("document.querySelector('#stepping > button').click()")
            page.wait_for("!document.querySelector('#stepping > div').hidden")
        before = text(page, "#stepping .caption")
        page.evaluate("document.querySelectorAll('#stepping [role=group] button')[2].click()")
        assert text(page, "#stepping .caption") != before, kind
        page.evaluate("(() => { const slider = document.querySelector('#stepping input'); slider.value = slider.max;"
                      "slider.dispatchEvent(new Event('input')); })()")  # fmt: skip
        apart = re.search(r"largest difference is ([\d.e−]+)\.", text(page, "#stepping"))[1]
        assert float(apart.replace("−", "-")) < 1e-9, kind


@pytest.mark.parametrize("fault", ["order", "overwritten", "unflipped", "skip", "twice"])
def test_break_it_answers(page, fault):
    choose(page, "#fault", fault)
    page.evaluate("document.querySelector('#breaking button').click()")
    page.wait_for("/ wrong\\. /.test(document.getElementById('breaking').textContent)")
    said = text(page, "#breaking")
    assert re.search(r"[1-9]\d* of \d+ parameter tensors wrong\. The loss would (still fall|rise)", said)
    page.evaluate("document.querySelector('#breaking .operand').click()")  # the most wrong, both in one scale
    captions = page.evaluate("[...document.querySelectorAll('#breaking figcaption')].map((one) => one.textContent)")
    assert [caption.partition(" ")[0] for caption in captions] == ["right", "wrong"]
    pictures = page.evaluate("[...document.querySelectorAll('#breaking canvas')].map((one) => one.toDataURL())")
    assert len(set(pictures)) == 2


def test_by_keyboard_alone(page):
    """Tab leads to every control; the arrow keys choose in a map and step; Enter presses."""
    reached = set()
    page.evaluate("window.nameOf = (one) => one.id || one.className || one.textContent")
    for _ in range(80):
        page.press("Tab")
        reached.add(page.evaluate("nameOf(document.activeElement)"))
    assert {"mode", "tensor", "kind", "node", "stepper", "fault", "operand", "next", "break it"} <= reached
    before = text(page, "#formula strong")
    page.evaluate("document.querySelector('#maps canvas').focus()")
    page.press("ArrowDown")
    assert text(page, "#formula strong") != before
    page.evaluate("[...document.querySelectorAll('#breaking button')][0].focus()")
    page.press("Enter")
    page.wait_for("/ wrong\\. /.test(document.getElementById('breaking').textContent)")


def test_in_the_frame_of_a_notebook(browser, files):
    page = browser.open(files / "notebook.html")
    inside = "document.querySelector('iframe').contentDocument.getElementById('verdict')?.textContent"
    page.wait_for(f"({inside} ?? '').startsWith('All')")
    assert (page.errors, page.requests) == ([], [])
    page.close()


def test_a_recording_shows_sums_and_says_what_is_left_out(browser, files):
    page = browser.open(files / "recording.html")
    page.wait_for(COMPUTED)
    assert re.match(r"A recording of the Python run\. All \d+ recorded formulas give", text(page, "#verdict"))
    assert "Left out: all other elements" in text(page, "header")
    assert page.evaluate("document.getElementById('about-breaking').offsetParent === null")
    for name in page.evaluate("[...document.querySelectorAll('#tensor option')].map((option) => option.value)"):
        choose(page, "#tensor", name)
        assert text(page, "#formula strong").endswith("]") or name.startswith("loss")
        assert name in text(page, "#formula strong") and "NaN" not in text(page, "#formula")
    assert (page.errors, page.requests) == ([], [])
    page.close()


@pytest.mark.parametrize("name", ["box", "recording", "stepper"])
def test_nothing_is_wider_than_a_phone(browser, files, name):
    page = browser.open(files / f"{name}.html", 360, 700, dark=True)
    page.wait_for(COMPUTED if name != "stepper" else DRAWN)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.close()


@pytest.fixture(scope="module")
def axe() -> str:
    for package in AXE:
        if found := importlib.util.find_spec(package):
            script = next(Path(found.submodule_search_locations[0]).rglob("axe.min.js"), None)
            if script:
                return script.read_text(encoding="utf-8")
    pytest.skip("accessibility is checked with axe-core: pip install axe-playwright-python")


@pytest.mark.parametrize("name", ["box", "recording", "stepper"])
@pytest.mark.parametrize(("width", "dark"), [(1400, False), (1400, True), (360, False)])
def test_axe_finds_nothing(browser, files, axe, name, width, dark):
    page = browser.open(files / f"{name}.html", width, 900, dark)
    page.wait_for(COMPUTED if name != "stepper" else DRAWN)
    if name == "box":
        page.evaluate("document.querySelector('#breaking button').click()")
        page.wait_for("/ wrong\\. /.test(document.getElementById('breaking').textContent)")
    page.evaluate(axe + ";0")
    found = page.evaluate("axe.run().then(({ violations }) => violations)")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    page.close()
