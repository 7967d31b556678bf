"""What the leading listener does: drain, fill the queues, page through runs, retry, prune, and idle if nothing comes.

While changes come, the listener is active and drains in short ticks. After a quiet spell it becomes idle: it takes the
bell lock, so that triggers notify from now on, drains once more, and waits on its connection for at most 1 s. A
notification and the timer lead to the same act, a drain. A lost notification therefore costs one timeout. Nothing that
hangs delays the listener for long, because every statement and every request to the broker has a timeout.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import psycopg
import structlog

from reindexer import budgets
from reindexer.backfills.fan_out import fan_out
from reindexer.backfills.pager import walk_page
from reindexer.core.errors import DependencyUnavailable, SourceError
from reindexer.core.source import Source
from reindexer.core.timer import Timer
from reindexer.generations.upkeep import empty_dropped
from reindexer.listener import election
from reindexer.listener.traced import tell_drain
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.monitoring.metrics import DRAINED, HEALING_TRIES
from reindexer.monitoring.spend import count_the_dead
from reindexer.postgres.connect import FEW, Connection, one_line
from reindexer.queue import marks
from reindexer.queue.breaker import prune_breakers
from reindexer.queue.dead_letters import MAX_HEALED, heal
from reindexer.queue.dispatch import Dispatch
from reindexer.queue.drain import MAX_CHANGES, drain, outbox_watermark
from reindexer.queue.maintenance import forget, recheck
from reindexer.queue.watermark import Watermark
from reindexer.sources.store import find_source, set_problem

log = structlog.get_logger("reindexer.listen")

SLEEP_S = 1.0
RESTLESS_S = 0.02
STREAM_REST_S = 0.05
"""Minimum pause between drains of a stream of changes, and maximum pause between drains of a few."""
MAX_STREAM_REST_S = 0.2
"""Maximum pause between drains of a stream. An edit made just after a drain waits this long for the next one."""
REST_RATIO = 20
"""Drains of a stream take about 1/20 of the time: writers need the CPU too, and draining more at once costs less
each."""
REFILL_S = 0.25
"""Interval between two checks of the queues while pages are queued. Workers of a lane go on without new messages."""
SPEND_S = 30.0
MORE_MARKS_S = 0.5
"""Interval between two examinations of what drains kept, while there is more of it than one examines."""
MAX_STUMBLE_S = 5.0
MAX_BROKER_WAIT_S = 5.0


def rest_after(took_s: float, *, streams: bool) -> float:
    """Return the seconds until the next drain, after one that took `took_s`. `streams`: it found many changes."""
    if streams:
        return min(MAX_STREAM_REST_S, max(STREAM_REST_S, REST_RATIO * took_s))  # guard drain-rest-ratio
    return min(STREAM_REST_S, 3 * took_s)


@dataclass(slots=True)
class Leader:
    """The state of the leading listener. It outlives a connection, so that a reconnect restarts no timer. One thread
    uses it."""

    dispatch: Dispatch
    stop: threading.Event
    poll_interval_s: float
    quiet_s: float
    beat: Callable[[Connection, float], None]
    """Called often, with the current time. Sends a heartbeat when one is due."""
    metrics: MetricsBuffer
    _max_changes: int = MAX_CHANGES
    _streams: bool = True
    """The last drain took many changes, so the next one may too."""
    _watermark: Watermark[int] = field(default_factory=outbox_watermark)
    _looked_at: datetime | None = None
    """When this connection last found the outbox empty, or left it so, by the database's clock."""
    _stumbles: int = 0
    _dispatch_timer: Timer = field(default_factory=lambda: Timer(1.0))
    _refill_timer: Timer = field(default_factory=lambda: Timer(REFILL_S))
    _marks_timer: Timer = field(default_factory=lambda: Timer(10.0))
    _kept_timer: Timer = field(default_factory=lambda: Timer(10.0))
    _kept_upto: int | None = None
    """Up to which moment was examined what drains kept, unless all was."""
    _walk_timer: Timer = field(default_factory=lambda: Timer(1.0))
    _fan_out_timer: Timer = field(default_factory=lambda: Timer(1.0))
    _heal_timer: Timer = field(default_factory=lambda: Timer(5.0))
    _budget_timer: Timer = field(default_factory=lambda: Timer(1.0))
    _spend_timer: Timer = field(default_factory=lambda: Timer(SPEND_S))
    _forget_timer: Timer = field(default_factory=lambda: Timer(3600.0))
    _broker_timer: Timer = field(default_factory=lambda: Timer(0.0))
    _broker_away: bool = False

    def lead(self, connection: Connection, *, notify: bool) -> None:
        """Lead until `stop` is set. Raises psycopg.Error if the connection is lost."""
        awake_until = 0.0
        self._looked_at = None
        while not self.stop.is_set():
            started = time.monotonic()
            try:
                # First: another version's schema may be one that no drain can read.
                self.beat(connection, started)  # guard version-check-before-drain
                drained = self.drain_all(connection)
                now = time.monotonic()
                walked = self._on_timers(connection, now)
                self._stumbles = 0
                if drained or walked:
                    awake_until = now + self.quiet_s
                    # guard drain-stream-pause
                    rest_s = max(self.poll_interval_s, rest_after(now - started, streams=self._streams))
                    self.stop.wait(self.poll_interval_s if walked else rest_s)
                elif now < awake_until:
                    self.stop.wait(max(self.poll_interval_s, now - started))
                elif self._sleep(connection, notify, took_s=now - started):
                    awake_until = time.monotonic() + self.quiet_s
            except psycopg.Error as exc:
                if connection.closed:
                    raise
                self._stumble(exc)

    def _stumble(self, exc: psycopg.Error) -> None:
        """Handle a statement that failed on an intact connection: a lock timeout, a deadlock, a full disk."""
        if not self._stumbles:
            log.warning("statement_failed", error=one_line(exc))
        self._stumbles += 1
        if isinstance(exc, psycopg.errors.QueryCanceled):
            self._max_changes = max(100, self._max_changes // 2)
        self.stop.wait(min(MAX_STUMBLE_S, 0.1 * 2 ** min(self._stumbles, 8)))

    def drain_all(self, connection: Connection) -> bool:
        """Drain until little or nothing is left, and fill the queues. Returns False if there was nothing."""
        moved = False
        while not self.stop.is_set():
            taken = self._max_changes if self._streams else min(FEW, self._max_changes)
            began_ns = time.time_ns()
            # guard drain-scan-watermark
            drained = drain(connection, taken, looked_at=self._looked_at, watermark=self._watermark)
            self._max_changes = min(MAX_CHANGES, self._max_changes * 11 // 10)
            self._streams = drained.changes >= FEW
            if drained.changes < taken and drained.looked_at:
                self._looked_at = drained.looked_at
            if not drained.changes:
                break
            moved, drained_ns = True, time.time_ns()
            self.metrics.add(DRAINED, drained.changes)
            self._with_broker(partial(self.dispatch.announce, drained.due))
            if drained.traceparents:  # once workers are told: nothing waits for it
                tell_drain(drained, began_ns, drained_ns)
            if drained.walks:
                self._walk_timer.next_s = 0.0
            if drained.related:  # what it finds is drained next: an edit of a related row is an edit
                self._fan_out(connection)
            elif drained.changes < taken:
                break
        return moved

    def _on_timers(self, connection: Connection, now: float) -> bool:
        """Run what is due by its timer. Returns True if there is more to do at once."""
        if self._heal_timer.due(now):  # guard timer-sweep-healing
            healed = heal(connection)
            self.metrics.add(HEALING_TRIES, healed)
            if healed == MAX_HEALED:
                self._heal_timer.next_s = 0.0
            prune_breakers(connection)
            recheck(connection)
            empty_dropped(connection)
        if self._budget_timer.due(now):
            budgets.reopen(connection)  # guard budget-reopened
        if self._spend_timer.due(now):
            count_the_dead(connection)  # guard spend-dead-looked-for
            budgets.tell_nearly_used(connection)
        if self._forget_timer.due(now):
            forget(connection)
        if self._marks_timer.due(now):
            marks.forget(connection)
        if self._kept_timer.due(now):
            self._kept_upto = marks.forget_settled(connection, self._kept_upto or 0)
            if self._kept_upto is not None:
                self._kept_timer.next_s = now + MORE_MARKS_S
        walked = self._walk_timer.due(now) and self._walk(connection)
        if walked:
            self._walk_timer.next_s = 0.0
        if self._fan_out_timer.due(now) and self._fan_out(connection):
            self._fan_out_timer.next_s, walked = 0.0, True
        if self._dispatch_timer.due(now) or (walked and self._refill_timer.due(now)):  # guard timer-dispatch-refill
            self._with_broker(lambda: self.dispatch.top_up(connection))
            self._with_broker(lambda: self.dispatch.resend(connection))  # guard request-resend
        return walked

    def _fan_out(self, connection: Connection) -> int:
        """Record the items of values that wait. Returns how many."""
        found = fan_out(connection, lambda name: find_source(connection, name))
        if found:  # guard fan-out-is-older
            self._looked_at = None  # their changes have committed before that
        return found

    def _walk(self, connection: Connection) -> bool:
        walking: list[tuple[str, int]] = []

        def source_of(name: str, generation: int) -> Source:
            walking.append((name, generation))
            return find_source(connection, name, generation)

        try:
            return walk_page(connection, source_of)
        except SourceError as exc:
            source, generation = walking[-1]
            log.error("scan_failed", source=source, error=str(exc))
            set_problem(connection, source, generation, str(exc))
            return False

    def _sleep(self, connection: Connection, notify: bool, took_s: float) -> bool:
        """Wait until something comes, for at most 1 s. Returns True if changes were drained."""
        if not notify:
            self.stop.wait(max(min(SLEEP_S, 10 * self.poll_interval_s), 4 * took_s))
            return False
        if not election.try_sleep(connection):
            # A transaction that saw the listener active, and so did not notify, has yet to commit. If one stays open
            # for long, drained rows can't be vacuumed, and every scan takes longer.
            self.stop.wait(max(RESTLESS_S, 4 * took_s))
            return False
        try:
            drained = self.drain_all(connection)
            # guard timer-wake-sleep
            if not drained and any(True for _ in connection.notifies(timeout=SLEEP_S, stop_after=1)):
                drained = self.drain_all(connection)  # before all else: an edit waits for it
        finally:
            if not connection.closed:
                election.wake(connection)
        for _ in connection.notifies(timeout=0):
            pass  # several notifications
        return drained

    def _with_broker(self, act: Callable[[], object]) -> None:
        """Call the broker. While it is unavailable, retry only from time to time, and log that once."""
        now = time.monotonic()
        if self._broker_away and not self._broker_timer.due(now):
            return
        try:
            act()
        except DependencyUnavailable as exc:
            if not self._broker_away:
                log.warning("broker_unavailable", error=str(exc))
            self._broker_away = True
            pause_s = min(MAX_BROKER_WAIT_S, max(0.5, self._broker_timer.every_s * 2))
            self._broker_timer = Timer(pause_s, time.monotonic() + pause_s)
        else:
            if self._broker_away:
                log.info("broker_recovered")
                self._broker_away, self._broker_timer = False, Timer(0.0)
