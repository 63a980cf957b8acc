"""The tables of the vault as version 0.1.0 makes them."""

revision = "vault_0001"
down_revision = None


def upgrade() -> None:
    """Do nothing: tables that are not there are made as the newest version wants them."""
