"""The supply: made once, released by schedule, burned; and payouts taken back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from btt_bridge.errors import ConfigurationError, KeyConflictError, LedgerError, RefusedError, UnknownError
from btt_bridge.ledger import Instruction, Ledger, Move, Posting, Step
from btt_bridge.money import BTT, Amount
from btt_bridge.settle.billing import Cause
from btt_bridge.settle.token import events
from btt_bridge.settle.token.accounts import (
    BURNED,
    DEPOSITS,
    GENESIS,
    GUARD,
    ISSUER,
    UNALLOCATED,
    allocation,
    burning,
    check_holder,
    check_reference,
    purse,
    shut,
    told,
    wallet,
)
from btt_bridge.settle.token.allocation import Allocation, Governed, Linear, Milestones, Mining, Ongoing, Table
from btt_bridge.signing import canonical

_PAYOUTS = ("release:", "mining:", "referral:")


@dataclass(frozen=True, slots=True)
class Figures:
    """Where the tokens are, in units; together they are what was made."""

    burned: int
    #: In allocations, not released yet.
    allocated: int
    staked: int
    circulating: int

    @property
    def minted(self) -> int:
        return self.burned + self.allocated + self.staked + self.circulating


@dataclass(frozen=True)
class Supply:
    """The fixed supply by its table."""

    ledger: Ledger
    table: Table

    def mint(self) -> Posting:
        """Make the whole supply and put each part into its account; again, it changes nothing.

        Raises ConfigurationError where the table is not the one that the supply was made by.
        """
        if (made := self.ledger.find(ISSUER, "genesis")) is not None:
            if told(self.ledger, made)["digest"] != self.table.digest:
                raise ConfigurationError("the supply was made by another allocation table")
            return made
        self.ledger.open_account(GENESIS, BTT, credit_limit=self.table.supply)
        parts = self._parts()
        for name in (BURNED, DEPOSITS, GUARD, *(name for name, _, _ in parts)):
            self.ledger.open_account(name, BTT)
        for one in self.table.allocations:
            if isinstance(one.release, Linear | Ongoing):
                self.ledger.open_account(_released_to(one), BTT)
        steps: list[Step] = [Move(GENESIS, name, Amount(units, BTT), "mint") for name, units, _ in parts if units]
        for name, units, governed in parts:
            steps += shut(name, units) if governed else []
        return self.ledger.post_all(ISSUER, "genesis", steps, events.minted(self.table))

    def release(self) -> list[Posting]:
        """Release every month that is over and has not been released; a clock that jumped releases all it passed."""
        months = self.table.months(self.ledger.now().date())
        due = [one for allocation in self.table.allocations for one in _due(allocation, months)]
        done = {posting.key for posting in self.ledger.find_all(ISSUER, [one.key for one in due])}
        return _all(self.ledger.post_many([one for one in due if one.key not in done])) if due else []

    def mine(self, month: int, work: Mapping[str, int]) -> list[Posting]:
        """Pay a month's emission to the nodes that did the work, once; 1 is the first month.

        What the cap cuts off, or finds nobody, stays in the pool. A crash on the way is mended by the same call;
        another account of the work is refused with KeyConflictError.
        """
        pool, release = self._mining()
        if not 1 <= month <= min(self.table.months(self.ledger.now().date()), release.last):
            raise RefusedError("this month of mining is not over, or there is none")
        emission = release.vested(pool.units, month) - release.vested(pool.units, month - 1)
        shares = {node: units for node, units in release.shares(emission, work).items() if units}
        if not shares:
            return []
        source, paid = allocation(pool.name, str(month)), sum(shares.values())
        self.ledger.open_account(source, BTT)
        digest = hashlib.sha256(canonical(dict(work))).hexdigest()
        event = events.emitted(source, month, emission, paid, len(shares), digest)
        step = Move(allocation(pool.name), source, Amount(paid, BTT), "mining emission")
        self.ledger.post_all(ISSUER, f"mining:{month}", [step], event)
        for node in shares:
            self.ledger.open_account(wallet(f"node:{node}"), BTT)
        return _all(self.ledger.post_many([_mined(source, month, node, units) for node, units in shares.items()]))

    def emission(self, month: int) -> Posting | None:
        """Return the posting that set a month's emission apart, or None while it was not mined."""
        return self.ledger.find(ISSUER, f"mining:{month}")

    def burn(self, holder: str, reference: str, amount: Amount) -> Posting:
        """Burn a holder's tokens, once for each reference."""
        key = f"burn:{check_holder(holder)}:{check_reference(reference)}"
        return self.ledger.post_all(ISSUER, key, burning(wallet(holder), amount), events.burned(wallet(holder), amount))

    def reverse(self, key: str, cause: Cause) -> Posting:
        """Take a release, a mining reward or a referral's reward back; raise OverdrawnError where it was spent."""
        if not key.startswith(_PAYOUTS) or key.endswith(":reverse"):
            raise UnknownError("there is no such payout")
        return reverse(self.ledger, ISSUER, key, cause)

    def figures(self) -> Figures:
        """Say where all tokens are."""
        units = {b.account: b.units for b in self.ledger.balances() if b.asset == BTT and b.account != GENESIS}
        burned = units.pop(BURNED)
        allocated, staked = (
            sum(of for name, of in units.items() if name.startswith(prefix)) for prefix in ("allocation:", "staked:")
        )
        return Figures(burned, allocated, staked, sum(units.values()) - allocated - staked)

    def _parts(self) -> list[tuple[str, int, bool]]:
        """Return the accounts of the supply, what each gets, and whether only a vote can spend it."""
        parts = [(allocation(UNALLOCATED), self.table.unallocated, True)]
        for one in self.table.allocations:
            if isinstance(one.release, Milestones):
                tranches = one.release.parts(one.units)
                parts += [(allocation(one.name, name), units, True) for name, units in tranches.items()]
            else:
                parts.append((allocation(one.name), one.units, isinstance(one.release, Governed)))
        return parts

    def _mining(self) -> tuple[Allocation, Mining]:
        for one in self.table.allocations:
            if isinstance(one.release, Mining):
                return one, one.release
        raise UnknownError("the table has no mining pool")


