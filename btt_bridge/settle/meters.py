"""What the work came to, kept in the book beside its price: operations, voxels and bytes, by double entry."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from btt_bridge.errors import KeyConflictError
from btt_bridge.ledger import Ledger, Move, Posting
from btt_bridge.money import Amount, Asset
from btt_bridge.records import Charge
from btt_bridge.settle.billing import Standing, State

#: Units of what is measured. A reading is a posting like any other: chained, audited, made once.
OPERATIONS: Final = Asset("OPS", 0)
VOXELS: Final = Asset("VOXELS", 0)
BYTES: Final = Asset("BYTES", 0)
_UNITS: Final = (OPERATIONS, VOXELS, BYTES)
_READING: Final = "compute usage"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one delivered result took."""

    operations: int = 0
    voxels: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Meters:
    """The meters of one hospital."""

    ledger: Ledger
    hospital: str

    def open(self) -> None:
        """Open the accounts that readings need."""
        for unit in _UNITS:
            self.ledger.open_account(_source(unit), unit, credit_limit=None)
            self.ledger.open_account(self.account(unit), unit)

    def account(self, unit: Asset) -> str:
        """Name the hospital's account of a unit; it only ever grows."""
        return f"hospital:{self.hospital}:usage:{unit.code.lower()}"

    def read(self, standing: Standing, charge: Charge) -> Posting | None:
        """Book what a charged result took; once for each bill, and nothing where it did not cost anything.

        It tells no event, for sizes of single studies stay inside. The first reading of a bill stands.
        """
        if standing.state is not State.CHARGED or standing.posting is None:
            return None
        quantities = zip(_UNITS, (charge.operations, charge.voxels, charge.size_bytes), strict=True)
        steps = [
            Move(_source(unit), self.account(unit), Amount(quantity, unit), _READING)
            for unit, quantity in quantities
            if quantity
        ]
        key = _key(standing.posting.key)
        if steps:
            with suppress(KeyConflictError):
                return self.ledger.post_all(self.hospital, key, steps)
        return self.ledger.find(self.hospital, key)


def readings(ledger: Ledger, hospital: str, bills: Sequence[str]) -> dict[str, Reading]:
    """Return what was read for each of these bills, by its key; a bill that nobody read has none."""
    found = {}
    for posting in ledger.find_all(hospital, [_key(bill) for bill in bills]):
        by_unit = {transfer.amount.asset: transfer.amount.units for transfer in posting.transfers}
        found[posting.key.removesuffix(":usage")] = Reading(*(by_unit.get(unit, 0) for unit in _UNITS))
    return found


def _key(bill: str) -> str:
    return f"{bill}:usage"


def _source(unit: Asset) -> str:
    return f"meter:{unit.code.lower()}"
