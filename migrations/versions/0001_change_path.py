"""The change path: sources, outbox, due, ledger, requests, runs, item_status."""

from reindexer.migrate import run_sql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make schema objects; the SQL is in migrations/sql/0001_up.sql."""
    run_sql("0001_up.sql")


def downgrade() -> None:
    """Take everything of ours away; the SQL is in migrations/sql/0001_down.sql."""
    run_sql("0001_down.sql")
