"""Waits for marks and items. One thread and one connection look for all waiters of a process.

Whoever settles what a mark waits for notifies (`settle.sql`), so that a wait costs next to nothing meanwhile. What
no notification ends is looked at on a timer: a transaction that is still open, and items by their ids.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg
import structlog

from reindexer.core.errors import DependencyUnavailable, ReindexerError, UsageError
from reindexer.core.wait_status import WaitStatus
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.locks import RELEASE_CHANNEL
from reindexer.queue import marks
from reindexer.queue.marks import AwaitedItem, State

log = structlog.get_logger(__name__)

MAX_WAITS = 10_000
"""How many waits a process holds."""
TIMER_S, MAX_TIMER_S = 1.0, 4.0
"""The interval of looks at marks for which a notification will come, unless it is lost. It doubles as a wait lasts."""
DEAF_S = 0.025
"""The same on a connection that hears no notification, because a pooler is in between."""
SOON_S, SELDOM_S = 0.01, 0.32
"""The interval of looks at what is not notified of. It doubles as a wait lasts."""
WAITED_RATIO = 2
"""An interval is at most half of how long a wait has lasted, but at least its first one."""
IDLE_S = 60.0
"""The connection is closed when nobody has waited for so long."""
AGAIN_S = 0.5
MAX_REST_S = 1.0

Items = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Waited:
    """How a wait ended: `indexed`, `failed`, `timeout`, `rolled_back`, or `expired`."""

    status: WaitStatus
    failed: tuple[AwaitedItem, ...] = ()
    """Items that failed, at most 10, with the reason."""
    waits_for: tuple[AwaitedItem, ...] = ()
    """What it still waits for, at most 10, after a timeout."""


@dataclass(eq=False, slots=True)
class Wait:
    """One wait: for a token, or for items by source and id."""

    token: str | None
    items: Items
    ended: Future[WaitStatus] = field(default_factory=Future)
    began_s: float = field(default_factory=time.monotonic)
    next_s: float = 0.0
    """When it is looked at again, without a notification."""
    is_timed: bool = True
    """Whether nothing notifies of its end."""


class Waits:
    """The waits of one process. Any number of threads may call."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        """`connect`: a new connection of its own, which no pooler shares."""
        self._connect = connect
        self._lock = threading.Lock()
        self._waits: dict[Wait, None] = {}
        self._thread: threading.Thread | None = None
        self._bell: int | None = None
        self._closed = False

    def begin(self, token: str | None, items: Sequence[tuple[str, str]] = ()) -> Wait:
        """Begin to wait: for a mark, or for items. `ended` gets the status, or UsageError for a token of another
        database. Raises UsageError if this is no token, DependencyUnavailable if too many wait."""
        if token is not None:
            marks.require_form(token)
        wait = Wait(token, tuple(items))
        with self._lock:
            if self._closed or len(self._waits) >= MAX_WAITS:
                raise DependencyUnavailable("too many wait in this process; ask again")
            self._waits[wait] = None
            if self._thread is None:
                self._bell, ear = _pipe()
                self._thread = threading.Thread(target=self._run, args=[ear], name="waits", daemon=True)
                self._thread.start()
            self._ring()
        return wait

    def end(self, wait: Wait) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._waits.pop(wait, None)

    def close(self) -> None:
        """End every wait, and the thread."""
        with self._lock:
            self._closed = True
            waits, self._waits = list(self._waits), {}
            thread = self._thread
            self._ring()
        for wait in waits:
            _resolve(wait, DependencyUnavailable("the process ends"))
        if thread is not None:
            thread.join(timeout=2)

    def _ring(self) -> None:
        if self._bell is not None:
            with suppress(BlockingIOError):
                os.write(self._bell, b"!")

    def _run(self, ear: int) -> None:
        try:
            told = over = False
            while not over:
                try:
                    with self._connect() as connection:
                        _Look(connection, ear, self._open, self._is_over).go_on()
                    over = True
                except (ReindexerError, psycopg.Error) as exc:
                    if not told:
                        log.warning("waits_interrupted", error=one_line(exc))
                    told = True
                    time.sleep(AGAIN_S)
                    self._open()
                    over = self._is_over(IDLE_S)
        finally:
            os.close(ear)

    def _open(self) -> list[Wait]:
        """Those that nobody has ended."""
        with self._lock:
            for wait in [each for each in self._waits if each.ended.done()]:
                del self._waits[wait]
            return list(self._waits)

    def _is_over(self, idle_s: float) -> bool:
        """Whether the thread ends, after it had no wait for so long. Then the next wait begins another one."""
        with self._lock:
            if not self._closed and (self._waits or idle_s < IDLE_S):
                return False
            bell, self._bell, self._thread = self._bell, None, None
        if bell is not None:
            os.close(bell)
        return True


class _Look:
    """The looks on one connection."""

    def __init__(
        self, connection: Connection, ear: int, waits: Callable[[], list[Wait]], is_over: Callable[[float], bool]
    ) -> None:
        self._connection = connection
        self._ear = ear
        self._open = waits
        self._is_over = is_over
        self._heard = True
        self._timer_s = DEAF_S if connection.is_pooled else TIMER_S  # guard mark-waiters-deaf
        self._not_before_s = 0.0

    def go_on(self) -> None:
        """Look until nobody waits any more. Raises psycopg.Error."""
        self._connection.execute(f"LISTEN {RELEASE_CHANNEL}")
        idle_since_s = time.monotonic()
        while True:
            waits = self._open()
            now = time.monotonic()
            if waits:
                idle_since_s = now
            elif self._is_over(now - idle_since_s):
                return
            self._look([each for each in waits if each.next_s <= now])
            self._rest(waits)

    def _rest(self, waits: Sequence[Wait]) -> None:
        """Until a notification, a new wait, or the next look that is due."""
        now = time.monotonic()
        self._listen()
        if not self._heard:
            until_s = min((each.next_s for each in waits if not each.ended.done()), default=now + TIMER_S)
            files = [self._connection.fileno(), self._ear]
            ready, _, _ = select.select(files, [], [], max(0.0, until_s - now))
            if self._ear in ready:
                os.read(self._ear, 65_536)
            self._listen()
        if self._heard:
            self._heard = False
            for wait in waits:
                if not wait.is_timed:
                    wait.next_s = min(wait.next_s, self._not_before_s)

    def _listen(self) -> None:
        for _ in self._connection.notifies(timeout=0):
            self._heard = True

    def _look(self, waits: Sequence[Wait]) -> None:
        began_s = time.monotonic()
        tokens = [each.token for each in waits if each.token is not None]
        items = [item for each in waits for item in each.items]
        known = marks.states(self._connection, list(dict.fromkeys(tokens))) if tokens else {}
        found = marks.item_states(self._connection, list(dict.fromkeys(items))) if items else {}
        now = time.monotonic()
        # A look at many waits takes long. It leaves half of the time to others.
        self._not_before_s = now + min(MAX_REST_S, now - began_s)
        for wait in waits:
            if wait.token is not None:
                state: State = known[wait.token]
            else:
                states = {found[each][0] if each in found else "indexed" for each in wait.items}
                state = "failed" if "failed" in states else "waiting" if "waiting" in states else "indexed"
            _tell(wait, state, now, self._timer_s)


def _tell(wait: Wait, state: State, now: float, timer_s: float) -> None:
    if state == "unknown":
        _resolve(wait, UsageError("the token is not one of this database"))
    elif state == "open" or (state == "waiting" and wait.token is None):
        wait.is_timed = True
        wait.next_s = _next(wait, now, SOON_S, SELDOM_S)
    elif state == "waiting":
        wait.is_timed = False
        wait.next_s = _next(wait, now, timer_s, DEAF_S if timer_s == DEAF_S else MAX_TIMER_S)
    else:
        _resolve(wait, state)


def _next(wait: Wait, now: float, least_s: float, most_s: float) -> float:
    """When to look again: at a multiple of an interval that is one of few, so that one look serves many waits."""
    each_s = least_s
    while each_s < most_s and each_s * 2 * WAITED_RATIO < now - wait.began_s:
        each_s *= 2
    return (now // each_s + 1) * each_s


def _resolve(wait: Wait, how: WaitStatus | Exception) -> None:
    if wait.ended.set_running_or_notify_cancel():
        if isinstance(how, Exception):
            wait.ended.set_exception(how)
        else:
            wait.ended.set_result(how)


def _pipe() -> tuple[int, int]:
    ear, bell = os.pipe()
    os.set_blocking(ear, False)
    os.set_blocking(bell, False)
    return bell, ear


def answer(connection: Connection, wait: Wait, status: WaitStatus) -> Waited:
    """What is told of a wait that ended so: with what failed, or with what it still waits for."""
    if status not in ("failed", "timeout"):
        return Waited(status)
    if wait.token is not None:
        told = marks.left(connection, wait.token)
        if status == "timeout" and not told:
            told = [AwaitedItem("", None, failed=False, reason="the transaction has not ended")]
    else:
        found = marks.item_states(connection, wait.items)
        told = [
            AwaitedItem(source, item_id, failed=state == "failed", reason=reason or "")
            for (source, item_id), (state, reason) in found.items()
            if state != "indexed"
        ]
    most = marks.MAX_TOLD
    return Waited(
        status,
        tuple(each for each in told if each.failed)[:most],
        tuple(each for each in told if not each.failed)[:most] if status == "timeout" else (),
    )
