"""What was found from outside: rows, sessions and processes that the schema did not stand up to."""

from reindexer.migrate import run_sql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Mend it; the SQL is in migrations/sql/0005_up.sql."""
    run_sql("0005_up.sql")


def downgrade() -> None:
    """As it was; the SQL is in migrations/sql/0005_down.sql."""
    run_sql("0005_down.sql")
