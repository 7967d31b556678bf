"""Writes rows of its own, waits for them, and looks for them: `python -m tests.torture.waiter --seed 7 --clients 2 …`.

Nobody else writes these rows, but that a TRUNCATE may take them. So once a mark is `indexed`, each row that is still as
it was written must be in the generation that searches use, and a deleted one must not. Afterwards each mark has to be
answered: whatever was killed, none is left waiting.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TextIO

import numpy as np
import psycopg
from psycopg.rows import TupleRow
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from reindexer import Client, ReindexerError
from reindexer.core.items import point_id
from reindexer.index.as_of import AsOf
from reindexer.ports import Vectors
from reindexer.postgres.connect import connect
from reindexer.queue import marks
from reindexer.sources.store import find_source
from tests.torture.checker import text_of
from tests.torture.journal import Entry, line
from tests.torture.models import vector
from tests.torture.witness import traceparent

SOURCE = "context_items"
KEYS = 15
"""Of each client."""
PATIENCE_S = 1.5
AT_LAST_S = 90.0
"""How long a mark may wait after everything has healed."""
LOOK_WITHIN_S = 30.0
MEAN_PAUSE_S = 0.05
MANY = 0.0003
"""Share of edits that are a statement of very many rows."""
AWAY = (psycopg.OperationalError, psycopg.InterfaceError, ReindexerError, ResponseHandlingException, UnexpectedResponse)

Expected = Callable[[str | None, str], Vectors]
"""The vector of a text by a model."""


class RolledBack(Exception):
    """The client changed its mind."""


@dataclass(slots=True)
class Written:
    """One marked transaction."""

    token: str | None = None
    texts: dict[str, str | None] = field(default_factory=dict)
    """What each row that it wrote holds after it. None: it is deleted."""
    truncates: bool = False
    trace_id: str | None = None
    committed_before: datetime | None = None
    """By Postgres' clock."""


