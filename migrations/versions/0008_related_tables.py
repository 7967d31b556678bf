"""Related tables: which of their values changed, until the items that read them are due."""

from reindexer.migrate import run_sql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Write it; the SQL is in migrations/sql/0008_up.sql."""
    run_sql("0008_up.sql")


def downgrade() -> None:
    """Related tables are followed no more; the SQL is in migrations/sql/0008_down.sql."""
    run_sql("0008_down.sql")
