"""Drawings that are made while the site is built: a directive that calls a function of docs/book/figures.

    ```{drawing} one_pixel.neuron
    What stands below it.
    ```

puts what `figures/one_pixel.py: neuron()` returns, SVG or HTML, into the page itself, so that nothing is fetched when
it is read and colours follow the reader's choice of light or dark.
"""

import importlib
import sys
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import minunet as mn

sys.path.insert(0, str(Path(__file__).parent / "book"))


class Drawing(SphinxDirective):
    required_arguments = 1
    has_content = True

    def run(self):
        module_name, _, function = self.arguments[0].partition(".")
        module = importlib.import_module(f"figures.{module_name}")
        self.env.note_dependency(module.__file__)
        with mn.use_backend("numpy"):  # nothing is compiled for a few numbers
            drawn = getattr(module, function)()
        caption = nodes.caption("", "", *self.parse_inline(" ".join(self.content))[0])
        return [nodes.figure("", nodes.raw("", drawn, format="html"), caption)]


def setup(app):
    app.add_directive("drawing", Drawing)
    return {"parallel_read_safe": True}
