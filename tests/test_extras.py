"""Optional libraries: a module where it is installed, else one line that says what to install."""

import math
import sys

import pytest

from minunet.extras import MissingExtra, require


def test_returns_the_module():
    assert require("math", extra="train") is math
    assert require("os.path", extra="train") is sys.modules["os.path"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("PIL", "PIL (Pillow)"), ("PIL.Image", "PIL (Pillow)"), ("scipy.io", "scipy")],
)
def test_missing_library(monkeypatch, name, shown):
    library = name.partition(".")[0]
    for module in [m for m in sys.modules if m == library or m.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)  # what an import of it sees where it is missing
    with pytest.raises(MissingExtra) as caught:
        require(name, extra="train")
    assert str(caught.value) == (f'{shown} is not installed; install it with: pip install "minunet[train]"')
    assert isinstance(caught.value, ImportError)
    assert caught.value.name == library


def test_library_that_was_never_there():
    with pytest.raises(MissingExtra, match=r"^no_such_library is not installed; .*minunet\[cpu\]"):
        require("no_such_library.part", extra="cpu")


def test_broken_library_shows_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import not_there_either\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_either") as caught:
        require("broken_library", extra="train")
    assert not isinstance(caught.value, MissingExtra)
