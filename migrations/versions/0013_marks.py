"""Marks: what can be waited for."""

from reindexer.migrate import run_sql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The SQL is in migrations/sql/0013_marks_up.sql."""
    run_sql("0013_marks_up.sql")


def downgrade() -> None:
    """Nobody can wait for a transaction any more; the SQL is in migrations/sql/0013_marks_down.sql."""
    run_sql("0013_marks_down.sql")
