"""The purse: what one process may ask its providers for, and has asked them.

Before a request its process reserves the most that it may cost. It takes blocks, so that most requests need no
statement: a request takes its part of a block in memory. A thread settles every few seconds: in one statement it
replaces what was used by what the provider counted, and fills the blocks up.

The sum of `spend` and `spend_reservation` is therefore never below what providers counted, whoever is killed when. The
block of a process that died is counted as spent as a whole, and so is one of which nobody knows what a statement did.
"""

from __future__ import annotations

import atexit
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import psycopg
import structlog

from reindexer import budgets
from reindexer.budgets import Grant
from reindexer.core.errors import (
    DependencyUnavailable,
    MayNotSpend,
    NotAsked,
    OverBudget,
    ReindexerError,
    TransientError,
)
from reindexer.core.per_process import PerProcess
from reindexer.core.spend import Charged, Purpose
from reindexer.index.ownership import identity
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.queries import load

log = structlog.get_logger(__name__)

SETTLE_S = 5.0
RENEW_S = 30.0
"""A block is renewed at least so often. See `reindexer.monitoring.spend.DEAD_S`."""
IDLE_S = 600.0
"""A block that nothing used for so long is given back."""
BLOCK = 50_000
"""Tokens of a block. Of a small model they cost a tenth of a cent."""
MOST_BLOCK = 2_000_000
"""Tokens of the block of a process that is busy."""

Connecting = Callable[[], AbstractContextManager[Connection]]
_Key = tuple[date, Charged, Purpose]


@dataclass(slots=True)
class _Block:
    """Tokens that this process has set aside. The row in Postgres holds `left + in_flight + released`."""

    id: uuid.UUID
    left: int = 0
    in_flight: int = 0
    """Set aside for requests that are not answered."""
    released: int = 0
    """Set aside for requests that are answered, and not settled."""
    requests: int = 0
    tokens: int = 0
    unconfirmed: int = 0
    most: int | None = None
    """How much may be left without use where a budget says: then only requests take more. None: none says."""
    used_at: float = field(default_factory=time.monotonic)
    renewed_at: float = field(default_factory=time.monotonic)

    @property
    def wanted(self) -> int:
        """How much should be left after a settlement."""
        if self.most is not None:
            return min(self.most, self.left)
        return min(MOST_BLOCK, max(BLOCK, 2 * (self.released + self.in_flight)))


@dataclass(frozen=True, slots=True)
class _Line:
    """What a settlement does to one block."""

    key: _Key
    block: _Block
    requests: int
    tokens: int
    unconfirmed: int
    released: int
    wished: int
    """What is to be set aside for the next requests, beyond what is left: none where a budget has to be asked. Below 0:
    given back, and no longer left."""
    ends: bool


