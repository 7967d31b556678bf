"""Connections to Postgres: URLs in either form, pools made lazily per process, the errors of the server mapped once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self, TypeVar

import psycopg
from psycopg import conninfo
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from reindexer.core.errors import DependencyAway, PassingError, UsageError
from reindexer.core.urls import HOW_TO_WRITE, is_readable
from reindexer.postgres.session import opening

RV = TypeVar("RV")

KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
"""A connection whose other side is gone is noticed within half a minute, also where nothing is asked."""


PREPARE_AFTER = 1
"""A statement that is sent a second time by a connection is kept by the server from then on."""

FEW = 16
"""A kept plan was made for tables as they were then, which may have been empty: it serves where little is to do."""


def keep_plan(rows: int) -> bool | None:
    """psycopg's `prepare` for a statement on so many rows: planned anew where the wrong plan would take long."""
    return None if rows <= FEW else False  # guard plan-empty-table-replan


IDLE_S = 15.0
"""A pool that had a connection too many for so long closes one. They take turns: each that is seldom used is slow."""


class _BinaryCursor(psycopg.Cursor[Any]):
    """Asks for values as the server holds them: how it prints a time is up to its session, which may be another's."""

    def __init__(self, connection: psycopg.Connection[Any], **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.format = psycopg.pq.Format.BINARY


class Connection(psycopg.Connection[TupleRow]):
    """An autocommit connection on which our statements mean the same, and rows read the same, whatever the defaults of
    database, role and environment are, and which ends, rather than waits, where no answer comes.

    TCP's own timeouts see a host that is gone, not a proxy or a firewall that takes bytes and passes none on.
    Behind a pooler, which is noticed, there are no settings of ours, and nothing is prepared on the server.
    """

    answer_s: float | None = None
    """How long to wait for the server's next word. The server itself gives up on a statement somewhat earlier."""

    used_at: float = 0.0
    """When it was last given back to its pool (monotonic)."""

    _pooled_urls: ClassVar[set[str]] = set()

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """As psycopg's, with one argument more, `answer_s`."""
        answer_s: float | None = kwargs.pop("answer_s", None)
        settings = {"options": _options(conninfo, answer_s)}
        # The encoding poolers pass on, too; and text is never anything but what UTF-8 can hold.
        # guard session-utf8-encoding
        kwargs |= {"autocommit": True, "prepare_threshold": PREPARE_AFTER, "client_encoding": "UTF8"}
        if conninfo in cls._pooled_urls:
            return cls._open(conninfo, answer_s, kwargs)
        try:
            return cls._open(conninfo, answer_s, kwargs | settings)
        except psycopg.errors.ConnectionTimeout:
            raise
        except psycopg.OperationalError as exc:
            refused = exc  # perhaps for the settings, which poolers do not pass on: the error does not tell
        try:
            plain = cls._open(conninfo, answer_s, kwargs)
        except psycopg.OperationalError:
            raise refused from None
        if conninfo in cls._pooled_urls:
            return plain
        try:
            connection = cls._open(conninfo, answer_s, kwargs | settings)  # the cause has passed meanwhile
        except psycopg.OperationalError:
            return plain
        plain.close()
        return connection

    @classmethod
    def _open(cls, conninfo: str, answer_s: float | None, kwargs: dict[str, Any]) -> Self:
        connection = super().connect(conninfo, **kwargs)
        connection.answer_s = answer_s
        pid = connection.info.backend_pid
        # guard session-uniform-read-settings
        found = connection.execute(opening(pid, connection.info.server_version), prepare=False).fetchone()
        if found is None or found[0] != pid:
            connection.prepare_threshold = None
            connection.cursor_factory = _BinaryCursor  # guard session-binary-time-format
            cls._pooled_urls.add(conninfo)
        return connection

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        """As psycopg's, for `answer_s`; raises OperationalError then, and closes the connection."""
        return super().wait(gen if self.answer_s is None else self._in_time(gen, self.answer_s), *args, **kwargs)

    def _in_time(self, gen: PQGen[RV], answer_s: float) -> PQGen[RV]:
        until = time.monotonic() + answer_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    until = time.monotonic() + answer_s
                elif time.monotonic() > until:  # guard session-dead-connection-timeout
                    self.pgconn.finish()  # what it was asked may still come about; nothing may be read from it any more
                    raise psycopg.OperationalError(f"no answer within {answer_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            answer: RV = done.value
            return answer


def _options(url: str, answer_s: float | None) -> str:
    """What has to hold from the first statement on, which sets the rest: it must not be cut short, nor end the session.

    They stand above those of ALTER DATABASE and ALTER ROLE; what else the URL itself says stays.
    """
    ours = {
        "exit_on_error": "off",
        "statement_timeout": 0 if answer_s is None else int(answer_s * 750),
        "lock_timeout": 0,
        "idle_in_transaction_session_timeout": 0 if answer_s is None else int(answer_s * 3000),
        "idle_session_timeout": 0,
        # Our statements are long, and small: planning one anew takes as long as all the rest, for the same plan.
        "plan_cache_mode": "force_generic_plan",
        # To compile one takes longer than it takes to run.
        "jit": "off",
    }
    if answer_s is not None:
        # A process that was killed while its statement waits for a lock must not keep its own locks.
        ours["client_connection_check_interval"] = "2s"  # guard session-killed-leader-statement
    given = conninfo.conninfo_to_dict(url).get("options")
    return " ".join([*([str(given)] if given else []), *(f"-c {name}={value}" for name, value in ours.items())])


def libpq_url(url: str) -> str:
    """Accept SQLAlchemy's form (`postgresql+psycopg://…`) and libpq's; give libpq's.

    Raises UsageError, without the URL in it (it may hold a password).
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme.split("+")[0] in ("postgresql", "postgres"):
        url = f"postgresql://{rest}"
        if not is_readable(url):
            raise UsageError(f"DATABASE_URL is not a URL that can be read; {HOW_TO_WRITE}")
    try:
        conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise UsageError(
            "DATABASE_URL is not a Postgres URL; write postgresql://user:password@host:5432/dbname"
        ) from None
    return url


def describe(url: str) -> str:
    """Host, port and database of a URL, for messages: never user or password."""
    parts = conninfo.conninfo_to_dict(libpq_url(url))
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def connect(url: str, *, application_name: str, timeout_s: int = 5, answer_s: float | None = None) -> Connection:
    """One autocommit connection of its own. Raises DependencyAway if the server does not answer, UsageError if what the
    database holds need not be text.

    `answer_s`: how long a statement may take; None: as long as it takes.
    """
    options: dict[str, Any] = {**KEEPALIVE, "connect_timeout": timeout_s, "application_name": application_name}
    try:
        connection = Connection.connect(libpq_url(url), answer_s=answer_s, **options)
    except psycopg.OperationalError as exc:
        raise DependencyAway(f"Postgres at {describe(url)} does not answer: {one_line(exc)}") from exc
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        connection.close()
        raise UsageError(
            f"the database at {describe(url)} has the encoding SQL_ASCII, so nobody knows which text its bytes are; "
            "dump it and restore it into one of the encoding UTF8"
        )
    return connection


_TOLD = frozenset({"08", "0A", "23", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"})
"""Classes of errors whose first line names objects of the database and holds no values. Others (a cast that fails, an
error that a user's function raises) may quote a row."""


_NOT_OF_A_ROW = frozenset({"08", "25", "28", "3D", "40", "53", "55", "57", "58"})
"""Classes of errors that say nothing about a row that was read: the connection's, the transaction's, the server's."""

_OF_THE_STATEMENT = frozenset({"0A", "3F", "42"})
"""Classes of what Postgres finds wrong with a statement, be it ours or one within a function that a row calls."""


def may_be_of_a_row(exc: BaseException | None) -> bool:
    """Whether one of the rows that a query read may be the cause: then the others can be read without it."""
    return isinstance(exc, psycopg.Error) and bool(exc.sqlstate) and exc.sqlstate[:2] not in _NOT_OF_A_ROW  # type: ignore[index]


def is_of_the_statement(exc: BaseException | None) -> bool:
    """Whether the query as such may be the cause: a table, column or function that is missing, a right."""
    return isinstance(exc, psycopg.Error) and (exc.sqlstate or "")[:2] in _OF_THE_STATEMENT


def one_line(exc: BaseException) -> str:
    """The first line of an error, without its details; of an error that may quote a row only its name."""
    if isinstance(exc, psycopg.Error) and exc.sqlstate and exc.sqlstate[:2] not in _TOLD:  # guard secret-row-error-text
        return f"{type(exc).__name__} ({exc.sqlstate})"
    return first_line(exc)


def first_line(exc: BaseException) -> str:
    """The first line of an error, whatever it says."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]


FRESH_S = 5.0
"""A connection that was in use so lately is not asked first whether it still is one."""


def _check_if_idle(connection: Connection) -> None:
    """Of a pool that is at work each check would be a round trip more, several for each claim."""
    if time.monotonic() - connection.used_at > FRESH_S:
        ConnectionPool.check_connection(connection)


class Postgres:
    """A pool of autocommit connections, made lazily for each process (a fork must not share its parent's)."""

    def __init__(self, url: str, *, application_name: str, answer_s: float = 20.0, max_size: int = 8) -> None:
        self.url = libpq_url(url)
        self.answer_s = answer_s
        self._application_name = application_name
        self._max_size = max_size
        self._lock = threading.Lock()
        self._pool: ConnectionPool[Connection] | None = None
        self._pid = 0

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Borrow a connection. Raises DependencyAway if none can be had within 5 s or if the server
        goes away, PassingError if it gives up on a statement."""
        try:
            with self._current_pool().connection(timeout=5) as connection:
                yield connection
                connection.used_at = time.monotonic()
        except PoolTimeout as exc:
            raise DependencyAway(f"Postgres at {describe(self.url)} does not answer") from exc
        except psycopg.errors.ReadOnlySqlTransaction as exc:
            raise PassingError("DATABASE_URL is a standby, or set to read only; reindexer needs the primary") from exc
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError) as exc:
            if exc.sqlstate and not exc.sqlstate.startswith(("08", "57P")):
                # A deadlock, a cancelled statement, a full disk.
                raise PassingError(f"Postgres: {one_line(exc)}") from exc
            raise DependencyAway(f"Postgres at {describe(self.url)} went away: {one_line(exc)}") from exc

    def close(self) -> None:
        """Close this process's connections."""
        with self._lock:
            if self._pool is not None and self._pid == os.getpid():
                self._pool.close()
            self._pool = None

    def _current_pool(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._pool is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._pool = ConnectionPool(
                    self.url,
                    connection_class=Connection,
                    kwargs={
                        **KEEPALIVE,
                        "connect_timeout": 5,
                        "application_name": self._application_name,
                        "answer_s": self.answer_s,
                    },
                    min_size=0,
                    max_size=self._max_size,
                    max_idle=IDLE_S,
                    open=True,
                    reconnect_timeout=10,
                    check=_check_if_idle,
                )
            return self._pool
