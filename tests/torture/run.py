"""One run: start everything, edit and break for a while, let it heal, compare."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reindexer.embedded.children import Child, wait_until_ready
from reindexer.testing.processes import log_of
from tests.support.processes import ROOT
from tests.torture import journal, witness
from tests.torture.afterwards import (
    left_of_dropped,
    overspent,
    reader_complaints,
    told_of_actor,
    too_little_spent,
    unsettled,
    wrong_aliases,
)
from tests.torture.audience import Audience
from tests.torture.checker import SOURCES, Differences, compare_all, read_collections, read_kept, read_rows
from tests.torture.environment import API_KEY, Stage, stage
from tests.torture.load import Storm
from tests.torture.models import MODELS, PLENTY
from tests.torture.processes import READY_S, Cast
from tests.torture.report import autopsy
from tests.torture.table_edits import MARK

WRITERS = 3
WAITERS = 3
TRACES = "traces.json"
MARKS_WITHIN_S = 120.0
IDLE_WITHIN_S = 90.0
TIDY_WITHIN_S = 45.0
"""Workers look every ten seconds what is left of dropped generations."""
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
    with stage() as built, closing(Audience(built, seed)) as audience:
        changed = random.Random(f"{seed}/generations").choice(SOURCES)
        tell(f"data and logs are in {built.directory}; generations of {changed} are changed")
        cast = Cast(built, seed, changed)
        cast.start_all()
        reader = _start_reader(built, seed, changed, seconds)
        writers = [_start_writer(built, cast, seed, index, seconds) for index in range(WRITERS)]
        waiter = _start_waiter(built, seed, seconds)
        storm = Storm(built, cast, seed, tell)
        storm.rage(seconds)
        cast.kill("actor")
        audience.be_calm()
        calm_at = time.monotonic()
        for writer in (*writers, reader):
            writer.process.wait(60)
        complaints = [
            f"{each.name} failed: {each.last_lines(5)}" for each in (*writers, reader) if each.process.returncode
        ]
        complaints += overspent(built, tell)
        with built.connect() as connection:
            connection.execute("UPDATE reindexer.budget SET usd = %s, closed_at = NULL", [PLENTY])
        complaints += _marks_left(built, cast, waiter, tell)
        complaints += witness.last_edit(built)
        idle_after_s = _until_idle(built, cast, calm_at)
        if idle_after_s > IDLE_WITHIN_S:
            complaints.append(f"not idle within {IDLE_WITHIN_S:.0f} s: {_status(built)} {unsettled(built)}")
        complaints += _until_tidy(built, cast)
        differences = _compare(built, tell)
        entries = journal.read(built.directory.glob("writer-*.journal"))
        complaints += [f"a writer saw {entry.error}" for entry in entries if entry.error][:5]
        complaints += _unanswered(built)
        complaints += too_little_spent(built, tell)
        complaints += overspent(built, tell)
        complaints += audience.complaints(tell)
        complaints += witness.complaints(built, built.directory / TRACES, tell)
        complaints += reader_complaints(built.directory / "reader.journal", storm.broken, tell)
        complaints += told_of_actor(cast.actor_journal, tell)
        for each in cast.ended:
            tell(each)
        for text in autopsy(built, differences, entries):
            tell(text)
    # Of a generation each text is embedded once more, as often as it is made anew: of others than the first none is called for.
    answered = [text for model, text in built.lies.answered if model not in MODELS and MARK not in text]
    return Result(
        seed, sum(entry.rows for entry in entries), storm.faults,
        len(differences.lost), len(differences.stale), len(differences.extra),
        journal.wasted(entries, answered), min(idle_after_s, IDLE_WITHIN_S), tuple(complaints), built.directory,
    )  # fmt: skip


def _start_reader(built: Stage, seed: str, source: str, seconds: float) -> Child:
    options = {
        "seed": seed, "source": source, "seconds": seconds, "database-url": built.database_url,
        "journal": built.directory / "reader.journal",
    }  # fmt: skip
    command = [f"--{name}={value}" for name, value in options.items()]
    child = built.children.start(
        "reader", [sys.executable, "-m", "tests.torture.reader", *command], env=built.env, cwd=ROOT
    )
    wait_until_ready(child, lambda: "reader begins" in log_of(child), within_s=READY_S)
    return child


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


def _start_waiter(built: Stage, seed: str, seconds: float) -> Child:
    options = {
        "seed": seed, "clients": WAITERS, "seconds": seconds, "database-url": built.database_url,
        "qdrant-url": built.qdrant_url, "journal": built.directory / "writer-of-marks.journal",
        "traces": built.directory / TRACES,
    }  # fmt: skip
    command = [f"--{name}={value}" for name, value in options.items()]
    return built.children.start(
        "waiter", [sys.executable, "-m", "tests.torture.waiter", *command], env=built.env, cwd=ROOT
    )


def _marks_left(built: Stage, cast: Cast, waiter: Child, tell: Tell) -> list[str]:
    """Wait until each mark has its answer. Returns what is wrong; too early an answer is in its journal."""
    until = time.monotonic() + MARKS_WITHIN_S
    while waiter.process.poll() is None:
        if time.monotonic() > until:
            return [f"marks have no answer: {waiter.last_lines(5)}"]
        cast.supervise()
        time.sleep(POLL_S)
    tell(waiter.last_lines(1))
    return [f"the waiter failed: {waiter.last_lines(8)}"] if waiter.process.returncode else []


def _until_idle(built: Stage, cast: Cast, calm_at: float) -> float:
    """Seconds from calm until `reindexer status --json` says idle, and nothing waits for any generation; more than the
    bound if it does not."""
    while True:
        cast.supervise()
        waits = _status(built)
        after_s = time.monotonic() - calm_at
        if after_s > IDLE_WITHIN_S or (
            waits is not None
            and not any(waits[name] for name in ("outbox", "pending", "processing", "healing"))
            and not unsettled(built)
        ):
            return after_s
        time.sleep(POLL_S)


def _until_tidy(built: Stage, cast: Cast) -> list[str]:
    """Wait until nothing is left of dropped generations, and each alias names the active one. Returns what is wrong."""
    until = time.monotonic() + TIDY_WITHIN_S
    while True:
        cast.supervise()
        wrong = [*left_of_dropped(built), *wrong_aliases(built)]
        if not wrong or time.monotonic() > until:
            return wrong
        time.sleep(POLL_S)


def _status(built: Stage) -> dict[str, Any] | None:
    command = [sys.executable, "-m", "reindexer", "status", "--json"]
    done = subprocess.run(command, env=built.env, cwd=ROOT, capture_output=True, text=True, check=False)
    answer: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
    return answer


def _compare(built: Stage, tell: Tell) -> Differences:
    client = built.client()
    try:
        with built.connect() as connection:
            rows, kept = read_rows(connection), read_kept(connection)
        collections = read_collections(client)
    finally:
        client.close()
    for each in sorted(kept, key=lambda each: each.collection):
        points = collections.get(each.collection, [])
        wanted = sum(row.source == each.source and bool(row.text) for row in rows)
        items = {point.facts.get("item_id") for point in points}
        tell(f"{each.collection} ({each.state}): {wanted} rows with text, {len(points)} points of {len(items)} items")
    return compare_all(rows, kept, collections)


def _unanswered(built: Stage) -> list[str]:
    """A request that was recorded has an answer."""
    with built.connect() as connection:
        row = connection.execute("SELECT count(*) FROM reindexer.request WHERE finished_at IS NULL").fetchone()
    return [f"{row[0]} requests have no answer"] if row and row[0] else []
