"""A stepper alone on a page: small, of one kind each, and it steps."""

import json
import re

import numpy as np
import pytest

import minunet as mn
from minunet.errors import UsageError
from minunet.glassbox import stepper_page
from minunet.glassbox.stepper import KINDS
from minunet.training.recipe import Recipe


@pytest.fixture(autouse=True)
def on_numpy():
    with mn.use_backend("numpy"):
        yield


def contents(html: str) -> dict:
    return json.loads(re.search(r'id="contents">(.*?)</script>', html)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_its_own(kind, browser, tmp_path):
    html = stepper_page(kind)
    assert len(html.encode()) <= 60_000 and not re.search(r"https?:(?!//www.w3.org/2000/svg)", html)
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    page = browser.open(tmp_path / "page.html")
    caption = "document.querySelector('.caption').textContent"
    first = page.evaluate(caption)
    page.evaluate("document.querySelectorAll('button')[2].click()")
    assert page.evaluate(caption) != first
    page.evaluate("document.querySelectorAll('button')[2].focus()")
    page.press("ArrowLeft")
    assert page.evaluate(caption) == first
    page.evaluate("(() => { const slider = document.querySelector('input'); slider.value = slider.max;"
                  "slider.dispatchEvent(new Event('input')); })()")  # fmt: skip
    said = page.evaluate("document.body.textContent")
    apart = re.search(r"largest difference is ([\d.e−]+)\.", said)[1].replace("−", "-")
    assert float(apart) < 1e-12
    assert (page.errors, page.requests) == ([], [])
    page.close()


def test_playing_comes_to_the_end(browser, tmp_path):
    (tmp_path / "page.html").write_text(stepper_page("cross_entropy"), encoding="utf-8")
    page = browser.open(tmp_path / "page.html")
    page.evaluate("document.querySelectorAll('button')[1].click()")
    assert page.evaluate("document.querySelectorAll('button')[1].textContent") == "pause"
    page.evaluate("(() => { for (let k = 0; k < 9; k++) document.querySelectorAll('button')[2].click(); })()")
    page.wait_for("document.querySelectorAll('button')[1].textContent === 'play'")
    assert page.evaluate("document.querySelector('output').textContent") == "11 of 11"
    page.close()


def test_of_a_model_of_ones_own():
    model, image = mn.UNet(1, 2, (3,), padding="same"), np.eye(4)
    html = stepper_page("sgd", model, image, element=("final_conv.weight", (1, 2, 0, 0)),
                        recipe=Recipe(momentum=0.99, nesterov=False, clip=None))  # fmt: skip
    found = contents(html)
    assert found["element"] == {"name": "final_conv.weight", "index": [1, 2, 0, 0]}
    assert found["optimizer"] == {"lr": 0.1, "momentum": 0.99, "nesterov": False, "weightDecay": 0.0, "clip": None}
    assert found["tensors"]["final_conv.weight"]["shape"] == [2, 3, 1, 1]


def test_refused():
    with pytest.raises(UsageError, match=r"a stepper is one of im2col, col2im, .* found 'relu'"):
        stepper_page("relu")
    with pytest.raises(UsageError, match="needs image and element"):
        stepper_page("pool", mn.UNet(1, 2, (3,)))
