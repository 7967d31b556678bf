"""The sender: the leading listener tells receivers of events.

It has a thread and a connection of its own, and each receiver has threads in which webhooks are sent. So no drain waits
for a receiver, nor one receiver for another.
"""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

import structlog

from reindexer import budgets
from reindexer.core.event import Event, SendingRules
from reindexer.core.timer import Timer
from reindexer.events import outbox
from reindexer.index.ownership import identity
from reindexer.listener.background import Background
from reindexer.listener.deliveries import Channel, Delivery
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.monitoring.metrics import EVENTS_FAILED, EVENTS_SENT
from reindexer.ports import Jitter, Webhooks
from reindexer.postgres.connect import Connection, one_line

log = structlog.get_logger(__name__)

LOOK_S = 0.2
"""Interval between two looks for events while there are receivers."""
NOBODY_S = 2.0
"""The same while there are none."""
UPKEEP_S = 5.0
TIDY_S = 60.0
REMIND_S = 10.0
"""A receiver by NOTIFY is told again after so long, while something waits for it."""
SENDING_S = 5.0
"""For so long a receiver is sent events before its lease is renewed."""
MARGIN_S = 5.0
MOST = 100
"""Events that are taken at once."""
AGAIN_S = 1.0


class Sender(Background):
    """Sends events."""

    def __init__(
        self, connect: Callable[[], Connection], webhooks: Webhooks, rules: SendingRules, metrics: MetricsBuffer,
        jitter: Jitter, instance: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__("events", AGAIN_S)
        self._connect = connect
        self._webhooks = webhooks
        self._rules = rules
        self._metrics = metrics
        self._jitter = jitter
        self._instance = instance
        self._who = uuid.uuid4().hex
        self._connection: Connection | None = None
        self._identity: str | None = None
        self._done: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._channels: dict[str, Channel] = {}
        self._busy: set[str] = set()
        self._failures: dict[str, int] = {}
        self._reminded: dict[str, tuple[int, float]] = {}
        self._receivers: frozenset[str] = frozenset()
        self._silent: str | None = ""
        """Why this database sends nothing, as the receivers were last told. Empty: they were told nothing."""
        self._upkeep_timer = Timer(UPKEEP_S)
        self._tidy_timer = Timer(TIDY_S)

    def step(self) -> float:
        """Note how deliveries went, and begin others. Returns 0: it has waited already."""
        through = self._await()
        connection = self._connected()
        self._webhooks.cut_late()  # guard event-late-answer
        for delivery in through:
            self._note(connection, delivery)
        self._receivers = outbox.receivers(connection)
        if self._upkeep_timer.due(time.monotonic()):
            self._look_after(connection)
        if self._receivers and self._may_send(connection):
            self._send(connection)
            self._notify(connection)
        return 0.0

    def tell(self, error: Exception) -> None:
        """Log it, and begin anew with another connection."""
        log.warning("events_delayed", error=one_line(error))

    def wake(self) -> None:
        """See `Background`."""
        self._done.put(None)

    def end(self) -> None:
        """Leave the receivers to the next sender."""
        for channel in self._channels.values():
            channel.close()
        if self._connection is not None and not self._connection.closed:
            with self._connection as connection:
                if not self._busy:  # what is in flight may still arrive
                    outbox.release(connection, self._who)

    def _await(self) -> list[Delivery]:
        """Wait for deliveries to be through, for as long as there is nothing else to do."""
        through: list[Delivery] = []
        with suppress(queue.Empty):
            each = self._done.get(timeout=LOOK_S if self._receivers else NOBODY_S)
            while True:
                if each is not None:
                    self._busy.discard(each.receiver)
                    through.append(each)
                each = self._done.get_nowait()
        return through

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
            self._identity = identity(self._connection, self._instance)
        return self._connection

    def _may_send(self, connection: Connection) -> bool:
        """Whether this database is the one that sends. A copy has the receivers of the original."""
        why = self._silent_because(connection)
        if why != self._silent:
            outbox.tell_silent(connection, why)
            self._silent = why
        return why is None

    def _silent_because(self, connection: Connection) -> str | None:
        if self._identity is None:
            return "this role may not ask the server who it is, so this may be a copy: set REINDEXER_INSTANCE"
        holder = budgets.spender(connection) or budgets.hold_spender(connection, self._identity)
        if holder != self._identity:  # guard event-copy-told
            return f"this database is a copy of {holder}, which has the same receivers; if it may: reindexer adopt"
        return None

    def _send(self, connection: Connection) -> None:
        for receiver in outbox.ready(connection, sorted(self._busy)):  # guard event-one-at-a-time
            timeout_s = self._rules.timeout_s
            begin_until = time.monotonic() + SENDING_S
            taken = outbox.take(
                connection, receiver, sender=self._who, identity=self._identity or "",
                lease_s=SENDING_S + timeout_s + MARGIN_S, most=MOST,
            )  # fmt: skip
            if taken is None:
                continue
            if receiver not in self._channels:
                self._channels[receiver] = Channel(receiver, self._webhooks, timeout_s, self._done)
            self._busy.add(receiver)
            self._channels[receiver].send(Delivery(receiver, taken, begin_until))

    def _notify(self, connection: Connection) -> None:
        now = time.monotonic()
        for receiver, number in outbox.latest(connection).items():
            told, until = self._reminded.get(receiver, (0, 0.0))
            if number > told or now > until:
                outbox.look(connection, receiver)
                self._reminded[receiver] = number, now + REMIND_S

    def _note(self, connection: Connection, delivery: Delivery) -> None:
        """Write down how a delivery went. Where that fails, its events are sent again."""
        receiver, delivered, failed = delivery.receiver, delivery.delivered, delivery.failed
        self._metrics.add(EVENTS_SENT, len(delivered), receiver=receiver)
        self._metrics.add(EVENTS_FAILED, len(failed), receiver=receiver)
        if delivered:
            outbox.acknowledge(connection, receiver, [each.number for each in delivered])
        if delivery.is_gone:
            log.warning("receiver_disabled", receiver=receiver)
            outbox.gone(connection, receiver, "it answered 410: it wants no events; remove it, or add it anew")
            return
        if failed:
            outbox.postpone(connection, receiver, {event.number: self._wait_s(event) for event in failed})
        if delivery.wait_s is not None or (failed and not delivered):
            self._leave_alone(connection, delivery)
        elif delivered:
            outbox.answered(connection, receiver)
            if self._failures.pop(receiver, 0):
                log.info("receiver_recovered", receiver=receiver)

    def _leave_alone(self, connection: Connection, delivery: Delivery) -> None:
        """Leave the receiver alone for a while. Not for one event alone, which may be the only one that fails."""
        receiver = delivery.receiver
        failures = self._failures[receiver] = self._failures.get(receiver, 0) + 1
        if failures == 1:
            log.warning("receiver_failed", receiver=receiver, error=delivery.why)
        is_one = len(delivery.failed) == 1 and delivery.wait_s is None
        # guard event-others-pass
        wait_s = 0.0 if is_one else self._rules.retry.wait_s(failures, self._jitter(), delivery.wait_s)
        outbox.failed(connection, receiver, delivery.why, wait_s)

    def _wait_s(self, event: Event) -> float:
        return self._rules.retry.wait_s(event.attempts + 1, self._jitter())

    def _look_after(self, connection: Connection) -> None:
        self._silent = ""  # somebody may have added a receiver
        for receiver, reason in outbox.keep_bounded(connection, self._rules.bounds).items():
            log.warning("receiver_resynced", receiver=receiver, reason=reason)
        if self._tidy_timer.due(time.monotonic()):
            outbox.drop_unheard(connection)
        for receiver in self._channels.keys() - self._receivers - self._busy:
            self._channels.pop(receiver).close()
