"""What the work came to, kept in the book beside its price: operations, voxels and bytes, by double entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from btt_bridge.ledger import Ledger, Move, Posting
from btt_bridge.money import Amount, Asset
from btt_bridge.records import Charge

OPERATIONS: Final = Asset("OPS", 0)
VOXELS: Final = Asset("VOXELS", 0)
BYTES: Final = Asset("BYTES", 0)
#: What is measured; the book keeps it as it keeps money: chained, audited, once for each bill.
UNITS: Final = (OPERATIONS, VOXELS, BYTES)
_READING: Final = "compute usage"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one delivered result took."""

    operations: int = 0
    voxels: int = 0
    size_bytes: int = 0


def open_accounts(ledger: Ledger, hospital: str) -> None:
    """Open the accounts that the readings of a hospital need."""
    for unit in UNITS:
        ledger.open_account(_source(unit), unit, credit_limit=None)
        ledger.open_account(account(hospital, unit), unit)


def account(hospital: str, unit: Asset) -> str:
    """Name a hospital's account of a unit; it only ever grows."""
    return f"hospital:{hospital}:usage:{unit.code.lower()}"


def steps(hospital: str, charge: Charge) -> list[Move]:
    """Return the transfers that book what a charged result took; they go into the posting of its charge.

    No event tells of them, for sizes of single studies stay inside.
    """
    quantities = zip(UNITS, (charge.operations, charge.voxels, charge.size_bytes), strict=True)
    return [
        Move(_source(unit), account(hospital, unit), Amount(quantity, unit), _READING)
        for unit, quantity in quantities
        if quantity
    ]


def reading(charged: Posting) -> Reading | None:
    """Return what was read for a charge; None where nothing was."""
    read = {transfer.amount.asset: transfer.amount.units for transfer in charged.transfers}
    return Reading(*(read.get(unit, 0) for unit in UNITS)) if read.keys() & set(UNITS) else None


def _source(unit: Asset) -> str:
    return f"meter:{unit.code.lower()}"
