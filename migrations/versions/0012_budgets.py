"""Budgets: how much may be spent, and which database spends."""

from reindexer.migrate import run_sql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The SQL is in migrations/sql/0012_budgets_up.sql."""
    run_sql("0012_budgets_up.sql")


def downgrade() -> None:
    """Nothing limits what is spent any more; the SQL is in migrations/sql/0012_budgets_down.sql."""
    run_sql("0012_budgets_down.sql")
