"""How a source's texts become points: chunks, a profile, a tenant key."""

from reindexer.migrate import run_sql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; the SQL is in migrations/sql/0004_up.sql."""
    run_sql("0004_up.sql")


def downgrade() -> None:
    """Take them away; the SQL is in migrations/sql/0004_down.sql."""
    run_sql("0004_down.sql")
