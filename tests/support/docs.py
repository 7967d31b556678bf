"""The documentation as tests see it: code blocks with their marks, headings, tables and links, and a reader who follows.

A ```sh block carries a mark on the line before it, which says how a test treats it:

    <!-- test: settings -->      `export NAME=…` lines; the test exports values of its own under the same names
    <!-- test: start -->         each line is a process that keeps running
    <!-- test: run -->           run by bash, must succeed; what it exports is seen by the blocks that follow
    <!-- test: run until X -->   the same, again and again until its output holds X
    <!-- test: skip REASON -->   not run; the reason is shown

A ```toml block under `<!-- test: file -->` is the sources file from then on; a ```python block under it is the file that
its first line names. Blocks of ```python under
`<!-- test: python -->` are one program, and the ```sql blocks under it run before. Blocks under
`<!-- test: recipe FILE -->` belong together: a program of that name, the `pip install` of what it imports, and what it
prints.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from reindexer.embedded.children import Child, Children
from reindexer.embedded.postgres import wheel_binaries
from reindexer.settings import FOR_TESTS, Settings
from tests.support.forks import forked_python
from tests.support.processes import ROOT

DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_MARK = re.compile(r"<!-- test: (settings|start|run until|run|skip|roles|demo|file|python|recipe)\b\s*(.*?)\s*-->")
_COMMENT = re.compile(r"\s+#\s.*$|^#.*$")
_EXPORT = re.compile(r"export ([A-Z_]+)=")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `mark` is empty where none stands before it."""

    document: Path
    line: int
    language: str
    mark: str
    about: str
    """What follows the mark's word: the reason, or the text to wait for."""
    text: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its lines without comments and blank ones."""
        return [line for line in (_COMMENT.sub("", each).strip() for each in self.text.splitlines()) if line]


def blocks(document: Path) -> Iterator[Block]:
    """All fenced blocks of a document, in order."""
    lines = document.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        mark = _MARK.fullmatch(lines[start - 1].strip())
        word, about = mark.groups() if mark else ("", "")
        text = "\n".join(lines[start + 1 : number]) + "\n"
        yield Block(document, start + 1, lines[start].removeprefix("```").strip(), word, about, text)
        start = None
    assert start is None, f"{document.name}:{start} opens a block that nothing closes"


def program(document: Path) -> str:
    """The document's Python blocks, as the one program that they are."""
    return "\n".join(each.text for each in blocks(document) if (each.mark, each.language) == ("python", "python"))


@dataclass(frozen=True, slots=True)
class Recipe:
    """A program of a document that runs in an environment of its own."""

    name: str
    """Of its file."""
    program: str
    packages: tuple[str, ...]
    """None: other recipes import it."""
    prints: str


def recipes(document: Path) -> dict[str, Recipe]:
    """The document's recipes, by the names of their files."""
    found: dict[str, dict[str, str]] = {}
    for each in blocks(document):
        if each.mark == "recipe":
            found.setdefault(each.about, {})[each.language] = each.text
    return {
        name: Recipe(name, parts["python"], tuple(parts.get("sh", "").split()[2:]), parts.get("text", ""))
        for name, parts in found.items()
    }


def without_blocks(document: Path) -> str:
    """Its prose: everything outside of fences."""
    return re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def sections(document: Path, level: int) -> dict[str, str]:
    """Headings of a level, without backquotes, and the prose under each."""
    parts = re.split(rf"^{'#' * level} (.+)$", without_blocks(document), flags=re.MULTILINE)
    return {title.replace("`", "").strip(): body for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def anchors(document: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", without_blocks(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def table_rows(text: str) -> list[list[str]]:
    """Cells of every table row, without backquotes; heads and rules left out."""
    rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in text.splitlines() if line.startswith("| `")]
    return [[cell.replace("`", "").replace("\\|", "|").strip() for cell in row] for row in rows]


def settings_and_defaults() -> dict[str, str]:
    """Every setting's name in the environment, and its default as the documentation writes it."""
    found: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, bool):
            written = str(int(default))
        elif isinstance(default, float):
            written = f"{default:g}"
        else:
            written = "none" if default is None else str(default)
        alias = field.validation_alias
        found[alias if isinstance(alias, str) else f"REINDEXER_{name.upper()}"] = written
    return {name: default for name, default in found.items() if name not in FOR_TESTS}


