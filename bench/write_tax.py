"""The write tax: what triggers and a running listener cost the writers of a table."""

from __future__ import annotations

import random
import re
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.figures import Figures
from bench.stage import Bench, Stage, Unsound, until
from reindexer.core.source import Source
from reindexer.embedded.postgres import wheel_binaries
from reindexer.monitoring.heartbeat import BEAT_S
from reindexer.monitoring.metrics import DRAINED
from reindexer.postgres.connect import connect
from reindexer.postgres.locks import changing_triggers
from reindexer.sources.attach import attach

SLICE_S = 1
"""The length of one table's turn in seconds. Turns are short because a machine's speed changes within seconds."""
BULK_TIMES = 9
"""Repetitions: a bulk update takes well under a second, and some take twice as long as others."""

SCRIPT = r"""
\set n random(1, 10000)
UPDATE {table} SET body = md5(random()::text) WHERE id = :n;
"""
ALONE = r"""
\set n random(1, 10000)
BEGIN;
UPDATE {table} SET body = md5(random()::text) WHERE id = :n;
SELECT random()::text;
COMMIT;
"""
"""A transaction that takes as many statements as one that marks."""
MARKED = ALONE.replace("random()::text;\nCOMMIT", "reindexer.mark();\nCOMMIT")
INSERTING = ALONE.replace("SELECT random()::text;", "INSERT INTO bare VALUES (:n, 'a text as long as a token');")
BARE = "CREATE TABLE bare (id bigint, body text)"
TABLE = """
DROP TABLE IF EXISTS {table};
CREATE TABLE {table} (id int PRIMARY KEY, body text, other int, big text);
INSERT INTO {table} SELECT n, md5(n::text), 0, NULL FROM generate_series(1, 10000) AS n;
"""
NOTIFY = """
CREATE FUNCTION notifying() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO reindexer.outbox (source, item_id, lane) SELECT 'notifying', id::text, 'live' FROM new_rows;
    PERFORM pg_notify('notifying', '');
    RETURN NULL;
END $$;
CREATE TRIGGER notifying AFTER UPDATE ON notifying REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION notifying();
"""


