"""Docstrings of this project as reStructuredText: they are plain text, with formulas and lists in their own layout.

Three things are told apart: paragraphs; lists of `name: what it is`, one entry a line, with further lines set in; and
everything else that is set in (formulas, programs, tables of shapes), which keeps its layout.
"""

import itertools
import re

ENTRY = re.compile(r"^((?:\*{0,2}[A-Za-z_]\w*(?: \([^)]*\))?(?:, (?:and )?)?)+): (.*)$")
SPECIAL = re.compile(r"([\\*_|`<])")
NEXT_ENTRY = re.compile(r"(?<=[.;])  (?=\w+(?:, \w+)*: )")  # several may share a line
CODE = re.compile(r"(`+[^`]+`+)")


def restructured(lines: list[str]) -> list[str]:
    """The lines of a docstring, without its common indentation, as reStructuredText."""
    result = [_text(lines[0]), ""] if lines else []  # the summary, which may have a colon
    for block in _blocks(lines[1:]):
        if block[0].startswith(" "):
            result += ["::", "", *(f"    {line}".rstrip() for line in block), ""]
        else:
            result += [*_paragraphs(block), ""]
    return result


def _blocks(lines: list[str]) -> list[list[str]]:
    """Pieces between empty lines; what is set in, and parted by empty lines only, is one."""
    blocks: list[list[str]] = []
    begins = True
    for line in lines:
        if not line.strip():
            begins = True
            continue
        if begins and blocks and line.startswith(" ") and blocks[-1][0].startswith(" "):
            blocks[-1] += ["", line]
        elif begins:
            blocks.append([line])
        else:
            blocks[-1].append(line)
        begins = False
    return blocks


def _paragraphs(block: list[str]) -> list[str]:
    """A block that begins without being set in: running text, and entries of a list with their further lines."""
    texts = [""]  # the running text, then a text for each entry
    for line in itertools.chain(*map(NEXT_ENTRY.split, block)):
        if ENTRY.match(line):
            texts.append(line)
        elif line.startswith(" ") and len(texts) == 1:  # set in below running text: a line of its own
            texts[0] += f"\n\n{line.strip()}"
        else:
            texts[-1] += f" {line.strip()}"
    result = [line.strip() for line in _text(texts[0]).splitlines()]
    for entry in texts[1:]:
        names, what = ENTRY.match(entry).groups()
        result += ["", f"- **{_escaped(names)}**: {_text(what)}"]
    return result


def _text(text: str) -> str:
    """Running text: `code` as it is, nothing else has a meaning."""
    parts = CODE.split(text)
    return "".join(f"``{part.strip('`')}``" if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    return SPECIAL.sub(r"\\\1", text)
