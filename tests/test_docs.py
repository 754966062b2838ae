"""The documentation is true: its programs run and print what it shows, its sums, quotes, options and links hold."""

import argparse
import contextlib
import functools
import io
import re
import shlex
from pathlib import Path

import pages
import pytest

import minunet as mn
from minunet import cli
from minunet.kernels import threads

GUIDE, README = pages.ROOT / "docs/guide.md", pages.ROOT / "README.md"
BOOK = sorted((pages.ROOT / "docs/book").glob("[0-9]*.md"))
DERIVED = BOOK[:7]  # the chapters after these are about measured times and sizes
OTHER_PROGRAMS = ("pip", "python", "pytest", "ruff", "mypy", "sphinx", "git", ".venv", ".ci")


def name(page: Path) -> str:
    return page.relative_to(pages.ROOT).as_posix()


EVERY_PAGE = pytest.mark.parametrize("page", pages.pages(), ids=name)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of its own; what a page sets for the whole process is put back."""
    monkeypatch.chdir(tmp_path)
    count = threads.count()
    with mn.use_backend(mn.kernels.current_backend()), mn.policy(mn.kernels.current_policy()):
        yield tmp_path
    mn.set_num_threads(count)


# --------------------------------------------------------------------------------------- Python blocks


@pytest.mark.parametrize("page", [page for page in pages.pages() if page != GUIDE], ids=name)
def test_python_runs_and_prints_what_the_page_shows(page, elsewhere):
    """The guide's programs run with its commands, below."""
    text = read(page)
    if page == README:
        assert "steps=100" in text
        text = text.replace("steps=100", "steps=2")
    for block, printed, shown in pages.run(text, page.name):
        place = f"{page.name}, line {block.line}"
        same = pages.agree if page in BOOK else str.__eq__
        assert shown is None or same(printed, shown), f"{place}: {printed}"
        assert page not in BOOK or bool(printed) == (shown is not None), f"{place}: prints, and nothing is shown"


def test_a_wrong_output_would_be_noticed():
    ((_, printed, shown),) = pages.run("```python\nprint(2 / 3)\n```\n\n```text\n0.6667\n```\n", "planted")
    assert printed == "0.6666666666666666\n" and shown == "0.6667\n"


@pytest.mark.parametrize(
    "printed, shown, same",
    [
        ("x 0.1234\n", "x  0.1233\n", True),
        ("x 0.1234\n", "x 0.1232\n", False),
        ("x 3\n", "x 4\n", False),
        ("y 0.1234\n", "x 0.1234\n", False),
        ("0.5 0.5\n", "0.5\n", False),
        ("1.2e-05\n", "1.3e-05\n", True),
        ("1.2e-05\n", "1.4e-05\n", False),
        ("-0.01\n", "0.01\n", False),
        ("nan\n", "0.5\n", False),
    ],
)
def test_what_agrees_in_the_book(printed, shown, same):
    assert pages.agree(printed, shown) == same


def test_a_fault_is_told_with_its_line():
    with pytest.raises(ZeroDivisionError) as error:
        pages.run("# A page\n\n```python\n1 / 1\n1 / 0\n```\n", "planted.md")
    last = error.traceback[-1]
    assert (str(last.path).rpartition("/")[2], last.lineno + 1) == ("planted.md", 5)


@EVERY_PAGE
def test_what_is_not_run_says_why(page):
    for block in pages.blocks(read(page)):
        if block.note == "not run":
            assert len(block.noted.split()) > 3, f"{page.name}, line {block.line}"


@EVERY_PAGE
def test_quotes_are_the_source(page):
    for block in pages.blocks(read(page)):
        if block.note == "source":
            assert pages.quotes(block), f"{page.name}, line {block.line}: not what stands in {block.noted}"


