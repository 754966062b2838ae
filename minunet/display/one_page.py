"""Pages of one HTML file that asks no network for anything: their JavaScript joined, and a template filled.

The JavaScript is written as plain ES modules, which browsers do not load from disk. So each becomes a function that
returns what it exports, in the order in which they need each other: no build step, and what is read here is what runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:function|async function|const|class) (\w+))", re.MULTILINE)


def joined(folders: list[Path], known: tuple[str, ...] = (), wanted: tuple[str, ...] | None = None) -> str:
    """The modules of these folders as one script that fills the object MODULES; `known` are in it already.

    wanted: only these, and what they need; None: all.
    """
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

    for name in wanted or sources:
        add(name)
    return '"use strict";\n' + "\n".join(script)


def _as_function(name: str, source: str) -> str:
    exports = ", ".join(exported for _, exported in _EXPORT.findall(source))
    body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const {\1} = MODULES.\2;", source))
    return f"MODULES.{name} = (() => {{\n{body}return {{ {exports} }};\n}})();"


def in_script(value: Any) -> str:
    """JSON for a <script>: a name or note from outside must not end the script that holds it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def filled(template: Path, parts: Mapping[str, str]) -> str:
    """The template with every @name@ replaced by that part."""
    return re.sub(r"@(\w+)@", lambda found: parts[found[1]], template.read_text(encoding="utf-8"))
