"""Events: what became of items, runs and generations, for whoever asks to be told."""

from reindexer.migrate import run_sql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The SQL is in migrations/sql/0014_events_up.sql."""
    run_sql("0014_events_up.sql")


def downgrade() -> None:
    """Nobody is told any more; the SQL is in migrations/sql/0014_events_down.sql."""
    run_sql("0014_events_down.sql")
