"""Documentation pages as the tests see them: fenced blocks, what they print, quotes of the source, sums, links.

What stands between a page and the tests is written in the page, as HTML comments directly above a block:

    <!-- not run: why -->                 this block is no program (or not one to be run here)
    <!-- run first: import numpy -->      a line of Python that is run before the block
    <!-- source: FILE FUNCTION -->        the block quotes lines of this function; a line `...` stands for lines left
                                          out, a first line `# FILE, FUNCTION` tells where they are from

A ```text block after a ```python block is what the latter prints.  A block without a language holds formulas: where
both sides of a "=" are numbers, they are computed again.  A ```{source} block is code that the site takes from the
source, a ```{drawing} block a picture that it makes.
"""

import ast
import contextlib
import io
import math
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w*|\{\w+\}[^\n]*)[ ]*\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
NOTE = re.compile(r"<!-- (not run|run first|source): ([^\n]+) -->\n$")
DECIMAL = re.compile(r"-?\d+\.\d*(?:e[+-]?\d+)?")
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.]*\d)")


@dataclass
class Block:
    """A fenced block; `line` is that of its first line of text, `note` and `noted` what its comment says."""

    language: str
    text: str
    line: int
    note: str = ""
    noted: str = ""


def pages() -> list[Path]:
    """README.md, CONTRIBUTING.md and every page below docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(markdown: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found = []
    for fence in FENCE.finditer(markdown):
        note = NOTE.search(markdown, 0, fence.start())
        kind, noted = note.groups() if note else ("", "")
        line = markdown.count("\n", 0, fence.start(2)) + 1
        found.append(Block(fence[1], fence[2], line, kind, noted))
    return found


class Program:
    """The Python blocks of a page, run one after the other in one namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.namespace = {"__name__": name}

    def run(self, block: Block) -> str:
        """What the block prints. A fault is raised with the page's name and line in its traceback."""
        if block.note == "run first":
            exec(block.noted, self.namespace)
        code = compile("\n" * (block.line - 1) + block.text, self.name, "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, self.namespace)
        return printed.getvalue()


def is_program(block: Block) -> bool:
    """Whether a block is Python to be run."""
    return block.language == "python" and block.note not in ("not run", "source")


def run(markdown: str, name: str) -> list[tuple[Block, str, str | None]]:
    """Run a page's programs: of each (block, what it prints, what the page says that it prints)."""
    program = Program(name)
    found = blocks(markdown)
    return [
        (block, program.run(block), following.text if following and following.language == "text" else None)
        for block, following in zip(found, [*found[1:], None], strict=False)
        if is_program(block)
    ]


def agree(printed: str, shown: str) -> bool:
    """Whether two texts are equal but for spaces, and for one unit of the last digit shown of each decimal."""
    texts = [DECIMAL.sub(" . ", text).split() for text in (printed, shown)]
    decimals = [DECIMAL.findall(text) for text in (printed, shown)]
    return texts[0] == texts[1] and all(
        abs(float(a) - float(b)) <= 1.0001 * last_place(b) for a, b in zip(*decimals, strict=True)
    )


def last_place(decimal: str) -> float:
    """One unit of the last digit of a decimal: 0.01 of "1.25", 10 of "1.25e3"."""
    digits, _, exponent = decimal.partition("e")
    return 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


def included(block: Block) -> list[str]:
    """The lines of source that a ```{source} block stands for; AssertionError if there are none."""
    file, name = block.language.split()[1:]
    options = dict(re.findall(r"^:([\w-]+): *(.+?) *$", block.text, re.MULTILINE))
    lines = source_of(ROOT / file, name)
    for option, cut in (("start-at", lambda at: slice(at, None)), ("end-at", lambda at: slice(at + 1))):
        if option in options:
            found = [k for k, line in enumerate(lines) if options[option] in line]
            assert found, f"{options[option]!r} is not in {name}"
            lines = lines[cut(found[0])]
    return lines


def quotes(block: Block) -> bool:
    """Whether a block's lines, from `...` to `...`, stand in this order in the function that it names."""
    file, function = block.noted.split()
    lines = source_of(ROOT / file, function)
    text = block.text.removeprefix(f"# {file}, {function}\n")
    for part in re.split(r"^\s*\.\.\.\n", text, flags=re.MULTILINE):
        quoted = textwrap.dedent(part).splitlines()
        starts = range(len(lines) - len(quoted) + 1)
        at = [i for i in starts if textwrap.dedent("\n".join(lines[i : i + len(quoted)])).splitlines() == quoted]
        if not at:
            return False
        lines = lines[at[0] + len(quoted) :]
    return True


def source_of(file: Path, function: str) -> list[str]:
    """The lines of a function, a class or `Class.method` of a file, without importing it."""
    text = file.read_text(encoding="utf-8")
    inside, _, last = function.rpartition(".")
    for node in ast.walk(ast.parse("\n".join(source_of(file, inside)) if inside else text)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == last:
            lines = source_of(file, inside) if inside else text.splitlines()
            return lines[node.lineno - 1 : node.end_lineno]
    raise AssertionError(f"{file} has no function {function}")


def sums(block: Block) -> list[tuple[str, bool]]:
    """Every equation between numbers in a block of formulas, and whether it holds to the digits shown."""
    found = []
    for line in block.text.splitlines():
        sides = [re.split(r"\s{2,}", side.strip())[0] for side in line.split("=")]
        values = [value_of(side) for side in sides]
        for k in range(1, len(sides)):
            left, right = values[k - 1 : k + 1]
            if left is not None and right is not None:
                digits = len(sides[k].partition(".")[2]) if "." in sides[k] else 0
                found.append((line, abs(left - right) <= 0.5 * 10**-digits * (digits > 0) + 1e-9))
    return found


def value_of(text: str) -> float | None:
    """The value of a sum of products of numbers, None where the text is something else."""
    text = text.replace("·", "*").replace("^", "**")
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return None
    allowed = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.operator, ast.unaryop)
    if not all(isinstance(node, allowed) for node in ast.walk(tree)):
        return None
    value = eval(compile(tree, "a formula", "eval"), {"__builtins__": {}})
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def prose(markdown: str) -> str:
    """A page without its fenced blocks, comments and the targets of its links."""
    return re.sub(r"\]\([^)]*\)", "]", re.sub(r"<!--.*?-->", "", FENCE.sub("", markdown), flags=re.DOTALL))


def anchors(markdown: str) -> set[str]:
    """The anchors that a Git host gives a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+)$", FENCE.sub("", markdown), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).strip()
        anchor = base = plain.replace(" ", "-")
        count = 0
        while anchor in found:
            count += 1
            anchor = f"{base}-{count}"
        found.add(anchor)
    return found


def links(markdown: str) -> list[str]:
    """Targets of all links and pictures, but for addresses elsewhere."""
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", markdown))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]
