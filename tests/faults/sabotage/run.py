"""Runs rows of the table: each in a copy of the tree with that one mechanism taken away, never in the tree itself.

A row holds if its test then fails, by an assertion. A test that still passes proves nothing about its mechanism. A tree
that can't be imported any more, an error in a fixture, a skipped test or another exception proves nothing either.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.faults.sabotage.guards import Misplaced, taken_away
from tests.faults.sabotage.row import Sabotage
from tests.support.docs import settings_and_defaults
from tests.support.processes import ROOT
from tests.support.servers import Servers, servers

WITHIN_S = 240.0
NOTICED = re.compile(r"assert |AssertionError|Failed: (DID NOT RAISE|Regex)|Expected exception")
"""How the message of a test begins that fails because it found something wrong."""

_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "bench")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one row. `problem` is empty where its test noticed."""

    row: Sabotage
    problem: str
    words: str
    """How the test failed."""
    took_s: float


class Workshop:
    """A copy of the tree, and servers that its tests may use; one row at a time."""

    def __init__(self, directory: Path, running: Servers) -> None:
        self.tree = directory / "tree"
        self._report = directory / "report.xml"
        shutil.copytree(ROOT, self.tree, ignore=_LEFT_OUT)
        names = settings_and_defaults()
        self._env = {name: value for name, value in os.environ.items() if name not in names} | {
            "PYTHONPATH": str(self.tree),
            "PYTHONDONTWRITEBYTECODE": "1",  # a patch may leave a file's size and second as they were
            "REINDEXER_TEST_DATABASE_URL": running.database_url,
            "REINDEXER_TEST_REDIS_URL": running.redis_url,
            "REINDEXER_TEST_QDRANT_URL": running.qdrant_url,
            "REINDEXER_TEST_QDRANT_GRPC_PORT": "",
        }

    def judge(self, row: Sabotage) -> Verdict:
        """Take the mechanism away, run the test, and put it back."""
        started = time.monotonic()
        try:
            name, changed = taken_away(row, self.tree)
        except Misplaced as exc:
            return Verdict(row, str(exc), "", 0.0)
        file = self.tree / name
        original = file.read_text(encoding="utf-8")
        file.write_text(changed, encoding="utf-8")
        try:
            problem, words = self._broken(name), ""
            if not problem:
                problem, words = self._tested(row)
        finally:
            file.write_text(original, encoding="utf-8")
        return Verdict(row, problem, words, time.monotonic() - started)

    def _broken(self, file: str) -> str:
        """Why the sabotaged tree is no program any more; or that it is not this tree that is imported."""
        module = file.removesuffix(".py").replace("/", ".") if file.endswith(".py") else "reindexer"
        code = f"import {module}, reindexer, tests; print(reindexer.__file__, tests.__file__)"
        done = self._python("-c", code, within_s=60)
        if done.returncode:
            return f"it can't be imported: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
        strangers = [path for path in done.stdout.split() if not Path(path).is_relative_to(self.tree)]
        return f"not the copy is imported but {strangers[0]}" if strangers else ""

    def _tested(self, row: Sabotage) -> tuple[str, str]:
        self._report.unlink(missing_ok=True)
        options = ("-x", "-q", "-p", "no:cacheprovider", f"--junitxml={self._report}", "-o", "junit_family=xunit2")
        done = self._python("-m", "pytest", *options, row.test, within_s=WITHIN_S)
        if done.returncode == 0:
            return "its test still passes", ""
        if not self._report.exists():
            return f"no report (exit code {done.returncode}): {(done.stdout.strip().splitlines() or ['?'])[-1]}", ""
        cases = list(ElementTree.parse(self._report).iter("testcase"))
        for kind in ("error", "failure"):
            for case in cases:
                if (found := case.find(kind)) is not None:
                    words = " ".join(str(found.get("message")).split())[:160]
                    noticed = kind == "failure" and (
                        NOTICED.match(words) or (row.fails_with and row.fails_with in words)
                    )
                    return ("" if noticed else f"not by an assertion: {words}"), words
        return "its test did not run", ""

    def _python(self, *arguments: str, within_s: float) -> subprocess.CompletedProcess[str]:
        """In a group of its own, which is ended with it."""
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=self.tree, env=self._env, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            out, err = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # children of the tests end with it: they have a guard
            out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@contextmanager
def workshop() -> Iterator[Workshop]:
    """One with servers of its own: two would see each other's collections and messages."""
    with tempfile.TemporaryDirectory(prefix="rxs-", ignore_cleanup_errors=True) as name, servers() as running:
        Path(name).chmod(0o755)
        yield Workshop(Path(name), running)


def chosen(table: Sequence[Sabotage], only: str) -> list[Sabotage]:
    """Rows whose mechanism or test has these words in it."""
    return [row for row in table if only in row.mechanism or only in row.test]


@dataclass(frozen=True, slots=True)
class Part:
    """Every `of_parts`-th row, from the `number`-th (from 0) on. All parts together are the table, each row once."""

    number: int
    of_parts: int

    @classmethod
    def read(cls, words: str) -> Part:
        """From `N/M`; a larger N starts again from the first part. Raises ValueError."""
        number, of_parts = map(int, words.split("/"))
        if number < 0 or of_parts < 1:
            raise ValueError(words)
        return cls(number % of_parts, of_parts)

    def of(self, rows: Sequence[Sabotage]) -> Sequence[Sabotage]:
        """Its rows."""
        return rows[self.number :: self.of_parts]
