"""Conditions: boolean SQL expressions over a source's columns, written by an administrator to select rows.

A condition can call any function that the program's role can call, so its author is as trusted as DATABASE_URL. This
module prevents only that a condition breaks out of its query by accident, writes, or holds a connection for long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import LiteralString

import psycopg
from psycopg import sql

from reindexer.core.errors import SourceError, SourceLocked, UsageError
from reindexer.core.related import Related
from reindexer.core.source import Source
from reindexer.postgres.connect import LOCK_S, Connection, first_line, is_of_the_statement, may_be_of_a_row, one_line
from reindexer.postgres.names import Name
from reindexer.postgres.queries import load
from reindexer.postgres.session import IN_TRANSACTION

CHECK_S = 5.0
COUNT_S = 1.0
"""Maximum time to count rows. After that the planner's estimate is used."""


class ConditionRejected(UsageError):
    """The condition can't be used. The message is one line that says why."""


def composed(condition: str) -> sql.Composed:
    """Return the condition in parentheses, for a query with parameters. A comment in it ends at the line's end."""
    return sql.SQL("(\n{}\n)").format(sql.SQL(condition.replace("%", "%%")))


def of_table(relation: Related) -> Source:
    """Return a related table as if it were a source, with the relation's condition: it is treated as a source's own."""
    return Source(
        relation.name, relation.table.table_schema, relation.table.table_name,
        key_columns=relation.key_columns or ("?",), text_columns=("?",),
        condition=relation.condition, condition_columns=relation.condition_columns,
        resolved_condition=relation.resolved_condition, condition_objects=relation.condition_objects,
    )  # fmt: skip


def is_item(source: Source) -> sql.Composed:
    """Return SQL for whether row `t` meets the source's condition. It sees only columns whose changes triggers record.

    The text differs after a label was renamed, because a plan kept from before would go on with the old meaning.
    """
    if source.condition is None:
        return sql.Composed([sql.SQL("true")])
    return sql.SQL("EXISTS (SELECT FROM (SELECT {columns}) AS t WHERE {condition} AND {read_by} IS NOT NULL)").format(
        read_by=sql.Literal(source.read_by),  # guard condition-plan-label-version
        columns=sql.SQL(", ").join(sql.SQL("t.{}").format(Name(c)) for c in source.condition_columns),
        condition=composed(source.resolved_condition or source.condition),  # guard condition-resolved-names
    )


def check(connection: Connection, source: Source, condition: str) -> None:
    """Require one boolean expression that fits the source's table. Raises ConditionRejected."""
    if not condition.strip():
        raise ConditionRejected("the condition is empty")
    if "\x00" in condition:
        raise ConditionRejected("the condition holds the NUL character")
    bare = condition.replace("%", "%%")
    tries = (
        # A text that closes a parenthesis it did not open is no expression between brackets, and the other way round.
        sql.SQL("EXPLAIN SELECT ARRAY[\n{}\n] FROM {} AS t LIMIT 0").format(sql.SQL(bare), _table(source)),
        sql.SQL("EXPLAIN SELECT FROM {} AS t WHERE {}").format(_table(source), composed(condition)),
    )
    try:
        for query in tries:
            with read_only(connection, CHECK_S):
                # Here and below, binary selects the extended protocol, which accepts only one statement.
                connection.execute(query, (), binary=True)
    except psycopg.OperationalError as exc:
        if connection.closed:
            raise
        raise ConditionRejected(f"the condition can't be planned: {one_line(exc)}") from exc
    except psycopg.Error as exc:
        # Nothing has been read yet, so the server can quote only the condition.
        raise ConditionRejected(f"the condition does not work on {source.name!r}: {first_line(exc)}") from exc


def require(connection: Connection, source: Source) -> None:
    """Require that a source's own condition, and those of its relations, still fit the columns: a label or function in
    one may be gone.

    Reads no row of a table, so it waits for no lock on it. Raises SourceError.
    """
    _require(connection, source, f"source {source.name!r}: its condition")
    for each in source.related:
        _require(connection, of_table(each), f"source {source.name!r}: the condition of its relation {each.name!r}")


