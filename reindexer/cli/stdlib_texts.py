"""Real text without a download: the docstrings of Python's standard library."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LEFT_OUT = frozenset({"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3"})

_KINDS = {ast.Module: "module", ast.ClassDef: "class", ast.FunctionDef: "function", ast.AsyncFunctionDef: "function"}


@dataclass(frozen=True, slots=True)
class StdlibText:
    """One docstring. `name` is dotted, as in `json.decoder.JSONDecoder.decode`."""

    name: str
    kind: str
    text: str


def stdlib_texts() -> Iterator[StdlibText]:
    """Every module, class and function of the standard library that has a docstring, in the order of files.

    Parses the sources and imports none: to import all of them would open browsers and print poems.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _LEFT_OUT.intersection(relative.parts):
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        parts = relative.with_suffix("").parts
        yield from _of(tree, ".".join(parts[:-1] if parts[-1] == "__init__" else parts))


def _of(node: ast.AST, name: str) -> Iterator[StdlibText]:
    kind = _KINDS.get(type(node))
    if kind is not None:
        text = ast.get_docstring(node)  # type: ignore[arg-type]  # `_KINDS` holds just what it takes
        if text and text.strip():
            yield StdlibText(name, kind, text.replace("\x00", ""))
    for child in ast.iter_child_nodes(node):
        own = (
            f"{name}.{child.name}" if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) else name
        )
        yield from _of(child, own)
