"""A system check: each table of a model that is attached has its triggers, and its rows can be read.

Django runs it with its checks of databases: `manage.py check --database default`, and `manage.py migrate`. It warns and
refuses nothing: what is written without triggers is found later, when somebody mends them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from django.apps import apps
from django.core.checks import CheckMessage, Warning
from django.db import connections

from reindexer.core.errors import ReindexerError
from reindexer.django.databases import database_url, is_postgres
from reindexer.postgres.connect import Connection, connect, one_line
from reindexer.postgres.schema import require_revision, revision
from reindexer.sources.store import all_sources
from reindexer.sources.trigger_check import inspect, recorded

ANSWER_S = 10.0

_HINT = "Run `python manage.py reindexer migrate`, and see `python manage.py reindexer status`."


def check_triggers(*, databases: Sequence[str] | None = None, **_: object) -> list[CheckMessage]:
    """Check the databases that Django names. Without any it reads none, as Django's own checks."""
    tables = {str(model._meta.db_table): model for model in apps.get_models(include_auto_created=True)}
    found = list[CheckMessage]()
    for alias in databases or ():
        if is_postgres(alias):
            found += _check(alias, tables)
    return found


def _check(alias: str, models: Mapping[str, Any]) -> list[CheckMessage]:
    try:
        with connect(database_url(alias), application_name="reindexer check", answer_s=ANSWER_S) as connection:
            if revision(connection) is None:
                return []  # nothing was ever attached here: a database of tests, perhaps
            require_revision(connection)
            return list(_warnings(connection, alias, models))
    except (ReindexerError, psycopg.Error) as exc:
        told = f"Triggers on tables of the database {alias!r} can't be checked: {one_line(exc)}"
        return [Warning(told, id="reindexer.W003")]


def _warnings(connection: Connection, alias: str, models: Mapping[str, Any]) -> Iterator[CheckMessage]:
    quoted = {connections[alias].ops.quote_name(table): model for table, model in models.items()}
    query = "SELECT to_regclass(name)::oid::bigint, name FROM unnest(%s::text[]) AS name"
    by_oid = {oid: quoted[name] for oid, name in connection.execute(query, [list(quoted)])}
    for source in all_sources(connection):
        was = recorded(connection, source)
        model = by_oid.get(was.table_oid) if was and was.table_oid else None
        if model is None:
            continue
        finding = inspect(connection, source)
        if finding.wrong:
            told = f"The source {source.name!r} is not followed as it should be: {finding.wrong}"
            yield Warning(told, hint=_HINT, obj=model, id="reindexer.W001")
        if finding.problem:
            told = f"The source {source.name!r} can't be worked on: {finding.problem}"
            yield Warning(told, hint=_HINT, obj=model, id="reindexer.W002")
