"""Searches one source all the time, and judges each answer: `python -m tests.torture.reader --source … --journal …`.

What it knows it reads from Postgres before and after each search. Errors of a dependency that does not answer are noted
with their time; whether one was broken then, `run` knows.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import psycopg

from reindexer.client import Client
from reindexer.core.errors import ReindexerError, TransientError
from reindexer.core.search_terms import Mode
from tests.torture.checker import CHUNKED, Row, read_rows

PAUSE_S = 0.05
LIMIT = 100
ENOUGH = 10
"""So many items that nothing happened to, and a search has to find something."""
MOMENT = timedelta(seconds=0.5)
"""A deletion that was settled within such a time before a promotion may be shown by the former generation only."""

ACTIVE = """
SELECT number, activated_at FROM reindexer.generation WHERE source = %(source)s AND state = 'active'
"""
SETTLED = """
SELECT ledger.generation, item_id, outcome, settled_at FROM reindexer.ledger
WHERE source = %(source)s AND doubted_at IS NULL AND outcome <> 'FAILED'
    AND NOT EXISTS (SELECT FROM reindexer.due WHERE due.source = ledger.source AND due.item_id = ledger.item_id
                        AND due.generation = ledger.generation)
    AND NOT EXISTS (SELECT FROM reindexer.outbox WHERE outbox.source = ledger.source AND outbox.item_id = ledger.item_id)
    AND NOT EXISTS (SELECT FROM reindexer.outbox WHERE outbox.source = %(source)s AND outbox.item_id IS NULL)
    AND NOT EXISTS (SELECT FROM reindexer.run WHERE run.source = %(source)s AND finished_at IS NULL AND kind <> 'rebuild')
"""

Settled = Mapping[tuple[int, str], tuple[str, datetime]]


@dataclass(frozen=True, slots=True)
class Known:
    """What Postgres said at one moment."""

    active: int
    activated_at: datetime
    texts: Mapping[str, str]
    """Of rows that are to be in the index, by item id."""
    settled: Settled
    """Outcome and time by generation and item, of items of which nothing is on the way."""

    def stable(self, later: Known) -> Iterator[str]:
        """Items that were in the index from this moment to that one, in the form of their rows."""
        if (self.active, self.activated_at) == (later.active, later.activated_at):
            for item_id, text in self.texts.items():
                key = (self.active, item_id)
                settled = self.settled.get(key)
                is_same = settled == later.settled.get(key) and later.texts.get(item_id) == text
                if text and settled and settled[0] == "COMPLETED" and is_same:
                    yield item_id


Gone = Mapping[str, tuple[int, datetime]]
"""Deleted rows, with the generation in which that was settled, and when."""


def judge(before: Known, after: Known, gone: Gone, scores: Mapping[str, float], exact: str | None) -> Iterator[str]:
    """What is wrong with the scores that a search gave, by item. `exact`: the item whose very text was looked for."""
    if mixed := [item_id for item_id, score in scores.items() if score == 0.0]:
        yield f"points of another model's space are found: {mixed[:3]}"
    for item_id in scores.keys() & gone.keys():
        if _is_still_gone(item_id, *gone[item_id], after):
            yield f"{item_id} is found, whose deletion was settled: {gone[item_id]}"
    if not scores and len(stable := set(before.stable(after))) >= ENOUGH:
        yield f"nothing is found, and {len(stable)} items are there"
    if exact is not None and scores.get(exact, 0.0) < 0.999:
        yield f"{exact} is not found by its own text: {scores.get(exact)}"


def _is_still_gone(item_id: str, generation: int, settled_at: datetime, after: Known) -> bool:
    return (
        item_id not in after.texts
        and after.settled.get((generation, item_id)) == ("DELETED", settled_at)
        and not (after.active != generation and settled_at > after.activated_at - MOMENT)
    )


@dataclass(slots=True)
class Counts:
    """How many searches there were, and of which kind."""

    looks: int = 0
    """At what Postgres says. Without a row there is nothing to search for."""
    searches: int = 0
    unserved: int = 0
    exact: int = 0
    """A row's own text found the row."""
    gone: int = 0
    """Searches for a deleted row's last text."""


