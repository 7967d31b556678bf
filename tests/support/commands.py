"""Commands that run in this process: what they are given, and what they leave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from reindexer.embedded.children import free_port
from tests.support.forks import forked_python
from tests.support.processes import ROOT

SERVER_SETTINGS = (
    "DATABASE_URL",
    "CELERY_BROKER_URL",
    "QDRANT_URL",
    "OPENAI_API_KEY",
    "REINDEXER_DATA_DIR",
    "REINDEXER_SOURCES",
)
"""Those that name servers: a test gives its own, or none."""


@dataclass(frozen=True)
class Done:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


CLEAN = {name: value for name, value in os.environ.items() if name not in SERVER_SETTINGS}


def reindexer(
    *arguments: str, env: Mapping[str, str] | None = None, forked: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with no server named."""
    python = forked_python() if forked else [sys.executable, "-m"]
    return subprocess.run(
        [*python, "reindexer", *arguments], env={**CLEAN, **(env or {})}, cwd=ROOT,
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


ROLES = {
    "listen": ["reindexer.listen"],
    "worker": ["celery", "-A", "reindexer.celery_app", "worker", "-Q", "reindexer.live,reindexer.bulk"],
    "api": ["uvicorn", "api.main:app", "--port", str(free_port())],
}


def start(role: str, env: Mapping[str, str]) -> tuple[int, str]:
    """Exit code, and the line of ours on standard error."""
    command = [*forked_python(), *ROLES[role]]
    clean = {**CLEAN, "REINDEXER_DATA_DIR": "/tmp/nothing-is-up-here"}
    done = subprocess.run(
        command, env={**clean, **env}, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("reindexer ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"reindexer {role}: ")
    return done.returncode, lines[0]
