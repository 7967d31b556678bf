"""Traces: which one a run belongs to."""

from reindexer.migrate import run_sql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The SQL is in migrations/sql/0015_traces_up.sql."""
    run_sql("0015_traces_up.sql")


def downgrade() -> None:
    """Runs belong to no trace any more; the SQL is in migrations/sql/0015_traces_down.sql."""
    run_sql("0015_traces_down.sql")
