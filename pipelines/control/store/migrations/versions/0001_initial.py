"""All tables as they were at first."""

from alembic import op

from pipelines.control.store.tables import METADATA

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make it so."""
    METADATA.create_all(op.get_bind())
