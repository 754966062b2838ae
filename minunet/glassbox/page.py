"""The page: modules, style and contents in one HTML file that asks no network for anything.

The JavaScript is written as plain ES modules, which browsers do not load from disk. So each becomes a function that
returns what it exports, in the order in which they need each other: no build step, and what is read here is what runs.
"""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from minunet.unet import UNet

FOLDER = Path(__file__).parent
MODULES = FOLDER / "js"  # arithmetic: runs in the worker and in Node as well
DRAWING = FOLDER / "page"
_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:function|const|class) (\w+))", re.MULTILINE)


def joined(folders: list[Path], known: tuple[str, ...] = ()) -> str:
    """The modules of these folders as one script that fills the object MODULES; `known` are in it already."""
    files = [path for folder in folders for path in sorted(folder.glob("*.js"))]
    sources = {path.stem: path.read_text(encoding="utf-8") for path in files}
    done, script = list(known), [] if known else ["const MODULES = {};"]

    def add(name: str) -> None:
        if name in done:
            return
        done.append(name)
        for _, other in _IMPORT.findall(sources[name]):
            add(other)
        script.append(_as_function(name, sources[name]))

    for name in sources:
        add(name)
    return '"use strict";\n' + "\n".join(script)


def _as_function(name: str, source: str) -> str:
    exports = ", ".join(exported for _, exported in _EXPORT.findall(source))
    body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const {\1} = MODULES.\2;", source))
    return f"MODULES.{name} = (() => {{\n{body}return {{ {exports} }};\n}})();"


def page(model: UNet, contents: dict[str, Any], name: str) -> str:
    """The whole HTML file. name: of the image, for the title."""
    arithmetic = tuple(path.stem for path in MODULES.glob("*.js"))
    modes = ("train", "eval") if len(contents["checks"]) > 1 else (contents["mode"],)
    parts = {
        "title": escape(f"Glass box: {name}"),
        "summary": escape(f"{model!r}. Loss: {contents['loss']}; {contents['note']}."),
        "style": (DRAWING / "page.css").read_text(encoding="utf-8"),
        "modes": "".join(f"<option>{mode}</option>" for mode in modes),
        # A name or note from outside must not end the script that holds it.
        "contents": json.dumps(contents, separators=(",", ":")).replace("<", "\\u003c"),
        "arithmetic": joined([MODULES]),
        "drawing": joined([DRAWING], arithmetic),
    }
    template = (DRAWING / "page.html").read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda found: parts[found[1]], template)
