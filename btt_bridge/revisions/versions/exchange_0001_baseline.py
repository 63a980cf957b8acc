"""The tables of the exchange as version 0.1.0 makes them."""

revision = "exchange_0001"
down_revision = None


def upgrade() -> None:
    """Do nothing: tables that are not there are made as the newest version wants them."""
