"""A writer process: `python -m tests.torture.writer --seed 7 --index 0 …`. Edits until its time is up.

All that it chooses comes from its seed. Its connection may break at any moment: it connects again and goes on, as an
application does; whether its last transaction was committed it then does not know, as an application does not either.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import httpx
import psycopg
from psycopg import IsolationLevel
from psycopg.rows import TupleRow

from tests.torture.edits import EDITS, Edit, Hand
from tests.torture.journal import Entry, line
from tests.torture.table_edits import TABLE_EDITS

MEAN_PAUSE_S = 0.02
CATALOGUE: dict[Edit, float] = EDITS | TABLE_EDITS
ASKS = 0.02
"""Share of turns that call the bulk endpoint instead."""

OF_OTHERS = (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure,
             psycopg.errors.LockNotAvailable)  # fmt: skip
"""What writers do to one another."""


class RolledBack(Exception):
    """The writer changed its mind."""


class Writer:
    """Turns: transactions of a few edits, or a call of the bulk endpoint."""

    def __init__(self, seed: str, index: int, database_url: str, api_url: str, api_key: str, journal: TextIO) -> None:
        self._rng = random.Random(f"{seed}/writer/{index}")
        self._name = f"w{index}"
        self._database_url = database_url
        self._journal = journal
        self._api = httpx.Client(base_url=api_url, headers={"X-API-Key": api_key}, timeout=5.0)
        self._hand: Hand | None = None

    def turn(self) -> None:
        """One transaction or call, and its line in the journal."""
        self._hand = hand = self._hand or Hand(self._connect(), self._rng, self._name)
        hand.entry = Entry()
        if self._rng.random() < ASKS:
            self._ask(hand)
        else:
            self._transact(hand)
        time.sleep(min(1.0, self._rng.expovariate(1 / MEAN_PAUSE_S)))

    def _connect(self) -> psycopg.Connection[TupleRow]:
        while True:
            try:
                connection = psycopg.connect(self._database_url, autocommit=True, connect_timeout=3)
                connection.execute("SET lock_timeout = '10s'")
            except psycopg.OperationalError:
                time.sleep(0.1)
            else:
                return connection

    def _transact(self, hand: Hand) -> None:
        edits = self._rng.choices(list(CATALOGUE), list(CATALOGUE.values()), k=self._rng.choice([1, 1, 1, 2, 4]))
        alone = len(edits) == 1 and self._rng.random() < 0.5
        level = IsolationLevel.REPEATABLE_READ if self._rng.random() < 0.1 else None
        undone, points = self._rng.random() < 0.07, self._rng.random() < 0.2
        try:
            if alone:
                edits[0](hand)
            else:
                hand.connection.isolation_level = level
                with hand.connection.transaction():
                    self._act(hand, edits, points)
                    if undone:
                        raise RolledBack
        except RolledBack:
            return
        except OF_OTHERS:
            if not alone:
                return  # else what came before the failing statement is committed
        except (psycopg.OperationalError, psycopg.InterfaceError):
            if not hand.connection.broken:
                hand.entry.error = f"{sys.exc_info()[1]!r}"
            else:
                self._hand = None  # committed or not: nobody knows
        except psycopg.Error as exc:
            hand.entry = Entry(error=f"{exc!r}")
        self._note(hand.entry)

    def _act(self, hand: Hand, edits: Sequence[Edit], points: bool) -> None:
        for edit in edits:
            if points:
                with self._savepoint(hand):
                    edit(hand)
                    if self._rng.random() < 0.3:
                        raise RolledBack
            else:
                edit(hand)

    @contextmanager
    def _savepoint(self, hand: Hand) -> Iterator[None]:
        rows, texts = hand.entry.rows, len(hand.entry.texts)
        try:
            with hand.connection.transaction():
                yield
        except (RolledBack, psycopg.errors.UniqueViolation):
            hand.entry.rows = rows
            del hand.entry.texts[texts:]

    def _ask(self, hand: Hand) -> None:
        ids = list(dict.fromkeys(hand.key() for _ in range(self._rng.randrange(1, 40))))
        hand.entry.asked = ids
        try:
            answer = self._api.post("/admin/bulk/regenerate-embeddings", json={"context_ids": ids})
        except httpx.TransportError:
            pass  # the API was killed, or Postgres is away for long: whether it was queued nobody knows
        else:
            if answer.status_code == 503:
                hand.entry.asked = []
            elif answer.status_code != 202 or answer.json()["queued_count"] != len(ids):
                hand.entry.error = f"bulk endpoint: {answer.status_code} {answer.text[:200]}"
        self._note(hand.entry)

    def _note(self, entry: Entry) -> None:
        self._journal.write(line(entry))
        self._journal.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Edit for a while."""
    parser = argparse.ArgumentParser()
    for name in ("--seed", "--database-url", "--api-url", "--api-key"):
        parser.add_argument(name, required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    options = parser.parse_args(arguments)
    until = time.monotonic() + options.seconds
    with options.journal.open("a", encoding="utf-8") as journal:
        writer = Writer(options.seed, options.index, options.database_url, options.api_url, options.api_key, journal)
        while time.monotonic() < until:
            writer.turn()
    return 0


if __name__ == "__main__":
    sys.exit(main())
