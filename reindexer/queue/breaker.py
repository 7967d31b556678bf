"""Circuit breakers: a dependency that does not answer at all gets no requests, except from one probe item at a time.

The state is a row of `reindexer.breaker`, which exists from the first failure until the next answer. Without that row a
breaker costs nothing. Claims and dispatch read it in their own statements. While a breaker is open they take nothing
until its `probe_at`, and then one item; that claim moves `probe_at` to the end of its lease. Settling records how the
dependencies answered the claim's requests.

Qdrant's breaker holds up everything, because nothing can be done without Qdrant. A provider has one breaker per
account, and it holds up only work that needs the provider. Other items are claimed and read: the worker does what needs
no vectors, and marks the items that do need them.
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
from reindexer.core.errors import DependencyUnavailable, MayNotSpend, NotAsked, OutOfQuota, ReindexerError
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.queue.claim import Claim

log = structlog.get_logger(__name__)

FORGET_S = 600.0
"""A breaker that was not probed for this long is deleted: no item can be waiting for it."""


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """A dependency whose breaker is open."""

    dependency: Dependency
    account: str
    """The provider's account. Empty for Qdrant."""
    reason: str
    failures: int
    """Failures since the dependency's last answer."""
    since: datetime
    next_probe_at: datetime

    def __str__(self) -> str:
        return f"{NAMES[self.dependency]}, which is left alone but for a probe now and then: {self.reason}"


class HealthRecorder:
    """Records how the dependencies answer while one claim is worked on. Of several answers the last counts."""

    def __init__(self) -> None:
        self.account = ""
        """The account of the provider that the claim asks."""
        self.seen: dict[Dependency, tuple[float, DependencyUnavailable | None]] = {}
        """When the dependency was last asked (monotonic), and the error if it did not answer."""
        self.asked_s: dict[Dependency, float] = {}
        """Total time spent asking the dependency, in seconds."""

    @contextmanager
    def observe(self, dependency: Dependency) -> Iterator[None]:
        """Wrap a request to the dependency. Any reply counts as an answer, including an error."""
        began = time.monotonic()
        try:
            yield
        except (NotAsked, MayNotSpend):  # guard budget-refusal-no-answer
            raise
        except DependencyUnavailable as exc:
            self.seen[dependency] = (time.monotonic(), exc)
            raise
        except ReindexerError:  # guard breaker-error-is-answer
            self.seen[dependency] = (time.monotonic(), None)
            raise
        finally:
            # guard pool-thread-provider-time-measure
            self.asked_s[dependency] = self.asked_s.get(dependency, 0.0) + time.monotonic() - began
        self.seen[dependency] = (time.monotonic(), None)


def record(connection: Connection, claim: Claim, health: HealthRecorder, policy: BreakerPolicy) -> None:
    """Count failures, close the breakers of dependencies that answered, and release a probe that asked nothing.

    A generation is held up by the account that failed it last. An answer closes that account's breaker, even if the
    source uses another key by now.
    """
    for dependency, (at, error) in health.seen.items():
        if error is not None:
            if dependency == "provider":
                params = {"source": claim.source, "generation": claim.generation, "account": health.account}
                connection.execute(load("breaker.sql")["note_account"], params)
            whose = health.account if dependency == "provider" else ""
            # guard breaker-probe-only-backoff
            _fail(connection, dependency, whose, error, policy, probed=dependency in claim.probes)
        elif dependency in claim.failing:
            _answered(connection, dependency, _whose(claim, dependency), time.monotonic() - at)
    for dependency in claim.probes:
        if dependency not in health.seen:  # guard breaker-unused-probe-release
            params = {"dependency": dependency, "account": _whose(claim, dependency)}
            connection.execute(load("breaker.sql")["release"], params)


def _whose(claim: Claim, dependency: Dependency) -> str:
    return claim.account if dependency == "provider" else ""


def open_breakers(connection: Connection) -> list[OpenBreaker]:
    """Return the dependencies whose breakers are open, by name."""
    with connection.cursor(row_factory=class_row(OpenBreaker)) as cursor:
        return cursor.execute(load("breaker.sql")["open"]).fetchall()


def prune_breakers(connection: Connection) -> None:
    """Delete the state of breakers that no item needs."""
    connection.execute(load("breaker.sql")["forget"], {"after_s": FORGET_S})


def _fail(
    connection: Connection,
    dependency: Dependency,
    account: str,
    error: DependencyUnavailable,
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
        log.warning("breaker_opened", dependency=dependency, failures=failures, next_probe_s=wait_s, error=str(error))


def _answered(connection: Connection, dependency: Dependency, account: str, ago_s: float) -> None:
    params = {"dependency": dependency, "account": account, "ago_s": ago_s}
    row = connection.execute(load("breaker.sql")["answered"], params).fetchone()
    if row is not None:
        log.info("breaker_closed", dependency=dependency, open_s=round(row[0], 1), healing=row[1])
