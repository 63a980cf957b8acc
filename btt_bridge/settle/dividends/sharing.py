"""A month's pool shared out among those who supplied the work, once, to the last unit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from typing import Any, Final

from btt_bridge.errors import CapacityError, KeyConflictError, LedgerError, OverdrawnError, RefusedError
from btt_bridge.ledger import Instruction, Ledger, Move, Notice, Posting, Step
from btt_bridge.money import Amount, Asset, split
from btt_bridge.records import Performance
from btt_bridge.settle import dated, pools
from btt_bridge.settle import events as billing_events
from btt_bridge.settle.billing import State, account
from btt_bridge.settle.bills import Month, balances, before, billed, entries
from btt_bridge.settle.dividends import events
from btt_bridge.settle.dividends.attestations import Envelope, Refusal, audited
from btt_bridge.settle.dividends.contributors import Registry
from btt_bridge.settle.dividends.formula import Audited, Formula
from btt_bridge.settle.splits import WHOLE_BASIS_POINTS
from btt_bridge.signing import canonical

_REASON: Final = "dividend"
_CARRIED: Final = "dividend carried"
_TRIES: Final = 8


@dataclass(frozen=True, slots=True)
class Share:
    """What one contributor got of a month."""

    contributor: str
    #: home, medium or institutional; "" where nobody has counted its GPUs.
    kind: str
    factors: Mapping[str, Fraction]
    units: int


@dataclass(frozen=True, slots=True)
class Distribution:
    """How a month was shared out, as the book tells it."""

    period: str
    formula: str
    pooled: Amount
    #: What the months before left (below zero: took ahead), and what is left for the next.
    carried_before: int
    shares: tuple[Share, ...]

    @property
    def paid(self) -> int:
        return sum(share.units for share in self.shares)

    @property
    def carried_after(self) -> int:
        return self.pooled.units + self.carried_before - self.paid


@dataclass(slots=True)
class _Work:
    """What was supplied to a month, by contributor; of it, what was taken back."""

    operations: dict[str, int] = field(default_factory=dict)

    def add(self, contributor: str, operations: int) -> None:
        self.operations[contributor] = self.operations.get(contributor, 0) + operations


@dataclass(frozen=True)
class Dividends:
    """The contributors' pools of one ledger."""

    ledger: Ledger
    formulas: Sequence[Formula]
    registry: Registry

    def distribute(
        self,
        period: Month,
        asset: Asset,
        performances: Iterable[Performance] = (),
        attestations: Iterable[Envelope] = (),
    ) -> Distribution:
        """Share a month's pool out, once; again, it pays who was not paid yet, and says what stands.

        Raises RefusedError while the month is not over for long enough, or an earlier one was not shared out.
        """
        measured, vouched = self._by_contributor(performances), list(attestations)
        for _ in range(_TRIES):
            done = pools.closings(self.ledger, asset)
            told = next((told for _, told in done if told["period"] == str(period)), None)
            if told is None:
                # A refund or somebody else's call may change what was read; then everything is looked at again.
                with suppress(OverdrawnError, KeyConflictError):
                    posting = self._close(period, asset, done, measured, vouched)
                    told = self.ledger.notices(posting.id - 1, 1)[0].data
            if told is not None:
                self._pay(period, asset, told)
                return _distribution(told)
        raise CapacityError("the book is being written to all the time")

    def refusals(self, period: Month, attestations: Iterable[Envelope]) -> list[Refusal]:
        """Say which attestations do not count in a month, and why."""
        return audited(attestations, self._formula(period), self.registry, period)[1]

    # --- how it is divided ------------------------------------------------------------------------------

    def _close(
        self,
        period: Month,
        asset: Asset,
        done: Sequence[tuple[Posting, Mapping[str, Any]]],
        measured: Mapping[str, Performance],
        attestations: Sequence[Envelope],
    ) -> Posting:
        """Work out who gets what, and set it apart in one posting, which is the only memory of it."""
        formula = self._formula(period)
        self._check_order(period, asset, formula, done)
        pool, carried = pools.pool(period.first, asset), pools.carried(asset)
        self.ledger.open_account(pool, asset)
        self._limit(formula, asset)
        self.ledger.open_account(_apart(period, asset), asset)
        head, units = balances(self.ledger, (pool, carried))
        pooled, left = units[pool], units[carried]
        work = self._work(period, asset, done[-1][1]["head"] if done else 0, head)
        vouched, _ = audited(attestations, formula, self.registry, period)
        shares = _shares(formula, work, measured, vouched, max(pooled + left, 0))
        paid = sum(share.units for share in shares)
        steps = _steps(pool, carried, _apart(period, asset), pooled, paid, asset)
        if not steps:
            if len(pools.closings(self.ledger, asset)) > len(done):
                raise KeyConflictError  # somebody else was quicker, and emptied the pool
            raise RefusedError("there is nothing to share out")
        told = [events.share(one.contributor, one.kind, one.factors, one.units) for one in shares]
        digest = hashlib.sha256(canonical(dict(work))).hexdigest()
        amount = Amount(pooled, asset)
        event = events.shared(pool, str(period), formula.name, head, digest, amount, left, told)
        posting = self.ledger.post_all(pools.ISSUER, pools.closing_key(asset, len(done) + 1), steps, event)
        self._limit(formula, asset)
        return posting

    def _limit(self, formula: Formula, asset: Asset) -> None:
        """Keep what refunds may take ahead at the formula's limit, or at what they have taken where that is more."""
        limit = formula.carry_units_max
        self.ledger.open_account(pools.carried(asset), asset, credit_limit=limit, keep_used=True)

    def _formula(self, period: Month) -> Formula:
        return dated.in_force(self.formulas, period.end.date() - timedelta(days=1))

    def _check_order(
        self, period: Month, asset: Asset, formula: Formula, done: Sequence[tuple[Posting, Mapping[str, Any]]]
    ) -> None:
        if self.ledger.now() < period.end + formula.grace:
            raise RefusedError("this month has not been over for long enough")
        if done and done[-1][1]["period"] > str(period):
            raise RefusedError("a later month was shared out already")
        closed = {told["pool"] for _, told in done}
        this, own = pools.pool(period.first, asset), pools.carried(asset)
        for balance in self.ledger.balances():
            waiting = balance.asset == asset and balance.units and pools.is_pool(balance.account)
            if waiting and balance.account < this and balance.account not in {own, *closed}:
                raise RefusedError("an earlier month has not been shared out yet")

    def _work(self, period: Month, asset: Asset, since: int, head: int) -> dict[str, int]:
        """Return the operations that each contributor supplied, less those that were taken back.

        Taken back counts what was refunded of this month, and what was refunded of months that were shared out before,
        since the last of them. Work that an owner's hospital asked of its own nodes is not supplied to anybody.
        """
        pool, carried, work = pools.pool(period.first, asset), pools.carried(asset), _Work()
        start = before(self.ledger, period.start)
        for posting, notice in entries(self.ledger, min(start, since) if since else start):
            if posting.id > head:
                break
            if notice is None or notice.type not in (billing_events.CHARGED, billing_events.REFUNDED):
                continue
            of_this = any(share["account"] == pool for share in notice.data["shares"])
            if notice.type == billing_events.CHARGED and of_this:
                self._add(work, posting, notice, 1)
            elif notice.type == billing_events.REFUNDED:
                late = posting.id > since and any(transfer.debit == carried for transfer in posting.transfers)
                if of_this or late:
                    self._add(work, *self._refunded(posting), -1)
        return {name: operations for name, operations in sorted(work.operations.items()) if operations > 0}

    def _add(self, work: _Work, posting: Posting, notice: Notice, sign: int) -> None:
        bill = billed(posting, notice, State.CHARGED)
        contributor = self.registry.supplier(bill.node, posting.issuer)
        if contributor and bill.reading:
            work.add(contributor.name, sign * bill.reading.operations)

    def _refunded(self, refund: Posting) -> tuple[Posting, Notice]:
        """Return the charge that a refund took back."""
        (charged,) = self.ledger.find_all(refund.issuer, [refund.key.removesuffix(":refund")])
        return charged, self.ledger.notices(charged.id - 1, 1)[0]

    def _by_contributor(self, performances: Iterable[Performance]) -> dict[str, Performance]:
        """Add up the nodes of each contributor."""
        found: dict[str, Performance] = {}
        for one in performances:
            contributor = self.registry.of(one.node_id)
            if contributor:
                other = found.get(contributor.name, Performance("", 0, 0, 0, 0))
                found[contributor.name] = Performance(
                    "",
                    one.accepted + other.accepted,
                    one.lost + other.lost,
                    one.operations + other.operations,
                    one.milliseconds + other.milliseconds,
                )
        return found

    # --- how it is paid ---------------------------------------------------------------------------------

    def _pay(self, period: Month, asset: Asset, told: Mapping[str, Any]) -> None:
        """Pay what was set apart, each contributor once and with an event of its own; a crash is mended by a repeat."""
        instructions = []
        for share in told["shares"]:
            name, units = share["contributor"], int(share["units"])
            if units:
                target = account(f"contributor:{name}:earnings", asset)
                self.ledger.open_account(target, asset)
                step = Move(_apart(period, asset), target, Amount(units, asset), _REASON)
                event = events.paid(target, str(period), name, units, asset)
                key = f"dividend:{period}:{asset.code.lower()}:{name}"
                instructions.append(Instruction(pools.ISSUER, key, (step,), event))
        for answer in self.ledger.post_many(instructions) if instructions else ():
            if isinstance(answer, LedgerError):
                raise answer


