"""Moments: a mark writes nothing, and what was drained is kept until it is settled."""

from reindexer.migrate import run_sql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The SQL is in migrations/sql/0016_moments_up.sql."""
    run_sql("0016_moments_up.sql")


def downgrade() -> None:
    """A mark writes a row again; the SQL is in migrations/sql/0016_moments_down.sql."""
    run_sql("0016_moments_down.sql")