def reverse(ledger: Ledger, issuer: str, key: str, cause: Cause, kind: str = events.REVERSED) -> Posting:
    """Take what was paid under a key back, by the same transfers the other way round; at most once.

    Raises OverdrawnError where it was spent meanwhile, and UnknownError where nothing was paid.
    """
    paid = ledger.find(issuer, key)
    if paid is None:
        raise UnknownError("there is no such payout")
    if (done := ledger.find(issuer, f"{key}:reverse")) is not None:
        return done
    steps = [Move(t.credit, t.debit, t.amount, "reversal") for t in reversed(paid.transfers)]
    subject = ledger.notices(paid.id - 1, 1)[0].account
    try:
        event = events.reversed_(kind, subject, key, paid.transfers[0].amount, cause)
        return ledger.post_all(issuer, f"{key}:reverse", steps, event)
    except KeyConflictError:  # somebody else was quicker, for another cause
        return reverse(ledger, issuer, key, cause, kind)


def _released_to(one: Allocation) -> str:
    """Return where an allocation is released to."""
    return purse(one.name) if isinstance(one.release, Ongoing) else wallet(f"investor:{one.name}")


def _due(one: Allocation, months: int) -> list[Instruction]:
    """Return one instruction for each month of an allocation's schedule that is over."""
    if not isinstance(one.release, Linear | Ongoing):
        return []
    source, target, found = allocation(one.name), _released_to(one), []
    for month in range(1, min(months, one.release.last) + 1):
        units = one.release.vested(one.units, month) - one.release.vested(one.units, month - 1)
        if units:
            step = Move(source, target, Amount(units, BTT), "release")
            event = events.released(target, one.name, month, units)
            found.append(Instruction(ISSUER, f"release:{one.name}:{month}", (step,), event))
    return found


def _mined(source: str, month: int, node: str, units: int) -> Instruction:
    target = wallet(f"node:{node}")
    step = Move(source, target, Amount(units, BTT), "mining reward")
    return Instruction(ISSUER, f"mining:{month}:{node}", (step,), events.mined(target, month, units))


def _all(answers: Sequence[Posting | LedgerError]) -> list[Posting]:
    """Return the postings; raise the first refusal."""
    for answer in answers:
        if isinstance(answer, LedgerError):
            raise answer
    return [answer for answer in answers if isinstance(answer, Posting)]
