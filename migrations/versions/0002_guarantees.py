"""What the guarantees need under faults: breakers, second looks after doubtful deletes, an audit, counters."""

from reindexer.migrate import run_sql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them; the SQL is in migrations/sql/0002_up.sql."""
    run_sql("0002_up.sql")


def downgrade() -> None:
    """Take them away; the SQL is in migrations/sql/0002_down.sql."""
    run_sql("0002_down.sql")
