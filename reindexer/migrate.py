"""Migrate: the schema to its newest revision, then every source's triggers and first fill. Safe to repeat."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from alembic import command, op
from alembic.config import Config
from alembic.util.exc import CommandError
from psycopg import conninfo
from psycopg.errors import LockNotAvailable
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

from reindexer.core.errors import ReindexerError, UsageError
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.flow import audit
from reindexer.flow.attach import Attached, all_sources, attach
from reindexer.postgres.connect import Connection, connect, libpq_url, one_line
from reindexer.postgres.locks import changing_triggers
from reindexer.postgres.schema import REVISION


def migrate(url: str) -> list[Attached]:
    """Bring the database to this version of the program; returns what was done to each source.

    Raises DependencyAway if the server does not answer, UsageError if the schema is a newer version's, UsageError or
    SourceError if the built-in source can't be attached.
    """
    with connect(url, application_name="reindexer migrate") as connection, changing_triggers(connection):
        _alembic(command.upgrade, url, "head")
        done = [attach(connection, CONTEXT_ITEMS)]
        done += [_again(connection, each) for each in all_sources(connection) if each.name != CONTEXT_ITEMS.name]
        changed = [each.source for each in done if each.changed]
        audit.note(connection, audit.of_command(), "migrate", None, {"revision": REVISION, "filled": changed})
        return done


def _again(connection: Connection, source: Source) -> Attached:
    """A source that can't be attached any more, its table being gone, say, keeps nobody from migrating."""
    try:
        return attach(connection, source)
    except ReindexerError as exc:
        return Attached(source.name, changed=False, problem=str(exc))


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


def sqlalchemy_url(url: str) -> URL:
    """A database URL of either form for SQLAlchemy, which only Alembic uses here."""
    parts = conninfo.conninfo_to_dict(libpq_url(url))
    return make_url("postgresql+psycopg://").set(query={k: str(v) for k, v in parts.items() if v is not None})