class Reader:
    """Follows a document: runs its blocks in order, as a user does who has the virtual environment activated."""

    def __init__(
        self, children: Children, given: Mapping[str, str], port: int, *, preset: bool, folder: Path = ROOT,
        other_ports: Mapping[int, int] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """`given`: values for the names that the document exports; `preset`: they are in place from the
        start, as is a `reindexer` that forks; without, the program itself is run. `folder`: where commands run.
        `other_ports`: what stands for ports of the document beside 8000, which may be taken as well."""
        if shutil.which("curl") is None:
            pytest.skip("curl is not on this machine")
        path = [str(Path(sys.executable).parent), os.environ["PATH"]]
        if shutil.which("psql") is None:
            path.append(str(wheel_binaries()))
        names = settings_and_defaults()
        clean = {name: value for name, value in os.environ.items() if name not in names}
        self.env = {**clean, "PATH": os.pathsep.join(path), "UVICORN_PORT": str(port), "PYTHONUNBUFFERED": "1"}
        self.env |= given if preset else {}
        self._children = children
        self._given = given
        self._port = port
        self._folder = folder
        self._other_ports = other_ports
        self._started: list[Child] = []
        self._forks = preset

    def follow(self, document: Path) -> None:
        """All blocks; fails with the output of the one that fails."""
        before = set(os.listdir(ROOT))
        with tempfile.TemporaryDirectory(prefix="rx-docs-") as directory:
            if self._forks:
                self._put_first_a_reindexer_that_forks(Path(directory))
            for block in blocks(document):
                self._do(block, Path(directory))
        left = {each for each in set(os.listdir(ROOT)) - before if not each.startswith(".")}
        assert not left, f"{document.name} leaves files in the checkout, which other tests would read: {left}"

    def _do(self, block: Block, directory: Path) -> None:
        match block.mark:
            case "settings":
                self._export(block)
            case "start":
                self._start(block)
            case "file":
                self._keep(block, directory / "reindexer.toml")
            case "run":
                self._run(block, None)
            case "run until":
                self._run(block, block.about)

    def _put_first_a_reindexer_that_forks(self, directory: Path) -> None:
        """A document has dozens of commands, each of which would import the program anew."""
        program = directory / "bin" / "reindexer"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.join([*forked_python(), "reindexer"])} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        self.env["PATH"] = f"{program.parent}{os.pathsep}{self.env['PATH']}"

    def _export(self, block: Block) -> None:
        for line in block.commands:
            name = _EXPORT.match(line)
            assert name, f"{block}: {line!r} exports nothing"
            self.env[name.group(1)] = self._given[name.group(1)]

    def _keep(self, block: Block, file: Path) -> None:
        """The sources file not in the working directory, where other tests would read it."""
        if block.language == "python":
            written = self._folder / block.text.partition("\n")[0].removeprefix("# ")
            written.write_text(block.text, encoding="utf-8")
            return
        file.write_text(block.text, encoding="utf-8")
        self.env["REINDEXER_SOURCES"] = str(file)

    def _start(self, block: Block) -> None:
        for line in block.commands:
            name = f"{block.document.stem}-{len(self._started)}"
            command = f"exec {self._here(line)}"
            self._started.append(self._children.start(name, ["bash", "-c", command], env=self.env, cwd=self._folder))

    def _run(self, block: Block, wanted: str | None) -> None:
        until = time.monotonic() + 120
        while True:
            for child in self._started:
                assert child.running(), f"{block}: {child.name} has ended: {child.last_lines()}"
            done = self._bash(block)
            if done.returncode == 0 and (wanted is None or wanted in done.stdout):
                return
            problem = f"{block}: exit code {done.returncode}\n{block.text}\n{done.stdout}\n{done.stderr}"
            assert wanted is not None, problem
            assert time.monotonic() < until, f"{problem}\nnever printed {wanted}"
            time.sleep(0.1)

    def _bash(self, block: Block) -> subprocess.CompletedProcess[str]:
        script = f'set -euo pipefail\n{self._here(block.text)}\necho "@@@"; env -0\n'
        done = subprocess.run(
            ["bash", "-c", script], env=self.env, cwd=self._folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        output, found, exported = done.stdout.rpartition("@@@\n")
        if found:
            self.env = dict(each.split("=", 1) for each in exported.split("\0") if "=" in each)
        return subprocess.CompletedProcess(done.args, done.returncode, output or done.stdout, done.stderr)

    def _here(self, text: str) -> str:
        """The document's port 8000 may be taken on this machine."""
        for told, taken in self._other_ports.items():
            text = re.sub(rf"\b{told}\b", str(taken), text)
        return text.replace("localhost:8000", f"127.0.0.1:{self._port}").replace(
            "reindexer up", f"reindexer up --port {self._port}"
        )