def _require(connection: Connection, source: Source, about: str) -> None:
    if source.condition is None:
        return
    named = {"table": _table(source).as_string(connection), "columns": list(source.condition_columns)}
    types: list[tuple[str, LiteralString]] = connection.execute(load("catalog.sql")["column_types"], named).fetchall()
    query = sql.SQL("SELECT FROM pg_catalog.jsonb_to_recordset('[]') AS t ({columns}) WHERE {condition}").format(
        columns=sql.SQL(", ").join(sql.SQL("{} {}").format(Name(c), sql.SQL(of.replace("%", "%%"))) for c, of in types),
        condition=composed(source.resolved_condition or source.condition),  # guard condition-resolved-names
    )
    try:
        with connection.transaction():
            connection.execute(IN_TRANSACTION)
            # A cached plan would identify a renamed label by its number.
            connection.execute(query, (), binary=True, prepare=False)
    except psycopg.errors.InsufficientPrivilege:
        return  # the role that checks may differ from the role that reads
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as exc:
        raise SourceError(
            f"{about} does not work any more: {first_line(exc)}; attach it again with one that does"
        ) from exc


def resolved(connection: Connection, source: Source, condition: str) -> Source:
    """Return the source with this condition, the columns that it reads, and its names resolved on this search_path.

    Raises ConditionRejected if the condition depends on more than the row.

    Postgres itself decides this: it accepts the condition as that of an index, which has the same requirement, on an
    empty temporary copy of the table. It also prints the condition with a schema before each name. Roles with another
    search_path would find other functions or operators by the user's text.
    """
    check(connection, source, condition)
    make = sql.SQL("CREATE TEMP TABLE reindexer_condition (LIKE {})").format(_table(source))
    index = sql.SQL("CREATE INDEX reindexer_condition_ ON pg_temp.reindexer_condition ((1)) WHERE {}")
    try:
        with connection.transaction(force_rollback=True):
            # guard condition-literal-format
            connection.execute(IN_TRANSACTION)  # a pooler's session may print and read its literals in another way
            connection.execute(make)
            connection.execute(index.format(composed(condition)), (), binary=True)
            connection.execute("SET LOCAL search_path = pg_catalog")
            found = connection.execute(load("catalog.sql")["condition_columns"]).fetchall()
            row = connection.execute(load("catalog.sql")["condition_resolved"]).fetchone()
            objects = connection.execute(load("catalog.sql")["condition_objects"]).fetchall()
    except psycopg.errors.InsufficientPrivilege as exc:
        raise ConditionRejected(f"the condition can't be looked at: {one_line(exc)}") from exc
    except psycopg.Error as exc:
        if connection.closed:
            raise
        raise ConditionRejected(
            f"the condition must depend on nothing but the row, or changes would pass unseen: {first_line(exc)}"
        ) from exc
    if not found or row is None:
        raise ConditionRejected("the condition reads no column")
    columns = tuple(str(name) for (name,) in found)
    return replace(
        source, condition=condition, condition_columns=columns, resolved_condition=row[0],
        condition_objects=tuple(str(each) for (each,) in objects),
    )  # fmt: skip


def renamed(connection: Connection, source: Source) -> Source | None:
    """Return the source with its condition, and those of its relations, resolved again, if what they name was renamed.

    None: a rename is not why a condition fails, because the user's text no longer resolves, or means something else
    here.
    """
    now, related = source, list[Related]()
    if source.condition is not None:
        own = _renamed(connection, source)
        if own is None:
            return None
        now = own
    for each in source.related:
        if each.condition is None:
            related.append(each)
            continue
        again = _renamed(connection, of_table(each))
        if again is None:
            return None
        names, objects = again.resolved_condition, again.condition_objects
        related.append(replace(each, resolved_condition=names, condition_objects=objects))
    return replace(now, related=tuple(related))


