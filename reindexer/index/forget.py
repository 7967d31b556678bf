"""Forget an item: its points leave every generation, and no record of ours names it any more.

The item is claimed as a worker claims it, in every generation at once. An older claim's late write therefore meets a
higher token, and settles nothing. Records go last, in one transaction, so whoever is interrupted may begin again.

A claim without a certain outcome may still make a point of an item that has none. Then one row stays in the ledger
until the last verification, a day later, and goes by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg

from reindexer.audit import audited, item_mark
from reindexer.core.errors import DependencyUnavailable, PermanentError, TransientError, UsageError
from reindexer.core.items import StoredPoint
from reindexer.core.retry import RetryPolicy
from reindexer.index.search import collections_of
from reindexer.ports import Index
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import unpromoted
from reindexer.postgres.queries import load
from reindexer.sources import long_keys
from reindexer.sources.keys import canonical_id
from reindexer.sources.rows import find_rows
from reindexer.sources.store import find_source

LOOK_S = 0.1
"""How often to look whether a claim of the item has ended."""
MAX_TRIES = 5
REQUEST_S = 10.0
"""How long one request to the index may take."""


class RowIsThere(UsageError):
    """The item has a row, which would be indexed again."""


class _ChangedMeanwhile(Exception):
    """Something of the item changed: it is looked at once more."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What `forget` removed."""

    source: str
    points: int
    """How many points, of all generations."""
    records: int
    """How many rows of our tables."""
    verified_for_s: float | None
    """A late write may make a point again: until it was looked for in so many seconds, the last time, the ledger names
    the item. None: nothing names it."""


def forget(
    connection: Connection, index: Index, source: str, item_id: str, *, who: str, policy: RetryPolicy, lease_s: float
) -> Forgotten:
    """Remove an item from everything of ours. Safe to repeat, also for an item that nothing is known of.

    Waits for a claim that works on it, at most for its lease. Raises UsageError if there is no such source or if this
    database role may not delete records, RowIsThere if its row is to be indexed, SourceError if that can't be decided,
    TransientError or PermanentError if the index does not answer or refuses: the item is then not forgotten.
    """
    found = find_source(connection, source)
    item_id = canonical_id(connection, found, item_id) or item_id
    (item_id,) = long_keys.names(connection, found, [item_id])  # guard forget-long-key
    key = long_keys.keys(connection, found, [item_id]).get(item_id, item_id)
    forgetting = _Forgetting(connection, index, source, item_id, key, policy, lease_s)
    try:
        return forgetting.run(who)
    except psycopg.errors.InsufficientPrivilege as exc:
        raise UsageError(
            "this database role may not forget items; docs/operations.md names the rights that it needs"
        ) from exc


