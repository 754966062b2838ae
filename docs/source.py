"""Code in the book, taken from the source by name while the site is built: nothing is pasted, so nothing can drift.

    ```{source} minunet/functional.py sigmoid
    ```

shows this function (a class, or `Class.method`), `:start-at: TEXT` and `:end-at: TEXT` only the lines from the first
with this text to the next with that one.  What is not there is an error of the build, and of tests/test_book.py.
"""

from typing import ClassVar

from docutils.parsers.rst import directives
from sphinx.directives.code import LiteralInclude


class Source(LiteralInclude):
    required_arguments = 2
    final_argument_whitespace = False
    option_spec: ClassVar = {"start-at": directives.unchanged_required, "end-at": directives.unchanged_required}

    def run(self):
        file, name = self.arguments
        self.arguments = [f"/../{file}"]
        self.options |= {"pyobject": name, "caption": f"{file}, {name}", "language": "python", "dedent": None}
        return super().run()


def setup(app):
    app.add_directive("source", Source)
    return {"parallel_read_safe": True}
