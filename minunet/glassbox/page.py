"""The page: modules, style and contents in one HTML file."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from minunet.display.one_page import filled, in_script, joined
from minunet.unet import UNet

FOLDER = Path(__file__).parent
MODULES = FOLDER / "js"  # arithmetic: runs in the worker and in Node as well
DRAWING = FOLDER / "page"


def styles(*names: str) -> str:
    return "".join((DRAWING / f"{name}.css").read_text(encoding="utf-8") for name in names)


def page(model: UNet, contents: dict[str, Any], name: str) -> str:
    """The whole HTML file. contents: of box.py, or a recording; name: of the image, for the title."""
    arithmetic = tuple(path.stem for path in MODULES.glob("*.js"))
    modes = ("train", "eval") if len(contents.get("checks", ())) > 1 else (contents["mode"],)
    parts = {
        "title": escape(f"Glass box: {name}"),
        "summary": escape(f"{model!r}. Loss: {contents['loss']}; {contents['note']}."),
        "style": styles("base", "page"),
        "modes": "".join(f"<option>{mode}</option>" for mode in modes),
        "contents": in_script(contents),
        "arithmetic": joined([MODULES]),
        "drawing": joined([DRAWING], arithmetic, wanted=("app",)),
    }
    return filled(DRAWING / "page.html", parts)
