"""A source's definition is one document, so that its next attribute needs no migration."""

from reindexer.migrate import run_sql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Write it; the SQL is in migrations/sql/0006_up.sql."""
    run_sql("0006_up.sql")


def downgrade() -> None:
    """Columns again; the SQL is in migrations/sql/0006_down.sql."""
    run_sql("0006_down.sql")
