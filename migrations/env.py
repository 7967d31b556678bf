"""Alembic's environment: the database of `DATABASE_URL`, the version table in the schema `reindexer`."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from reindexer.migrate import sqlalchemy_url
from reindexer.settings import Settings

SCHEMA = "reindexer"


def main() -> None:
    """Run the migrations in one transaction; a caller may hand its own URL in the attribute `database_url`."""
    url = context.config.attributes.get("database_url") or Settings().require_database_url()
    if context.is_offline_mode():
        raise SystemExit("offline mode is not supported: the migrations read the catalog")
    engine = create_engine(sqlalchemy_url(url), poolclass=pool.NullPool)
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '1s'"))
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        context.configure(connection=connection, version_table_schema=SCHEMA, transaction_per_migration=False)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


main()
