"""The life of a generation: filled, ready, promoted, kept as a way back, dropped."""

from reindexer.migrate import run_sql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Write it; the SQL is in migrations/sql/0007_up.sql."""
    run_sql("0007_up.sql")


def downgrade() -> None:
    """One generation again; the SQL is in migrations/sql/0007_down.sql."""
    run_sql("0007_down.sql")