class Waiter:
    """One client. `complaints` says what no client should ever see."""

    def __init__(
        self, seed: str, index: int, database_url: str, qdrant: QdrantClient, client: Client, *,
        most_rows: int = 12, truncates: float = 0.0, expected: Expected = vector, searches: float = 0.0,
        patience_s: float = PATIENCE_S,
    ) -> None:  # fmt: skip
        self._rng = random.Random(f"{seed}/waiter/{index}")
        self._name = f"m{index}"
        self._database_url = database_url
        self._qdrant = qdrant
        self._client = client
        self._most_rows = most_rows
        self._truncates = truncates
        self._expected = expected
        self._searches = searches
        self._patience_s = patience_s
        self._keys = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"waiter/{index}/{n}")) for n in range(max(KEYS, most_rows))]
        self._connection: psycopg.Connection[TupleRow] | None = None
        self._serial = 0
        self.waits: list[str] = []
        """Tokens that have no answer yet."""
        self.statuses: dict[str, int] = {}
        self.waited_s: list[float] = []
        """How long each wait took that ended with `indexed`."""
        self.covered = 0
        """How many marked transactions were found to be before a search's `as_of`."""
        self.complaints: list[str] = []
        self.traces: dict[str, list[str]] = {}
        """The items that each transaction wrote which has a trace."""

    def turn(self) -> Entry:
        """A transaction, a wait for it, and a look. Returns what it wrote."""
        entry, written = Entry(), Written()
        committed = self._write(written)
        if written.trace_id is not None:
            self.traces[written.trace_id] = list(written.texts)
        if written.token is None or committed is False:
            if written.token is not None:
                self._expect(written.token, {"rolled_back"})
            return entry
        entry.texts = [(item_id, text) for item_id, text in written.texts.items() if text]
        entry.rows = len(written.texts)
        if committed:
            self._look_how_far(written)
        since = time.monotonic()
        try:
            status = self._client.wait(written.token, timeout_s=self._patience_s).status
        except AWAY:
            self.waits.append(written.token)
            return entry
        self._count(status)
        if status == "timeout":
            self.waits.append(written.token)
        elif status == "rolled_back" and committed:
            self.complaints.append(f"{written.token} was committed, and is told to be rolled back")
        elif status == "indexed":
            self.waited_s.append(time.monotonic() - since)
            self._look(written, self.waited_s[-1])
            self._look_how_far(written)
            if self._rng.random() < self._searches:
                self._search(written)
        return entry

    def end(self) -> None:
        """Wait for all that had no answer, and close the connection."""
        self._forget_connection()
        for token in self.waits:
            self._expect(token, {"indexed", "failed", "rolled_back"}, AT_LAST_S)

    def rest(self) -> None:
        """Between two turns."""
        time.sleep(min(1.0, self._rng.expovariate(1 / MEAN_PAUSE_S)))

    def _count(self, status: str) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def _expect(self, token: str, wanted: set[str], within_s: float = PATIENCE_S) -> None:
        until = time.monotonic() + within_s
        while True:
            try:
                told = self._client.wait(token, timeout_s=max(1.0, until - time.monotonic()))
            except AWAY as exc:
                if time.monotonic() > until + LOOK_WITHIN_S:
                    self.complaints.append(f"{token} can't be waited for: {exc}")
                    return
                time.sleep(0.2)
                continue
            self._count(told.status)
            if told.status not in wanted and not (told.status == "timeout" and within_s != AT_LAST_S):
                self.complaints.append(f"{token} is {told.status}, and not one of {sorted(wanted)}: {told.waits_for}")
            return

    def _write(self, written: Written) -> bool | None:
        """Whether it was committed. None: its connection broke, nobody knows."""
        try:
            connection = self._connection = self._connection or self._connect()
            with connection.transaction():
                early = self._rng.random() < 0.5
                if early:
                    self._mark(connection, written)
                self._edit(connection, written)
                if not early:
                    self._mark(connection, written)
                if self._rng.random() < 0.02:
                    raise RolledBack
            (written.committed_before,) = connection.execute("SELECT clock_timestamp()").fetchone() or (None,)
        except RolledBack:
            return False
        except psycopg.Error as exc:
            if self._connection is not None and self._connection.broken:
                self._forget_connection()
                return None
            if not isinstance(exc, psycopg.OperationalError):
                self.complaints.append(f"a client saw {exc!r}")
            return False
        return True

    def _forget_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> psycopg.Connection[TupleRow]:
        while True:
            try:
                connection = psycopg.connect(self._database_url, autocommit=True, connect_timeout=3)
                connection.execute("SET lock_timeout = '10s'")
            except psycopg.OperationalError:
                time.sleep(0.1)
            else:
                return connection

    def _mark(self, connection: psycopg.Connection[TupleRow], written: Written) -> None:
        if self._rng.random() < 0.5:
            written.trace_id = f"{self._rng.getrandbits(128):032x}"
        parent = traceparent(written.trace_id) if written.trace_id else None
        (token,) = connection.execute("SELECT reindexer.mark(%s)", [parent]).fetchone() or ("",)
        written.token = str(token)

    def _edit(self, connection: psycopg.Connection[TupleRow], written: Written) -> None:
        rng = self._rng
        if rng.random() < self._truncates:
            connection.execute("TRUNCATE context_items")
            written.texts = dict.fromkeys(self._keys)
            written.truncates = True
        for _ in range(rng.choice([1, 1, 2, 4])):
            kind = rng.random()
            if kind < 0.5:
                self._put(connection, written, [rng.choice(self._keys[:KEYS])])
            elif kind < 0.7:
                item_id = rng.choice(self._keys[:KEYS])
                # One that another's TRUNCATE took is not deleted by this: its mark does not wait for that one.
                if connection.execute("DELETE FROM context_items WHERE id = %s", [item_id]).rowcount:
                    written.texts[item_id] = None
            elif kind < 0.8:
                self._put(connection, written, rng.sample(self._keys, rng.randrange(2, 12)))
            elif kind < 0.8 + (MANY if self._most_rows > 1_000 else 0.1):
                self._put(connection, written, self._keys[: self._most_rows])
            else:
                self._nested(connection, written)

    def _nested(self, connection: psycopg.Connection[TupleRow], written: Written) -> None:
        """Savepoints in savepoints, some of them rolled back, and a block that catches an error."""
        before = dict(written.texts)
        try:
            with connection.transaction():
                self._put(connection, written, [self._rng.choice(self._keys[:KEYS])])
                kept = dict(written.texts)
                try:
                    with connection.transaction():
                        self._put(connection, written, [self._rng.choice(self._keys[:KEYS])])
                        if self._rng.random() < 0.3:
                            raise RolledBack
                except RolledBack:
                    written.texts = kept
                if self._rng.random() < 0.2:
                    raise RolledBack
        except RolledBack:
            written.texts = before
        item_id, text = self._rng.choice(self._keys[:KEYS]), self._text()
        connection.execute(
            "DO $block$ BEGIN BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN "
            f"UPDATE context_items SET title = NULL, content = '{text}' WHERE id = '{item_id}'; END; END $block$"
        )
        row = connection.execute("SELECT FROM context_items WHERE id = %s", [item_id]).fetchone()
        if row is not None:
            written.texts[item_id] = text

    def _put(self, connection: psycopg.Connection[TupleRow], written: Written, ids: Sequence[str]) -> None:
        text = self._text()
        connection.execute(
            "INSERT INTO context_items (id, content) SELECT each::uuid, %s || each FROM unnest(%s::text[]) AS each"
            " ON CONFLICT (id) DO UPDATE SET title = NULL, content = excluded.content",
            [text, list(ids)],
        )
        written.texts |= {item_id: text + item_id for item_id in ids}

    def _text(self) -> str:
        self._serial += 1
        return f"marked {self._name} {self._serial} "

    def _look(self, written: Written, after_s: float) -> None:
        until = time.monotonic() + LOOK_WITHIN_S
        while True:
            try:
                wrong = self._wrong(written)
            except AWAY:
                if time.monotonic() > until:
                    return
                time.sleep(0.2)
                continue
            self.complaints += [
                f"{written.token} was told to be indexed after {after_s:.2f} s, too early: {each}" for each in wrong
            ]
            return

    def _wrong(self, written: Written) -> list[str]:
        """What is not as it was written, although the row is; by the generation that searches use before and after."""
        before, collection, model = self._searched()
        points = self._points(collection, list(written.texts))
        rows = self._rows(list(written.texts))
        if self._searched()[0] != before:
            return self._wrong(written)
        wrong = []
        for item_id, text in written.texts.items():
            point = points.get(item_id)
            if rows.get(item_id) != text:
                continue  # a TRUNCATE of another took it, or it is one that was never there
            if text is None:
                if point is not None and not self._is_doubtful(item_id):
                    wrong.append(f"{item_id} is deleted, and a search finds it: {self._known(item_id)}")
            elif point is None:
                wrong.append(f"{item_id} is not there: {self._known(item_id)}")
            elif not np.allclose(point, self._expected(model, text_of(text)), atol=1e-4):
                wrong.append(f"{item_id} has another text than {text!r}: {self._known(item_id)}")
        return wrong

    def _look_how_far(self, written: Written) -> None:
        """What a search would tell by its `as_of` to count in its answer is waited for by nobody any more."""
        token, before = written.token or "", written.committed_before
        try:
            with connect(self._database_url, application_name="waiter") as connection:
                source = find_source(connection, SOURCE)
                as_of = AsOf().of(lambda: nullcontext(connection), source)
                state = marks.states(connection, [token])[token]
                (failed,) = connection.execute(
                    "SELECT count(*) FROM reindexer.ledger WHERE item_id = ANY (%s) AND outcome = 'FAILED'",
                    [list(written.texts)],
                ).fetchone() or (0,)
                promoted = find_source(connection, SOURCE).generation != source.generation
        except AWAY:
            return
        if as_of is None or before is None or as_of <= before or promoted or failed:
            return
        self.covered += 1
        if state in ("open", "waiting"):
            self.complaints.append(f"{token} is {state}, and was committed before {before}: as_of is {as_of}, too late")

    def _search(self, written: Written) -> None:
        for item_id, text in written.texts.items():
            if text is not None:
                found = self._client.search(SOURCE, text_of(text), limit=1, after=written.token).hits
                if (not found or found[0].item_id != item_id) and self._rows([item_id]).get(item_id) == text:
                    self.complaints.append(f"{written.token}: a search for {text!r} finds {found}")
                return

    def _searched(self) -> tuple[int, str, str | None]:
        with psycopg.connect(self._database_url, autocommit=True, connect_timeout=3) as connection:
            row = connection.execute(
                "SELECT number, generation.definition -> 'profile' ->> 'model' FROM reindexer.generation"
                " JOIN reindexer.source ON name = source AND source.generation = number WHERE name = %s",
                [SOURCE],
            ).fetchone()
        assert row is not None
        return row[0], f"{SOURCE}__g{row[0]}", row[1]

    def _points(self, collection: str, ids: Sequence[str]) -> Mapping[str, np.ndarray]:
        by_point = {point_id(SOURCE, item_id, 0): item_id for item_id in ids}
        records = self._qdrant.retrieve(collection, list(by_point), with_payload=False, with_vectors=True)
        return {
            by_point[str(each.id)]: np.asarray(each.vector[""] if isinstance(each.vector, dict) else each.vector)
            for each in records
        }

    def _rows(self, ids: Sequence[str]) -> Mapping[str, str]:
        with psycopg.connect(self._database_url, autocommit=True, connect_timeout=3) as connection:
            rows = connection.execute(
                "SELECT id::text, content FROM context_items WHERE id = ANY(%s::uuid[])", [list(ids)]
            )
            return dict(rows.fetchall())

    def _known(self, item_id: str) -> list[str]:
        """What is recorded of an item that is not as it should be."""
        with psycopg.connect(self._database_url, autocommit=True, connect_timeout=3) as connection:
            rows = connection.execute(
                "SELECT to_jsonb(ledger)::text FROM reindexer.ledger WHERE item_id = %(id)s"
                " UNION ALL SELECT 'due ' || to_jsonb(due)::text FROM reindexer.due WHERE item_id = %(id)s"
                " UNION ALL SELECT concat_ws(' ', 'drained', moment, each.xact, drained_at)"
                " FROM reindexer.drained, unnest(xacts, item_ids) AS each (xact, item_id) WHERE each.item_id = %(id)s"
                " UNION ALL SELECT 'now ' || clock_timestamp()::text",
                {"id": item_id},
            ).fetchall()
        return [str(row[0]) for row in rows]

    def _is_doubtful(self, item_id: str) -> bool:
        """A late write may have made its point again, until it is looked at once more (docs/guarantees.md)."""
        with psycopg.connect(self._database_url, autocommit=True, connect_timeout=3) as connection:
            row = connection.execute(
                "SELECT FROM reindexer.ledger WHERE item_id = %s AND doubted_at IS NOT NULL", [item_id]
            ).fetchone()
        return row is not None


