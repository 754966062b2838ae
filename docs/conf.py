"""The documentation as a site: sphinx-build -W docs build/docs (CONTRIBUTING.md)."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from docstrings import restructured

project = "minunet"
author = "minunet contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
highlight_language = "none"  # of blocks that do not say: formulas
smartquotes = False
exclude_patterns = ["README.md"]  # index.rst shows it

myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what is taken
autodoc_default_options = {"members": True}
add_module_names = False

html_theme = "furo"
html_title = "minunet"
html_show_copyright = False


def setup(app):
    app.connect("autodoc-process-docstring", _process)
    app.connect("source-read", _read)


def _read(app, page, source):
    """Files outside of this folder are handed out as they are, without their headings; folders are only named."""
    source[0] = re.sub(r"\[([^]]*)\]\((\.\./[^)#]+)(?:#[^)]*)?\)", _outside, source[0])


def _outside(link):
    text, target = link.groups()
    return text if (Path(__file__).parent / target).is_dir() else f"[{text}](path:{target})"


def _process(app, what, name, obj, options, lines):
    lines[:] = restructured(lines)