class _Own:
    """The blocks of one process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """For what follows. Never held while Postgres is asked."""
        self.asking = threading.Lock()
        """Held by whoever asks Postgres, so that a process knows what its rows hold."""
        self.blocks: dict[_Key, _Block] = {}
        self.low = threading.Event()
        """A block is half empty, what a budget lacks may be given back, or the purse is closed."""
        self.settler: threading.Thread | None = None


@dataclass(slots=True)
class Reserved:
    """What is set aside for one request. Exactly one of the methods has to be called."""

    _own: _Own
    _block: _Block
    _tokens: int

    def counted(self, tokens: int) -> None:
        """The provider counted this."""
        self._end(tokens, 0)

    def unconfirmed(self, tokens: int = 0) -> None:
        """Nobody knows what the provider counted, beside `tokens`."""
        self._end(tokens, self._tokens)

    def _end(self, tokens: int, unconfirmed: int) -> None:
        with self._own.lock:
            block = self._block
            block.in_flight -= self._tokens
            block.released += self._tokens
            block.requests += 1
            block.tokens += tokens
            block.unconfirmed += unconfirmed
            if block.most is not None and block.released > block.most:  # others may be short of it
                self._own.low.set()


class Purse:
    """Any number of threads may use one. A forked child begins with an empty one."""

    def __init__(self, connecting: Connecting, *, required: bool = True, instance: str | None = None) -> None:
        """`instance`: the name of this database, where a setting gives it one. `required` false: a process that may not
        write the tables, because its role only searches, asks all the same; it logs that once."""
        self._connecting = connecting
        self._required = required
        self._instance = instance
        self._failing = False
        self._told = False
        self._own = PerProcess(_Own)

    def reserve(self, charged: Charged, purpose: Purpose, tokens: int) -> Reserved | None:
        """Set aside the most that one request may cost. None: this process does not account.

        Raises OverBudget if too little is left, NotAsked if that takes a statement and Postgres does not execute it,
        MayNotSpend.
        """
        own, key = self._own.get(), (datetime.now(UTC).date(), charged, purpose)
        if (taken := _taken(own, key, tokens)) is not None:
            return taken
        with own.asking:
            if (taken := _taken(own, key, tokens)) is not None:
                return taken
            try:
                taken = self._fill(own, key, tokens)
            except psycopg.errors.InsufficientPrivilege:
                if self._required:
                    raise MayNotSpend("the database role may not write reindexer.spend_reservation") from None
                self._tell_once()
                return None
            except NotAsked:
                raise
            except (TransientError, psycopg.Error) as exc:  # guard spend-postgres-not-provider
                raise NotAsked(one_line(exc)) from exc
        self._start(own)
        return taken

    def settle(self) -> None:
        """Settle now. What can't be settled is kept for a later attempt."""
        own = self._own.peek()
        if own is None:
            return
        with own.asking:
            lines = _lines(own, ends=False)
            if not any(_is_pressing(line) for line in lines):
                for line in lines:
                    _kept(own, line)
            elif self._settle(own, lines):  # what a new budget leaves no room for is given back at once
                self._settle(own, _lines(own, ends=False))

    def close(self) -> None:
        """Settle, and give back what is left. The next reservation opens the purse again."""
        own = self._own.peek()
        if own is None or not own.blocks:
            return
        with own.asking:
            self._settle(own, _lines(own, ends=True))
        own.low.set()
        atexit.unregister(self.close)

    def _fill(self, own: _Own, key: _Key, tokens: int) -> Reserved:
        """Set aside what a request may cost, and more for the next ones. The caller holds `asking`."""
        block = own.blocks.get(key)
        if block is not None:
            try:
                with self._connecting() as connection:
                    granted = self._reserve(connection, key, tokens, block.id)
            except (ReindexerError, psycopg.Error) as exc:
                if not _is_refusal(exc):  # guard spend-refusal-keeps-block
                    _forget(own, key)  # it may have been executed: nobody knows what the row holds
                raise
            if granted is not None:
                return _granted(own, key, block, granted, tokens)
            _forget(own, key)  # this process stood still, was taken for dead, and its block is counted as spent
        block = _Block(uuid.uuid4())
        with self._connecting() as connection:
            budgets.require_spender(connection, identity(connection, self._instance))
            granted = self._reserve(connection, key, tokens, block.id, is_new=True)
        assert granted is not None
        return _granted(own, key, block, granted, tokens)

    def _reserve(
        self, connection: Connection, key: _Key, tokens: int, block: uuid.UUID, *, is_new: bool = False
    ) -> Grant | OverBudget | None:
        """Write what is set aside, as far as budgets let it. None: the block's row is gone, or of another day."""
        _, charged, purpose = key
        with connection.transaction():
            granted = budgets.grant(connection, charged, purpose, tokens, BLOCK)  # guard budget-asked-first
            if isinstance(granted, OverBudget):
                return granted
            row: dict[str, object] = {"id": block, "purpose": purpose, "price": charged.price}
            row |= {"source": charged.source, "account": charged.account, "model": charged.model}
            row["tokens"] = granted.tokens  # guard spend-reserved-first
            found = connection.execute(load("spend.sql")["reserve" if is_new else "reserve_more"], row).fetchone()
        return granted if found is not None else None

    def _settle(self, own: _Own, lines: Sequence[_Line]) -> bool:
        """Returns whether there is a budget that there was not before. The caller holds `asking`."""
        sent = False
        try:
            with self._connecting() as connection:
                sent = True
                found = connection.execute(load("spend.sql")["settle"], _columns(lines)).fetchall()
        except (ReindexerError, psycopg.Error) as exc:
            for line in lines:
                if sent and not _is_refusal(exc):  # it may have been executed: nobody knows what the row holds
                    _forget(own, line.key)
                else:
                    _kept(own, line)
            self._tell(exc)
            return False
        self._failing = False
        settled = {block: (granted, has_budget) for block, granted, has_budget in found}
        now, learned = time.monotonic(), False
        with own.lock:
            for line in lines:
                if line.ends or line.block.id not in settled:
                    if own.blocks.get(line.key) is line.block:
                        del own.blocks[line.key]
                    continue
                granted, has_budget = settled[line.block.id]
                learned |= has_budget and line.block.most is None
                _settled(line, now, granted, has_budget)
        return learned

    def _start(self, own: _Own) -> None:
        with own.lock:
            if own.settler is not None:
                return
            own.settler = threading.Thread(target=self._run, args=[own], name="spend", daemon=True)
            own.settler.start()
        atexit.register(self.close)

    def _run(self, own: _Own) -> None:
        while True:
            own.low.wait(SETTLE_S)
            own.low.clear()
            with suppress(Exception):  # a thread that ended would settle nothing any more
                self.settle()
            with own.lock:
                if not own.blocks:
                    own.settler = None
                    return

    def _tell(self, exc: Exception) -> None:
        """That Postgres is away, others tell: each process meets it by its own work."""
        if not self._failing and not isinstance(exc, DependencyUnavailable):
            log.warning("spend_not_settled", error=type(exc).__name__)
        self._failing = True

    def _tell_once(self) -> None:
        if not self._told:
            log.warning("spend_not_accounted", reason="the database role may not write reindexer.spend_reservation")
        self._told = True


