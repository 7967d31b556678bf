"""The write tax: what triggers and a running listener cost the writers of a table."""

from __future__ import annotations

import re
import statistics
import subprocess
import time
from pathlib import Path

import psycopg

from bench.figures import Figures
from bench.stage import Bench, Stage, Unsound
from reindexer.embedded.postgres import wheel_binaries

ROWS = 10_000
SCRIPT = r"""
\set n random(1, 10000)
UPDATE taxed SET body = md5(random()::text) WHERE id = :n;
"""
TABLE = """
DROP TABLE IF EXISTS taxed;
CREATE TABLE taxed (id int PRIMARY KEY, body text, other int, big text);
INSERT INTO taxed SELECT n, md5(n::text), 0, NULL FROM generate_series(1, 10000) AS n;
"""
NOTIFY = """
CREATE FUNCTION taxed_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO reindexer.outbox (source, item_id, lane) SELECT 'taxed', id::text, 'live' FROM new_rows;
    PERFORM pg_notify('taxed', '');
    RETURN NULL;
END $$;
CREATE TRIGGER taxed_notify AFTER UPDATE ON taxed REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION taxed_notify();
"""


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Commits a second with and without, in turns, so that a slower minute hits both."""
    seconds, times = (4, 1) if quick else (8, 3)
    with stage.fresh() as bench:
        bench.processes.listener()
        for clients in (8, 1):
            plain, taxed, notified = list[float](), list[float](), list[float]()
            for _ in range(times):
                _table(bench)
                plain.append(_commits(bench, clients, seconds))
                _attach(bench)
                taxed.append(_commits(bench, clients, seconds))
                if clients == 8:
                    _table(bench)
                    bench.db.execute(NOTIFY.encode())
                    notified.append(_commits(bench, clients, seconds))
                    bench.db.execute("DROP FUNCTION taxed_notify CASCADE")
            ratio = statistics.median(t / p for t, p in zip(taxed, plain, strict=True))
            note = f"{statistics.median(taxed):,.0f} of {statistics.median(plain):,.0f} commits/s; listener awake"
            figures.add(f"write_tax_{clients}c", ratio, note)
            if notified:
                variant = statistics.median(n / p for n, p in zip(notified, plain, strict=True))
                figures.add(
                    "write_tax_8c_notify", variant, f"a trigger that notifies always; ours is {ratio / variant:.1f} ×"
                )
        for name, big in (("bulk_update_ratio", False), ("bulk_update_64kb_ratio", True)):
            figures.add(name, statistics.median(_bulk(bench, big) for _ in range(times)), "one UPDATE of all rows")


def _table(bench: Bench) -> None:
    with bench.db.transaction():
        bench.db.execute("DELETE FROM reindexer.source WHERE name = 'taxed'")
        bench.db.execute("DELETE FROM reindexer.run WHERE source = 'taxed'")
    bench.db.execute(TABLE.encode())


def _attach(bench: Bench) -> None:
    from reindexer.core.source import Source
    from reindexer.flow.attach import attach
    from reindexer.postgres.connect import connect
    from reindexer.postgres.locks import changing_triggers

    with connect(bench.url, application_name="bench") as connection, changing_triggers(connection):
        attach(connection, Source("taxed", "public", "taxed", ("id",), ("body",)))


def _commits(bench: Bench, clients: int, seconds: int) -> float:
    """By pgbench: single-row UPDATEs, each its own transaction."""
    script = Path(bench.stage.directory) / "update.sql"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [str(wheel_binaries() / "pgbench"), "-n", "-f", str(script), "-c", str(clients), "-j", "2", "-T", str(seconds),
         "-M", "prepared", bench.url],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    if not found:
        raise Unsound(f"pgbench: {done.stderr.strip().splitlines()[-1:]}")
    return float(found[1])


def _bulk(bench: Bench, big: bool) -> float:
    """With ÷ without triggers, in a session that did a one-row UPDATE before."""
    statement = "UPDATE taxed SET other = other + 1" if big else "UPDATE taxed SET body = md5(body)"
    took = list[float]()
    for attached in (False, True):
        _table(bench)
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
