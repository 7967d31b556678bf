"""One run: start everything, edit and break for a while, let it heal, compare."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reindexer.embedded.children import Child
from tests.support.processes import ROOT
from tests.torture import journal
from tests.torture.checker import SOURCES, Differences, compare, read_points, read_rows
from tests.torture.environment import API_KEY, Stage, stage
from tests.torture.load import Storm
from tests.torture.processes import Cast
from tests.torture.report import autopsy
from tests.torture.table_edits import MARK

WRITERS = 3
IDLE_WITHIN_S = 90.0
POLL_S = 0.5

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one run."""

    seed: str
    edits: int
    faults: int
    lost: int
    stale: int
    extra: int
    wasted_inputs: int
    idle_after_s: float
    complaints: tuple[str, ...]
    """Whatever else went wrong: never idle, a writer's error, a request without an answer."""
    directory: Path

    @property
    def passed(self) -> bool:
        """Nothing lost, stale or extra, and nothing to complain of."""
        return not (self.lost or self.stale or self.extra or self.complaints)

    def line(self) -> str:
        """For people and for scripts."""
        return (
            f"torture: seed={self.seed} edits={self.edits} faults={self.faults} lost={self.lost} stale={self.stale} "
            f"extra={self.extra} wasted_inputs={self.wasted_inputs} idle_after={self.idle_after_s:.1f}s"
        )


def run(seed: str, seconds: float, tell: Tell) -> Result:
    """The whole of it."""
    with stage() as built:
        tell(f"data and logs are in {built.directory}")
        cast = Cast(built)
        cast.start_all()
        writers = [_start_writer(built, cast, seed, index, seconds) for index in range(WRITERS)]
        storm = Storm(built, cast, seed, tell)
        storm.rage(seconds)
        calm_at = time.monotonic()
        for writer in writers:
            writer.process.wait(60)
        complaints = [f"{each.name} failed: {each.last_lines(5)}" for each in writers if each.process.returncode]
        idle_after_s = _until_idle(built, cast, calm_at)
        if idle_after_s > IDLE_WITHIN_S:
            complaints.append(f"not idle within {IDLE_WITHIN_S:.0f} s: {_status(built)}")
        differences = _compare(built, tell)
        entries = journal.read(built.directory.glob("writer-*.journal"))
        complaints += [f"a writer saw {entry.error}" for entry in entries if entry.error][:5]
        complaints += _unanswered(built)
        for each in cast.ended:
            tell(each)
        for text in autopsy(built, differences, entries):
            tell(text)
    return Result(
        seed, sum(entry.rows for entry in entries), storm.faults,
        len(differences.lost), len(differences.stale), len(differences.extra),
        journal.wasted(entries, (text for text in built.lies.answered if MARK not in text)), min(idle_after_s, IDLE_WITHIN_S), tuple(complaints),
        built.directory,
    )  # fmt: skip


def _start_writer(built: Stage, cast: Cast, seed: str, index: int, seconds: float) -> Child:
    options = {
        "seed": seed, "index": index, "seconds": seconds, "database-url": built.database_url,
        "api-url": f"http://127.0.0.1:{cast.api_port}", "api-key": API_KEY,
        "journal": built.directory / f"writer-{index}.journal",
    }  # fmt: skip
    command = [f"--{name}={value}" for name, value in options.items()]
    return built.children.start(
        f"writer-{index}", [sys.executable, "-m", "tests.torture.writer", *command], env=built.env, cwd=ROOT
    )


def _until_idle(built: Stage, cast: Cast, calm_at: float) -> float:
    """Seconds from calm until `reindexer status --json` says idle; more than the bound if it does not."""
    while True:
        cast.supervise()
        waits = _status(built)
        after_s = time.monotonic() - calm_at
        if after_s > IDLE_WITHIN_S or (
            waits is not None and not any(waits[name] for name in ("outbox", "pending", "processing", "healing"))
        ):
            return after_s
        time.sleep(POLL_S)


def _status(built: Stage) -> dict[str, Any] | None:
    command = [sys.executable, "-m", "reindexer", "status", "--json"]
    done = subprocess.run(command, env=built.env, cwd=ROOT, capture_output=True, text=True, check=False)
    answer: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
    return answer


def _compare(built: Stage, tell: Tell) -> Differences:
    client = built.client()
    try:
        rows, points = read_rows(built.database_url), read_points(client)
    finally:
        client.close()
    for source in SOURCES:
        ids = [point.facts.get("item_id") for point in points if point.facts.get("source") == source]
        wanted = sum(row.source == source and bool(row.text) for row in rows)
        tell(f"{source}: {wanted} rows with text, {len(ids)} points of {len(set(ids))} items")
    return compare(rows, points)


def _unanswered(built: Stage) -> list[str]:
    """A request that was recorded has an answer."""
    with built.connect() as connection:
        row = connection.execute("SELECT count(*) FROM reindexer.request WHERE finished_at IS NULL").fetchone()
    return [f"{row[0]} requests have no answer"] if row and row[0] else []
