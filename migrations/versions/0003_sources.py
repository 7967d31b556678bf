"""Sources of any shape: a template for the text, a condition that picks rows."""

from reindexer.migrate import run_sql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; the SQL is in migrations/sql/0003_up.sql."""
    run_sql("0003_up.sql")


def downgrade() -> None:
    """Take them away; the SQL is in migrations/sql/0003_down.sql."""
    run_sql("0003_down.sql")
