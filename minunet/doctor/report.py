"""The examination as text, for a terminal of any width."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minunet.doctor.examine import Examination
from minunet.doctor.findings import SEVERITIES, Finding, counted
from minunet.training.estimate import duration, in_words

WIDEST = 110  # longer lines are hard to read
MARGIN = 11  # columns of the words at the left
MOST_FILES = 6  # named under a finding; --json names all
MOST_SIZES = 5
MOST_CLASSES = 12
BAR = 24  # columns
BLOCKS = " ▁▂▃▄▅▆▇█"
STYLES = {"fatal": "bold red", "warning": "yellow", "note": "cyan"}


def show(examination: Examination) -> None:
    """Print the report; in colour where there is a terminal and rich."""
    width = min(WIDEST, shutil.get_terminal_size().columns)
    lines = report(examination, width, _can_draw_blocks())
    if sys.stdout.isatty():
        try:
            _show_in_colour(lines)
            return
        except ImportError:
            pass
    print("\n".join(lines))


def _show_in_colour(lines: Sequence[str]) -> None:
    from rich.console import Console
    from rich.text import Text

    text = Text("\n".join(lines))
    for severity, style in STYLES.items():
        text.highlight_regex(rf"(?m)^{severity.upper()}\b", style)
    text.highlight_regex(r"(?m)^(images|masks|classes|split|training)\b", "bold")
    Console(highlight=False).print(text, soft_wrap=True)


def _can_draw_blocks() -> bool:
    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def report(examination: Examination, width: int = 80, blocks: bool = True) -> list[str]:
    """Lines of at most `width` columns (long file names apart): the facts, the findings, the verdict.

    blocks: whether histogram and bars may be drawn with block characters.
    """
    facts = examination.facts
    lines: list[str] = []
    for name, tell in (("images", _images), ("masks", _masks), ("classes", _classes), ("split", _split),
                       ("plan", _training)):  # fmt: skip
        if name in facts:
            lines += tell(facts[name], width, blocks)
    for finding in examination.findings:
        lines += ["", *_finding(finding, width)]
    return [*lines, *([""] if lines else []), *_wrapped("", verdict(examination), width, 0)]


def verdict(examination: Examination) -> str:
    """The last sentence of the report."""
    counts = {name: sum(f.severity == name for f in examination.findings) for name in SEVERITIES}
    if not examination.findings:
        return "Nothing was found that would stand in the way of training."
    told = [counted(number, name) for name, number in counts.items() if number and name != "fatal"]
    if counts["fatal"]:
        found = f"{counted(counts['fatal'], 'finding')} marked FATAL: training would be in vain"
        return "; besides ".join([found, *([" and ".join(told)] if told else [])]) + "."
    return f"Training can begin: {' and '.join(told)}, nothing fatal."


# ----------------------------------------------------------------------------------------------------- facts


def _images(facts: dict[str, Any], width: int, blocks: bool) -> list[str]:
    sizes = list(facts["sizes"].items())
    told = [size if len(sizes) == 1 else f"{count} of {size}" for size, count in sizes[:MOST_SIZES]]
    if len(sizes) > MOST_SIZES:
        rest = sum(count for _, count in sizes[MOST_SIZES:])
        told.append(f"{rest} of {counted(len(sizes) - MOST_SIZES, 'other size')}")
    low, high = (_number(value) for value in facts["range"])
    text = "; ".join([str(facts["count"]), ", ".join(told) + " px", _mixture(facts["kinds"]), _mixture(facts["types"])])
    lines = _wrapped("images", f"{text}; values {low} to {high}", width)
    if blocks:
        histogram = facts["histogram"]
        ends = [_number(histogram[end]) for end in ("from", "to")]
        lines.append(" " * MARGIN + f"{ends[0]} [{_spark(histogram['shares'])}] {ends[1]}")
    return lines


def _mixture(kinds: dict[str, int]) -> str:
    """'grey', or '40 grey and 10 colour'."""
    return next(iter(kinds)) if len(kinds) == 1 else " and ".join(f"{count} {kind}" for kind, count in kinds.items())


def _masks(facts: dict[str, Any], width: int, blocks: bool) -> list[str]:
    return _wrapped("masks", facts["meaning"], width)


def _classes(facts: list[dict[str, Any]], width: int, blocks: bool) -> list[str]:
    longest = min(max(len(row["name"]) for row in facts), 24)
    lines: list[str] = []
    for row in facts[:MOST_CLASSES]:
        name, where = row["name"][:longest].ljust(longest), counted(row["images"], "mask")
        text = ("" if lines else "classes").ljust(MARGIN) + f"{name} {_share(row['share']):>7}  in {where:<10} "
        room = min(BAR, width - len(text))
        lines.append((text + _bar(row["share"], room) if blocks and room > 0 else text).rstrip())
    if len(facts) > MOST_CLASSES:
        lines.append(" " * MARGIN + f"and {len(facts) - MOST_CLASSES} more")
    return lines


def _split(facts: dict[str, Any], width: int, blocks: bool) -> list[str]:
    if not facts["validation"]:
        return _wrapped("split", f"{facts['training']} to train on, none held back for validation", width)
    held = f"{facts['training']} to train on, {facts['validation']} held back for validation, by seed {facts['seed']}"
    return _wrapped("split", held, width)


def _training(facts: dict[str, Any], width: int, blocks: bool) -> list[str]:
    shape = facts["architecture"]
    features = "-".join(str(count) for count in shape["features"])
    height, wide = facts["crop"]
    free = "" if facts["available"] is None else f" ({in_words(facts['available'])} are free)"
    needs = f"about {in_words(facts['memory'])} of memory{free}"
    if facts["step_seconds"] is not None:
        needs += f"; about {duration(facts['step_seconds'])} a step on this machine"
    norm = f"{shape['norm']} norm" if shape["norm"] else "no norm"
    network = f"U-Net {features}, padding {shape['padding']}, {norm}, {facts['parameters']:,} parameters"
    text = f"{network}; {facts['batch']} crops of {height} x {wide} px a step"
    return [*_wrapped("training", text, width), *_wrapped("", needs, width)]


# -------------------------------------------------------------------------------------------------- findings


def _finding(finding: Finding, width: int) -> list[str]:
    lines = _wrapped(finding.severity.upper(), f"{finding.about}: {finding.found}", width)
    if finding.files:
        names = _short_names(finding.files[:MOST_FILES])
        more = f" and {len(finding.files) - MOST_FILES} more" if len(finding.files) > MOST_FILES else ""
        lines += _wrapped("", ", ".join(names) + more, width)
    if finding.remedy:
        lines += _wrapped("", f"-> {finding.remedy}", width)
    return lines


def _short_names(files: Sequence[str]) -> list[str]:
    """File names; with their folder those that would be listed twice, as an image and its mask are."""
    names = [_short(file) for file in files]
    return [
        f"{Path(file).parent.name}/{name}" if names.count(name) > 1 else name
        for file, name in zip(files, names, strict=True)
    ]


def _short(name: str) -> str:
    """File names without their folders; a pair keeps its sign of equality."""
    return " = ".join(Path(part).name for part in name.split(" = "))


def _wrapped(head: str, text: str, width: int, margin: int = MARGIN) -> list[str]:
    indent = " " * margin
    first = head.ljust(margin)
    return textwrap.wrap(text, max(width, margin + 20), initial_indent=first, subsequent_indent=indent,
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip


def _spark(shares: Sequence[float]) -> str:
    """A histogram in one line. Heights are square roots, or a large background would leave nothing to see."""
    highest = max(shares) or 1
    return "".join(BLOCKS[0 if share == 0 else max(1, round(8 * math.sqrt(share / highest)))] for share in shares)


def _bar(share: float, width: int) -> str:
    eighths = round(8 * width * share)
    if share > 0:
        eighths = max(1, eighths)
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")


def _share(share: float) -> str:
    return "0 %" if share == 0 else "<0.01 %" if share < 1e-4 else f"{100 * share:.2f} %"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.4g}"