@dataclass(frozen=True, slots=True)
class Commits:
    """pgbench's result of one turn."""

    done: int
    per_s: float


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Commits per second with and without triggers, in short turns, so that a slower minute affects both."""
    turns, times, bulk_times = (3, 1, 3) if quick else (8, 3, BULK_TIMES)
    with stage.fresh() as bench:
        bench.processes.listener()
        for table in ("plain", "taxed", "notifying"):
            _table(bench, table)
        _attach(bench)
        bench.db.execute(NOTIFY.encode())
        bench.db.execute("VACUUM ANALYZE plain, taxed, notifying")
        changes = 0
        for clients, tables in ((8, ("plain", "taxed", "notifying")), (1, ("plain", "taxed"))):
            rates = list[dict[str, float]]()
            for _ in range(times):
                commits = [{table: _commits(bench, table, clients) for table in tables} for _ in range(turns)]
                rates.append({table: statistics.fmean(turn[table].per_s for turn in commits) for table in tables})
                changes += sum(turn[table].done for turn in commits for table in tables if table != "plain")
            ratio = statistics.median(rate["taxed"] / rate["plain"] for rate in rates)
            taxed, plain = (statistics.median(rate[table] for rate in rates) for table in ("taxed", "plain"))
            note = f"{taxed:,.0f} of {plain:,.0f} commits/s; listener awake"
            figures.add(f"write_tax_{clients}c", ratio, note)
            if "notifying" in tables:
                variant = statistics.median(rate["notifying"] / rate["plain"] for rate in rates)
                note = f"a trigger that notifies always; ours is {ratio / variant:.1f} ×"
                figures.add(f"write_tax_{clients}c_notify", variant, note)
        changes += _mark_tax(bench, figures, turns, times)
        _require_drained(bench, changes)
        for name, big in (("bulk_update_ratio", False), ("bulk_update_64kb_ratio", True)):
            figures.add(name, statistics.median(_bulk(bench, big) for _ in range(bulk_times)), "one UPDATE of all rows")


def _mark_tax(bench: Bench, figures: Figures, turns: int, times: int) -> int:
    """What a mark in each transaction costs, and what a plain INSERT does. Returns how many changes were made."""
    bench.db.execute(BARE)
    scripts = {"alone": ALONE, "inserting": INSERTING, "marked": MARKED}
    changes, rates = 0, list[dict[str, float]]()
    for time_ in range(times):
        found = dict[str, list[Commits]]()
        for turn in range(turns):
            # In another order each time: what one leaves to the listener is drained beside the next.
            for name in random.Random(time_ * turns + turn).sample(list(scripts), len(scripts)):
                bench.db.execute("DELETE FROM reindexer.marker")  # as if nobody had marked
                found.setdefault(name, []).append(_commits(bench, "taxed", 8, scripts[name]))
        rates.append({name: statistics.fmean(each.per_s for each in commits) for name, commits in found.items()})
        changes += sum(each.done for commits in found.values() for each in commits)
    insert = statistics.median(rate["inserting"] / rate["alone"] for rate in rates)
    marked, alone = (statistics.median(rate[name] for rate in rates) for name in ("marked", "alone"))
    figures.add("mark_tax_8c_insert", insert, "an INSERT of as many bytes into a table without an index")
    ratio = statistics.median(rate["marked"] / rate["alone"] for rate in rates)
    note = f"{marked:,.0f} of {alone:,.0f} commits/s; nobody waits; a bare INSERT: {insert:.2f}"
    figures.add("mark_tax_8c", ratio, note)
    return changes


def _table(bench: Bench, table: str) -> None:
    with bench.db.transaction():
        bench.db.execute("DELETE FROM reindexer.source WHERE name = %s", [table])
        bench.db.execute("DELETE FROM reindexer.run WHERE source = %s", [table])
    bench.db.execute(TABLE.format(table=table).encode())


def _attach(bench: Bench) -> None:
    """Attach, and return when the first fill is queued: that is not part of a writer's tax."""
    with connect(bench.url, application_name="bench") as connection, changing_triggers(connection):
        attach(connection, Source("taxed", "public", "taxed", ("id",), ("body",)))
    query = "SELECT count(*) FROM reindexer.run WHERE finished_at IS NULL AND state <> 'working'"
    until(lambda: not bench.number(query), 30, "the first fill is not queued")


def _commits(bench: Bench, table: str, clients: int, statements: str = SCRIPT) -> Commits:
    """Measured by pgbench: single-row UPDATEs, each in its own transaction."""
    script = Path(bench.stage.directory) / f"update_{table}.sql"
    script.write_text(statements.format(table=table))
    done = subprocess.run(
        [str(wheel_binaries() / "pgbench"), "-n", "-f", str(script), "-c", str(clients), "-j", "2", "-T", str(SLICE_S),
         "-M", "prepared", bench.url],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    count = re.search(r"actually processed: (\d+)", done.stdout)
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    if not count or not rate:
        raise Unsound(f"pgbench: {done.stderr.strip().splitlines()[-1:]}")
    return Commits(int(count[1]), float(rate[1]))


def _require_drained(bench: Bench, changes: int) -> None:
    """Raises Unsound unless all changes went through the outbox."""
    bench.until_drained()
    query = "SELECT sum(value) FROM reindexer.counter WHERE name = %s"
    until(lambda: bench.number(query, DRAINED) >= changes, 2 * BEAT_S, f"fewer than {changes} changes were drained")


def _bulk(bench: Bench, big: bool) -> float:
    """The time with triggers divided by that without, in a session that did a one-row UPDATE before."""
    statement = "UPDATE taxed SET other = other + 1" if big else "UPDATE taxed SET body = md5(body)"
    took = list[float]()
    for attached in (False, True):
        _table(bench, "taxed")
        if big:
            bench.db.execute("UPDATE taxed SET big = repeat(md5(id::text), 2000) WHERE id <= 500")
        if attached:
            _attach(bench)
        bench.db.execute("VACUUM ANALYZE taxed")
        with psycopg.connect(bench.url, autocommit=True) as session:
            session.execute("UPDATE taxed SET body = 'one' WHERE id = 1")
            began = time.monotonic()
            session.execute(statement.encode())
            took.append(time.monotonic() - began)
    return took[1] / took[0]
