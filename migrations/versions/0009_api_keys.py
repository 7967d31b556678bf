"""API keys that see less, and items that are forgotten."""

from reindexer.migrate import run_sql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Write it; the SQL is in migrations/sql/0009_api_keys_up.sql."""
    run_sql("0009_api_keys_up.sql")


def downgrade() -> None:
    """All keys are gone; the SQL is in migrations/sql/0009_api_keys_down.sql."""
    run_sql("0009_api_keys_down.sql")
