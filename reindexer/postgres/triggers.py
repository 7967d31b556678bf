"""The triggers on the users' tables: what they should be, what they are, and how they are installed.

DDL on a user's table waits at most `LOCK_TIMEOUT` for its lock and then lets writers pass before it tries again: a
CREATE TRIGGER that queues behind one long transaction would block every writer behind it. The DDL locks one table at a
time. So it can't be part of a deadlock in which Postgres might cancel the writer.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from reindexer.core.errors import SourceError
from reindexer.core.source import Source
from reindexer.postgres.catalog import (
    FUNCTIONS,
    Capture,
    Facts,
    Relation,
    captures,
    facts,
    function_names,
    key_is_spelt_freely,
    relations,
)
from reindexer.postgres.connect import Connection, first_line, one_line
from reindexer.postgres.locks import LOCK_CLASS, MIGRATE_LOCK, WAKE_LOCK
from reindexer.postgres.queries import load

BULK_ROWS = 1000
"""A statement that changes more rows than this goes to the `bulk` lane."""

LONGEST_VALUE = 650
"""Bytes of join columns' values that are recorded as they are, as of an item's id."""

LOCK_TIMEOUT = "800ms"  # guard trigger-ddl-lock-timeout

STATEMENT_TRIGGERS = ("insert", "update", "delete", "truncate")

_SET = re.compile(r"SET (\w+) = (.+?)(?= SET |$)")


@dataclass(frozen=True, slots=True)
class Function:
    """A trigger function as it should be."""

    name: str
    head: sql.Composed
    body: str
    end: sql.SQL

    @property
    def statement(self) -> sql.Composed:
        """The DDL. The body is a literal, because a column may be named `$reindexer$; DROP TABLE …`."""
        return self.head + sql.Literal(self.body) + self.end  # guard trigger-body-literal

    def in_catalog(self, connection: Connection) -> tuple[str, str, bool, frozenset[str]]:
        """In the form of `catalog.sql`: name, body, whether it is SECURITY DEFINER, settings."""
        head = self.head.as_string(connection).rpartition(" AS ")[0].replace("\n", " ")
        settings = frozenset(f"{name}={value}" for name, value in _SET.findall(head))
        return self.name, self.body, "SECURITY DEFINER" in head, settings


def version(source: Source) -> str:
    """A hash of the SQL of this program's triggers and functions, of those that the source has."""
    parts = [(BULK_ROWS, sorted(load("triggers.sql").items()))]
    if source.recorded_tables:
        parts.append((LONGEST_VALUE, sorted(load("related_triggers.sql").items())))
    said = repr(parts[0]) if len(parts) == 1 else repr(parts)
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def lacking(found: Iterable[Relation]) -> list[Relation]:
    """The relations that lack one of the triggers they should have, or have it not enabled as it should be."""
    return [relation for relation in found if not _expected(relation) <= relation.triggers]


def carries(relation: Relation) -> bool:
    """Whether the relation has any trigger of its source."""
    ours = {relation.capture.trigger(kind) for kind in (*STATEMENT_TRIGGERS, "replica")}
    return any(trigger.rpartition(":")[0] in ours for trigger in relation.triggers)


def functions_differ(connection: Connection, source: Source) -> bool:
    """Whether a trigger function is missing, or differs from this version's."""
    rows = connection.execute(load("catalog.sql")["functions"], {"functions": function_names(source)})
    found = {(name, body, definer, frozenset(config)) for name, body, definer, config in rows}
    return found != {function.in_catalog(connection) for function in functions(connection, source)}


def install(
    connection: Connection, source: Source, tables: Sequence[Relation] | None = None, *, give_up_after_s: float = 60.0
) -> Facts:
    """Create the source's functions, and its triggers on `tables` or on all its tables. Each table has a transaction of
    its own, which blocks the table's writers for a moment.

    When it returns, every write to those tables that did not fire these triggers has committed. So a scan from now on,
    together with the recorded changes, misses nothing. Returns the facts of those tables that held no row at that
    moment, and so need no scan. Raises SourceError if a lock can't be had or a right is missing.
    """
    empty: dict[str, str] = {}
    try:
        made = not functions_differ(connection, source)
        left = list(relations(connection, source) if tables is None else tables)  # guard trigger-every-leaf
        for _ in attempts(give_up_after_s):
            made = made or _make_functions(connection, source)
            left = [table for table in left if not (made and _equip(connection, source, table, empty))]
            if made and not left:
                return empty
        raise SourceError(
            f"source {source.name!r}: other transactions held {left[0]} for {give_up_after_s:.0f} s; end them, "
            "or run `reindexer migrate` again later"
        )
    except psycopg.errors.InsufficientPrivilege as exc:
        raise SourceError(
            f"source {source.name!r}: {one_line(exc)}; run `reindexer migrate` as the owner of the table"
        ) from exc
    except psycopg.errors.RaiseException as exc:  # of an event trigger: its text is about our DDL, and holds no row
        raise SourceError(f"source {source.name!r}: the database refuses it: {first_line(exc)}") from exc


