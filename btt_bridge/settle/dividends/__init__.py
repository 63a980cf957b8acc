"""dividends: the contributors' share of a month, divided by what each supplied and how well.

In: the month's pool and charges as the book tells them, an exchange's own measurements, auditors' signed attestations.
Out: one posting that says how the pool was divided, one payment and event for each contributor, and what is carried to
the next month. Wrong: `RefusedError` before a month is over, or out of order; what nobody measured counts as one.
"""

from pathlib import Path

from btt_bridge.errors import MappingError
from btt_bridge.ledger import Ledger
from btt_bridge.settle.dividends import contributors, formula
from btt_bridge.settle.dividends.attestations import Attestation, Refusal, audited, sign
from btt_bridge.settle.dividends.contributors import Registry
from btt_bridge.settle.dividends.formula import Audited, Formula
from btt_bridge.settle.dividends.sharing import Distribution, Dividends, Share

__all__ = [
    "Attestation",
    "Audited",
    "Distribution",
    "Dividends",
    "Formula",
    "Refusal",
    "Registry",
    "Share",
    "audited",
    "check",
    "load_registry",
    "open_dividends",
    "sign",
]


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the dividends in a folder of mappings."""
    return [*formula.check(folder), *contributors.check(folder / "contributors")]


def load_registry(folder: Path) -> Registry:
    """Return who contributes by which nodes, by the mappings in a folder; without any, nobody."""
    return contributors.load(folder / "contributors")


def open_dividends(folder: Path, ledger: Ledger) -> Dividends:
    """Return the dividends of a ledger by the mappings in a folder; raise MappingError with file and line."""
    return Dividends(ledger, formula.load(folder), load_registry(folder))
