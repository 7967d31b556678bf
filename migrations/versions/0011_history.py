"""What the page draws: a row a minute."""

from reindexer.migrate import run_sql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Write it; the SQL is in migrations/sql/0011_history_up.sql."""
    run_sql("0011_history_up.sql")


def downgrade() -> None:
    """The past is forgotten; the SQL is in migrations/sql/0011_history_down.sql."""
    run_sql("0011_history_down.sql")
