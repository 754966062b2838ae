"""The notebooks in docs/notebooks/: stripped, and every cell runs and shows something sound.

A notebook is JSON. So its cells are run here as Jupyter runs them, one after the other in one namespace, in a
process of its own, the last expression of a cell shown; but without Jupyter.
"""

import ast
import html.parser
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

RUNNER = """
import ast, json, sys

def show(value):
    if value is not None:
        html = value._repr_html_() if hasattr(value, "_repr_html_") else ""
        print(json.dumps({"repr": repr(value), "html": html}))

names = {"__name__": "__main__"}
for number, source in enumerate(json.load(sys.stdin)):
    tree = ast.parse(source, f"cell {number}")
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"cell {number}", "exec"), names)
    if last is not None:
        show(eval(compile(last, f"cell {number}", "eval"), names))
"""


def cells_of(path, kind="code"):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def run(sources, folder):
    """The JSON lines that the cells have shown, and all that they printed."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUNNER], input=json.dumps(sources), capture_output=True, text=True,
        cwd=folder, env=os.environ | {"MINUNET_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"repr"')]
    return shown, done.stdout


class Tags(html.parser.HTMLParser):
    """Checks that tags are closed in order, and that nothing is fetched from outside."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href"):
                assert value.startswith("data:image/png;base64,")
        if tag != "img":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in ("path", "circle")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_there_are_two():
    assert [path.name for path in NOTEBOOKS] == ["look_inside_a_layer.ipynb", "train_on_a_folder.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    assert book["nbformat"] == 4
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    for cell in cells_of(path):
        assert cell["outputs"] == [] and cell["execution_count"] is None
        ast.parse("".join(cell["source"]))
    # Written for a reader: text before nearly every piece of code.
    assert len(cells_of(path, "markdown")) >= 0.7 * len(cells_of(path))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path):
    pytest.importorskip("PIL", reason="Pillow is not installed")
    shown, printed = run(["".join(cell["source"]) for cell in cells_of(path)], tmp_path)
    assert len(shown) >= 8
    for value in shown:
        tags = Tags()
        tags.feed(value["html"])
        tags.close()
        assert tags.open == []
        assert " object at 0x" not in value["repr"]
    assert sum("<img" in value["html"] for value in shown) >= 5
    CLAIMS[path.stem](shown, printed)
    assert not list(tmp_path.iterdir())  # a notebook leaves nothing beside itself


def claims_of_training(shown, printed):
    """The model beats both baselines, as its text says it should, and the curves are drawn."""
    assert "instance ids" in printed and "24 to train on, 8 to judge by" in printed
    assert any("<svg" in value["html"] for value in shown)
    table = next(value["repr"] for value in shown if "all background" in value["repr"])
    line = next(line for line in table.splitlines() if line.startswith("mean IoU of cells"))
    model, background, otsu = map(float, line.split()[-3:])
    assert model > 0.85 > 0.5 > max(background, otsu)


def claims_of_the_layer(shown, printed):
    """The derivatives agree in all printed digits, the loss falls, the skip brings the gradient to the pixel."""
    lines = printed.splitlines()
    pairs = [line.split() for line in lines if "computed" in line]
    assert len(pairs) == 3
    for words in pairs:
        computed, measured = float(words[-3]), float(words[-1])
        assert abs(computed) > 1e-4 and abs(computed - measured) < 2e-9
    losses = [float(line.split()[-1]) for line in lines if line.startswith("step ")]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.9 * losses[0]
    assert any(line.startswith("with skip") and line.endswith("the pixel itself 1.0") for line in lines)
    assert any(line.startswith("without skip") and line.endswith("the pixel itself 0.0") for line in lines)


CLAIMS = {"train_on_a_folder": claims_of_training, "look_inside_a_layer": claims_of_the_layer}


def test_the_runner_fails_where_a_cell_does(tmp_path):
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run(["x = 1", "x / 0"], tmp_path)
    shown, _ = run(["x = 3", "x"], tmp_path)
    assert shown == [{"repr": "3", "html": ""}]
