"""What listener and worker do, for every generation, in the test's own process; and generations made there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reindexer.backfills.pager import walk_page
from reindexer.core.source import Source
from reindexer.generations import lifecycle
from reindexer.postgres.connect import Connection
from reindexer.sources.store import find_source
from reindexer.worker.worker import Worker
from tests.support.generations import AT_ONCE, NAME, SOON, settle, states
from tests.support.index_reader import IndexReader

__all__ = ["AT_ONCE", "NAME", "SOON", "points", "rebuilt", "settle", "started", "states", "walk"]


def walk(db: Connection) -> None:
    """What the listener does with open runs."""
    while walk_page(db, lambda name, generation: find_source(db, name, generation)):
        pass


def started(db: Connection, **changes: Any) -> int:
    """Make the next generation, by a definition that differs in these attributes, with the same embedder."""
    source = find_source(db, NAME)
    return lifecycle.rebuild(db, replace(source, made_by=None, **changes), str(source.made_by), who="test").number


def rebuilt(db: Connection, worker: Worker, **changes: Any) -> Source:
    """The same, filled."""
    number = started(db, **changes)
    settle(db, worker)
    assert states(db)[number] == "ready"
    return find_source(db, NAME, number)


def points(index: IndexReader, number: int) -> Mapping[str, tuple[str, Any]]:
    """The fingerprint and the vector of each point of a generation, by point id."""
    found, _ = index.client.scroll(f"{NAME}__g{number}", limit=1_000, with_vectors=True)
    return {str(each.id): ((each.payload or {})["_reindexer"]["fingerprint"], each.vector) for each in found}
