"""Changes the generations of one source at random: rebuild, promote, roll back, prune, cancel, forget. Killed at random.

`python -m tests.torture.actor --seed 7 --source context_items --journal …`. It goes on until it is killed, and begins
where the one before it was killed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import psycopg

from reindexer import budgets, rebuilding, wiring
from reindexer.core.errors import GenerationConflict, ReindexerError, SourceError, TransientError, UsageError
from reindexer.generations import lifecycle
from reindexer.generations.promotion import Terms
from reindexer.generations.rows import Generation, generations
from reindexer.index.forget import forget
from reindexer.ports import Index
from reindexer.postgres.connect import Connection, connect, server_errors
from reindexer.settings import Settings
from reindexer.sources import change
from reindexer.sources.store import find_source
from tests.torture.models import PLENTY, other

MEAN_PAUSE_S = 0.4
WHO = "torture"

EXPECTED = (
    GenerationConflict,
    TransientError,
    SourceError,
    UsageError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)
"""Two that act at once, what faults do to a command, a writer that holds its table, a provider that lies."""

Act = Callable[[], object]


class Actor:
    """Looks at what is there, and does one of the things that can be done with it."""

    def __init__(self, seed: str, source: str, journal: TextIO) -> None:
        self._rng = random.Random(seed)
        self._source = source
        self._journal = journal
        self._settings = Settings.load()
        self._index: Index = wiring.index(self._settings)

    def live(self) -> None:
        """Until it is killed."""
        url = self._settings.require_database_url()
        while True:
            try:
                with server_errors(url), connect(url, application_name="reindexer torture") as connection:
                    while True:
                        self._turn(connection)
            except EXPECTED as exc:
                self._note("connection", error=type(exc).__name__)
                time.sleep(0.2)

    def _turn(self, connection: Connection) -> None:
        acts = self._acts(connection, generations(connection, self._source))
        name = self._rng.choices(list(acts), [weight for weight, _ in acts.values()])[0]
        self._note(name, begins=True)
        try:
            acts[name][1]()
        except EXPECTED as exc:
            self._note(name, error=f"{type(exc).__name__}: {exc}")
            if connection.closed:
                raise
        except ReindexerError as exc:
            self._note(name, unexpected=f"{type(exc).__name__}: {exc}")
        else:
            self._note(name)
        time.sleep(min(2.0, self._rng.expovariate(1 / MEAN_PAUSE_S)))

    def _acts(self, connection: Connection, found: Sequence[Generation]) -> dict[str, tuple[float, Act]]:
        states = {each.state: each.number for each in found}
        source, terms = self._source, Terms(patience_s=self._rng.uniform(0.0, 8.0))
        common = (self._settings, connection, self._index, source)
        acts: dict[str, tuple[float, Act]] = {"look": (1.0, lambda: None)}
        if "filling" in states:
            acts["look"] = (6.0, lambda: None)
            acts["cancel"] = (1.0, lambda: lifecycle.cancel(connection, source, who=WHO))
        elif "ready" in states:
            acts["promote"] = (8.0, lambda: rebuilding.promote(*common, who=WHO, terms=terms))
            acts["prune ready"] = (
                1.0, lambda: lifecycle.prune(connection, source, who=WHO, number=states["ready"]),
            )  # fmt: skip
        else:
            acts["rebuild"] = (8.0, lambda: self._rebuild(connection))
        acts["forget"] = (1.0, lambda: self._forget(connection))
        acts["budget"] = (0.7, lambda: self._set_budget(connection))
        acts["keywords"] = (0.5, lambda: self._turn_keywords(connection))
        if "standby" in states:
            acts["rollback"] = (4.0, lambda: rebuilding.rollback(*common, who=WHO, terms=terms))
            acts["prune"] = (1.0, lambda: lifecycle.prune(connection, source, who=WHO))
        return acts

    def _rebuild(self, connection: Connection) -> None:
        model = find_source(connection, self._source).profile.model
        profile = other(model) if self._rng.random() < 0.8 else other(other(model))
        rebuilding.rebuild(self._settings, connection, self._index, self._source, who=WHO, profile=profile)

    def _turn_keywords(self, connection: Connection) -> None:
        """Add them in place, or take them away."""
        given = {"keywords": not find_source(connection, self._source).keywords}
        change.apply(connection, change.propose(connection, self._source, given, ()), who=WHO)

    def _set_budget(self, connection: Connection) -> None:
        """A tight one now and then: whatever needs a provider waits until another is set. Nobody reserves meanwhile."""
        with connection.transaction():
            connection.execute("SELECT FROM reindexer.budget FOR UPDATE")
            (before,) = budgets.all_budgets(connection)
            usd = before.used_usd + self._rng.uniform(0.0, 0.02) if self._rng.random() < 0.4 else PLENTY
            budgets.set_budget(connection, who=WHO, kind="indexing", period="day", usd=usd)

    def _forget(self, connection: Connection) -> None:
        """One that is deleted, as far as the ledger knows."""
        query = (
            "SELECT item_id FROM reindexer.ledger WHERE source = %s AND outcome = 'DELETED' ORDER BY random() LIMIT 1"
        )
        if row := connection.execute(query, [self._source]).fetchone():
            forget(
                connection, self._index, self._source, row[0], who=WHO, policy=self._settings.retry_policy,
                lease_s=self._settings.lease_s,
            )  # fmt: skip

    def _note(self, act: str, **what: object) -> None:
        self._journal.write(json.dumps({"at": time.time(), "act": act, **what}) + "\n")
        self._journal.flush()


def main() -> int:
    """Act."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    options = parser.parse_args()
    with options.journal.open("a", encoding="utf-8") as journal:
        # Another choice after each kill.
        actor = Actor(f"{options.seed}/actor/{options.journal.stat().st_size}", options.source, journal)
        sys.stdout.write("actor begins\n")
        sys.stdout.flush()
        actor.live()
    return 0


if __name__ == "__main__":
    sys.exit(main())
