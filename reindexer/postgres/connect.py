"""Connections to Postgres: URLs in either form, lazy pools per process, and the mapping of the server's errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self, TypeVar

import psycopg
from psycopg import conninfo
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from reindexer.core.errors import DependencyUnavailable, TransientError, UsageError
from reindexer.core.per_process import PerProcess
from reindexer.core.urls import HOW_TO_WRITE, is_readable
from reindexer.postgres.session import opening

RV = TypeVar("RV")

LOCK_S = 3.0
"""How long a statement of a listener, worker or API waits for a lock: a locked table must not stop other sources."""

KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
"""A connection notices within half a minute that its other side is gone, also while idle."""


PREPARE_AFTER = 1
"""From its second use on a connection, the server keeps a statement prepared."""

FEW = 16
"""The most rows for which a kept plan may serve: it was made for the tables as they were, which may have been empty."""


def keep_plan(rows: int) -> bool | None:
    """psycopg's `prepare` for a statement on `rows` rows: planned anew where a wrong plan would take long."""
    return None if rows <= FEW else False  # guard plan-empty-table-replan


IDLE_S = 15.0
"""A pool closes one connection after it had one too many for this long. It lends them in turns, and one that is seldom
used is slow."""


class _BinaryCursor(psycopg.Cursor[Any]):
    """Fetches values in binary: how a session prints a time depends on settings, and the session may be another's."""

    def __init__(self, connection: psycopg.Connection[Any], **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.format = psycopg.pq.Format.BINARY


class Connection(psycopg.Connection[TupleRow]):
    """An autocommit connection with fixed session settings: our statements mean the same, and rows read the same,
    whatever the defaults of database, role and environment are. Without an answer it ends instead of waiting.

    TCP's own timeouts notice a host that is gone. They don't notice a proxy or firewall that accepts bytes and forwards
    none. The connection detects a pooler; there it has none of our settings, and nothing is prepared on the server.
    """

    answer_s: float | None = None
    """How long to wait for the server's next message. The server gives up on a statement somewhat earlier."""

    used_at: float = 0.0
    """When the connection last returned to its pool (monotonic)."""

    _pooled_urls: ClassVar[set[str]] = set()

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """As psycopg's, with one more argument, `answer_s`."""
        answer_s: float | None = kwargs.pop("answer_s", None)
        settings = {"options": _options(conninfo, answer_s)}
        # Poolers pass on the encoding, too; and text never holds anything but what UTF-8 can encode.
        # guard session-utf8-encoding
        kwargs |= {"autocommit": True, "prepare_threshold": PREPARE_AFTER, "client_encoding": "UTF8"}
        if conninfo in cls._pooled_urls:
            return cls._open(conninfo, answer_s, kwargs)
        try:
            return cls._open(conninfo, answer_s, kwargs | settings)
        except psycopg.errors.ConnectionTimeout:
            raise
        except psycopg.OperationalError as exc:
            refused = exc  # perhaps because of the settings, which poolers do not pass on: the error does not tell
        try:
            plain = cls._open(conninfo, answer_s, kwargs)
        except psycopg.OperationalError:
            raise refused from None
        if conninfo in cls._pooled_urls:
            return plain
        try:
            connection = cls._open(conninfo, answer_s, kwargs | settings)  # the cause may have passed
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

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler is in between, which passes no notification on."""
        return self.prepare_threshold is None

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        """As psycopg's, for at most `answer_s`; then it closes the connection and raises OperationalError."""
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
                    self.pgconn.finish()  # the statement may still take effect; nothing may be read any more
                    raise psycopg.OperationalError(f"no answer within {answer_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            answer: RV = done.value
            return answer


def _options(url: str, answer_s: float | None) -> str:
    """The settings for the first statement, which sets the rest: it must be neither cut short nor end the session.

    They override ALTER DATABASE and ALTER ROLE. Other options in the URL stay.
    """
    ours = {
        "exit_on_error": "off",
        "statement_timeout": 0 if answer_s is None else int(answer_s * 750),
        "lock_timeout": 0 if answer_s is None else int(LOCK_S * 1000),  # guard lock-timeout
        "idle_in_transaction_session_timeout": 0 if answer_s is None else int(answer_s * 3000),
        "idle_session_timeout": 0,
        # Our statements are long and touch few rows: to plan one anew takes as long as all the rest, for the same plan.
        "plan_cache_mode": "force_generic_plan",
        # JIT compilation takes longer than execution.
        "jit": "off",
    }
    if answer_s is not None:
        # A killed process whose statement waits for a lock must not keep the locks that it holds.
        ours["client_connection_check_interval"] = "2s"  # guard session-killed-leader-statement
    given = conninfo.conninfo_to_dict(url).get("options")
    return " ".join([*([str(given)] if given else []), *(f"-c {name}={value}" for name, value in ours.items())])


def libpq_url(url: str) -> str:
    """Convert SQLAlchemy's form (`postgresql+psycopg://…`) or libpq's form to libpq's.

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
    """One autocommit connection. Raises DependencyUnavailable if the server does not answer, UsageError if the
    database's encoding is SQL_ASCII, which holds bytes and not text.

    `answer_s`: the time limit of a statement; None: no limit.
    """
    options: dict[str, Any] = {**KEEPALIVE, "connect_timeout": timeout_s, "application_name": application_name}
    try:
        connection = Connection.connect(libpq_url(url), answer_s=answer_s, **options)
    except psycopg.OperationalError as exc:
        raise DependencyUnavailable(f"Postgres at {describe(url)} does not answer: {one_line(exc)}") from exc
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        connection.close()
        raise UsageError(
            f"the database at {describe(url)} has the encoding SQL_ASCII, so nobody knows which text its bytes are; "
            "dump it and restore it into one of the encoding UTF8"
        )
    return connection


_TOLD = frozenset({"08", "0A", "23", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"})
"""Classes of errors whose first line names database objects and holds no values. Other errors (a failed cast, an error
that a user's function raises) may quote a row."""


_NOT_OF_A_ROW = frozenset({"08", "25", "28", "3D", "40", "53", "55", "57", "58"})
"""Classes of errors that are not about a row: those of the connection, the transaction and the server."""

_OF_THE_STATEMENT = frozenset({"0A", "3F", "42"})
"""Classes of errors in a statement: ours, or one within a function that a row calls."""


def may_be_of_a_row(exc: BaseException | None) -> bool:
    """Whether one of the rows that a query read may be the cause; the others can then be read without it."""
    return isinstance(exc, psycopg.Error) and bool(exc.sqlstate) and exc.sqlstate[:2] not in _NOT_OF_A_ROW  # type: ignore[index]


def is_of_the_statement(exc: BaseException | None) -> bool:
    """Whether the query itself may be the cause: a missing table, column or function, or a missing right."""
    return isinstance(exc, psycopg.Error) and (exc.sqlstate or "")[:2] in _OF_THE_STATEMENT


def one_line(exc: BaseException) -> str:
    """The first line of an error, without its details. Of an error that may quote a row: its name and SQLSTATE."""
    if isinstance(exc, psycopg.Error) and exc.sqlstate and exc.sqlstate[:2] not in _TOLD:  # guard secret-row-error-text
        return f"{type(exc).__name__} ({exc.sqlstate})"
    return first_line(exc)


def first_line(exc: BaseException) -> str:
    """The first line of an error, unfiltered."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]


FRESH_S = 5.0
"""A connection that was in use within this time is not checked when it is borrowed."""


def _check_if_idle(connection: Connection) -> None:
    """Check a connection that was idle. In a busy pool each check would be another round trip, several per claim."""
    if time.monotonic() - connection.used_at > FRESH_S:
        ConnectionPool.check_connection(connection)


def _new_pool(url: str, application_name: str, answer_s: float, max_size: int) -> ConnectionPool[Connection]:
    return ConnectionPool(
        url,
        connection_class=Connection,
        kwargs={**KEEPALIVE, "connect_timeout": 5, "application_name": application_name, "answer_s": answer_s},
        min_size=0,
        max_size=max_size,
        max_idle=IDLE_S,
        open=True,
        reconnect_timeout=10,
        check=_check_if_idle,
    )


@contextmanager
def server_errors(url: str) -> Iterator[None]:
    """Maps the errors of the server and the connection to ours. Errors in a statement, or about a row, pass."""
    try:
        yield
    except PoolTimeout:
        raise
    except psycopg.errors.ReadOnlySqlTransaction as exc:
        raise TransientError("DATABASE_URL is a standby, or set to read only; reindexer needs the primary") from exc
    except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError) as exc:
        if exc.sqlstate and not exc.sqlstate.startswith(("08", "57P")):
            # A deadlock, a cancelled statement, a full disk.
            raise TransientError(f"Postgres: {one_line(exc)}") from exc
        raise DependencyUnavailable(f"Postgres at {describe(url)} went away: {one_line(exc)}") from exc


class Postgres:
    """A pool of autocommit connections, made lazily per process (a fork must not share its parent's)."""

    def __init__(self, url: str, *, application_name: str, answer_s: float = 20.0, max_size: int = 8) -> None:
        self.url = libpq_url(url)
        self.answer_s = answer_s
        self._pool = PerProcess(lambda: _new_pool(self.url, application_name, answer_s, max_size))

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Borrow a connection. Raises DependencyUnavailable if none is available within 5 s or the server goes away,
        TransientError if the server gives up on a statement."""
        try:
            with server_errors(self.url), self._pool.get().connection(timeout=5) as connection:
                yield connection
                connection.used_at = time.monotonic()
        except PoolTimeout as exc:
            raise DependencyUnavailable(f"Postgres at {describe(self.url)} does not answer") from exc

    def close(self) -> None:
        """Close this process's connections."""
        if (pool := self._pool.drop()) is not None:
            pool.close()
