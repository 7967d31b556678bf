"""Breakers: a dependency that does not answer at all is left alone, but for one item at a time that tries it.

The state is a row of `reindexer.breaker`, from the first failure until the next answer; without one nothing here costs
anything. Claims and dispatch look at it in their own statements: while a breaker is open they take nothing until its
`probe_at`, and then one item, for which the claim moves `probe_at` on to the end of its lease. What the work then
sees of the dependencies is recorded when it is settled.

So it is for Qdrant, without which nothing can be done. A provider's breaker, one for each account, holds up only what
needs it: other items are claimed and read, what can be done without vectors is done, and what can't is marked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import structlog
from psycopg.rows import class_row

from reindexer.core.breaker import NAMES, BreakerPolicy, Dependency
from reindexer.core.errors import DependencyAway, OutOfQuota, ReindexerError
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.queue.claim import Claim

log = structlog.get_logger(__name__)

FORGET_S = 600.0
"""A breaker that nobody has tried for so long is forgotten: nothing can be waiting for it."""


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """A dependency that is left alone."""

    dependency: Dependency
    account: str
    """The provider's; empty for Qdrant."""
    reason: str
    failures: int
    """Since its last answer."""
    since: datetime
    next_probe_at: datetime

    def __str__(self) -> str:
        return f"{NAMES[self.dependency]}, which is left alone but for a probe now and then: {self.reason}"


class Witness:
    """What the work of one claim sees of the dependencies; of several answers the last counts."""

    def __init__(self) -> None:
        self.account = ""
        """Whose the provider is that it asks."""
        self.seen: dict[Dependency, tuple[float, DependencyAway | None]] = {}
        """When it was seen last (monotonic), and the error if it did not answer."""
        self.asked_s: dict[Dependency, float] = {}
        """How long it was asked, altogether."""

    @contextmanager
    def asks(self, dependency: Dependency) -> Iterator[None]:
        """Around whatever asks the dependency: any answer is one, also an error."""
        began = time.monotonic()
        try:
            yield
        except DependencyAway as exc:
            self.seen[dependency] = (time.monotonic(), exc)
            raise
        except ReindexerError:  # guard breaker-error-is-answer
            self.seen[dependency] = (time.monotonic(), None)
            raise
        finally:
            # guard helper-provider-time-measure
            self.asked_s[dependency] = self.asked_s.get(dependency, 0.0) + time.monotonic() - began
        self.seen[dependency] = (time.monotonic(), None)


def record(connection: Connection, claim: Claim, witness: Witness, policy: BreakerPolicy) -> None:
    """Count failures, close the breakers of what answers, and hand a probe back that asked nothing.

    A source is held up by the account that last failed it: an answer closes that one's breaker, though the key may be
    another now.
    """
    for dependency, (at, error) in witness.seen.items():
        if error is not None:
            if dependency == "provider":
                params = {"source": claim.source, "account": witness.account}
                connection.execute(load("breaker.sql")["note_account"], params)
            whose = witness.account if dependency == "provider" else ""
            # guard breaker-probe-only-backoff
            _fail(connection, dependency, whose, error, policy, probed=dependency in claim.probes)
        elif dependency in claim.failing:
            _answered(connection, dependency, _whose(claim, dependency), time.monotonic() - at)
    for dependency in claim.probes:
        if dependency not in witness.seen:  # guard breaker-unused-probe-release
            params = {"dependency": dependency, "account": _whose(claim, dependency)}
            connection.execute(load("breaker.sql")["release"], params)


def _whose(claim: Claim, dependency: Dependency) -> str:
    return claim.account if dependency == "provider" else ""


def open_breakers(connection: Connection) -> list[OpenBreaker]:
    """The dependencies that are left alone now, by name."""
    with connection.cursor(row_factory=class_row(OpenBreaker)) as cursor:
        return cursor.execute(load("breaker.sql")["open"]).fetchall()


def forget_breakers(connection: Connection) -> None:
    """Delete what is known of dependencies that nobody needs."""
    connection.execute(load("breaker.sql")["forget"], {"after_s": FORGET_S})


def _fail(
    connection: Connection,
    dependency: Dependency,
    account: str,
    error: DependencyAway,
    policy: BreakerPolicy,
    *,
    probed: bool,
) -> None:
    row = connection.execute(
        load("breaker.sql")["fail"],
        {
            "dependency": dependency,
            "account": account,
            "reason": str(error),
            "failures": policy.opens_at if isinstance(error, OutOfQuota) else 1,
            "opens_at": policy.opens_at,
            "base_s": policy.base_s,
            "max_s": policy.max_s,
            "probed": probed,
        },
    ).fetchone()
    assert row is not None
    failures, is_open, wait_s = row
    if is_open:
        log.warning("breaker_open", dependency=dependency, failures=failures, next_probe_s=wait_s, error=str(error))


def _answered(connection: Connection, dependency: Dependency, account: str, ago_s: float) -> None:
    params = {"dependency": dependency, "account": account, "ago_s": ago_s}
    row = connection.execute(load("breaker.sql")["answered"], params).fetchone()
    if row is not None:
        log.info("breaker_closed", dependency=dependency, open_s=round(row[0], 1), healing=row[1])
