"""Who gets what of a charge: dated shares in basis points, divided by largest remainder so that nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from btt_bridge.errors import MappingError
from btt_bridge.mappings import Source
from btt_bridge.money import Amount, split
from btt_bridge.settle import dated

_SCHEMA = "splits.schema.json"
#: The party whose account is that of the node which did the work, or the month's pool.
CONTRIBUTORS = "contributors"
WHOLE_BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class Share:
    """One party's part."""

    party: str
    basis_points: int
    #: "" for the contributors.
    account: str


@dataclass(frozen=True, slots=True)
class Split:
    """One dated version of the shares."""

    name: str
    effective_from: date
    shares: tuple[Share, ...]
    #: Whether the contributors' share waits in a pool until its month is shared out, or is the node's at once.
    pooled: bool = False

    def divide(self, amount: Amount) -> list[tuple[Share, Amount]]:
        """Return each party's part of an amount; the parts sum to it exactly."""
        parts = split(amount.units, [share.basis_points for share in self.shares])
        return [(share, Amount(part, amount.asset)) for share, part in zip(self.shares, parts, strict=True)]


def load(folder: Path) -> tuple[Split, ...]:
    """Return the splits of a folder, oldest first; raise MappingError with file and line."""
    return dated.load(folder, _SCHEMA, _split)


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the splits of a folder."""
    return dated.check(folder, _SCHEMA, _split)


def on(splits: Sequence[Split], day: date) -> Split:
    """Return the split that counts on a day."""
    return dated.in_force(splits, day)


def _split(source: Source) -> Split:
    shares = tuple(Share(s["party"], s["basis_points"], s.get("account", "")) for s in source.body["shares"])
    total = sum(share.basis_points for share in shares)
    if total != WHOLE_BASIS_POINTS:
        over = "above" if total > WHOLE_BASIS_POINTS else "below"
        raise source.error(f"the shares sum to {total} basis points, {over} {WHOLE_BASIS_POINTS}", ("shares",))
    for position, share in enumerate(shares):
        if (share.party == CONTRIBUTORS) == bool(share.account):
            message = "the contributors' account is the node's" if share.account else "needs an account"
            raise source.error(message, ("shares", position), keyword="account")
    if len({share.party for share in shares}) != len(shares):
        raise source.error("a party stands twice", ("shares",))
    return Split(source.body["name"], dated.day(source), shares, source.body.get("contributors") == "pool")