def live(waiter: Waiter, until: float, journal: TextIO, lock: threading.Lock) -> None:
    """Turns until then, each with its line in the journal."""
    while time.monotonic() < until:
        entry = waiter.turn()
        entry.error = next(iter(waiter.complaints), None)
        with lock:
            journal.write(line(entry))
            journal.flush()
        waiter.rest()
    waiter.end()
    for each in waiter.complaints[:5]:
        with lock:
            journal.write(line(Entry(error=each)))
            journal.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, wait and look for a while."""
    parser = argparse.ArgumentParser()
    for name in ("--seed", "--database-url", "--qdrant-url"):
        parser.add_argument(name, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--traces", type=Path, required=True)
    options = parser.parse_args(arguments)
    until, lock = time.monotonic() + options.seconds, threading.Lock()
    qdrant = QdrantClient(url=options.qdrant_url, check_compatibility=False, timeout=10)
    with Client() as client, options.journal.open("a", encoding="utf-8") as journal:
        waiters = [
            Waiter(options.seed, n, options.database_url, qdrant, client, truncates=0.003)
            for n in range(options.clients)
        ]
        threads = [threading.Thread(target=live, args=[each, until, journal, lock]) for each in waiters]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    told: dict[str, int] = {}
    traces: dict[str, list[str]] = {}
    for waiter in waiters:
        traces |= waiter.traces
        for status, number in waiter.statuses.items():
            told[status] = told.get(status, 0) + number
    options.traces.write_text(json.dumps(traces), encoding="utf-8")
    sys.stdout.write(f"waiter: {told}, covered by as_of: {sum(each.covered for each in waiters)}\n")
    return 0 if told.get("indexed") else 1


if __name__ == "__main__":
    sys.exit(main())
