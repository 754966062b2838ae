"""The documentation as a site: sphinx-build -W docs build/docs (CONTRIBUTING.md).

Its pages load nothing from anywhere: formulas are MathML, drawings are in the pages.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from docstrings import restructured

project = "minunet"
author = "minunet contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "drawing", "mathml", "source", "stepper"]
highlight_language = "none"  # of blocks that do not say: formulas
smartquotes = False
exclude_patterns = ["README.md"]  # index.rst shows it

myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
myst_dmath_double_inline = True
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what is taken
autodoc_default_options = {"members": True}
add_module_names = False

html_theme = "furo"
html_title = "minunet"
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["book.css"]


def setup(app):
    app.connect("autodoc-process-docstring", _process)
    app.connect("source-read", _read)


def _read(app, page, source):
    """Files outside of this folder are handed out as they are, without their headings; folders are only named."""
    folder = Path(app.env.doc2path(page)).parent
    link = r"\[([^]]*)\]\((\.\./[^)#]+)(?:#[^)]*)?\)"
    source[0] = re.sub(link, lambda found: _outside(found, folder), source[0])


def _outside(link, folder):
    text, target = link.groups()
    path = (folder / target).resolve()
    if path.is_relative_to(Path(__file__).parent):
        return link[0]
    return text if path.is_dir() else f"[{text}](path:{target})"


def _process(app, what, name, obj, options, lines):
    lines[:] = restructured(lines)
