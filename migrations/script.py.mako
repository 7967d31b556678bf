"""${message}"""

from pathlib import Path

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None

_SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    _run("${up_revision}_up.sql")


def downgrade() -> None:
    _run("${up_revision}_down.sql")


def _run(filename: str) -> None:
    """The file as it is: straight to the driver, which sees no placeholders where there are no parameters."""
    connection = op.get_bind().connection.driver_connection
    connection.execute((_SQL / filename).read_text(encoding="utf-8"))
