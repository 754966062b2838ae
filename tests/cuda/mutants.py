"""Plants faults in the CUDA kernels and their launchers, one at a time, and counts those that the tests catch.

    python tests/cuda/mutants.py --count 120 --least 6 --seed 0 --only relu --kind barrier --folder ../mutants

Each fault is planted in a copy of the tree, never in the checkout: a barrier or a wait dropped, a bound moved by one, a
sign turned, an index shifted, a store left out, two arguments exchanged, a grid one too small.  The tests of the
kernel that the fault is in are run first, then all that `pytest -m cuda_emulated` runs; but never those that look at
the text of the kernels or count what is read, so that a fault is caught by what it does to a result.

Faults that change nothing (a test that is never false, say) are among them, so whoever reads the list of survivors
decides which of them should have been caught.  What no longer compiles is no fault, and counts neither way.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAIRS = [("x", "y"), ("row", "pixel"), ("2", "3"), ("min", "max")]
EXCHANGED = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])}
# What is looked for in a line of code, what stands there instead, and what that is called.
RULES = [
    (r"__sync(threads|warp)\(\);", "", "barrier dropped"),
    (r"copy_async_(wait<[^>]+>|commit)\(\);", "", "wait dropped"),
    (r"(?<=[\w)\]] )<(?= [\w(])", "<=", "bound moved"),
    (r"(?<=[\w)\]] )<=(?= [\w(])", "<", "bound moved"),
    (r"(?<=[\w)\]] )>=(?= [\w(])", ">", "bound moved"),
    (r"(?<=[\w)\]] )>(?= [\w(])", ">=", "bound moved"),
    (r"(?<=[\w)\]] )\+(?= [\w(])", "-", "sign turned"),
    (r"(?<=[\w)\]] )-(?= [\w(])", "+", "sign turned"),
    (r"\+=", "-=", "sign turned"),
    (r"(?<=[=(?] )-(?=[\w(])", "", "sign turned"),
    (r"(?<=[\w)])\](?!\S* = \{)", " + 1]", "index shifted"),
    (r" [+-] 1(?=[\]),;])", "", "index shifted"),
    (r"(?<=threadIdx\.)[xy]\b", lambda m: EXCHANGED[m[0]], "index exchanged"),
    (r"(?<=blockIdx\.)[xy]\b", lambda m: EXCHANGED[m[0]], "index exchanged"),
    (r"(?<!index )\b(\w+[_.])(row|pixel)(?=[ ,;)])", lambda m: m[1] + EXCHANGED[m[2]], "stride exchanged"),
    (r"\b(min|max)(?=\()", lambda m: EXCHANGED[m[0]], "bound exchanged"),
    (r"&&", "||", "condition widened"),
    (r"\|\|", "&&", "condition narrowed"),
    (r"(?<=[\w)\]] )%(?= [\w(])", "/", "remainder for quotient"),
    (r"(?<=[\w)\]] )/(?= [\w(])", "%", "quotient for remainder"),
    (r"^\s*store\w*\(.*\);$", "", "store left out"),
    (r"\bif \([^;{}]*\) continue;$", "", "bound left out"),
]  # fmt: skip
LAUNCHER_RULES = [
    (r"-\(-([\w.\[\]() *]+?) // ([\w.()]+)\)", r"(\1 // \2)", "grid too small"),
    (r"\b(blocks|parts_of)(\([\w. *]+, \w+\))", r"(\1\2 - 1)", "grid too small"),
    (r"(?<=shape\[)[23](?=\])", lambda m: EXCHANGED[m[0]], "index exchanged"),
    (r"(?<=[\w)\]] )\+(?= [\w(])", "-", "sign turned"),
    (r"(?<=[\w)\]] )-(?= [\w(])", "+", "sign turned"),
    (r"\b(min|max)(?=\()", lambda m: EXCHANGED[m[0]], "bound exchanged"),
    (r"(?<=shared=)\w+", r"\g<0> - 16", "shared memory too small"),
    (r"\.transpose\((\d), (\d)", r".transpose(\2, \1", "axes exchanged"),
]
# The tests that know a file best: words for -k, and the file with the tests of its own.
LOOPS = "test_loops.py"
TESTS = {
    "cuda/correlation": ("cuda_implicit", "test_correlation.py"),
    "conv2d/cuda_implicit": ("cuda_implicit", "test_correlation.py"),
    "conv_transpose2d/cuda_implicit": ("cuda_implicit", "test_correlation.py"),
    "conv2d/cuda_im2col": ("cuda_im2col", "test_im2col.py"),
    "conv2d/cuda_tensor": ("cuda_tensor", "test_tensor.py"),
    "cuda/loops": ("cuda_loops", LOOPS),
    "cuda/sums": ("cuda_loops", LOOPS),
    "cuda/arrays": ("cuda_", LOOPS),
    "cuda/prelude": ("cuda_", "test_tensor.py"),
    **{f"{room}/cuda_loops": (room, LOOPS)
       for room in ("batch_norm", "cross_entropy", "max_pool2d", "relu", "resize", "sgd")},
}  # fmt: skip
# They look at the text, at the emulator itself, or at counts of accesses, and not at results.
LEFT_OUT = ("test_planted_faults.py", "test_emulator.py", "test_traffic.py")
SECONDS = 150  # of processor time: all tests together take half of it, unless a fault has made a loop endless


@dataclass(frozen=True)
class Mutant:
    """One fault: the file below kernels/, the line, and what it becomes."""

    file: Path
    line: int
    kind: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line + 1}: {self.kind}\n    {self.before.strip()}\n    {self.after.strip()}"


def mutants(file: Path) -> list[Mutant]:
    """Every fault that the rules find in a file."""
    text = (ROOT / "kernels" / file).read_text()
    launcher = file.suffix == ".py"
    found = exchanged_arguments(file, text) if launcher else []
    code_of = code_of_launcher if launcher else code_of_kernel
    for number, line in enumerate(text.splitlines()):
        code = code_of(text)[number]
        for pattern, becomes, kind in LAUNCHER_RULES if launcher else RULES:
            for match in re.finditer(pattern, code):
                there = becomes(match) if callable(becomes) else match.expand(becomes)
                found.append(Mutant(file, number, kind, line, line[: match.start()] + there + line[match.end() :]))
    return found


def code_of_kernel(text: str) -> list[str]:
    """The lines, without comments and what only the compiler reads."""
    dull = re.compile(r"\s*#|.*(template|static_assert|extern \"C\"|__shared__)|.*\basm\b|\s*(real|int|index) \w+\[")
    return ["" if dull.match(line) else line.partition("//")[0].rstrip() for line in text.splitlines()]


def code_of_launcher(text: str) -> list[str]:
    """The lines, without comments and docstrings."""
    lines = [line.partition("  #")[0] for line in text.splitlines()]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
    return lines


def exchanged_arguments(file: Path, text: str) -> list[Mutant]:
    """Two neighbours among the arguments of a call exchanged."""
    lines, found = text.splitlines(), []
    for call in ast.walk(ast.parse(text)):
        if not isinstance(call, ast.Call) or ast.unparse(call.func) in ("min", "max", "range", "zip"):
            continue
        for a, b in zip(call.args, call.args[1:], strict=False):
            if a.lineno == a.end_lineno == b.lineno == b.end_lineno and ast.unparse(a) != ast.unparse(b):
                line = lines[a.lineno - 1]
                after = (line[: a.col_offset] + line[b.col_offset : b.end_col_offset]
                         + line[a.end_col_offset : b.col_offset] + line[a.col_offset : a.end_col_offset]
                         + line[b.end_col_offset :])  # fmt: skip
                found.append(Mutant(file, a.lineno - 1, "arguments exchanged", line, after))
    return found


def runs(file: Path) -> list[list[str]]:
    """What pytest is given, one run after the other: the tests of the kernel in `file`, then all."""
    everything = ["tests/cuda", *(f"--ignore=tests/cuda/{name}" for name in LEFT_OUT)]
    words, own = TESTS[file.with_suffix("").as_posix()]
    chosen = f"({words} and not generated) or {own.removesuffix('.py')}"
    return [["tests/cuda/test_kernels.py", f"tests/cuda/{own}", "-k", chosen], everything]


def run(folder: Path, arguments: list[str]) -> str:
    """ "passed", "caught", "endless", or "invalid": no longer a program."""
    command = [sys.executable, "-P", "-m", "pytest", "-m", "cuda_emulated", "-x", "-q", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(folder), "CUDA_EMULATOR_CACHE": str(folder / "compiled")}
    done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, env=environment,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)))  # fmt: skip
    if done.returncode < 0:
        return "endless" if -done.returncode in (signal.SIGXCPU, signal.SIGKILL) else "caught"
    if "the text does not compile" in done.stdout or done.returncode not in (0, 1):
        return "invalid"
    return "caught" if done.returncode else "passed"


def verdict(mutant: Mutant, folder: Path, quick: bool) -> str:
    """As `run`, with this fault in the copy in `folder`; quick: of the tests of its kernel alone."""
    path = folder / "kernels" / mutant.file
    text = path.read_text()
    lines = text.splitlines()
    lines[mutant.line] = mutant.after
    path.write_text("\n".join(lines) + "\n")
    try:
        for arguments in runs(mutant.file)[: 1 if quick else None]:
            found = run(folder, arguments)
            if found != "passed":
                return found
        return "passed"
    finally:
        path.write_text(text)


def copy_of_tree(folder: Path) -> None:
    """The checkout in `folder`; what was compiled there before is kept."""
    for name in ("minunet", "kernels", "tests", "docs", "pyproject.toml", "README.md"):
        source, target = ROOT / name, folder / name
        if source.is_dir():
            if target.exists():
                shutil.rmtree(target)
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    if not (folder / "minunet" / "kernels").exists():
        (folder / "minunet" / "kernels").symlink_to("../kernels")
    (folder / "compiled").mkdir(mode=0o700, exist_ok=True)


def sources() -> list[Path]:
    """The kernels and what launches them."""
    below = ROOT / "kernels"
    found = [*below.rglob("*.cu"), *below.rglob("*.cuh"), *below.rglob("cuda_*.py")]
    found += [below / "cuda" / f"{name}.py" for name in ("arrays", "correlation", "loops", "sums")]
    return sorted(path.relative_to(below) for path in found)


def sample(options: argparse.Namespace) -> list[Mutant]:
    """The faults that are planted: from each file its share of them, and at least so many."""
    every = {file: [m for m in mutants(file) if options.kind in m.kind] for file in sources()
             if options.only in str(file)}  # fmt: skip
    total = sum(len(found) for found in every.values())
    chosen = []
    for file, found in every.items():
        wanted = max(options.least, round(options.count * len(found) / max(1, total)))
        chosen += random.Random(f"{options.seed} {file}").sample(found, min(wanted, len(found)))
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, help="how many faults, all files together")
    parser.add_argument("--least", type=int, default=0, help="how many at least of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="files whose path has this in it")
    parser.add_argument("--kind", default="", help="faults whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="run the tests of the faulty kernel alone")
    parser.add_argument("--list", action="store_true", help="plant nothing, print what would be planted")
    parser.add_argument("--folder", type=Path, help="where the copy lies, so that the next time finds it compiled")
    options = parser.parse_args()
    chosen = sample(options)
    if options.list:
        print(*chosen, f"{len(chosen)} faults", sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        copy_of_tree(folder)
        for arguments in {tuple(r) for m in chosen for r in runs(m.file)[: 1 if options.quick else None]}:
            if run(folder, list(arguments)) != "passed":
                print("without any fault, this fails already: pytest", *arguments, flush=True)
                return 1
        counts: Counter[str] = Counter()
        for k, mutant in enumerate(chosen):
            found = verdict(mutant, folder, options.quick)
            counts[found] += 1
            print(f"{k + 1}/{len(chosen)} {'NOT CAUGHT' if found == 'passed' else found}: {mutant}", flush=True)
    faults = len(chosen) - counts["invalid"]
    print(f"{faults - counts['passed']} of {faults} caught, {counts['endless']} of them as loops without an end; "
          f"{counts['invalid']} more that were no program")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