def _taken(own: _Own, key: _Key, tokens: int) -> Reserved | None:
    """Take a part of this process's block; None: too little is left of it."""
    with own.lock:
        block = own.blocks.get(key)
        if block is None or block.left < tokens:
            return None
        block.left -= tokens
        block.in_flight += tokens
        block.used_at = time.monotonic()
        if block.left < BLOCK // 2 and block.most is None:
            own.low.set()
        return Reserved(own, block, tokens)


def _granted(own: _Own, key: _Key, block: _Block, granted: Grant | OverBudget, tokens: int) -> Reserved:
    """Keep what was set aside, and take the request's part of it."""
    if isinstance(granted, OverBudget):
        own.low.set()  # what other requests did not use may do
        raise granted
    with own.lock:
        own.blocks[key] = block
        block.left += granted.tokens - tokens
        block.most = granted.most
        block.in_flight += tokens
        block.used_at = time.monotonic()
    return Reserved(own, block, tokens)


def _lines(own: _Own, *, ends: bool) -> list[_Line]:
    """What there is to settle. What is given back can't be taken any more."""
    today, now, lines = datetime.now(UTC).date(), time.monotonic(), list[_Line]()
    with own.lock:
        for key, block in own.blocks.items():
            leaves = ends or key[0] != today or now - block.used_at > IDLE_S
            wished = (0 if leaves else block.wanted) - block.left
            block.left += min(0, wished)
            lines.append(
                _Line(
                    key, block, block.requests, block.tokens, block.unconfirmed, block.released, wished,
                    leaves and not block.in_flight,
                )
            )  # fmt: skip
    return lines


def _is_pressing(line: _Line) -> bool:
    return bool(line.requests or line.wished or line.ends or time.monotonic() - line.block.renewed_at > RENEW_S)


def _settled(line: _Line, now: float, granted: int, has_budget: bool) -> None:
    """The caller holds `lock`."""
    block = line.block
    block.requests -= line.requests
    block.tokens -= line.tokens
    block.unconfirmed -= line.unconfirmed
    block.released -= line.released
    block.left += max(0, granted)
    if has_budget != (block.most is not None):
        block.most = 0 if has_budget else None  # the next reservation says how much
    block.renewed_at = now


def _kept(own: _Own, line: _Line) -> None:
    """Nothing was settled: what was to be given back is left as before."""
    with own.lock:
        line.block.left -= min(0, line.wished)


def _forget(own: _Own, key: _Key) -> None:
    """Leave a block to the listener, which counts all of it as spent."""
    with own.lock:
        own.blocks.pop(key, None)


def _is_refusal(exc: BaseException) -> bool:
    """Whether Postgres said that it did not execute a statement."""
    cause = exc if isinstance(exc, psycopg.Error) else exc.__cause__
    state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    return state is not None and not state.startswith(("08", "57P"))


def _columns(lines: Sequence[_Line]) -> dict[str, list[object]]:
    return {
        "ids": [line.block.id for line in lines],
        "requests": [line.requests for line in lines],
        "tokens": [line.tokens for line in lines],
        "unconfirmed": [line.unconfirmed for line in lines],
        "released": [line.released for line in lines],
        "wished": [line.wished for line in lines],
        "ends": [line.ends for line in lines],
    }