def _shares(
    formula: Formula,
    work: Mapping[str, int],
    measured: Mapping[str, Performance],
    vouched: Mapping[str, Audited],
    units: int,
) -> list[Share]:
    """Divide units by the formula: exact weights, largest remainder, ties by name; nobody gets more than the cap."""
    nothing = Audited()
    factors = {name: formula.factors(measured.get(name), vouched.get(name, nothing)) for name in work}
    weights = [operations * math.prod(factors[name].values()) for name, operations in work.items()]
    common = math.lcm(*(Fraction(weight).denominator for weight in weights))
    parts = split(units if work else 0, [int(weight * common) for weight in weights])
    cap = units * formula.contributor_basis_points_max // WHOLE_BASIS_POINTS
    shares = []
    for name, part in zip(work, parts, strict=True):
        kind = formula.class_of(vouched.get(name, nothing))
        shares.append(Share(name, kind.name if kind else "", factors[name], min(part, cap)))
    return shares


def _steps(pool: str, carried: str, apart: str, pooled: int, paid: int, asset: Asset) -> list[Step]:
    """Return the transfers that empty a pool: what is paid is set apart, and the difference is carried."""
    moves = (
        (pool, apart, min(pooled, paid), _REASON),
        (carried, apart, max(paid - pooled, 0), _CARRIED),
        (pool, carried, max(pooled - paid, 0), _CARRIED),
    )
    return [Move(debit, credit, Amount(units, asset), reason) for debit, credit, units, reason in moves if units]


def _apart(period: Month, asset: Asset) -> str:
    """Name the account of what is set apart for a month's contributors, and empty once all are paid."""
    return account(f"dividend:{period}", asset)


def _distribution(told: Mapping[str, Any]) -> Distribution:
    pooled = told["pooled"]
    shares = (
        Share(
            one["contributor"],
            one["class"],
            {name: Fraction(text) for name, text in one["factors"].items()},
            int(one["units"]),
        )
        for one in told["shares"]
    )
    return Distribution(
        period=told["period"],
        formula=told["formula"],
        pooled=Amount(int(pooled["units"]), Asset(pooled["asset"], pooled["scale"])),
        carried_before=int(told["carried_units"]),
        shares=tuple(shares),
    )
