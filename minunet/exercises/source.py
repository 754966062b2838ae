"""Operations taken out of the installed source, changed, and put back in the place of the right ones.

Nothing is kept in a copy: the text of an operation is found in the installed file each time, so an exercise is always
about the source as it is.
"""

from __future__ import annotations

import ast
import functools
import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

Definition = ast.FunctionDef | ast.ClassDef


def module_text(module: str) -> str:
    """The source of an importable module."""
    return Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8")


@functools.cache
def module_tree(module: str) -> ast.Module:
    """The same, parsed."""
    return ast.parse(module_text(module))


def found(tree: ast.Module, name: str) -> Definition:
    """The function, class or method ("UNet.forward") of this name; LookupError where there is none."""
    node: ast.Module | Definition = tree
    for part in name.split("."):
        inside = next((n for n in node.body if isinstance(n, Definition) and n.name == part), None)
        if inside is None:
            raise LookupError(f"{name} is not in this source")
        node = inside
    assert isinstance(node, Definition)
    return node


def text_of(module: str, name: str) -> str:
    """The source of one operation, its decorators included, as it would stand at the left margin."""
    source = module_text(module)
    node = found(ast.parse(source), name)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return textwrap.dedent("\n".join(source.splitlines()[first - 1 : node.end_lineno])) + "\n"


def docstring_of(module: str, name: str) -> str:
    """The docstring of an operation, or with an empty name of the module."""
    tree = module_tree(module)
    return ast.get_docstring(found(tree, name) if name else tree) or ""


def patched(text: str, old: str, new: str) -> str:
    """`text` with `old` replaced; ValueError unless it is there exactly once."""
    if text.count(old) != 1:
        raise ValueError(f"a patch must fit exactly one place, found {text.count(old)}: {old!r}")
    return text.replace(old, new)


def imports_for(module: str, name: str) -> str:
    """Import statements for all names that an operation takes from its module, as lines."""
    tree = module_tree(module)
    here = found(tree, name)
    names = [n for n in ast.walk(here) if isinstance(n, ast.Name)]
    own_names = {n.id for n in names if isinstance(n.ctx, ast.Store)}
    own_names |= {n.arg for n in ast.walk(here) if isinstance(n, ast.arg)} | {name}
    wanted = {n.id for n in names} - own_names
    lines = []
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            lines += _kept(node, wanted, module)
    own = sorted(wanted & defined(tree))
    if own:
        lines.append(f"from {module} import {', '.join(own)}")
    return "\n".join(lines) + "\n" if lines else ""


def _kept(node: ast.Import | ast.ImportFrom, wanted: set[str], module: str) -> list[str]:
    """The statement with the wanted names alone, and no dots, which a file of its own could not resolve."""
    aliases = [a for a in node.names if (a.asname or a.name) in wanted]
    if not aliases:
        return []
    if isinstance(node, ast.Import):
        return [ast.unparse(ast.Import(aliases))]
    origin = resolve_name("." * node.level + (node.module or ""), module.rpartition(".")[0])
    return [ast.unparse(ast.ImportFrom(origin, aliases, 0))]


def defined(tree: ast.Module) -> set[str]:
    """The names that a module gives to functions, classes and constants."""
    names = {n.name for n in tree.body if isinstance(n, Definition)}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    return names


@contextmanager
def installed(module: str, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """Inside the block all of minunet uses `replacement` for an operation; modules that imported it by name as well.

    A method that is not there is added.
    """
    places = _places(module, name)
    before = [(owner, key, getattr(owner, key, None)) for owner, key in places]
    try:
        for owner, key in places:
            setattr(owner, key, replacement)
        yield
    finally:
        for owner, key, value in before:
            if value is None:
                delattr(owner, key)
            else:
                setattr(owner, key, value)


def _places(module: str, name: str) -> list[tuple[Any, str]]:
    owner: Any = importlib.import_module(module)
    *path, key = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    if path:
        return [(owner, key)]
    original = getattr(owner, key)
    modules = [m for known, m in list(sys.modules.items()) if known.partition(".")[0] == "minunet"]
    return [(m, k) for m in modules for k, value in list(vars(m).items()) if value is original]