def test_a_wrong_quote_would_be_noticed():
    noted = "minunet/autograd.py walk"
    right = "while order:\n    node = order.pop()\n    ...\n    if keeper is node:\n        continue\n"
    assert pages.quotes(pages.Block("python", right, 1, "source", noted))
    for wrong in (right.replace("pop()", "pop(0)"), right.replace("    node", "node"), right.replace("    ...\n", "")):
        assert not pages.quotes(pages.Block("python", wrong, 1, "source", noted))


# ---------------------------------------------------------------------------- numbers worked out by hand


EVERY_DERIVATION = pytest.mark.parametrize("page", DERIVED, ids=name)


@EVERY_DERIVATION
def test_sums_by_hand_are_right(page):
    found = [result for block in pages.blocks(read(page)) if not block.language for result in pages.sums(block)]
    assert [line for line, holds in found if not holds] == []
    assert len(found) > 5  # they are recognised as sums


@pytest.mark.parametrize(
    "line, holds",
    [
        ("y = 1·2 + 3·(-1) = -1", True),
        ("y = 1·2 + 3·(-1) = 1", False),
        ("1/3 = 0.333", True),
        ("1/3 = 0.334", False),
        ("0.9^2 = 0.81", True),
        ("a = 2 + 2 = 4 = 5", False),
    ],
)
def test_a_wrong_sum_would_be_noticed(line, holds):
    assert all(right for _, right in pages.sums(pages.Block("", line + "\n", 1))) == holds


@EVERY_DERIVATION
def test_every_decimal_in_the_text_is_printed_or_computed(page):
    """What is said about numbers speaks of numbers that a program on the page has, or that a sum gives."""
    text = read(page)
    known = {n for block in pages.blocks(text) for n in pages.NUMBER.findall(block.text)}
    said = {n for n in pages.NUMBER.findall(pages.prose(text)) if "." in n}
    assert not said - known


# --------------------------------------------------------------------------------- commands and options


@functools.cache
def sub_commands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in cli.build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def options_of(command: str | None) -> dict[str, set[str]]:
    """The options of a sub-command, or of all of them, with the values that they may have; empty where any."""
    parsers = sub_commands()
    known: dict[str, set[str]] = {"--version": set()}
    parsers = dict(parsers) if command is None else {command: parsers[command]}
    while parsers:
        for action in parsers.popitem()[1]._actions:
            if isinstance(action, argparse._SubParsersAction):  # as of `minunet exercises`
                parsers.update(action.choices)
            for option in action.option_strings:
                known.setdefault(option, set()).update(action.choices or ())
    return known


def commands(block: pages.Block) -> list[list[str]]:
    """The arguments of every `minunet` command of a shell block."""
    lines = block.text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line and line[0] == "minunet"]


