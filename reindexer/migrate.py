"""Migrate: bring the schema to its newest revision and the sources to what the sources file says, then create every
source's triggers and start its first fill. Safe to repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import psycopg
from alembic import command, op
from alembic.config import Config
from alembic.util.exc import CommandError
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy.exc import DBAPIError

from reindexer import audit
from reindexer.core.errors import ReindexerError, UsageError
from reindexer.core.redefinition import changes
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection, connect, one_line
from reindexer.postgres.locks import changing_triggers
from reindexer.postgres.namesake import others_in_our_schema, trap
from reindexer.postgres.schema import REVISION, require_revision, revision
from reindexer.sources.attach import Attached, attach
from reindexer.sources.built_in import built_in, is_built_in, make_table, require_place
from reindexer.sources.store import all_sources, attached_before, find_source
from reindexer.sources.trigger_check import inspect
from reindexer.sources_file.fit import Definitions, definitions
from reindexer.sources_file.read import SourcesFile

SCHEMA = "(schema)"
"""The schema's key in a preview, beside the names of sources."""


def migrate(
    url: str, file: SourcesFile | None = None, *, with_context_items: bool = False, strict: bool = True
) -> list[Attached]:
    """Bring the database to this version of the program, and sources to what the file says.

    Returns what was done to each source. A source that can't be attached does not stop the others. Raises
    DependencyUnavailable if the server does not answer, UsageError if the schema is a newer version's, SourceError if a
    source is. Where `strict`, raises UsageError before anything is changed if the file is wrong about a source, or if
    the built-in table is wanted and something else has its name.
    """
    with connect(url, application_name="reindexer migrate") as connection, changing_triggers(connection):
        _require_no_trap(connection)
        attached_before(connection)  # guard definition-newer-migrate-refusal
        wanted = definitions(connection, file, strict=strict)  # guard sources-file-pre-check
        if with_context_items and strict:
            require_place(connection)
        _alembic(command.upgrade, url, "head")
        before = {each.name: each for each in all_sources(connection)}
        done = [Attached(name, changed=False, problem=problem) for name, problem in wanted.unfit.items()]
        for source in _all(connection, wanted, before, with_context_items=with_context_items, again=strict):
            did = _again(connection, source, make=with_context_items and is_built_in(source))
            redefined = before.get(source.name, source) != source
            done.append(replace(did, redefined=redefined, note=wanted.kept.get(source.name)))
        changed = [each.source for each in done if each.changed]
        audit.note(connection, audit.of_command(), "migrate", None, {"revision": REVISION, "filled": changed})
        return done


def upgrade(url: str) -> None:
    """Bring the schema to its newest revision. Raises as `migrate` does."""
    with connect(url, application_name="reindexer migrate") as connection, changing_triggers(connection):
        _require_no_trap(connection)
        _alembic(command.upgrade, url, "head")


def preview(url: str, file: SourcesFile | None, *, with_context_items: bool = False) -> dict[str, str]:
    """What `migrate` would do, by source and to the schema. Changes nothing. Raises UsageError as `migrate` does."""
    with connect(url, application_name="reindexer migrate") as connection:
        _require_no_trap(connection)
        wanted = definitions(connection, file)
        if with_context_items:
            require_place(connection)
        before = attached_before(connection)
        sources = _all(connection, wanted, before, with_context_items=with_context_items, again=True)
        found = revision(connection)
        if found is None or found < REVISION:
            told = {SCHEMA: f"would be brought to revision {REVISION}"}
            return {**told, **wanted.unfit, **{each.name: _newly(each, before) for each in sources}, **wanted.kept}
        require_revision(connection)
        told = {SCHEMA: "up to date", **wanted.unfit}
        verdicts = {each.name: _verdict(connection, each, before.get(each.name)) for each in sources}
        return {**told, **verdicts, **wanted.kept}


def _require_no_trap(connection: Connection) -> None:
    """Checked before the schema exists: a table of the user's could otherwise end up in it."""
    # guard role-schema-creation-refusal
    if revision(connection) is None and (danger := trap(connection)) and danger.is_us:
        raise UsageError(str(danger))


def _all(
    connection: Connection, wanted: Definitions, before: Mapping[str, Source], *, with_context_items: bool, again: bool
) -> list[Source]:
    """The sources to attach: the built-in one if wanted, those of the file, then the other attached ones, by name."""
    named = {each.name for each in wanted.sources} | wanted.unfit.keys()
    all_of_them = [*wanted.sources, *(source for name, source in before.items() if name not in named)]
    first = built_in(connection, [*all_of_them, *before.values()], wanted=with_context_items, again=again)
    return [first, *all_of_them] if first else sorted(all_of_them, key=lambda each: not is_built_in(each))


def _newly(source: Source, before: Mapping[str, Source]) -> str:
    if source.name in before:
        return "would be brought to this version"
    return "would be attached" if is_built_in(source) else "fits its table; would be attached"


def _again(connection: Connection, source: Source, *, make: bool) -> Attached:
    """Attach one source. A source that can't be attached any more (its table is gone, say) does not stop the others."""
    try:
        if make:
            make_table(connection)
        did = attach(connection, source)
        finding = inspect(connection, find_source(connection, source.name))
        return replace(did, problem=finding.problem)
    except (ReindexerError, psycopg.Error) as exc:
        if connection.closed:
            raise
        return Attached(source.name, changed=False, problem=one_line(exc))


def _verdict(connection: Connection, source: Source, before: Source | None) -> str:
    if before is None:
        return "would be attached"
    if differing := changes(before, source):
        return f"would be changed: {', '.join(differing)}"
    finding = inspect(connection, source)
    return "up to date" if finding.well else finding.problem or f"would be mended: {finding.wrong}"


def uninstall(url: str) -> list[str]:
    """Remove everything of ours from the database; the users' tables stay as they were.

    Returns what else is in our schema, which then stays. Qdrant's collections stay, too. Raises DependencyUnavailable
    if the server does not answer, ReindexerError if other transactions hold locks on the users' tables.
    """
    with connect(url, application_name="reindexer migrate") as connection, changing_triggers(connection):
        _alembic(command.downgrade, url, "base")
        connection.execute("DROP TABLE IF EXISTS reindexer.alembic_version")
        if not (others := others_in_our_schema(connection)):
            connection.execute("DROP SCHEMA IF EXISTS reindexer")
        return others


def _alembic(act: Callable[[Config, str], None], url: str, revision: str) -> None:
    """Waits for a lock at most 1 s at a time, so that no writer queues up behind us. Retries for 60 s."""
    until = time.monotonic() + 60
    while True:
        try:
            act(alembic_config(url), revision)
        except CommandError as exc:
            raise UsageError(
                f"the schema can't be migrated: {one_line(exc)}; is it a newer version's? Then use that version"
            ) from exc
        except (DBAPIError, psycopg.Error) as exc:  # the latter from `run_sql`, which goes past SQLAlchemy
            cause = exc.orig if isinstance(exc, DBAPIError) else exc
            # guard migration-lock-retry
            if not isinstance(cause, (LockNotAvailable, DeadlockDetected)) or time.monotonic() > until:
                raise ReindexerError(f"the migration failed: {one_line(cause or exc)}") from exc
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
    """Run a file of migrations/sql from within a migration, directly on the driver: `%` is no placeholder there."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute((_migrations() / "sql" / filename).read_text(encoding="utf-8"))


def _migrations() -> Path:
    """The folder of the migrations, in a checkout or in an installed wheel."""
    packaged = Path(str(files("reindexer"))) / "_migrations"
    return packaged if packaged.is_dir() else packaged.parent.parent / "migrations"