def _renamed(connection: Connection, source: Source) -> Source | None:
    if source.condition is None or source.resolved_condition is None:
        return None
    try:
        now = resolved(connection, source, source.condition)
    except ConditionRejected:
        return None
    lists = {
        "was": list(source.condition_objects),
        "now": list(now.condition_objects),
        "table": _table(source).as_string(connection),
        "columns": list(now.condition_columns),
    }
    same = connection.execute(load("catalog.sql")["means_the_same"], lists).fetchone()
    # guard condition-renamed-object-identity
    return now if same and same[0] and now.condition_columns == source.condition_columns else None


def count(connection: Connection, source: Source, condition: str | None) -> tuple[int, bool]:
    """Return the number of rows, and whether it is an estimate because counting took longer than `COUNT_S`.

    Raises ConditionRejected if the condition fails on a row, SourceError if the source can't be read.
    """
    query = sql.SQL("SELECT count(*) FROM {} AS t").format(_table(source)) + _where(source, condition)
    try:
        with reading(connection, source, condition, COUNT_S):
            row = connection.execute(query, (), binary=True).fetchone()
    except (ConditionRejected, SourceError) as exc:
        cause = exc.__cause__
        of_a_row = may_be_of_a_row(cause) and not is_of_the_statement(cause)
        on_a_row = source.condition is not None and condition is None and of_a_row
        if not on_a_row and not isinstance(exc.__cause__, psycopg.errors.QueryCanceled):
            raise
        return estimate(connection, source, condition), True
    assert row is not None
    return int(row[0]), False


def estimate(connection: Connection, source: Source, condition: str | None) -> int:
    """Return the planner's estimate of the number of rows. Raises as `count` does."""
    query = sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {} AS t").format(_table(source)) + _where(source, condition)
    with reading(connection, source, condition, CHECK_S):
        row = connection.execute(query, (), binary=True).fetchone()
    assert row is not None
    return int(row[0][0]["Plan"]["Plan Rows"])


@contextmanager
def reading(connection: Connection, source: Source, condition: str | None, timeout_s: float) -> Iterator[None]:
    """Like `read_only`, but raises errors of a query over the source's rows as ConditionRejected or SourceError."""
    try:
        with read_only(connection, timeout_s):
            yield
    except psycopg.Error as exc:
        if connection.closed:
            raise
        raise _failure(exc, source, condition) from exc


@contextmanager
def read_only(connection: Connection, timeout_s: float) -> Iterator[None]:
    """A transaction of its own that writes nothing, has a timeout, sees all rows or fails, and leaves no setting
    behind."""
    with connection.transaction(force_rollback=True):
        connection.execute("SET TRANSACTION READ ONLY")
        lock_s = min(LOCK_S, timeout_s / 2)  # sooner, so that the error tells a lock from a slow query
        connection.execute(
            "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)",
            [f"{int(timeout_s * 1000)}ms", f"{int(lock_s * 1000)}ms"],  # guard lock-timeout-page
        )
        connection.execute(IN_TRANSACTION)
        yield


def _failure(exc: psycopg.Error, source: Source, condition: str | None) -> ConditionRejected | SourceError:
    """Map an error of a query over rows to its meaning."""
    if isinstance(exc, psycopg.errors.LockNotAvailable):  # guard lock-timeout-no-condition
        return locked(source)
    if condition is None:
        return SourceError(f"source {source.name!r} can't be read: {one_line(exc)}")
    if isinstance(exc, psycopg.errors.QueryCanceled):
        return ConditionRejected("the condition takes too long")
    return ConditionRejected(f"the condition fails on a row of {source.name!r}: {one_line(exc)}")


def locked(source: Source) -> SourceLocked:
    """Return the error of a read that ended by the lock timeout."""
    tables = "its table" if not source.related else "one of its tables"
    return SourceLocked(f"source {source.name!r} can't be read: another session holds a lock on {tables}")


def _table(source: Source) -> sql.Identifier:
    return Name(source.table_schema, source.table_name)


def _where(source: Source, condition: str | None) -> sql.Composable:
    """Return the WHERE clause for the source's items that the condition selects."""
    both = [is_item(source)] if source.condition is not None else []
    both += [composed(condition)] if condition is not None else []
    return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(both) if both else sql.SQL("")