def complaint(arguments: list[str]) -> str:
    """What the command line says of arguments that it does not understand."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            cli.build_parser().parse_args(arguments)
        except SystemExit:
            return said.getvalue()
    return ""


@EVERY_PAGE
def test_commands_are_understood(page):
    for block in pages.blocks(read(page)):
        if block.language in ("sh", "bash", "console"):
            for arguments in commands(block):
                assert not complaint(arguments), f"{page.name}, line {block.line}"


def unknown_options(text: str) -> list[str]:
    """Options, their values and sub-commands in the running text, `so`, that the command line does not have."""
    unknown = []
    for code in re.findall(r"`([^`\n]+)`", text):
        words = code.split()
        if not words or words[0].startswith(OTHER_PROGRAMS):
            continue
        command = None
        if words[0] == "minunet" and len(words) > 1 and words[1].isalpha() and words[1].islower():
            command = words[1]
            if command not in sub_commands():
                unknown.append(code)
                continue
        known = options_of(command)
        for option, value in zip(words, [*words[1:], ""], strict=True):
            if option.startswith("--") and not fits(known.get(option), value):
                unknown.append(code)
    return unknown


def fits(choices: set[str] | None, value: str) -> bool:
    """Whether an option (None: there is none) may have this value; text often names an option without one."""
    return choices is not None and (not choices or value in {"", *choices})


@EVERY_PAGE
def test_options_in_the_text_exist(page):
    assert unknown_options(pages.prose(read(page))) == []


def test_an_unknown_option_would_be_noticed():
    assert complaint(["train", "images", "masks", "--out", "run", "--no-such-option"])
    assert complaint(["no-such-command"])
    assert not complaint(["train", "images", "masks", "--out", "run", "--steps", "3"])
    good = "`--steps 3`, `minunet train --steps 3`, `pip install --upgrade x`, `a_mask.png`, `minunet info MODEL`"
    assert unknown_options(good) == []
    wrong = ["--no-such-option", "--target nothing", "minunet nonsense", "minunet info --steps", "minunet info --no"]
    for bad in wrong:
        assert unknown_options(f"{good}, `{bad}`") == [bad]


# ---------------------------------------------------------------------------------------------- the guide

def quick(arguments: list[str]) -> list[str]:
    """A command of the guide; training is shorter, and on a small network."""
    if arguments[0] != "train":
        return arguments
    at = arguments.index("--steps")
    return [*arguments[:at], "--steps", "6", *arguments[at + 2 :], "--features", "4,8", "--batch", "2"]


def run_command(arguments: list[str]) -> str:
    """What a command says, on stdout and stderr together."""
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        status = cli.main(arguments)
    assert status == 0, f"minunet {' '.join(arguments)}: status {status}\n{said.getvalue()}"
    return said.getvalue()


def outline(text: str) -> set[str]:
    """Lines without their numbers and stars, to tell whether two outputs are of one kind."""
    plain = re.sub(r"[ \t]+", " ", re.sub(r"[\d.,]+", "N", text.replace(" *", "")))
    return {line.strip() for line in plain.splitlines()} - {"", "N"}


def test_the_guide_works_from_its_first_line_to_its_last(elsewhere):
    """Programs and commands in order, in one folder; what they say has the lines that the page shows."""
    said, shown, program = "", 0, pages.Program(GUIDE.name)
    for block in pages.blocks(read(GUIDE)):
        if pages.is_program(block):
            program.run(block)
        elif block.language == "sh" and block.note != "not run":
            assert commands(block), f"line {block.line}: no command of minunet, and not marked as not run"
            said = "".join(run_command(quick(arguments)) for arguments in commands(block))
        elif block.language == "text":
            missing = outline(block.text) - outline(said)
            assert not missing, f"line {block.line}: {missing} is not in\n{said}"
            shown += 1
    assert shown
    table = read(GUIDE).partition("The folder `run` then holds")[2].partition("\n#")[0]
    assert set(re.findall(r"^\| `([\w.]+)`", table, re.MULTILINE)) == {path.name for path in Path("run").iterdir()}


# ------------------------------------------------------------------------------------------------- links


def broken_links(page: Path, text: str) -> list[str]:
    """Links to files that are not there, or to headings that they do not have."""
    broken = []
    for target in pages.links(text):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        there = file.exists() and file.is_relative_to(pages.ROOT)
        if there and anchor:
            there = file.suffix == ".md" and anchor in pages.anchors(text if file == page else read(file))
        broken += [] if there else [target]
    return broken


@EVERY_PAGE
def test_links_lead_somewhere(page):
    assert broken_links(page, read(page)) == []


def test_a_broken_link_would_be_noticed():
    text = "# A title, with `code`\n\n[x](#a-title-with-code) [y](../README.md) [z](https://example.org/#x)"
    assert broken_links(GUIDE, text) == []
    for wrong in ("#a-title", "nowhere.md", "../README.md#nowhere", "../../outside.md"):
        assert broken_links(GUIDE, f"{text} [w]({wrong})") == [wrong]


def test_every_page_can_be_found():
    """The overview of the documentation has a link to every page beside it."""
    overview = pages.ROOT / "docs" / "README.md"
    linked = {(overview.parent / target).resolve() for target in pages.links(read(overview))}
    assert {page for page in pages.pages() if page.parent == overview.parent} - linked == {overview}
