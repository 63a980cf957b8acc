"""What tokenized assets cost: a dated schedule, and fees that come to whole minor units of which none is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from btt_bridge.errors import MappingError, UnknownError
from btt_bridge.ledger import Ledger, Move, Step
from btt_bridge.mappings import Source
from btt_bridge.money import BTT, Amount
from btt_bridge.settle import dated
from btt_bridge.settle.billing import account
from btt_bridge.settle.splits import WHOLE_BASIS_POINTS, Share, Split
from btt_bridge.settle.token import discounted
from btt_bridge.settle.token.accounts import BURNED, burning

_SCHEMA: Final = "assets/assets.schema.json"
#: Where what should be burned waits, in money that cannot be.
BUYBACK: Final = "fund:buyback"


@dataclass(frozen=True, slots=True)
class Revaluation:
    """What a way of valuing costs, and by how much it may move a value."""

    basis_points: int
    change_basis_points_max: int


@dataclass(frozen=True, slots=True)
class Fee:
    """What a fee comes to, and who gets which part of it: party, account, amount."""

    schedule: str
    amount: Amount
    parts: tuple[tuple[str, str, Amount], ...]

    def steps(self, ledger: Ledger, payer: str) -> list[Step]:
        """Return the transfers that take it from an account; a part in BTT that is to be burned is."""
        steps: list[Step] = []
        for _, name, part in self.parts:
            if not part.units:
                continue
            if name == BURNED:
                steps += burning(payer, part)
            else:
                ledger.open_account(name, part.asset)
                steps.append(Move(payer, name, part, "asset fee"))
        return steps


@dataclass(frozen=True, slots=True)
class Schedule:
    """One dated version of all fees and limits."""

    name: str
    effective_from: date
    mint_basis_points: Mapping[str, int]
    #: Up to how many whole units of the money, None for any; and the fee in basis points.
    trade: tuple[tuple[int | None, int], ...]
    revaluation: Mapping[str, Revaluation]
    listing_basis_points: int
    pool_basis_points: Mapping[str, int]
    burn_basis_points: Mapping[str, int]
    split: Split
    holders_max: int
    uses_max: int

    def mint_fee(self, valuation: Amount, complexity: str, discount: int) -> Fee:
        """Return what it costs to divide something of this value into shares."""
        return self._fee("mint", valuation, _named(self.mint_basis_points, complexity), discount)

    def trade_fee(self, price: Amount, discount: int) -> Fee:
        """Return what the seller pays of a price."""
        whole = -(-price.units // 10**price.asset.scale)
        basis_points = next(points for up_to, points in self.trade if up_to is None or whole <= up_to)
        return self._fee("trade", price, basis_points, discount)

    def revaluation_fee(self, valuation: Amount, method: str, discount: int) -> Fee:
        """Return what it costs to value something anew."""
        return self._fee("revaluation", valuation, self.method(method).basis_points, discount)

    def listing_fee(self, valuation: Amount, discount: int) -> Fee:
        """Return what a prominent place costs."""
        return self._fee("listing", valuation, self.listing_basis_points, discount)

    def pool_fee(self, value: Amount, style: str) -> Fee:
        """Return what a month of managing a pool costs: a twelfth of the year's."""
        return self._fee("pool", value, self.pool_style(style), 0, parts=12)

    def method(self, name: str) -> Revaluation:
        """Return a way of valuing; raise UnknownError where there is none."""
        if name not in self.revaluation:
            raise UnknownError(f"known ways of valuing are {', '.join(self.revaluation)}")
        return self.revaluation[name]

    def pool_style(self, name: str) -> int:
        """Return what a style of managing costs a year; raise UnknownError where there is none."""
        return _named(self.pool_basis_points, name)

    def _fee(self, kind: str, of: Amount, basis_points: int, discount: int, parts: int = 1) -> Fee:
        """Return a fee, rounded up, less a discount; what is burned is rounded down, and the rest is shared."""
        amount = discounted(Amount(-(-of.units * basis_points // (WHOLE_BASIS_POINTS * parts)), of.asset), discount)
        burned = Amount(amount.units * self.burn_basis_points[kind] // WHOLE_BASIS_POINTS, of.asset)
        sink = BURNED if of.asset == BTT else account(BUYBACK, of.asset)
        rest = [(s.party, account(s.account, of.asset), part) for s, part in self.split.divide(amount - burned)]
        return Fee(self.name, amount, (("burn", sink, burned), *rest))


def _named(points: Mapping[str, int], name: str) -> int:
    if name not in points:
        raise UnknownError(f"known are {', '.join(points)}")
    return points[name]


def load(folder: Path) -> tuple[Schedule, ...]:
    """Return the schedules of a folder, oldest first; raise MappingError with file and line."""
    return dated.load(folder, _SCHEMA, _schedule)


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the schedules of a folder."""
    return dated.check(folder, _SCHEMA, _schedule)


def _schedule(source: Source) -> Schedule:
    body = source.body
    limits = [band.get("up_to") for band in body["trade"]]
    if None in limits[:-1] or limits[-1] is not None or limits[:-1] != sorted(set(limits[:-1])):
        raise source.error("goes from small to large, and only the last line has no `up_to`", ("trade",))
    shares = tuple(Share(one["party"], one["basis_points"], one["account"]) for one in body["shares"])
    if (total := sum(share.basis_points for share in shares)) != WHOLE_BASIS_POINTS:
        raise source.error(f"sum to {total} basis points, not {WHOLE_BASIS_POINTS}", ("shares",))
    if len({share.party for share in shares} | {"burn"}) != len(shares) + 1:
        raise source.error("a party stands twice, or is burn", ("shares",))
    effective_from = dated.day(source)
    return Schedule(
        name=body["name"],
        effective_from=effective_from,
        mint_basis_points=body["mint_basis_points"],
        trade=tuple((band.get("up_to"), band["basis_points"]) for band in body["trade"]),
        revaluation={name: Revaluation(**one) for name, one in body["revaluation"].items()},
        listing_basis_points=body["listing_basis_points"],
        pool_basis_points=body["pool_basis_points"],
        burn_basis_points=body["burn_basis_points"],
        split=Split(body["name"], effective_from, shares),
        holders_max=body["holders_max"],
        uses_max=body["uses_max"],
    )
