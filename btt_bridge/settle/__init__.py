"""settle: what a study was worth, and to whom.

In: the facts of a job, then word that its result was delivered, or will not be. Out: postings in the ledger, and one
signed CloudEvent for each through the outbox. Wrong: `OverdrawnError` beyond the hospital's credit line, `MappingError`
for a price list or split that does not hold; asking twice is never wrong, and changes nothing.
"""

from datetime import timedelta
from pathlib import Path

from btt_bridge.config import Settings
from btt_bridge.errors import MappingError
from btt_bridge.ledger import Ledger
from btt_bridge.settle import dividends, prices, splits, usage
from btt_bridge.settle.billing import Billing, Cause, Delivered, Standing, State, history
from btt_bridge.settle.clinical import Clinical, kinds, open_clinical
from btt_bridge.settle.outbox import FileSink, drain
from btt_bridge.settle.prices import Facts
from btt_bridge.settle.till import Till

__all__ = [
    "Billing",
    "Cause",
    "Clinical",
    "Delivered",
    "Facts",
    "FileSink",
    "Standing",
    "State",
    "Till",
    "check",
    "drain",
    "history",
    "kinds",
    "open_billing",
    "open_clinical",
]


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the money in a folder of mappings."""
    return [
        *prices.check(folder / "prices"),
        *splits.check(folder / "splits"),
        *usage.check(folder / "references"),
        *dividends.check(folder / "dividends"),
    ]


def open_billing(settings: Settings, ledger: Ledger) -> Billing:
    """Return the hospital's bills by its mappings, with the accounts they need open in the ledger."""
    billing = Billing(
        ledger=ledger,
        hospital=settings.settle.hospital,
        prices=prices.load(settings.mappings_dir / "prices"),
        splits=splits.load(settings.mappings_dir / "splits"),
        margin=timedelta(seconds=settings.settle.hold_margin_seconds),
    )
    billing.open(settings.settle.credit_units)
    return billing
