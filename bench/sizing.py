"""Sizing: bytes of an item, a change and an edit in Postgres, bytes of a point in Qdrant, the memory and CPU of each
process, and how much one of each does in a second. Sizes are exact; rates and CPU are those of the machine.

The tables are filled with a million items: the outbox by the triggers, `due` by the drain, the first part of the ledger
by claims and settles, and its rest by SQL with the same values.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import httpx
import psutil

from bench.backfill import claimed_to_settled_s
from bench.embedded_index import Filled
from bench.figures import Figures
from bench.provider import DIMENSIONS
from bench.stage import Bench, Stage, Unsound, until
from reindexer.core.lanes import Lane
from reindexer.embedded.children import Children, free_port
from reindexer.monitoring.collect import measure_backlog, measure_states
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.claim import LaneWatermark, claim_batch
from reindexer.queue.drain import drain
from reindexer.queue.settle import Finished, finish
from reindexer.testing.servers import start_qdrant_at

BATCH = 256
DAYS, SOURCES, PURPOSES = 365, 3, ("edit", "backfill", "rebuild", "search", "probe")
WEAR_ROUNDS, WEAR_SHARE = 5, 0.2
"""So much of the ledger is dead when autovacuum comes by Postgres' default (autovacuum_vacuum_scale_factor)."""
EDITS_AT_ONCE = 20
SEARCHES = 1_000
TRIES = 3
ROWS = """
INSERT INTO context_items (title, content)
SELECT 'item ' || n, 'A short text about item ' || n || ': ' || md5(n::text) FROM generate_series(1, %s) AS n
"""
LEDGER = """
INSERT INTO reindexer.{table} (source, item_id, generation, outcome, text_fingerprint, payload_fingerprint, chunks,
                               token, attempts, indexed_at)
SELECT source, item_id, {generation}, 'COMPLETED', md5(item_id), md5('payload ' || item_id), 1,
       (extract(epoch FROM clock_timestamp()) * 1e6)::bigint, 1, clock_timestamp()
FROM reindexer.{of}
"""
WEAR = """
UPDATE reindexer.ledger SET text_fingerprint = md5(text_fingerprint), token = token + 1,
                            indexed_at = clock_timestamp(), settled_at = clock_timestamp()
WHERE random() < %s
"""
LARGE = 10_000_000
SORTED = """
INSERT INTO reindexer.ledger (source, item_id, generation, outcome, text_fingerprint, payload_fingerprint, chunks,
                              token, attempts, indexed_at)
SELECT 'context_items', item_id, 1, 'COMPLETED', md5(item_id), md5('payload ' || item_id), 1,
       (extract(epoch FROM clock_timestamp()) * 1e6)::bigint, 1, clock_timestamp()
FROM (SELECT gen_random_uuid()::text AS item_id FROM generate_series(1, %s) ORDER BY 1) AS known
"""
DUE_AGAIN = """
INSERT INTO reindexer.due (source, item_id, generation, lane)
SELECT source, item_id, generation, 'bulk' FROM reindexer.ledger TABLESAMPLE SYSTEM (%s) ORDER BY random() LIMIT %s
"""
SPEND = """
INSERT INTO reindexer.spend (day, source, account, model, purpose, requests, tokens, micro_dollars)
SELECT current_date - day, 'source ' || source, md5('account'), 'text-embedding-3-small', purpose, 1000, 1000000, 20000
FROM generate_series(1, %s) AS day, generate_series(1, %s) AS source, unnest(%s::text[]) AS purpose
"""
SPENT_AGAIN = (
    "UPDATE reindexer.spend SET requests = requests + 1, tokens = tokens + 90, micro_dollars = micro_dollars + 1.8"
)
REQUESTS = """
INSERT INTO reindexer.request (task_id, source, item_id, due_version, succeeded, sent_at, told_at, finished_at)
SELECT gen_random_uuid(), 'context_items', gen_random_uuid(), 1, true, now(), now(), now() FROM generate_series(1, %s)
"""
RUNS = """
INSERT INTO reindexer.run (source, kind, state, total, finished_at)
SELECT 'context_items', 'whole_source', 'finished', 1000000, now() FROM generate_series(1, %s)
"""
AUDIT = """
INSERT INTO reindexer.audit (who, action, source, details)
SELECT 'api 10.0.0.17 key operator (ann)', 'replay', 'context_items', jsonb_build_object('items', n)
FROM generate_series(1, %s) AS n
"""


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Tables first, then processes, then Qdrant."""
    items = 50_000 if quick else 1_000_000
    with stage.fresh() as bench, connect(bench.url, application_name="bench") as connection:
        _queue(bench, connection, figures, items)
        _settle(bench, connection, figures, items // 10)
        _ledger(bench, figures, items)
        _edits(bench, connection, figures, items // 100)
        _known(bench, connection, figures, items, "")
        _wear(bench, figures, items)
        _records(bench, figures)
    if not quick:
        with stage.fresh() as bench, connect(bench.url, application_name="bench") as connection:
            _large(bench, connection, figures)
    with stage.fresh() as bench:
        _processes(bench, figures, rows=items // 50, seconds=5 if quick else 30)
    _points(stage, figures, 2_000 if quick else 20_000)


def _queue(bench: Bench, connection: Connection, figures: Figures, items: int) -> None:
    """Write all rows in one statement, then move their changes from the outbox to `due`."""
    bench.db.execute(ROWS, [items])
    figures.add("sizing_outbox_bytes", _bytes(bench, "outbox") / items, f"a change; {items:,} wait")
    changes, wal, began = 0, _wal(bench), time.monotonic()
    while found := drain(connection).changes:
        changes += found
    took, wal = time.monotonic() - began, _wal(bench) - wal
    if changes != items:
        raise Unsound(f"{changes} changes drained, not {items}")
    figures.add("sizing_drain_per_s", changes / took, f"one listener, {items:,} changes of as many items wait")
    figures.add("sizing_drain_wal_bytes", wal / changes, "WAL of a change, from the outbox to due")
    table = _bytes(bench, "due", "table") / items
    figures.add("sizing_due_bytes", _bytes(bench, "due") / items,
                f"an item and generation that waits; its row {table:.0f}, the rest indexes")  # fmt: skip


def _settle(bench: Bench, connection: Connection, figures: Figures, items: int) -> None:
    """Claim and settle, without reading a row, provider or Qdrant: what Postgres does for the bulk lane."""
    began, wal, watermark, done = time.monotonic(), _wal(bench), LaneWatermark(), 0
    while done < items:
        done += _work(connection, Lane.BULK, watermark)
    note = f"claims and settles of {BATCH}, one connection, no provider and no Qdrant"
    figures.add("sizing_settle_per_s", done / (time.monotonic() - began), note)
    figures.add(
        "sizing_settle_wal_bytes", (_wal(bench) - wal) / done, "WAL of an item of a first fill, claim and settle"
    )


def _work(connection: Connection, lane: Lane, watermark: LaneWatermark) -> int:
    claim = claim_batch(connection, lane, BATCH, 300, watermark=watermark)
    if claim is None:
        raise Unsound("nothing to claim")
    fingerprint = f"{claim.token:032x}"
    finished = [
        Finished(item, "COMPLETED", text_fingerprint=fingerprint, payload_fingerprint=fingerprint, chunks=1)
        for item in claim.items
    ]
    return len(finish(connection, claim, finished).item_ids)


def _ledger(bench: Bench, figures: Figures, items: int) -> None:
    _fill_ledger(bench, "ledger", 1, "due")
    bench.db.execute("TRUNCATE reindexer.due")
    table, one = _bytes(bench, "ledger", "table"), _bytes(bench, "ledger")
    note = f"an item; its row {table / items:.0f}, the rest its index; {items:,} items, keys are uuids"
    figures.add("sizing_ledger_bytes", one / items, note)
    bench.db.execute("CREATE TABLE reindexer.two (LIKE reindexer.ledger INCLUDING ALL)")
    for generation in (1, 2):
        _fill_ledger(bench, "two", generation, "ledger")
    figures.add("sizing_ledger_two_bytes", _bytes(bench, "two") / items, "an item in two generations")
    bench.db.execute("DROP TABLE reindexer.two")


def _known(bench: Bench, connection: Connection, figures: Figures, items: int, suffix: str) -> None:
    """Claims and settles of items all over a ledger of `items`, as edits of any of them are."""
    some = min(20_000, items // 10)
    bench.db.execute(DUE_AGAIN, [min(100.0, 10_000 * some / items), some])
    bench.db.execute("VACUUM ANALYZE reindexer.due")
    waits = bench.number("SELECT count(*) FROM reindexer.due")
    bench.db.execute("CHECKPOINT")
    began, wal, watermark, done = time.monotonic(), _wal(bench), LaneWatermark(), 0
    while done < waits:
        done += _work(connection, Lane.BULK, watermark)
    rate = done / (time.monotonic() - began)
    wal = (_wal(bench) - wal) // done
    note = f"claims and settles of {waits:,} of {items:,} known items, drawn from all; {wal:,} bytes of WAL each"
    figures.add(f"sizing_settle_known{suffix}_per_s", rate, note)


def _large(bench: Bench, connection: Connection, figures: Figures) -> None:
    """The same at ten million items; what it takes to look at them all, and to vacuum them."""
    bench.db.execute(SORTED, [LARGE])
    bench.db.execute("VACUUM ANALYZE reindexer.ledger")
    table, whole = _bytes(bench, "ledger", "table") / LARGE, _bytes(bench, "ledger") / LARGE
    note = f"an item; its row {table:.0f}, the rest its index; {LARGE:,} items, filled in the order of their keys"
    figures.add("sizing_ledger_10m_bytes", whole, note)
    _known(bench, connection, figures, LARGE, "_10m")
    for name, look in (("status", status), ("metrics", lambda it: [*measure_states(it), *measure_backlog(it)])):
        began = time.monotonic()
        look(connection)
        note = f"to ask Postgres for all that {name} shows, {LARGE:,} items"
        figures.add(f"sizing_{name}_10m_ms", 1000 * (time.monotonic() - began), note)
    bench.db.execute(WEAR, [0.02])
    began = time.monotonic()
    bench.db.execute("VACUUM reindexer.ledger")
    note = f"one VACUUM of it, {LARGE:,} items, 2% of its rows dead; unthrottled"
    figures.add("sizing_ledger_10m_vacuum_s", time.monotonic() - began, note)


def _fill_ledger(bench: Bench, table: str, generation: int, of: str) -> None:
    bench.db.execute(LEDGER.format(table=table, generation=generation, of=of).encode())
    bench.db.execute(f"VACUUM ANALYZE reindexer.{table}".encode())


def _edits(bench: Bench, connection: Connection, figures: Figures, edits: int) -> None:
    """Edits of rows drawn from all: their UPDATE, trigger, drain, claim and settle, and the UPDATE alone."""
    ids = [
        str(row[0]) for row in bench.db.execute("SELECT id FROM context_items ORDER BY random() LIMIT %s", [2 * edits])
    ]
    followed, alone = ids[:edits], ids[edits:]
    bench.db.execute("CHECKPOINT")
    cold = _edited(bench, connection, followed)
    warm = _between_checkpoints(bench, lambda: _edited(bench, connection, followed))
    bench.db.execute("ALTER TABLE context_items DISABLE TRIGGER USER")
    bench.db.execute("CHECKPOINT")
    cold_alone = _updated(bench, alone)
    warm_alone = _between_checkpoints(bench, lambda: _updated(bench, alone))
    bench.db.execute("ALTER TABLE context_items ENABLE TRIGGER USER")
    figures.add(
        "sizing_edit_wal_bytes", warm, f"WAL of an edit until it is settled; the UPDATE alone {warm_alone:,.0f}"
    )
    note = f"the same of pages that no edit touched since the checkpoint; the UPDATE alone {cold_alone:,.0f}"
    figures.add("sizing_edit_wal_cold_bytes", cold, note)


def _between_checkpoints(bench: Bench, edited: Callable[[], float]) -> float:
    """Bytes of WAL an edit, where no checkpoint began meanwhile: after one, each page is written as a whole once."""
    query = "SELECT redo_lsn - '0/0' FROM pg_control_checkpoint()"
    for _ in range(TRIES):
        before, found = bench.number(query), edited()
        if bench.number(query) == before:
            return found
    raise Unsound(f"{TRIES} checkpoints began while edits were made")


def _edited(bench: Bench, connection: Connection, ids: Sequence[str]) -> float:
    """Bytes of WAL an edit."""
    wal, watermark = _wal(bench), LaneWatermark()
    for some in _slices(ids):
        _update(bench, some)
        while drain(connection).changes:
            pass
        if _work(connection, Lane.LIVE, watermark) != len(some):
            raise Unsound("not all edits are settled")
    return (_wal(bench) - wal) / len(ids)


def _updated(bench: Bench, ids: Sequence[str]) -> float:
    wal = _wal(bench)
    for some in _slices(ids):
        _update(bench, some)
    return (_wal(bench) - wal) / len(ids)


def _slices(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + EDITS_AT_ONCE] for at in range(0, len(ids), EDITS_AT_ONCE))


def _update(bench: Bench, ids: Sequence[str]) -> None:
    for item_id in ids:
        query = "UPDATE context_items SET content = md5(content) || ' is what it says now' WHERE id = %s"
        bench.db.execute(query, [item_id])


def _wear(bench: Bench, figures: Figures, items: int) -> None:
    """The ledger after as many edits as it has items, vacuumed whenever a fifth of its rows are dead."""
    took = 0.0
    for _ in range(WEAR_ROUNDS):
        bench.db.execute(WEAR, [WEAR_SHARE])
        began = time.monotonic()
        bench.db.execute("VACUUM reindexer.ledger")
        took += time.monotonic() - began
    note = f"an item, after an edit of each; vacuumed whenever {WEAR_SHARE:.0%} of the rows are dead"
    figures.add("sizing_ledger_worn_bytes", _bytes(bench, "ledger") / items, note)
    note = f"one VACUUM of it, {items:,} items, {WEAR_SHARE:.0%} of its rows dead; unthrottled"
    figures.add("sizing_ledger_vacuum_s", took / WEAR_ROUNDS, note)


def _records(bench: Bench, figures: Figures) -> None:
    """Tables that are not emptied with the work: spend, and what is kept for a week or a year."""
    bench.db.execute(SPEND, [DAYS, SOURCES, list(PURPOSES)])
    bench.db.execute(SPENT_AGAIN)
    size, rows = _bytes(bench, "spend"), DAYS * SOURCES * len(PURPOSES)
    figures.add("sizing_spend_bytes", size / rows, "a row: a day, source, account, model and purpose")
    note = f"{SOURCES} sources, one account and model, all {len(PURPOSES)} purposes each day: {rows:,} rows"
    figures.add("sizing_spend_mb_a_year", size / 2**20, note)
    others = (
        ("request", REQUESTS, 100_000, "a week"), ("audit", AUDIT, 10_000, "a year"), ("run", RUNS, 10_000, "ever"),
    )  # fmt: skip
    for name, query, rows, kept in others:
        bench.db.execute(query, [rows])
        figures.add(f"sizing_{name}_bytes", _bytes(bench, name) / rows, f"a row; kept for {kept}")


@dataclass(frozen=True, slots=True)
class Watched:
    """Process families whose CPU and memory are told apart."""

    roots: Mapping[str, int]

    def cpu_s(self) -> dict[str, float]:
        """Seconds that each family used so far, those of its ended children included."""
        return {name: sum(_cpu_s(each) for each in _family(pid)) for name, pid in self.roots.items()}

    def rss_mb(self, name: str) -> list[float]:
        """Of each process of a family, the root first."""
        return [each.memory_info().rss / 2**20 for each in _family(self.roots[name])]


def _family(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    """Postgres waits for its sessions when they end, and has their time from then on."""
    return float(sum(process.cpu_times()[:4]))


def _processes(bench: Bench, figures: Figures, *, rows: int, seconds: float) -> None:
    """One listener, one worker of one process, one API: a first fill, then edits at two rates, then searches."""
    listener, worker = bench.processes.listener(), bench.processes.worker(pool="prefork", concurrency=1)
    api, url = bench.processes.api()
    roots = {"listener": listener.process.pid, "worker": worker.process.pid, "API": api.process.pid}
    watched = Watched(roots | _servers())
    until(lambda: not bench.waits(), 30, "the first fill of an empty table does not end")
    before = watched.cpu_s()
    bench.fill(rows)
    until(lambda: not bench.waits(), 600, "the fill does not end")
    bench.require_all_indexed()
    rate = rows / claimed_to_settled_s(bench)
    figures.add("sizing_worker_rps", rate, f"one worker process, {rows:,} rows, provider 0 ms")
    figures.add("sizing_fill_cpu_ms", *_cpu_ms(watched, before, rows))
    seconds_of = _reconcile_s(bench, rows)
    note = f"rows that `reindexer reconcile` compares with their points in a second; {rows:,} rows"
    figures.add("sizing_reconcile_rows_per_s", rows / seconds_of, note)
    ids = [str(row[0]) for row in bench.db.execute("SELECT id FROM context_items ORDER BY id")]
    random.Random(1).shuffle(ids)
    for rate in (10, 100):
        edits, before, began = int(rate * seconds), watched.cpu_s(), time.monotonic()
        for n in range(edits):
            time.sleep(max(0.0, began + n / rate - time.monotonic()))
            bench.db.execute("UPDATE context_items SET title = %s WHERE id = %s", [f"{rate}: {n}", ids[n % len(ids)]])
        until(lambda: not bench.waits(), 30, "the edits are not settled")
        ms, told = _cpu_ms(watched, before, edits)
        figures.add(f"sizing_edit_cpu_ms_{rate}", ms, f"{told}; {rate * ms / 1000:.2f} cores at {rate} edits/s")
    before = watched.cpu_s()
    with httpx.Client(headers={"X-API-Key": "bench"}, timeout=30) as client:
        for n in range(SEARCHES):
            asked = {"source": "context_items", "query": f"what is said of {n}"}
            if len(client.post(f"{url}/search", json=asked).raise_for_status().json()["hits"]) != 10:
                raise Unsound("a search does not find ten items")
    figures.add("sizing_search_cpu_ms", *_cpu_ms(watched, before, SEARCHES))
    for name, figure in (("listener", "listener"), ("API", "api"), ("worker", "worker")):
        first, *others = watched.rss_mb(name)
        note = f"RSS after all this; its one pool process {others[0]:.0f} more" if others else "RSS after all this"
        figures.add(f"sizing_rss_{figure}_mb", first, note)
    counters = bench.number("SELECT count(*) FROM reindexer.counter")
    figures.add("sizing_counter_rows", counters, f"all of them {_bytes(bench, 'counter') / 1024:.0f} KB; one source")


def _reconcile_s(bench: Bench, rows: int) -> float:
    """As the command tells it, which does not count its start."""
    done = subprocess.run(
        [sys.executable, "-m", "reindexer", "reconcile", "context_items", "--json"], env=bench.processes.env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Unsound(f"reconcile: {done.stderr.strip()}")
    told = json.loads(done.stdout)
    if not (told["equal"] and told["rows"] == told["points"] == rows):
        raise Unsound(f"reconcile tells of {told}")
    return float(told["seconds"])


def _cpu_ms(watched: Watched, before: Mapping[str, float], done: int) -> tuple[float, str]:
    """CPU of all families in ms for each of `done`, and a note that tells them apart."""
    each = {name: 1000 * (used - before[name]) / done for name, used in watched.cpu_s().items()}
    return sum(each.values()), ", ".join(f"{name} {ms:.2f}" for name, ms in each.items())


def _servers() -> dict[str, int]:
    """The servers that this process has started itself, by what they are."""
    known = {"/postgres -D": "Postgres", "embedded.qdrant_server": "embedded Qdrant"}
    own = {each.pid: " ".join(each.cmdline()) for each in psutil.Process().children()}
    return {name: pid for part, name in known.items() for pid, command in own.items() if part in command}


def _points(stage: Stage, figures: Figures, points: int) -> None:
    """What a point adds on the disk, once the server has ended: between `points` and three times as many."""
    sizes = list[int]()
    for count in (points, 3 * points):
        folder = stage.directory / f"sizing-{count}"
        with Children(stage.directory / f"sizing-logs-{count}") as children:
            port = free_port()
            start_qdrant_at(children, port, folder)
            Filled(f"http://127.0.0.1:{port}").fill(count)
        sizes.append(sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()))
    note = f"on disk, {DIMENSIONS} dimensions, the vector alone {4 * DIMENSIONS:,}; {points:,} to {3 * points:,} points"
    figures.add("sizing_point_bytes", (sizes[1] - sizes[0]) / (2 * points), note)


def _bytes(bench: Bench, table: str, what: str = "total_relation") -> int:
    return bench.number(f"SELECT pg_{what}_size('reindexer.{table}')")


def _wal(bench: Bench) -> int:
    return bench.number("SELECT pg_current_wal_insert_lsn() - '0/0'")
