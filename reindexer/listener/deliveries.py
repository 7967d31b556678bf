"""Deliveries: some events of one receiver are sent, several at once, in threads that are the receiver's own.

A receiver that is slow, or away, therefore holds up no other one. No two of the events are of one item, and the next
ones are taken when these are through: so an item's events arrive in their order.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from reindexer.core.errors import TransientError
from reindexer.core.event import Event, headers
from reindexer.events.outbox import Taken
from reindexer.ports import Webhooks

AT_ONCE = 8
"""Events of one receiver that are in flight at once."""
GONE = 410
_ASKS_TO_WAIT = (429, 503)


@dataclass(slots=True)
class Delivery:
    """Some events that one receiver is sent, and how it took them."""

    receiver: str
    taken: Taken
    begin_until: float
    """No event is sent after that (monotonic): the receiver is lent to another sender soon."""
    delivered: list[Event] = field(default_factory=list)
    failed: list[Event] = field(default_factory=list)
    why: str = ""
    """The last one was not taken."""
    wait_s: float | None = None
    """For how long the receiver wants to be left alone. None: it does not say."""
    is_gone: bool = False
    """It wants no events any more."""
    _next: int = 0
    _in_row: int = 0
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> int:
        """Return how many threads are to `run` it."""
        self._open = min(AT_ONCE, len(self.taken.events))
        return self._open

    def run(self, webhooks: Webhooks, timeout_s: float) -> bool:
        """Send events until none is left. Returns True in the thread that is the last to end."""
        for event in self._events():
            body = event.body
            try:
                answer = webhooks.post(
                    self.taken.target.url, body, headers(event, body, self.taken.target.secrets, int(time.time())),
                    timeout_s=timeout_s,
                )  # fmt: skip
            except TransientError as exc:
                self._fails(event, str(exc))
            else:
                self._answered(event, answer.status, answer.retry_after_s)
        with self._lock:
            self._open -= 1
            return self._open == 0

    def _events(self) -> Iterator[Event]:
        while True:
            with self._lock:
                ended = self.is_gone or self.wait_s is not None or self._in_row >= AT_ONCE
                if ended or self._next >= len(self.taken.events) or time.monotonic() > self.begin_until:
                    return
                event = self.taken.events[self._next]
                self._next += 1
            yield event

    def _answered(self, event: Event, status: int, retry_after_s: float | None) -> None:
        if 200 <= status < 300:
            with self._lock:
                self.delivered.append(event)
                self._in_row = 0
            return
        with self._lock:
            if status == GONE:
                self.is_gone = True
            elif status in _ASKS_TO_WAIT and retry_after_s is not None:
                self.wait_s = max(self.wait_s or 0.0, retry_after_s)
        self._fails(event, f"it answers {status}" + ("; no redirect is followed" if 300 <= status < 400 else ""))

    def _fails(self, event: Event, why: str) -> None:
        with self._lock:
            self.failed.append(event)
            self.why = why
            self._in_row += 1


class Channel:
    """The threads that send one receiver's events."""

    def __init__(
        self, receiver: str, webhooks: Webhooks, timeout_s: float, done: queue.SimpleQueue[Delivery | None]
    ) -> None:
        """`done`: where deliveries go that are through."""
        self._webhooks = webhooks
        self._timeout_s = timeout_s
        self._done = done
        self._work: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        for _ in range(AT_ONCE):
            threading.Thread(target=self._run, name=f"events {receiver}", daemon=True).start()

    def send(self, delivery: Delivery) -> None:
        """Send it. Call it only when the delivery before is through."""
        for _ in range(delivery.begin()):
            self._work.put(delivery)

    def close(self) -> None:
        """Its threads end when they have nothing in flight."""
        for _ in range(AT_ONCE):
            self._work.put(None)

    def _run(self) -> None:
        while (delivery := self._work.get()) is not None:
            if delivery.run(self._webhooks, self._timeout_s):
                self._done.put(delivery)
        self._webhooks.close()