def attempts(give_up_after_s: float) -> Iterator[None]:
    """Attempts at a lock, with growing waits between them, in which writers pass."""
    deadline, wait_s = time.monotonic() + give_up_after_s, 0.2
    yield
    while time.monotonic() + wait_s <= deadline:
        time.sleep(wait_s)
        wait_s = min(wait_s * 1.5, 3.0)
        yield


def replace_functions(connection: Connection, source: Source) -> None:
    """Create the source's functions anew, in the caller's transaction. Takes no lock on the user's tables.

    A transaction that began to write before may have run the former functions: see `wait_for_writers`. Raises
    SourceError if a right is missing.
    """
    try:
        for function in functions(connection, source):
            connection.execute(function.statement)
    except psycopg.errors.InsufficientPrivilege as exc:
        raise SourceError(
            f"source {source.name!r}: {one_line(exc)}; do it as the role that attached the source"
        ) from exc
    except psycopg.errors.RaiseException as exc:
        raise SourceError(f"source {source.name!r}: the database refuses it: {first_line(exc)}") from exc


def wait_for_writers(connection: Connection, source: Source, *, give_up_after_s: float = 60.0) -> None:
    """Return when every transaction has ended that wrote to the source's tables before this call.

    Each table is locked for a moment, as `install` does. Raises SourceError if a lock can't be had in time.
    """
    left = list(relations(connection, source))
    for _ in attempts(give_up_after_s):
        left = [table for table in left if not _locked(connection, table)]
        if not left:
            return
    raise SourceError(
        f"source {source.name!r}: other transactions held {left[0]} for {give_up_after_s:.0f} s; the listener goes on "
        "when they end"
    )


def _locked(connection: Connection, table: Relation) -> bool:
    """Lock a table and let go again. False if its lock was not available in time."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
            connection.execute(sql.SQL("LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE").format(table.identifier))
    except psycopg.errors.LockNotAvailable:
        return False
    except psycopg.errors.UndefinedTable:
        pass  # dropped in the meantime
    return True


def _make_functions(connection: Connection, source: Source) -> bool:
    """False if another session is creating triggers now."""
    with connection.transaction():
        if not alone(connection):
            return False
        for function in functions(connection, source):
            connection.execute(function.statement)
    return True


def alone(connection: Connection) -> bool:
    """Whether this transaction alone creates triggers until it ends. `migrate` holds the same lock throughout."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [LOCK_CLASS, MIGRATE_LOCK]).fetchone()
    return bool(row and row[0])


def _equip(connection: Connection, source: Source, table: Relation, empty: dict[str, str]) -> bool:
    """Create one table's triggers. False if its lock was not available in time."""
    try:
        with connection.transaction():
            if not alone(connection):
                return False
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
            for statement in trigger_statements(table):
                connection.execute(statement)
            if table.capture.followed is None and not _holds_rows(connection, table):
                empty[str(table.oid)] = facts(connection, source)[str(table.oid)]
    except psycopg.errors.LockNotAvailable:
        return False
    except psycopg.errors.UndefinedTable:
        pass  # dropped in the meantime
    return True


def _holds_rows(connection: Connection, table: Relation) -> bool:
    """Runs under the lock, so no write is in flight. A partitioned table itself holds no rows."""
    connection.execute("SET LOCAL row_security = off")
    row = connection.execute(sql.SQL("SELECT EXISTS (SELECT FROM ONLY {})").format(table.identifier)).fetchone()
    return bool(row and row[0])


def functions(connection: Connection, source: Source) -> list[Function]:
    """The functions of this version of the program, in the order of `catalog.function_names`."""
    made = []
    for capture in captures(source):
        if capture.followed is None:
            parts, columns = load("triggers.sql"), _own_columns(connection, source)
        else:
            parts, columns = load("related_triggers.sql"), _related_columns(connection, source, capture)
        for function, kind in zip(capture.functions, FUNCTIONS, strict=True):
            head, body, end = parts[f"{kind}_function"].split("$reindexer$")
            text = sql.SQL(body).format(**columns).as_string(connection)
            made.append(Function(function, sql.SQL(head).format(**_names(capture)), text, sql.SQL(end)))
    return made


def _ring() -> sql.Composed:
    return sql.SQL(load("triggers.sql")["ring"]).format(
        lock_class=sql.Literal(LOCK_CLASS), wake_lock=sql.Literal(WAKE_LOCK)
    )


