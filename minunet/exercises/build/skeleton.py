"""The five files without the bodies of some functions, made from the installed source each time."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from importlib.util import resolve_name
from textwrap import fill

from minunet.exercises.source import found, module_text, module_tree

from .steps import MODULES, STEPS, WRITTEN

WIDTH = 120


def learners_text(module: str, empty: Mapping[str, int]) -> str:
    """A module's source with absolute imports; of the functions in `empty`, {name: number of the step}, no bodies."""
    tree, lines = module_tree(module), module_text(module).splitlines()
    edits = [
        _without_dots(node, module, lines) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level
    ]
    edits += [_emptied(found(tree, name), number, lines) for name, number in empty.items()]
    for first, last, text in sorted(edits, reverse=True):
        lines[first - 1 : last] = text
    return _heading(module) + "\n".join(lines) + "\n"


def bodies_of(steps: range) -> dict[str, dict[str, int]]:
    """{module: {name: number of the step}} of all functions of these steps, modules without any included."""
    names: dict[str, dict[str, int]] = {module: {} for module in MODULES}
    for step in WRITTEN:
        if step.number in steps:
            for module, name in step.functions():
                names[module][name] = step.number
    return names


def functions_of(module: str) -> Iterator[str]:
    """The names of all functions and methods of a module."""
    for node in module_tree(module).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef))


def _heading(module: str) -> str:
    numbers = [step.number for step in WRITTEN if any(part.module == module for part in step.parts)]
    asked = f"step {numbers[0]}" if len(numbers) == 1 else f"steps {', '.join(map(str, numbers))} of {len(STEPS)}"
    text = (
        f"{module.replace('.', '/')}.py without the bodies of its functions, which are yours to write: {asked}. "
        "Names and arguments stay; functions that have a body are given, and so is all that is imported."
    )
    return fill(text, WIDTH, initial_indent="# ", subsequent_indent="# ") + "\n\n"


def _emptied(node: ast.AST, number: int, lines: list[str]) -> tuple[int, int, list[str]]:
    """First and last line of a function's body after its docstring, and what to put there."""
    assert isinstance(node, ast.FunctionDef) and node.end_lineno is not None
    statement = node.body[0]
    first = statement.lineno
    if ast.get_docstring(node) is not None and statement.end_lineno is not None:
        first = statement.end_lineno + 1
    else:
        while lines[first - 2].lstrip().startswith("#"):
            first -= 1
    return first, node.end_lineno, [" " * statement.col_offset + f"raise NotImplementedError  # step {number}"]


def _without_dots(node: ast.ImportFrom, module: str, lines: list[str]) -> tuple[int, int, list[str]]:
    """An import that a file of its own can resolve; a comment behind it stays."""
    origin = resolve_name("." * node.level + (node.module or ""), module.rpartition(".")[0])
    last = node.end_lineno or node.lineno
    behind = lines[last - 1][node.end_col_offset :]
    text = " " * node.col_offset + ast.unparse(ast.ImportFrom(origin, node.names, 0)) + behind
    return node.lineno, last, [text]
