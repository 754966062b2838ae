"""The program of a chapter, for drawings of what it has computed."""

import contextlib
import functools
import io
import re
from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@functools.cache
def names(chapter: str) -> dict:
    """All that the Python blocks of a chapter have defined once they have run."""
    text = (Path(__file__).parents[1] / f"{chapter}.md").read_text(encoding="utf-8")
    defined: dict = {"__name__": chapter}
    with contextlib.redirect_stdout(io.StringIO()):
        exec("\n".join(BLOCK.findall(text)), defined)
    return defined
