"""One table, three looks: plain text, rich in a terminal, HTML in a notebook."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from minunet.display.progress import say
from minunet.display.texts import printable

# In every cell, since notebooks have rules of their own for tables, which a style sheet would not outdo.
CELL = "padding:.15em .8em;white-space:pre;border:0"


@dataclass(frozen=True)
class Table:
    """Rows of text in sections, under one head. The first `left` columns are words, the others numbers."""

    head: tuple[str, ...]
    sections: Sequence[Sequence[tuple[str, ...]]]
    title: str = ""
    left: int = 1

    def text(self) -> str:
        """Plain lines, sections parted by an empty one."""
        rows = [tuple(map(printable, row)) for row in (self.head, *itertools.chain(*self.sections))]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.head))]
        lines = [printable(self.title)] if self.title else []
        lines += [self._line(self.head, widths), "  ".join("-" * width for width in widths)]
        for number, section in enumerate(self.sections):
            lines += [""] * (number > 0) + [self._line(row, widths) for row in section]
        return "\n".join(lines)

    def _line(self, row: tuple[str, ...], widths: list[int]) -> str:
        cells = [
            cell.ljust(width) if i < self.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(map(printable, row), widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    def html(self) -> str:
        """A <table> of escaped text; sections are parted by a line."""
        caption = f"<caption style='text-align:left;font-weight:bold'>{escape(self.title)}</caption>"
        rows = [self._html_row(self.head, "th", "")]
        for section in self.sections:
            rows += [self._html_row(row, "td", ";border-top:1px solid #888" * (row is section[0])) for row in section]
        return (
            "<table style='border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.7em 0'>"
            f"{caption if self.title else ''}{''.join(rows)}</table>"
        )

    def _html_row(self, row: tuple[str, ...], tag: str, more: str) -> str:
        cells = (
            f"<{tag} style='{CELL}{more};text-align:{'left' if i < self.left else 'right'}'>{escape(cell)}</{tag}>"
            for i, cell in enumerate(row)
        )
        return f"<tr>{''.join(cells)}</tr>"

    def show(self) -> None:
        """Print it below an empty line: with rich where there is a terminal and rich, else plainly."""
        if sys.stdout.isatty():
            try:
                self._show_rich()
                return
            except ImportError:
                pass
        say(f"\n{self.text()}")

    def _show_rich(self) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        title = Text(printable(self.title)) if self.title else None
        table = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for i, name in enumerate(self.head):
            table.add_column(Text(printable(name)), justify="left" if i < self.left else "right", no_wrap=True)
        for section in self.sections:
            for row in section:
                # A row that is set in belongs to the one above it.
                table.add_row(*(Text(printable(cell)) for cell in row), style="dim" if row[0].startswith(" ") else "")
            table.add_section()
        Console().print(table)
