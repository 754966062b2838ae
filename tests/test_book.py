"""The book keeps its promises: code that is there, drawings that can be drawn, exercises with solutions, a site that
loads nothing and leads nowhere wrong."""

import importlib
import inspect
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pages
import pytest

import minunet as mn
from minunet.glassbox.stepper import KINDS

DOCS = pages.ROOT / "docs"
CHAPTERS = sorted((DOCS / "book").glob("[0-9]*.md"))
TOOLS = ("__init__", "program", "svg")
DRAWN = sorted({path.stem for path in (DOCS / "book" / "figures").glob("*.py")} - set(TOOLS))
EVERY_CHAPTER = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def figures(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "book")
    with mn.use_backend("numpy"):
        yield


def blocks(chapter: Path, directive: str) -> list[pages.Block]:
    return [block for block in pages.blocks(chapter.read_text()) if block.language.startswith(f"{{{directive}}}")]


# ------------------------------------------------------------------------------------------------ the source


@EVERY_CHAPTER
def test_included_code_is_there(chapter):
    for block in blocks(chapter, "source"):
        assert len(pages.included(block)) > 1, f"{chapter.name}, line {block.line}"


def test_an_include_of_nothing_would_be_noticed():
    def lines(what, options=""):
        return pages.included(pages.Block(f"{{source}} {what}", options, 1))

    assert lines("minunet/functional.py sigmoid")[0] == "def sigmoid(x: Any) -> Tensor:"
    assert lines("minunet/optim.py SGD.step")[0] == "    def step(self) -> None:"
    assert len(lines("minunet/functional.py sigmoid", ":start-at: s = _sigmoid\n:end-at: return\n")) == 2
    for what, options in (
        ("minunet/functional.py sigmoidal", ""),
        ("minunet/unet.py sigmoid", ""),
        ("minunet/optim.py UNet.step", ""),
        ("minunet/functional.py sigmoid", ":start-at: nothing\n"),
    ):
        with pytest.raises(AssertionError):
            lines(what, options)


# --------------------------------------------------------------------------------------------- what it shows


def drawings(chapter: Path) -> list[str]:
    return [block.language.split()[1] for block in blocks(chapter, "drawing")]


def functions(module: str) -> list[str]:
    """The drawings of a module: its functions that promise a text and take nothing."""
    found = vars(importlib.import_module(f"figures.{module}"))
    return [
        f"{module}.{name}"
        for name, value in found.items()
        if inspect.isfunction(value) and value.__module__ == f"figures.{module}"
        and inspect.signature(value).return_annotation is str and not inspect.signature(value).parameters
    ]  # fmt: skip


def test_every_drawing_is_shown_and_every_one_shown_exists():
    shown = [name for chapter in CHAPTERS for name in drawings(chapter)]
    assert sorted(shown) == sorted(name for module in DRAWN for name in functions(module))


@pytest.mark.parametrize("module", DRAWN)
def test_drawings_are_pictures_that_say_what_they_show(module):
    for name in functions(module):
        draw = getattr(importlib.import_module(f"figures.{module}"), name.partition(".")[2])
        text = draw()
        root = ElementTree.fromstring(text)
        assert root.tag.endswith("svg") and len(root) > 3, name
        assert len(root.get("aria-label").split()) > 3, name
        assert float(root.get("viewBox").split()[2]) <= 420, f"{name} is too wide for a phone"
        assert "nan" not in text and draw() == text, name


@EVERY_CHAPTER
def test_drawings_have_captions(chapter):
    for block in blocks(chapter, "drawing"):
        assert len(block.text.split()) > 3, f"{chapter.name}, line {block.line}"


@EVERY_CHAPTER
def test_steppers_are_of_a_kind_that_there_is(chapter):
    for block in blocks(chapter, "stepper"):
        assert block.language.split()[1] in KINDS and block.text, f"{chapter.name}, line {block.line}"