def _own_columns(connection: Connection, source: Source) -> dict[str, sql.Composable]:
    parts = load("triggers.sql")
    name, bulk_rows = sql.Literal(source.name), sql.Literal(BULK_ROWS)
    ring = _ring()
    columns: dict[str, sql.Composable] = {
        "key": key_expression(source, None, sql.Identifier),
        "key_old": key_expression(source, "old", sql.Identifier),
        "key_new": key_expression(source, "new", sql.Identifier),
        "key_of_old": key_expression(source, "old_rows", sql.Identifier),
        "key_of_new": key_expression(source, "new_rows", sql.Identifier),
        "key_columns": _list(source.key_columns),
        "first_key": sql.Identifier(source.key_columns[0]),
        "key_columns_old": _list(source.key_columns, "old_rows"),
        "key_columns_new": _list(source.key_columns, "new_rows"),
        "declared_old": _list(source.key_columns + source.recorded_columns, "old_rows"),
        "declared_new": _list(source.key_columns + source.recorded_columns, "new_rows"),
        "declared_old_row": _list(source.recorded_columns, "old"),
        "declared_new_row": _list(source.recorded_columns, "new"),
        "source": name,
        "ring": ring,
        "record": sql.SQL(parts["record"]).format(source=name, bulk_rows=bulk_rows, ring=ring),
    }
    spelt_freely = key_is_spelt_freely(connection, source)
    # guard trigger-swapped-key-spellings
    columns["respelt"] = sql.SQL(parts["respelt"] if spelt_freely else "").format(**columns)
    return columns


def _related_columns(connection: Connection, source: Source, capture: Capture) -> dict[str, sql.Composable]:
    parts, followed = load("related_triggers.sql"), capture.followed
    assert followed is not None
    far, compared = followed.link.far, followed.columns
    table = sql.Identifier(*capture.table).as_string(connection)
    unique = [list(key) for (key,) in connection.execute(load("sources.sql")["unique_key"], {"table": table})]
    columns: dict[str, sql.Composable] = {
        "value": value_expression(far, None, sql.Identifier),
        "value_old": value_expression(far, "old", sql.Identifier),
        "value_new": value_expression(far, "new", sql.Identifier),
        "value_of_old": value_expression(far, "old_rows", sql.Identifier),
        "value_of_new": value_expression(far, "new_rows", sql.Identifier),
        "columns_old": _list(compared, "old"),
        "columns_new": _list(compared, "new"),
        "columns_of_old": _list(compared, "old_rows"),
        "columns_of_new": _list(compared, "new_rows"),
        "record": sql.SQL(parts["record"]).format(
            source=sql.Literal(source.name),
            related=sql.Literal(followed.id),
            longest=sql.Literal(LONGEST_VALUE),
            bulk_rows=sql.Literal(BULK_ROWS),
            ring=_ring(),
        ),
    }
    if unique:
        key = min(unique)
        columns |= {"key_columns": _list(key), "first_key": sql.Identifier(key[0])}
    columns["changed"] = sql.SQL(parts["changed" if unique else "changed_without_key"]).format(**columns)
    return columns


def trigger_statements(table: Relation) -> list[sql.Composed]:
    """The DDL of one table's triggers; the first statement takes its lock."""
    parts = load("triggers.sql")
    lock = sql.SQL("LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE").format(table.identifier)
    kinds = ("statement_triggers", "row_trigger") if table.is_leaf else ("statement_triggers",)
    return [lock, *(sql.SQL(parts[kind]).format(table=table.identifier, **_names(table.capture)) for kind in kinds)]


def key_expression(source: Source, qualifier: str | None, identifier: type[sql.Identifier]) -> sql.Composable:
    """The item id as text: the key itself, or a JSON array of a composite key's parts.

    `identifier`: psycopg's, or `Name` in queries that have parameters.
    """
    parts = [
        sql.SQL("{}::text").format(identifier(column) if qualifier is None else identifier(qualifier, column))
        for column in source.key_columns
    ]
    return parts[0] if len(parts) == 1 else sql.SQL("jsonb_build_array({})::text").format(sql.SQL(", ").join(parts))


def value_expression(columns: Iterable[str], qualifier: str | None, identifier: type[sql.Identifier]) -> sql.Composable:
    """Return the values of join columns as one text, as the outbox has them. NULL if one is NULL: it joins nothing."""
    parts = [identifier(column) if qualifier is None else identifier(qualifier, column) for column in columns]
    if len(parts) == 1:
        return sql.SQL("{}::text").format(parts[0])
    there = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(each) for each in parts)
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(each) for each in parts)
    return sql.SQL("CASE WHEN {} THEN jsonb_build_array({})::text END").format(there, texts)


def _list(columns: Iterable[str], qualifier: str | None = None) -> sql.Composable:
    return sql.SQL(", ").join(
        sql.Identifier(column) if qualifier is None else sql.Identifier(qualifier, column) for column in columns
    )


def _names(capture: Capture) -> dict[str, sql.Identifier]:
    named = zip(FUNCTIONS, capture.functions, strict=True)
    functions = {f"{kind}_function": sql.Identifier("reindexer", name) for kind, name in named}
    kinds = (*STATEMENT_TRIGGERS, "replica")
    return functions | {f"{kind}_trigger": sql.Identifier(capture.trigger(kind)) for kind in kinds}


def _expected(relation: Relation) -> set[str]:
    enabled = {"insert": "O", "update": "O", "delete": "O", "truncate": "A"}
    expected = {f"{relation.capture.trigger(kind)}:{mode}" for kind, mode in enabled.items()}
    return expected | ({f"{relation.capture.trigger('replica')}:R"} if relation.is_leaf else set())