class Reader:
    """One thread."""

    def __init__(self, seed: str, source: str, database_url: str, journal: TextIO) -> None:
        self._rng = random.Random(f"{seed}/reader")
        self._source = source
        self._database_url = database_url
        self._journal = journal
        self._client = Client()
        self._connection: psycopg.Connection[Any] | None = None
        self._texts: dict[str, str] = {}
        """The last text of each row that was ever seen."""
        self._gone: dict[str, tuple[int, datetime]] = {}
        self.counts = Counts()

    def warm_up(self) -> None:
        """Import all that a search needs, which takes seconds."""
        with suppress(ReindexerError):
            self._client.search(self._source, "warm up")

    def turn(self) -> None:
        """One search."""
        try:
            before = self._look()
        except psycopg.OperationalError:
            self._connection = None
            time.sleep(0.1)
            return
        self._remember(before)
        looked_for = self._choose(before)
        if looked_for is None:
            time.sleep(PAUSE_S)
            return
        self.counts.searches += 1
        # By words as well, where there are some: what is found then has no score that could be judged.
        mode: Mode | None = "meaning" if self._rng.random() < 0.7 else None
        began = time.time()
        try:
            hits = self._client.search(self._source, self._texts[looked_for], limit=LIMIT, mode=mode).hits
        except TransientError as exc:
            self.counts.unserved += 1
            self._note("unserved", began=began, error=f"{type(exc).__name__}: {exc}")
            return
        except ReindexerError as exc:
            self._note("wrong", error=f"a search failed: {type(exc).__name__}: {exc}")
            return
        try:
            after = self._look()
        except psycopg.OperationalError:
            self._connection = None
            return
        scores = {hit.item_id: hit.score for hit in hits}
        exact = self._source != CHUNKED and mode is not None and looked_for in set(before.stable(after))
        self.counts.exact += exact
        for wrong in judge(before, after, self._gone, scores, looked_for if exact else None):
            self._note("wrong", error=wrong, active=[before.active, after.active])
        time.sleep(PAUSE_S)

    def _choose(self, known: Known) -> str | None:
        if self._gone and self._rng.random() < 0.5:
            self.counts.gone += 1
            return self._rng.choice(list(self._gone))
        there = [item_id for item_id, text in known.texts.items() if text]
        return self._rng.choice(there) if there else None

    def _remember(self, known: Known) -> None:
        self._texts |= {item_id: text for item_id, text in known.texts.items() if text}
        for item_id in list(self._gone):
            generation, settled_at = self._gone[item_id]
            if item_id in known.texts or known.settled.get((generation, item_id)) != ("DELETED", settled_at):
                del self._gone[item_id]
        for (generation, item_id), (outcome, settled_at) in known.settled.items():
            is_gone = outcome == "DELETED" and item_id not in known.texts
            if generation == known.active and is_gone and item_id in self._texts:
                self._gone.setdefault(item_id, (generation, settled_at))

    def _look(self) -> Known:
        self.counts.looks += 1
        connection = self._connected()
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            named = {"source": self._source}
            active = connection.execute(ACTIVE, named).fetchone()
            assert active is not None
            settled = {(g, i): (outcome, at) for g, i, outcome, at in connection.execute(SETTLED, named)}
            rows: list[Row] = [row for row in read_rows(connection) if row.source == self._source]
        return Known(active[0], active[1], {row.item_id: row.text for row in rows}, settled)

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._database_url, autocommit=True, connect_timeout=3)
        return self._connection

    def _note(self, kind: str, **what: object) -> None:
        self._journal.write(json.dumps({"at": time.time(), "kind": kind, **what}) + "\n")
        self._journal.flush()

    def end(self) -> None:
        """Note how many searches there were."""
        self._note("counts", **{name: getattr(self.counts, name) for name in self.counts.__slots__})


def main() -> int:
    """Search for a while."""
    parser = argparse.ArgumentParser()
    for name in ("--seed", "--source", "--database-url"):
        parser.add_argument(name, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    options = parser.parse_args()
    with options.journal.open("a", encoding="utf-8") as journal:
        reader = Reader(options.seed, options.source, options.database_url, journal)
        reader.warm_up()
        sys.stdout.write("reader begins\n")
        sys.stdout.flush()
        until = 0.0
        while not until or time.monotonic() < until:
            reader.turn()
            if reader.counts.searches and not until:  # there is a row
                until = time.monotonic() + options.seconds
        reader.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
