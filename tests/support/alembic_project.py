"""An application's own Alembic project: an env.py, and migrations that a test writes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

ENV = """
from alembic import context

import reindexer.alembic

engine = context.config.attributes["engine"]
if context.is_offline_mode():
    context.configure(dialect_name="postgresql")
    with context.begin_transaction():
        context.run_migrations()
else:
    with engine.connect() as connection:
        context.configure(connection=connection, **context.config.attributes["options"])
        with context.begin_transaction():
            context.run_migrations()
"""

MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = {number!r}, {before!r}


def upgrade():
    {upgrade}


def downgrade():
    {downgrade}
"""


class AlembicProject:
    """Commands of Alembic, in this process."""

    def __init__(self, directory: Path, engine: Engine, **options: Any) -> None:
        """`options`: of `context.configure`."""
        self._versions = directory / "versions"
        self._versions.mkdir()
        (directory / "env.py").write_text(ENV, encoding="utf-8")
        self.printed = io.StringIO()
        self.config = Config(output_buffer=self.printed)
        self.config.set_main_option("script_location", str(directory))
        self.config.attributes |= {"engine": engine, "options": options}

    def migration(self, upgrade: str, downgrade: str = "pass") -> str:
        """Write the next migration; return its number. Several statements have semicolons between them."""
        number = len(list(self._versions.glob("*.py"))) + 1
        before = f"{number - 1:04}" if number > 1 else None
        text = MIGRATION.format(number=f"{number:04}", before=before, upgrade=upgrade, downgrade=downgrade)
        (self._versions / f"{number:04}.py").write_text(text, encoding="utf-8")
        return f"{number:04}"

    def upgrade(self, to: str = "head", *, sql: bool = False) -> None:
        """`alembic upgrade`."""
        command.upgrade(self.config, to, sql=sql)

    def downgrade(self, to: str) -> None:
        """`alembic downgrade`."""
        command.downgrade(self.config, to)