@dataclass(slots=True)
class _Forgetting:
    connection: Connection
    index: Index
    source: str
    item_id: str
    key: str
    """Of its row, for which the id may stand."""
    policy: RetryPolicy
    lease_s: float
    token: int | None = None
    """Of the claim that is held."""
    seen_token: int = 0
    """The highest one of a point that was left."""
    points: int = 0
    doubts: dict[int, float] = field(default_factory=dict)
    """Generations in which a claim has no certain outcome, and for how many seconds."""

    def run(self, who: str) -> Forgotten:
        """Do it, again and again while something of the item changes meanwhile."""
        self._require_no_row()
        with self._released_if_it_fails():
            for _ in range(MAX_TRIES):
                generations = self._hold()
                with suppress(_ChangedMeanwhile):
                    self._delete_points()
                    return self._erase(generations, who)
            raise TransientError("something of the item changes again and again")

    @contextmanager
    def _released_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except BaseException as exc:
            if self.token is not None and not self.connection.closed:
                with suppress(psycopg.Error):
                    self.connection.execute(load("forget.sql")["release"], self._named())  # guard forget-released
            for kind in (DependencyUnavailable, TransientError, PermanentError):
                if isinstance(exc, kind):
                    raise kind(f"{exc}; the item is not forgotten: do it again when that is over") from exc
            raise

    def _named(self, **more: Any) -> dict[str, Any]:
        return {"source": self.source, "item_id": self.item_id, "key": self.key, "token": self.token, **more}

    def _one(self, query: str, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        row = self.connection.execute(load("forget.sql")[query], parameters).fetchone()
        assert row is not None
        return row

    def _generations(self) -> tuple[list[int], list[int]]:
        """Those that can have a due row, and of these the ones that get edits."""
        rows = self.connection.execute(load("forget.sql")["kept"], {"source": self.source}).fetchall()
        return [number for number, _ in rows], [number for number, is_followed in rows if is_followed]

    def _require_no_row(self) -> None:
        """Raises RowIsThere if one of its generations reads a row of the item, or can't read it."""
        for number in self._generations()[1]:
            found = find_rows(self.connection, find_source(self.connection, self.source, number), [self.item_id])
            if found.rows or found.unreadable:  # guard forget-row-refused
                raise RowIsThere(
                    f"{self.source}: the item has a row, which would be indexed again; delete that row first, or "
                    "exclude it by the source's condition"
                )

    def _hold(self) -> list[int]:
        """Claim the item in all generations that can have it due, and return these. Waits for other claims."""
        until = time.monotonic() + self.lease_s + LOOK_S
        while True:
            generations, followed = self._generations()
            asked = self._named(generations=generations, ours=self.token, seen=self.seen_token, lease_s=self.lease_s)
            with self.connection.transaction():
                known = self.connection.execute(load("forget.sql")["known"], asked).fetchall()
                if self.token is None:  # what this claim holds is no doubt
                    self._note_doubts([each for each in known if each[0] in followed])
                held = self.connection.execute(load("forget.sql")["hold"], asked).fetchall()
                if len(held) == len(generations):
                    self.token = held[0][0]
                    return generations
                raise psycopg.Rollback
            if time.monotonic() > until:
                raise TransientError("a worker works on the item")
            time.sleep(LOOK_S)

    def _note_doubts(self, known: Sequence[tuple[int, bool, float | None]]) -> None:
        self.doubts = {}
        for number, is_doubtful, doubted_ago_s in known:
            ago_s = 0.0 if is_doubtful else doubted_ago_s
            if ago_s is not None and self._recheck_s(ago_s) is not None:  # guard forget-doubt
                self.doubts[number] = ago_s

    def _recheck_s(self, ago_s: float) -> float | None:
        return self.policy.recheck_wait_s(ago_s, self.lease_s)

    def _delete_points(self) -> None:
        """Raises _ChangedMeanwhile if a point with a higher token is there."""
        assert self.token is not None
        left: list[StoredPoint] = []
        # guard forget-every-generation
        for collection in collections_of(self.connection, find_source(self.connection, self.source)):
            before = self.index.points_of(collection, [self.item_id], REQUEST_S)
            if before:
                self.index.delete_items(collection, [self.item_id], self.token, REQUEST_S)
                after = self.index.points_of(collection, [self.item_id], REQUEST_S)
                self.points += len(before) - len(after)
                left += after
        if left:  # guard forget-read-back
            self.seen_token = max(point.token for point in left)
            raise _ChangedMeanwhile

    def _erase(self, generations: Sequence[int], who: str) -> Forgotten:
        """Delete all records in one transaction. Raises _ChangedMeanwhile if one was written since its row was looked
        for."""
        changes, versions = self._one("changes", self._named())
        self._require_no_row()
        named = self._named(
            changes=changes, doubtful=list(self.doubts), ago_s=list(self.doubts.values()),
            recheck_s=[self._recheck_s(ago_s) for ago_s in self.doubts.values()],
        )  # fmt: skip
        with audited(self.connection, who, "forget", self.source) as draft:
            unpromoted(self.connection, self.source)  # guard forget-unpromoted
            drained = self.connection.execute(load("forget.sql")["take_changes"], named).rowcount
            (taken,) = self._one("take_due", named)
            (others,) = self._one("still_due", named)
            # guard forget-unchanged
            if taken != versions or others or self._generations()[0] != generations:
                raise _ChangedMeanwhile
            (records,) = self._one("erase", named)
            draft.details |= {"item": item_mark(self.source, self.item_id), "points": self.points}
        last_s = max((24 * self.policy.recheck_schedule_s - ago_s for ago_s in self.doubts.values()), default=None)
        return Forgotten(self.source, self.points, drained + records, last_s)
