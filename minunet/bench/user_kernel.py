"""A kernel from a file of the user's own, to stand beside the variants of its room."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
from inspect import signature
from pathlib import Path
from types import ModuleType

from minunet.errors import UsageError
from minunet.kernels import Kernel


def load(path: Path, kernel: Kernel) -> ModuleType:
    """Import the file `path` and hold its functions against the room's.

    Raises UsageError where it cannot be imported, lacks a function or has another signature, and FileNotFoundError.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text, so no kernel") from None
    _refuse_relative_imports(path, text, kernel)
    name = f"given_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: a kernel is a Python file, whose name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.absolute().parent))  # it may import files beside it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.absolute().parent))
    _check(path, module, kernel)
    return module


def _refuse_relative_imports(path: Path, text: str, kernel: Kernel) -> None:
    """They work only inside of a package, and a variant's file that was copied has them."""
    try:
        tree = ast.parse(text, os.fspath(path))
    except SyntaxError as error:
        raise UsageError(f"{path}, line {error.lineno}: {error.msg}") from None
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    if found:
        lines = (f"\n  line {node.lineno}: from {_absolute(node, kernel)} import ..." for node in found)
        raise UsageError(f"{path}: imports that begin with a dot work only in the room of {kernel.name}; write"
                         + "".join(lines))  # fmt: skip


def _absolute(node: ast.ImportFrom, kernel: Kernel) -> str:
    """The module of an import, for everywhere."""
    package = kernel.package if node.level == 1 else kernel.package.rpartition(".")[0]
    return f"{package}.{node.module}" if node.module else package


def _check(path: Path, module: ModuleType, kernel: Kernel) -> None:
    """UsageError that names every function that is missing or takes other arguments."""
    reference = importlib.import_module(".reference", kernel.package)
    faults, absent = [], []
    for function in kernel.functions:
        expected = ", ".join(signature(getattr(reference, function)).parameters)
        if not callable(getattr(module, function, None)):
            faults.append(f"{function}({expected}) is missing")
            absent.append(function)
            continue
        found = ", ".join(signature(getattr(module, function)).parameters)
        if found != expected:
            faults.append(f"found {function}({found}), expected {function}({expected})")
    if not faults:
        return
    hint = ""
    if absent:
        default = kernel.variants[-1].name
        hint = f". What you do not write yourself, import: from {kernel.package}.{default} import {', '.join(absent)}"
    raise UsageError(f"{path} is no {kernel.name} kernel: {'; '.join(faults)}{hint}")
