"""token: the fixed supply of BTT, how it is released, staked, voted on, earned and burned.

In: an allocation table and terms, then who stakes, votes, computes or refers. Out: postings in the ledger, which is
all that this package remembers, each with its signed event. Wrong: `RefusedError` for what the terms forbid,
`OverdrawnError` for what is not there or exceeds a cap, `ConfigurationError` for a table that the supply was not made
by; asking twice is never wrong, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from btt_bridge.errors import ConfigurationError, MappingError
from btt_bridge.ledger import Ledger
from btt_bridge.settle import dated
from btt_bridge.settle.prices import discounted
from btt_bridge.settle.token import allocation, terms
from btt_bridge.settle.token.accounts import ISSUER
from btt_bridge.settle.token.allocation import Ongoing, Table
from btt_bridge.settle.token.dedication import Dedication, Dedications
from btt_bridge.settle.token.governance import Choice, Governance, Outcome, Proposal, Reach, Recover, Spend, Tally
from btt_bridge.settle.token.referrals import Institution, Referrals
from btt_bridge.settle.token.staking import Stakes
from btt_bridge.settle.token.supply import Figures, Supply
from btt_bridge.settle.token.terms import Stake

__all__ = [
    "Choice",
    "Dedication",
    "Dedications",
    "Figures",
    "Governance",
    "Institution",
    "Outcome",
    "Proposal",
    "Reach",
    "Recover",
    "Referrals",
    "Spend",
    "Stake",
    "Stakes",
    "Supply",
    "Tally",
    "Token",
    "book_of",
    "check",
    "discounted",
    "find_token",
    "open_stakes",
    "open_token",
]


@dataclass(frozen=True)
class Token:
    """Everything that can be done with BTT in one ledger."""

    supply: Supply
    stakes: Stakes
    dedications: Dedications
    governance: Governance
    referrals: Referrals


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the token in a folder of mappings."""
    return [*allocation.check(folder / "token" / "allocation"), *terms.check(folder / "token" / "terms")]


def open_stakes(folder: Path, ledger: Ledger) -> Stakes:
    """Return everybody's stakes by the terms of a folder of mappings."""
    return Stakes(ledger, terms.load(folder / "token" / "terms"))


def find_token(folder: Path, ledger: Ledger) -> Token | None:
    """Return the token where this ledger is its book; None where no supply was made, and none is made by asking."""
    return open_token(folder, ledger) if ledger.find(ISSUER, "genesis") else None


def book_of(folder: Path, ledger: Ledger) -> Token:
    """Return the token where this ledger is its book; raise ConfigurationError where it is not."""
    token = find_token(folder, ledger)
    if token is None:
        raise ConfigurationError(
            "this ledger is not the token's book: no supply was made in it",
            advice="Ask the operator's; `btt-bridge token mint` makes the supply, once for all hospitals.",
        )
    return token


def open_token(folder: Path, ledger: Ledger) -> Token:
    """Return the token by a folder of mappings, with its supply made: once, and then as it stands.

    This makes the ledger the token's book; who only wants to look asks `find_token`.
    """
    tables, versions = allocation.load(folder / "token" / "allocation"), terms.load(folder / "token" / "terms")
    table = dated.in_force(tables, ledger.now().date())
    supply, stakes = Supply(ledger, table), Stakes(ledger, versions)
    supply.mint()
    return Token(
        supply,
        stakes,
        Dedications(ledger, stakes),
        Governance(ledger, table, versions, stakes),
        Referrals(ledger, versions, _payer(table)),
    )


def _payer(table: Table) -> str:
    for one in table.allocations:
        if isinstance(one.release, Ongoing):
            return one.name
    raise ConfigurationError("no allocation is released for participation")
