"""Waiting for a condition; never a bare sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from reindexer.postgres.connect import Connection

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within: float = 30.0, every: float | None = None, what: str = "") -> T:
    """The first truthy value of `condition`, polled; fails with its last value after `within` seconds.

    `every`: seconds between two looks; None: a tenth of the time that it has taken so far, so that a long wait costs
    little CPU, which what is waited for needs.
    """
    started = time.monotonic()
    until = started + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not within {within} s: {what or condition} (last: {value!r})")
        time.sleep(min(0.25, max(0.01, (time.monotonic() - started) / 10)) if every is None else every)


def seconds_until(condition: Callable[[], object], *, within: float = 30.0) -> float:
    """How long it took until the condition held; looked at often, to 2 ms or a hundredth of the time."""
    started = time.monotonic()
    until = started + within
    while not condition():
        assert time.monotonic() < until, f"not within {within} s: {condition}"
        time.sleep(min(0.1, max(0.002, (time.monotonic() - started) / 100)))
    return time.monotonic() - started


def somebody_waits_for_a_lock(db: Connection) -> bool:
    """Whether a session of this database waits for a lock."""
    row = db.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    return bool(row and row[0])