# -------------------------------------------------------------------------------------------------- chapters


@EVERY_CHAPTER
def test_solutions_can_be_unfolded(chapter):
    text = pages.FENCE.sub("", chapter.read_text())
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>")
    assert not re.search(r"<summary>.*</summary>\n[^\n]|[^\n]\n</details>", text), "Markdown needs empty lines there"


@EVERY_CHAPTER
def test_each_chapter_has_what_was_promised(chapter):
    text = chapter.read_text()
    exercises = re.findall(r"^\*\*(\d+)\.\*\* ", text.partition("## Exercises\n")[2], re.MULTILINE)
    assert [int(number) for number in exercises] == [*range(1, len(exercises) + 1)] and len(exercises) >= 3
    assert text.count("<summary>Solution</summary>") == len(exercises)
    assert drawings(chapter) and blocks(chapter, "source")


def test_every_setup_is_the_same():
    setups = {
        setup[1]
        for chapter in CHAPTERS
        for setup in [re.search(r"<summary>Setup.*?```python\n(.*?)```", chapter.read_text(), re.DOTALL)]
        if setup
    }
    assert len(setups) == 1


# -------------------------------------------------------------------------------------------------- the site


class Page(HTMLParser):
    """What a page links to, what it loads, and the places in it that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.loads, self.places = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.places.add(values.get("id"))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in ("img", "script", "iframe", "link", "source", "video", "object"):
            self.loads += [values[key] for key in ("src", "href", "data") if values.get(key)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx", reason="the site is built where the extra docs is installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-P", "-m", "sphinx", "-W", "-q", "-E", "-d", folder / "doctrees", DOCS, folder / "html"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=pages.ROOT)
    assert done.returncode == 0, done.stderr
    return {path.resolve(): Page(path) for path in (folder / "html").rglob("*.html")}


def away(target: str) -> bool:
    return bool(re.match(r"[a-z]+:|//", target))


def dead(site: dict, path: Path, target: str) -> bool:
    file, _, place = target.partition("#")
    there = (path.parent / file.partition("?")[0]).resolve() if file else path
    if there not in site:
        return not there.is_file()
    return bool(place) and place not in site[there].places


def test_the_site_has_no_dead_link_and_loads_nothing(site):
    assert len(site) > len(CHAPTERS)
    for path, page in site.items():
        assert [link for link in page.links if not away(link) and dead(site, path, link)] == [], path.name
        loaded = [target for target in page.loads if not target.startswith("data:")]
        assert [target for target in loaded if away(target) or dead(site, path, target)] == [], path.name
        styles = [path.parent / target.partition("?")[0] for target in loaded if ".css" in target]
        for text in [path.read_text(), *(style.read_text() for style in styles)]:
            assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import\s+(url\()?['\"](https?:)?//", text), path.name


def test_a_dead_link_would_be_noticed(site):
    (chapter,) = (path for path in site if path.name == "01-one-pixel.html")
    assert not dead(site, chapter, "#exercises") and not dead(site, chapter, "index.html")
    for wrong in ("#nowhere", "nowhere.html", "index.html#nowhere"):
        assert dead(site, chapter, wrong)


PARTS = [*(f"book/{chapter.stem}" for chapter in CHAPTERS), "book/index", "index"]
STEPPED = """[...document.querySelectorAll('iframe.stepper')].every(frame => {
    frame.loading = 'eager';
    return frame.contentDocument?.querySelector('.caption')?.textContent;
})"""


@pytest.mark.parametrize("part", PARTS)
def test_on_a_phone_a_page_is_whole_and_asks_nothing_of_the_network(part, site, browser):
    (path,) = (path for path in site if path.as_posix().endswith(f"html/{part}.html"))
    page = browser.open(path, width=360, height=800)
    page.evaluate("document.querySelectorAll('details').forEach(solution => solution.open = true)")
    page.wait_for(STEPPED)
    assert page.errors == [] and page.requests == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
