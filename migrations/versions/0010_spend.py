"""What requests to providers cost."""

from reindexer.migrate import run_sql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Write it; the SQL is in migrations/sql/0010_spend_up.sql."""
    run_sql("0010_spend_up.sql")


def downgrade() -> None:
    """What was spent is forgotten; the SQL is in migrations/sql/0010_spend_down.sql."""
    run_sql("0010_spend_down.sql")
