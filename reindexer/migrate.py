"""Migrate: the schema to its newest revision, sources to what the sources file says, then every source's triggers and
first fill. Safe to repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from alembic import command, op
from alembic.config import Config
from alembic.util.exc import CommandError
from psycopg.errors import LockNotAvailable
from sqlalchemy.exc import DBAPIError

from reindexer.core.errors import ReindexerError, UsageError
from reindexer.core.redefinition import changes
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.flow import audit
from reindexer.flow.attach import Attached, all_sources, attach
from reindexer.flow.inspect import inspect
from reindexer.postgres.connect import Connection, connect, one_line
from reindexer.postgres.locks import changing_triggers
from reindexer.postgres.schema import REVISION, require_revision, revision
from reindexer.sources_file.fit import definitions
from reindexer.sources_file.read import SourcesFile

SCHEMA = "(schema)"
"""In a preview, beside names of sources."""


def migrate(url: str, file: SourcesFile | None = None) -> list[Attached]:
    """Bring the database to this version of the program, and sources to what the file says.

    Returns what was done to each source. Raises DependencyAway if the server does not answer, UsageError if the schema
    is a newer version's or, before anything is changed, if a source of the file does not fit its table; UsageError or
    SourceError if the built-in source can't be attached.
    """
    with connect(url, application_name="reindexer migrate") as connection, changing_triggers(connection):
        wanted = definitions(connection, file) if file else []
        _alembic(command.upgrade, url, "head")
        before = {each.name: each for each in all_sources(connection)}
        done = [attach(connection, CONTEXT_ITEMS)]
        for source in _all_but_built_in(wanted, before):
            did = _again(connection, source)
            done.append(replace(did, redefined=before.get(source.name, source) != source))
        changed = [each.source for each in done if each.changed]
        audit.note(connection, audit.of_command(), "migrate", None, {"revision": REVISION, "filled": changed})
        return done


def preview(url: str, file: SourcesFile | None) -> dict[str, str]:
    """What `migrate` would do, by source, and to the schema. Changes nothing. Raises UsageError as `migrate`."""
    with connect(url, application_name="reindexer migrate") as connection:
        wanted = definitions(connection, file) if file else []
        found = revision(connection)
        if found is None or found < REVISION:
            told = {SCHEMA: f"would be brought to revision {REVISION}"}
            return told | {each.name: "fits its table; would be attached" for each in wanted}
        require_revision(connection)
        before = {each.name: each for each in all_sources(connection)}
        told = {SCHEMA: "up to date"}
        for source in [CONTEXT_ITEMS, *_all_but_built_in(wanted, before)]:
            told[source.name] = _verdict(connection, source, before.get(source.name))
        return told


def _all_but_built_in(wanted: Sequence[Source], before: Mapping[str, Source]) -> list[Source]:
    """Those of the file, then the others that are attached, by name."""
    named = {each.name for each in wanted} | {CONTEXT_ITEMS.name}
    return [*wanted, *(source for name, source in before.items() if name not in named)]


def _again(connection: Connection, source: Source) -> Attached:
    """A source that can't be attached any more, its table being gone, say, keeps nobody from migrating."""
    try:
        return attach(connection, source)
    except ReindexerError as exc:
        return Attached(source.name, changed=False, problem=str(exc))


def _verdict(connection: Connection, source: Source, before: Source | None) -> str:
    if before is None:
        return "would be attached"
    if differing := changes(before, source):
        return f"would be changed: {', '.join(differing)}"
    finding = inspect(connection, source)
    return "up to date" if finding.well else f"would be mended: {finding.problem or finding.wrong}"


def uninstall(url: str) -> None:
    """Take everything of ours out of the database; the users' tables stay as they were.

    Qdrant's collections are left. Raises DependencyAway if the server does not answer, ReindexerError if other
    transactions hold the users' tables.
    """
    with connect(url, application_name="reindexer migrate") as connection, changing_triggers(connection):
        _alembic(command.downgrade, url, "base")
        connection.execute("DROP TABLE IF EXISTS reindexer.alembic_version")
        connection.execute("DROP SCHEMA IF EXISTS reindexer")


def _alembic(act: Callable[[Config, str], None], url: str, revision: str) -> None:
    """Waits at most a second for a lock, so that no writer queues up behind us; tries again for a minute."""
    until = time.monotonic() + 60
    while True:
        try:
            act(alembic_config(url), revision)
        except CommandError as exc:
            raise UsageError(
                f"the schema can't be migrated: {one_line(exc)}; is it a newer version's? Then use that version"
            ) from exc
        except DBAPIError as exc:
            if not isinstance(exc.orig, LockNotAvailable) or time.monotonic() > until:
                raise ReindexerError(f"the migration failed: {one_line(exc.orig or exc)}") from exc
            time.sleep(0.5)
        else:
            return


def alembic_config(url: str) -> Config:
    """Alembic's configuration, whether from a checkout or from an installed wheel."""
    config = Config()
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    config.attributes["database_url"] = url
    return config


def run_sql(filename: str) -> None:
    """Run a file of migrations/sql, from within a migration: straight to the driver, which sees no placeholders."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute((_migrations() / "sql" / filename).read_text(encoding="utf-8"))


def _migrations() -> Path:
    """Their folder, in a checkout or in an installed wheel."""
    packaged = Path(str(files("reindexer"))) / "_migrations"
    return packaged if packaged.is_dir() else packaged.parent.parent / "migrations"
