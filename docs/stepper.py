"""Steppers of the glass box in the book: a directive that puts one into the page, as a page of its own in a frame.

    ```{stepper} im2col
    What to look at.
    ```

The kinds are those of minunet.glassbox.stepper; each computes its own small network in the reader's browser.
"""

from html import escape

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from minunet.glassbox import stepper_page


class Stepper(SphinxDirective):
    required_arguments = 1
    has_content = True

    def run(self):
        (kind,) = self.arguments
        title = f"{kind}, step by step"
        page = escape(stepper_page(kind))
        frame = f'<iframe class="stepper" title="{title}" loading="lazy" srcdoc="{page}"></iframe>'
        caption = nodes.caption("", "", *self.parse_inline(" ".join(self.content))[0])
        return [nodes.figure("", nodes.raw("", frame, format="html"), caption)]


def setup(app):
    app.add_directive("stepper", Stepper)
    return {"parallel_read_safe": True}
