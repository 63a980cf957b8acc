"""settle: what a study was worth, and to whom.

In: the facts of a job, then word that its result was delivered, or will not be. Out: postings in the ledger, and one
signed CloudEvent for each through the outbox. Wrong: `OverdrawnError` beyond the hospital's credit line, `MappingError`
for a price list or split that does not hold; asking twice is never wrong, and changes nothing.

In the order of events:
- the study is billed: `prices` quotes, `billing` holds and posts, `till` commits for many at once, `splits` divides,
  `pools` keeps what waits to be shared, `meters` counts the work;
- the EHR has told: `clinical` asks `rewards` for points and `payfi` for payments;
- what else the book carries: `assets` in shares, the `token`, contributors' `dividends`;
- time passes: `upkeep` lets holds run out, seals batches, sends payments to the bank and takes old points; a `chain`
  gets the roots of the batches, and tells what was burned on it;
- it is told: `events` are signed, `outbox` brings them out in order, `subscriptions` give each of the `sinks` its pace;
- it is read: `bills` from the book, as `charges` in FHIR, as `dft` in HL7 v2, and as the report of `usage`.
`dated` reads the mapping files that come into force on a day, for all of them.
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from btt_bridge.config import Settings
from btt_bridge.errors import MappingError
from btt_bridge.ledger import Ledger
from btt_bridge.settle import assets, dividends, payfi, prices, rewards, splits, token, usage
from btt_bridge.settle.assets import Uses, device_key
from btt_bridge.settle.billing import Billing, Cause, Delivered, Standing, State, history
from btt_bridge.settle.clinical import Clinical, kinds, open_clinical
from btt_bridge.settle.outbox import drain
from btt_bridge.settle.prices import Facts
from btt_bridge.settle.sinks import FileSink
from btt_bridge.settle.subscriptions import Subscription, rows, telling
from btt_bridge.settle.till import Till
from btt_bridge.settle.upkeep import Duty, duties, upkeep

__all__ = [
    "Billing",
    "Cause",
    "Clinical",
    "Delivered",
    "Duty",
    "Facts",
    "FileSink",
    "Standing",
    "State",
    "Subscription",
    "Till",
    "Uses",
    "check",
    "device_key",
    "drain",
    "duties",
    "history",
    "kinds",
    "open_billing",
    "open_clinical",
    "rows",
    "telling",
    "upkeep",
]


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the money in a folder of mappings."""
    return [
        *prices.check(folder / "prices"),
        *splits.check(folder / "splits"),
        *usage.check(folder / "references"),
        *dividends.check(folder / "dividends"),
        *payfi.check(folder),
        *assets.check(folder),
        # A hospital without rewards, or without a token's book, has no such folder.
        *(rewards.check(folder / "rewards") if (folder / "rewards").is_dir() else ()),
        *(token.check(folder) if (folder / "token").is_dir() else ()),
    ]


def open_billing(settings: Settings, ledger: Ledger) -> Billing:
    """Return the hospital's bills by its mappings, with the accounts they need open in the ledger."""
    billing = Billing(
        ledger=ledger,
        hospital=settings.settle.hospital,
        prices=prices.load(settings.mappings_dir / "prices"),
        splits=splits.load(settings.mappings_dir / "splits"),
        margin=timedelta(seconds=settings.settle.hold_margin_seconds),
        discount_percent=_discount(settings, ledger),
        credit_units=settings.settle.credit_units,
    )
    billing.open()
    return billing


def _discount(settings: Settings, ledger: Ledger) -> Callable[[], int]:
    """Return how to ask for the discount of the hospital's stake: none where the mappings know no token."""
    if not (settings.mappings_dir / "token").is_dir():
        return lambda: 0
    stakes, holder = token.open_stakes(settings.mappings_dir, ledger), f"hospital:{settings.settle.hospital}"
    return lambda: stakes.discount_percent(holder)
