"""Dispatch: keep enough messages in each lane's broker queue for the work that is due.

A message says "claim a batch from this lane" and nothing else. A lost or duplicated message therefore changes nothing,
and the broker holds at most `max_messages` messages per lane, whatever the backlog.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import ceil, inf

from reindexer.core.lanes import LANES, Lane
from reindexer.ports import Broker
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.queue.claim import LaneWatermark, ago_s
from reindexer.queue.requests import send_unsent

TAKEN_S = 0.05
"""A message older than this has most likely been taken. Sending a surplus message is then cheaper than asking for the
queue's depth."""

RESEND_AFTER_S = 5.0
"""The process that records a reindex request sends its message itself. After this time it is assumed to have failed."""


@dataclass(slots=True)
class _Queue:
    """What this sender knows of one lane's queue."""

    at_most: float = inf
    """Upper bound of the messages in the queue: the depth when last asked, plus those sent since. Infinite before the
    first question."""
    sent_at: float = 0.0
    """When the last message was sent (monotonic)."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Sends one message per `batch_size` due items, up to `max_messages` in a lane's queue."""

    broker: Broker
    batch_size: int
    max_messages: int
    _watermarks: Mapping[Lane, LaneWatermark] = field(default_factory=lambda: {lane: LaneWatermark() for lane in LANES})
    _queues: Mapping[Lane, _Queue] = field(default_factory=lambda: {lane: _Queue() for lane in LANES})

    def top_up(self, connection: Connection, lanes: Collection[Lane] = LANES) -> Mapping[Lane, int]:
        """Send the messages that the lanes' queues lack. Returns how many by lane. Raises DependencyUnavailable
        (broker)."""
        sent: dict[Lane, int] = {}
        for lane, items in self._ready(connection, lanes).items():
            wanted = min(self.max_messages, ceil(items / self.batch_size))  # guard dispatch-message-limit
            if wanted and (missing := wanted - self._depth(lane)) > 0:
                self._send(lane, missing)
                sent[lane] = missing
        return sent

    def announce(self, items: Mapping[Lane, int]) -> None:
        """Send the messages that a lane's queue lacks, after `items` of each lane became due. Raises
        DependencyUnavailable (broker).

        This does not ask whether the items can be claimed now. For a single message it does not ask
        the depth of a queue that is likely to have room. Either question would take as long as everything else here;
        `top_up` asks both.
        """
        for lane, count in items.items():
            wanted = min(self.max_messages, ceil(count / self.batch_size))  # guard dispatch-message-limit
            if wanted and not (wanted == 1 and self._is_likely_empty(lane)):
                wanted -= self._depth(lane)
            if wanted > 0:
                self._send(lane, wanted)

    def resend(self, connection: Connection) -> int:
        """Send the messages of reindex requests that were never sent; returns how many. Raises
        DependencyUnavailable."""
        return send_unsent(connection, self.broker, older_s=RESEND_AFTER_S)

    def _is_likely_empty(self, lane: Lane) -> bool:
        queue = self._queues[lane]
        # guard dispatch-message-limit, dispatch-unseen-sends-counted
        return queue.at_most < self.max_messages and time.monotonic() - queue.sent_at > TAKEN_S

    def _depth(self, lane: Lane) -> int:
        self._queues[lane].at_most = depth = self.broker.depth(lane)
        return depth

    def _send(self, lane: Lane, messages: int) -> None:
        self.broker.send_work(lane, messages)
        self._queues[lane].at_most += messages
        self._queues[lane].sent_at = time.monotonic()

    def _ready(self, connection: Connection, lanes: Collection[Lane]) -> dict[Lane, int]:
        began_s = time.monotonic()
        begins = {lane: self._watermarks[lane].begin(began_s) for lane in lanes}  # guard dispatch-scan-watermark
        rows = connection.execute(
            load("dispatch.sql")["ready"],
            {
                "enough": self.max_messages * self.batch_size,  # guard dispatch-message-limit
                "lanes": list(begins),
                "begins_ago_s": [ago_s(begin, began_s) for begin, _ in begins.values()],
                "marked_begins_ago_s": [ago_s(begin, began_s) for _, begin in begins.values()],
            },
        ).fetchall()
        ended_s = time.monotonic()
        for lane, _, first_ago_s, marked_ago_s in rows:
            firsts = (began_s - (first_ago_s or 0.0), began_s - (marked_ago_s or 0.0))
            self._watermarks[lane].found(begins[lane], firsts, ended_s, ended_s - began_s)
        return {Lane(lane): int(items) for lane, items, *_ in rows}
