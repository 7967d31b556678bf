"""Generations of the built-in source, in the test's own process."""

from __future__ import annotations

from dataclasses import replace

from reindexer import rebuilding
from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.core.profile import Profile
from reindexer.core.search_terms import SearchTerms
from reindexer.generations import lifecycle, promotion
from reindexer.generations.promotion import Terms
from reindexer.generations.rows import generations
from reindexer.generations.upkeep import empty_dropped
from reindexer.index.search import collection_of, search
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.store import find_source
from reindexer.worker.worker import Worker
from tests.support.flow import fill, idle

NAME = "context_items"
SOON = Terms(patience_s=5)
AT_ONCE = Terms(patience_s=0)


def settle(db: Connection, worker: Worker) -> None:
    """What listener and worker do, until nothing is left."""
    for _ in range(50):
        turn(db, worker)
        if idle(db):
            return
    raise AssertionError("something is left to do")


def turn(db: Connection, worker: Worker) -> None:
    """One round of it."""
    drain(db)
    while walk_page(db, lambda name, generation: find_source(db, name, generation)):
        pass
    for lane in Lane:
        worker.run_lane(lane, budget_s=5)
    walk_page(db, lambda name, generation: find_source(db, name, generation))


def states(db: Connection) -> dict[int, str]:
    """Of all generations, by number."""
    return {each.number: each.state for each in generations(db, NAME)}


def made(
    db: Connection, settings: Settings, worker: Worker, dimensions: int = 16, *, base_url: str | None = None
) -> int:
    """Make the next generation, by another number of dimensions."""
    made_by = worker.embedder_of(find_source(db, NAME)).fingerprint.rpartition(":")[0]
    wanted = replace(rebuilding.wanted(settings, db, NAME), profile=Profile(dimensions=dimensions, base_url=base_url))
    return lifecycle.rebuild(db, wanted, f"{made_by}:{dimensions}", who="test").number


def found(db: Connection, worker: Worker, query: str, limit: int = 3) -> list[str]:
    """The ids that a search finds, best first."""
    source = find_source(db, NAME)
    hits = search(
        worker.embedder_of(source), worker.index, collection_of(db, source), query, SearchTerms(limit), timeout_s=5
    )
    return [hit.item_id for hit in hits]


def fill_first(db: Connection, worker: Worker) -> None:
    """Four rows, indexed in generation 1."""
    fill(db)
    settle(db, worker)


def promote_second(db: Connection, settings: Settings, worker: Worker) -> None:
    """Generation 2 is promoted, and 1 is kept."""
    made(db, settings, worker)
    settle(db, worker)
    promotion.promote(db, NAME, who="test", terms=SOON)


def empty(db: Connection) -> None:
    """What the listener does with the records of dropped generations."""
    while empty_dropped(db):
        pass
    empty_dropped(db)
