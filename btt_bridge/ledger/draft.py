"""What instructions would do to the book, worked out and refused in memory before a row is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from btt_bridge.database import moment_text
from btt_bridge.errors import (
    HoldResolvedError,
    InvalidAmountError,
    LedgerError,
    OverdrawnError,
    UnbalancedError,
    UnknownAccountError,
    UnknownHoldError,
)
from btt_bridge.ledger.chain import link, origin
from btt_bridge.ledger.moves import Event, Expire, Hold, Instruction, Post, Posting, Resolving, Step, Transfer
from btt_bridge.money import Amount, Asset


@dataclass(slots=True)
class Standing:
    """An account as it stands within this transaction."""

    id: int
    name: str
    asset: Asset
    credit_limit: int | None
    #: How many events were told of it; the next has the next number.
    told: int
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int

    def debit(self, posted: int, pending: int) -> None:
        self.debits_posted += posted
        self.debits_pending += pending
        if self.credit_limit is not None:
            available = self.credits_posted + self.credit_limit - self.debits_posted - self.debits_pending
            if available < 0:
                raise OverdrawnError(f"{self.name} does not hold enough {self.asset.code}")

    def credit(self, posted: int, pending: int) -> None:
        self.credits_posted += posted
        self.credits_pending += pending

    def totals(self) -> tuple[int, int, int, int]:
        return self.debits_posted, self.credits_posted, self.debits_pending, self.credits_pending

    def restore(self, totals: tuple[int, int, int, int]) -> None:
        self.debits_posted, self.credits_posted, self.debits_pending, self.credits_pending = totals


@dataclass(frozen=True, slots=True)
class _Plan:
    """One transfer before it has its place in the chain."""

    kind: str
    debit: Standing
    credit: Standing
    amount: Amount
    reason: str
    hold: Transfer | None = None
    expires_at: datetime | None = None

    def apply(self) -> None:
        """Move the totals, as the database's triggers will."""
        units = self.amount.units
        posted = units if self.kind in ("move", "post") else 0
        pending = units if self.kind == "hold" else 0
        if self.hold:
            pending = -self.hold.amount.units
        self.credit.credit(posted, pending)
        self.debit.debit(posted, pending)
        if max(*self.debit.totals(), *self.credit.totals()) >= 10**38:
            raise InvalidAmountError("the totals of an account have at most 38 digits")


@dataclass(slots=True)
class Draft:
    """Postings in the making; `add` takes a whole instruction, or refuses it and leaves everything as it was."""

    at: datetime
    #: Id and hash of the last transfer so far.
    last: int
    hash: bytes
    accounts: dict[str, Standing]
    #: The holds that the instructions name; and those of them that nothing has resolved yet.
    holds: dict[int, Transfer]
    unresolved: set[int]
    postings: list[Posting] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    #: Posting, account and number of each event, and the event.
    events: list[tuple[int, int, int, Event]] = field(default_factory=list)

    def add(self, instruction: Instruction) -> Posting:
        """Work out one instruction; raise the LedgerError that refuses it."""
        told = self._account(instruction.event.account) if instruction.event else None
        plans = [self._plan(step) for step in instruction.steps]
        holds = [plan.hold.id for plan in plans if plan.hold]
        if len(set(holds)) != len(holds):
            raise HoldResolvedError
        _apply(plans)
        self.unresolved.difference_update(holds)
        transfers = self._chain(instruction, plans)
        posting = Posting(transfers[0].id, instruction.issuer, instruction.key, self.at, transfers)
        self.postings.append(posting)
        self.instructions.append(instruction)
        if instruction.event and told:
            told.told += 1
            self.events.append((posting.id, told.id, told.told, instruction.event))
        return posting

    def _plan(self, step: Step) -> _Plan:
        if not isinstance(step, Resolving):
            debit, credit = self._account(step.debit), self._account(step.credit)
            for account in (debit, credit):
                if account.asset != step.amount.asset:
                    raise UnbalancedError(f"{account.name} holds {account.asset}, not {step.amount.asset}")
            expires_at = step.expires_at if isinstance(step, Hold) else None
            return _Plan(step.kind, debit, credit, step.amount, step.reason, expires_at=expires_at)
        hold = self.holds.get(step.hold)
        if hold is None:
            raise UnknownHoldError
        if hold.id not in self.unresolved:
            raise HoldResolvedError
        amount = self._resolved_amount(step, hold)
        return _Plan(step.kind, self._account(hold.debit), self._account(hold.credit), amount, step.reason, hold=hold)

    def _resolved_amount(self, step: Resolving, hold: Transfer) -> Amount:
        """Return what a step takes or releases of a hold, if it may do so now."""
        assert hold.expires_at is not None  # the table says so of every hold
        over = self.at >= hold.expires_at
        if isinstance(step, Post):
            if over:
                raise HoldResolvedError("the hold has run out")
            amount = step.amount or hold.amount
            if amount.asset != hold.amount.asset:
                raise UnbalancedError(f"the hold is of {hold.amount.asset}, not {amount.asset}")
            if amount.units > hold.amount.units:
                raise OverdrawnError("the hold does not hold that much")
            return amount
        if isinstance(step, Expire) and not over:
            raise HoldResolvedError("the hold has not run out yet")
        return hold.amount

    def _account(self, name: str) -> Standing:
        try:
            return self.accounts[name]
        except KeyError:
            raise UnknownAccountError(f"there is no account {name}") from None

    def _chain(self, instruction: Instruction, plans: list[_Plan]) -> tuple[Transfer, ...]:
        """Give the planned transfers their place in the book."""
        posting, at = self.last + 1, moment_text(self.at)
        source = origin(instruction.issuer, instruction.key, instruction.digest, instruction.event_digest)
        transfers = []
        for plan in plans:
            self.last += 1
            hold = plan.hold.id if plan.hold else None
            expires_at = moment_text(plan.expires_at) if plan.expires_at else None
            names = (plan.debit.name, plan.credit.name, str(plan.amount.asset))
            content = (plan.kind, *names, plan.amount.units, hold, expires_at, plan.reason)
            self.hash = link(self.hash, self.last, posting, *content, at, source)
            transfers.append(
                Transfer(
                    self.last,
                    posting,
                    plan.kind,
                    plan.debit.name,
                    plan.credit.name,
                    plan.amount,
                    hold,
                    plan.expires_at,
                    plan.reason,
                    self.at,
                    self.hash,
                )
            )
        return tuple(transfers)


def _apply(plans: list[_Plan]) -> None:
    """Move the totals of all plans, or of none."""
    before = {account.id: (account, account.totals()) for plan in plans for account in (plan.debit, plan.credit)}
    try:
        for plan in plans:
            plan.apply()
    except LedgerError:
        for account, totals in before.values():
            account.restore(totals)
        raise
