"""The history as requests ask for it: one query for all who want the same."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from reindexer.core.errors import DependencyUnavailable
from reindexer.monitoring.history import History, read
from reindexer.postgres.connect import Connection, Postgres
from reindexer.sources.store import find_attached

from .cached_query import CachedQuery

KEEP_S = 15.0
"""A row comes once a minute."""
KEEP_RATIO = 50.0
"""A week takes longer to read than an hour, and changes less."""
MAX_KEPT = 64
ANSWERS_WITHIN_S = 10.0


class Histories:
    """Reads histories. Called in the event loop, so it needs no lock."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._queries = OrderedDict[tuple[str | None, int], CachedQuery[tuple[History | None]]]()

    async def get(self, source: str | None, hours: int) -> History | None:
        """The last hours of a source (None: of all together), at most 15 s old or, if it took long, a little more.

        None: there is no such source. Raises DependencyUnavailable if Postgres does not answer in time.
        """
        key = source, hours
        if key not in self._queries:  # guard history-one-query
            ask = partial(self._ask, source, hours)
            self._queries[key] = CachedQuery(self._executor, "history", ask, keep_s=KEEP_S, keep_ratio=KEEP_RATIO)
        self._queries.move_to_end(key)
        while len(self._queries) > MAX_KEPT:
            self._queries.popitem(last=False)
        found = await self._queries[key].get(within_s=ANSWERS_WITHIN_S)
        if found is None:
            raise DependencyUnavailable("Postgres does not answer")
        return found[0]

    def close(self) -> None:
        """Start no more queries; running ones end by their own timeouts."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _ask(self, source: str | None, hours: int) -> tuple[History | None]:
        with self._postgres.connection() as connection:
            return (self._read(connection, source, hours),)

    @staticmethod
    def _read(connection: Connection, source: str | None, hours: int) -> History | None:
        if source is not None and find_attached(connection, source) is None:
            return None
        return read(connection, source, hours)
