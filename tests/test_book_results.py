"""Measured times in the book are those of the dated runs in bench/results."""

import json
import re

import pages

BOOK, RESULTS = pages.ROOT / "docs" / "book", pages.ROOT / "bench" / "results"


def rows(chapter: str, first: str) -> list[list[str]]:
    """The cells of the table's rows from the one that begins with `first` on."""
    text = (BOOK / chapter).read_text()
    start = re.search(rf"^\| {re.escape(first)} \|", text, re.MULTILINE)
    assert start, f"{chapter} has no row {first}"
    table = text[start.start() :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def test_the_ladder_is_that_of_its_run():
    run = json.loads((RESULTS / "ladder.json").read_text())
    expected = [
        [row["step"], f"{row['milliseconds']}", f"{row['gflops']}", f"{row['share']:.0%}",
         f"{row['gflops_again'] or ''}"]
        for row in run["steps"]
    ]  # fmt: skip
    assert rows("08-speed.md", "plain loops") == expected
    text = (BOOK / "08-speed.md").read_text()
    for said in (f"Measured on {run['date']} with {run['threads']} threads", f"{run['peak_gflops']} GFLOP/s"):
        assert said in text


def test_the_times_on_paper_are_those_of_their_file():
    run = json.loads((RESULTS / "gpu_on_paper.json").read_text())
    expected = [
        [name, row["multiply-adds"], str(row["kernels"])]
        + [str(ms) for times in row.values() if isinstance(times, dict) for ms in times.values()]
        for name, row in run["milliseconds"].items()
    ]
    assert rows("09-gpu.md", "inference") == expected
    assert f"Computed on {run['date']}" in (BOOK / "09-gpu.md").read_text()
