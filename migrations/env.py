"""Alembic's environment: the database of `DATABASE_URL`, the version table in the schema `reindexer`."""

from alembic import context
from psycopg import Cursor
from sqlalchemy import create_engine, pool, text

from reindexer.postgres.connect import Connection, connect
from reindexer.postgres.session import FOR_ALL_OF_TRANSACTION
from reindexer.settings import Settings

SCHEMA = "reindexer"


def main() -> None:
    """Run the migrations in one transaction; a caller may hand its own URL in the attribute `database_url`."""
    url = context.config.attributes.get("database_url") or Settings().require_database_url()
    if context.is_offline_mode():
        raise SystemExit("offline mode is not supported: the migrations read the catalog")

    def ours() -> Connection:
        connection = connect(url, application_name="reindexer migrate")
        connection.autocommit, connection.prepare_threshold = False, None
        connection.cursor_factory = Cursor  # whatever the session: files of several statements go as text
        return connection

    engine = create_engine("postgresql+psycopg://", creator=ours, poolclass=pool.NullPool)
    with engine.begin() as connection:
        connection.execute(text("SET TRANSACTION READ WRITE"))
        connection.execute(text(FOR_ALL_OF_TRANSACTION))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL lock_timeout = '1s'"))
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        context.configure(connection=connection, version_table_schema=SCHEMA, transaction_per_migration=False)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


main()
