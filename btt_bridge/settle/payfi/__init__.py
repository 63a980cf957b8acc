"""payfi: what is owed for care, paid within hours.

In: FHIR Claim, Invoice and PaymentNotice, and what a bank confirms. Out: postings in the ledger, payment orders for a
rail, FHIR PaymentReconciliation and PaymentNotice, and a signed event for each fact. Wrong: `OverdrawnError` beyond
what a payer has, `RateUnavailableError` without a rate that may be used, `KeyConflictError` for a document that asked
for something else before; asking twice is never wrong, and changes nothing.
"""

from pathlib import Path

from btt_bridge import plugins
from btt_bridge.clock import Clock
from btt_bridge.config import Settings
from btt_bridge.errors import MappingError
from btt_bridge.ledger import Ledger
from btt_bridge.plugins import SettlementRail
from btt_bridge.settle.payfi import documents, names, participants, policy
from btt_bridge.settle.payfi.clearing import Clearing, HandedOver, Standing, State
from btt_bridge.settle.payfi.events import FUNDED, INSTRUCTED, NETTED, RETURNED, SETTLED
from btt_bridge.settle.payfi.instructions import PaymentInstruction, Reader
from btt_bridge.settle.payfi.netting import Leg
from btt_bridge.settle.payfi.rates import Desk, Quote
from btt_bridge.settle.payfi.reconcile import ServiceLevel, reconcile, run, service_level
from btt_bridge.store import Store

__all__ = [
    "FUNDED",
    "INSTRUCTED",
    "NETTED",
    "RETURNED",
    "SETTLED",
    "Clearing",
    "Desk",
    "HandedOver",
    "Leg",
    "PaymentInstruction",
    "Quote",
    "Reader",
    "ServiceLevel",
    "Standing",
    "State",
    "check",
    "documents",
    "names",
    "open_clearing",
    "open_desk",
    "open_documents",
    "open_rail",
    "reconcile",
    "run",
    "service_level",
]


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the rules and participants in a folder of mappings; without it, nothing."""
    home = folder / "payfi"
    return [*policy.check(home), *participants.check(home / "participants")] if home.is_dir() else []


def open_desk(settings: Settings, clock: Clock) -> Desk:
    """Return the desk that quotes rates from the configured sources."""
    return Desk([plugins.rate_source(feed.kind, feed.place) for feed in settings.payfi.rates], clock)


def open_rail(settings: Settings) -> SettlementRail:
    """Return the configured rail."""
    return plugins.rail(settings.payfi.rail, settings.under_data(settings.payfi.rail_place, "rail"))


def open_documents(settings: Settings) -> Store:
    """Return the folder for what payees are told."""
    return Store(settings.under_data(settings.payfi.documents_dir, "payments"))


def open_clearing(settings: Settings, ledger: Ledger) -> Clearing:
    """Return the clearing house by the hospital's mappings, with the accounts it needs open in the ledger."""
    home = settings.mappings_dir / "payfi"
    clearing = Clearing(ledger, policy.load(home), participants.load(home / "participants"))
    clearing.open()
    return clearing
