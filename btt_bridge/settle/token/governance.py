"""Governance: proposals, votes weighted by the age of stakes, and treasuries that only a passed vote can spend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from btt_bridge.errors import (
    CapacityError,
    HoldResolvedError,
    KeyConflictError,
    OverdrawnError,
    RefusedError,
    UnknownError,
)
from btt_bridge.ledger import Ledger, Move, Posting, Step, Transfer
from btt_bridge.money import BTT, Amount, Asset
from btt_bridge.settle import dated
from btt_bridge.settle.billing import account
from btt_bridge.settle.events import reference as digest_of
from btt_bridge.settle.splits import WHOLE_BASIS_POINTS
from btt_bridge.settle.token import events
from btt_bridge.settle.token.accounts import (
    DEPOSITS,
    ISSUER,
    UNALLOCATED,
    allocation,
    burning,
    check_reference,
    positive,
    shut,
    told,
    unshut,
    wallet,
)
from btt_bridge.settle.token.allocation import Governed, Milestones, Table
from btt_bridge.settle.token.staking import Stakes
from btt_bridge.settle.token.terms import Governance as Rules
from btt_bridge.settle.token.terms import Terms, votes

#: A vote is a transfer of these, so that the ledger counts them, once each, and never more than there are.
VOTES: Final = Asset("VOTES", 0)
_ISSUE: Final = account("votes:issue", VOTES)
# How often the state of a treasury is read again when another decision has just spent of it.
_TRIES = 8


class Choice(StrEnum):
    """How one votes."""

    YES = "yes"
    NO = "no"


class Outcome(StrEnum):
    """What came of a proposal."""

    PASSED = "passed"
    REJECTED = "rejected"
    NO_QUORUM = "no-quorum"
    LAPSED = "lapsed"  # it passed, and could not be carried out in time


@dataclass(frozen=True, slots=True)
class Spend:
    """Pay from a treasury: an allocation that is governed, or what is unallocated."""

    treasury: str
    holder: str
    units: int


@dataclass(frozen=True, slots=True)
class Reach:
    """Find that a milestone was reached, and release its share."""

    allocation: str
    milestone: str


@dataclass(frozen=True, slots=True)
class Recover:
    """Take back what an earlier decision paid."""

    proposal: str


Action = Spend | Reach | Recover


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is put to the vote, as the book has it."""

    id: str
    proposer: str
    action: Action
    #: The instant at which stakes are looked at; whoever stakes later has no vote.
    snapshot_at: datetime
    rules: Rules

    @property
    def closes_at(self) -> datetime:
        return self.snapshot_at + timedelta(days=self.rules.voting_days)

    @property
    def due_at(self) -> datetime:
        """From when it can be carried out."""
        return self.closes_at + timedelta(days=self.rules.delay_days)

    @property
    def lapses_at(self) -> datetime:
        return self.due_at + timedelta(days=self.rules.execution_days)


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes on a proposal; `roll` is how many there were to be had."""

    yes: int
    no: int
    roll: int


@dataclass(frozen=True)
class Governance:
    """The votes of those who stake, over the treasuries of the table."""

    ledger: Ledger
    table: Table
    terms: Sequence[Terms]
    stakes: Stakes

    def propose(self, proposer: str, reference: str, action: Action) -> Proposal:
        """Put something to the vote, once for each reference of the proposer; the deposit is taken from its wallet."""
        name = digest_of(f"{wallet(proposer)}:{check_reference(reference)}")
        if (standing := self._find(name)) is not None:
            return _same(standing, action)
        rules, now = dated.in_force(self.terms, self.ledger.now().date()).governance, self.ledger.now()
        self._check(action)
        roll = sum(votes(rules, stakes, now) for stakes in self.stakes.everybody().values())
        if not roll:
            raise RefusedError("there is nobody who could vote")
        self.ledger.open_account(_ISSUE, VOTES, credit_limit=None)
        for side in ("roll", *Choice):
            self.ledger.open_account(_side(name, side), VOTES)
        steps = [
            Move(wallet(proposer), DEPOSITS, Amount(rules.deposit_units, BTT), "proposal deposit"),
            Move(_ISSUE, _side(name, "roll"), Amount(roll, VOTES), "roll"),
        ]
        event = events.proposed(proposer, name, _body(action), now, roll, rules)
        with suppress(KeyConflictError):  # the same was proposed a moment ago
            self.ledger.post_all(ISSUER, f"proposal:{name}", steps, event)
        return _same(self.proposal(name), action)

    def vote(self, proposal: str, holder: str, choice: Choice) -> Posting:
        """Cast all that a holder's stakes weighed when it was proposed; once, and never otherwise."""
        standing = self.proposal(proposal)
        weight = votes(standing.rules, self.stakes.of(holder), standing.snapshot_at)
        if not weight:
            raise RefusedError("no stake of this holder had stood long enough when this was proposed")
        key, event = f"vote:{proposal}:{holder}", events.voted(holder, proposal, choice, weight)
        if self.ledger.find(ISSUER, key) is None and self.ledger.now() >= standing.closes_at:
            raise RefusedError("voting is over")
        step = Move(_side(proposal, "roll"), _side(proposal, choice), Amount(weight, VOTES), "vote")
        try:
            return self.ledger.post_all(ISSUER, key, [step], event)
        except KeyConflictError:
            raise RefusedError("this holder has voted otherwise") from None

    def tally(self, proposal: str) -> Tally:
        """Return how the votes on a proposal stand."""
        self.proposal(proposal)
        yes, no, left = (self.ledger.balance(_side(proposal, side)).units for side in (*Choice, "roll"))
        return Tally(yes, no, yes + no + left)

    def close(self, proposal: str) -> Outcome:
        """Say what came of a proposal, and carry it out where it passed; once.

        The deposit comes back, or is burned where the quorum was missed. Raises OverdrawnError where the treasury does
        not hold what was granted: then it stays open until it lapses.
        """
        standing = self.proposal(proposal)
        for _ in range(_TRIES):
            if (closed := self.ledger.find(ISSUER, f"close:{proposal}")) is not None:
                return Outcome(told(self.ledger, closed)["outcome"])
            if self.ledger.now() < standing.due_at:
                raise RefusedError("what was voted cannot be carried out yet")
            tally = self.tally(proposal)
            outcome = _outcome(standing, tally, self.ledger.now())
            steps = self._refund(standing, outcome) + (self._carry_out(standing.action) if outcome == "passed" else [])
            event = events.decided(standing.proposer, proposal, outcome, tally.yes, tally.no)
            with suppress(KeyConflictError, HoldResolvedError):  # somebody else was quicker; look again
                self.ledger.post_all(ISSUER, f"close:{proposal}", steps, event)
                return outcome
        raise CapacityError("this treasury is being spent by others all the time")

    def proposal(self, proposal: str) -> Proposal:
        """Return a proposal; raise UnknownError where there is none."""
        found = self._find(proposal)
        if found is None:
            raise UnknownError("there is no such proposal")
        return found

    # --- what is decided --------------------------------------------------------------------------------

    def _check(self, action: Action) -> None:
        """Refuse what no vote could grant, before anybody pays a deposit for it."""
        if isinstance(action, Spend):
            positive(action.units)
            self._treasury(action.treasury)
            self.ledger.open_account(wallet(action.holder), BTT)
        elif isinstance(action, Reach):
            self._tranche(action)
            self.ledger.open_account(wallet(f"investor:{action.allocation}"), BTT)
        else:
            self._paid(action)

    def _carry_out(self, action: Action) -> list[Step]:
        if isinstance(action, Spend):
            rules = dated.in_force(self.terms, self.ledger.now().date()).governance
            held = self.ledger.balance(self._treasury(action.treasury)).units
            if action.units > held * rules.spend_basis_points_max // WHOLE_BASIS_POINTS:
                raise OverdrawnError("that is more than one vote can spend of this treasury")
            return self._from_treasury(self._treasury(action.treasury), action.holder, action.units)
        if isinstance(action, Reach):
            source, units, month = self._tranche(action)
            if self.table.months(self.ledger.now().date()) < month:
                raise OverdrawnError("this milestone is not released before its month")
            return self._from_treasury(source, f"investor:{action.allocation}", units)
        paid = self._paid(action)
        yes = _side(action.proposal, Choice.YES)
        return [
            Move(paid.credit, paid.debit, paid.amount, "recover"),
            *shut(paid.debit, paid.amount.units),
            # It gives its votes back, so that it is recovered once.
            Move(yes, _ISSUE, Amount(self._yes(action.proposal), VOTES), "recover"),
        ]

    def _from_treasury(self, source: str, holder: str, units: int) -> list[Step]:
        rest = self.ledger.balance(source).units - units
        grant = Move(source, wallet(holder), Amount(units, BTT), "grant")
        return [*unshut(self.ledger, source), grant, *shut(source, max(rest, 0))]

    def _refund(self, proposal: Proposal, outcome: Outcome) -> list[Step]:
        deposit = Amount(proposal.rules.deposit_units, BTT)
        if outcome is Outcome.NO_QUORUM:
            return burning(DEPOSITS, deposit)
        return [Move(DEPOSITS, wallet(proposal.proposer), deposit, "proposal deposit")]

    def _treasury(self, name: str) -> str:
        if name != UNALLOCATED and not isinstance(self.table.named(name).release, Governed):
            raise RefusedError("no vote can spend this allocation")
        return allocation(name)

    def _tranche(self, action: Reach) -> tuple[str, int, int]:
        """Return the account of a milestone's share, how much it is, and after how many months it may be released."""
        one = self.table.named(action.allocation)
        if not isinstance(one.release, Milestones) or action.milestone not in one.release.names:
            raise UnknownError("there is no such milestone")
        month = one.release.after[one.release.names.index(action.milestone)]
        return allocation(one.name, action.milestone), one.release.parts(one.units)[action.milestone], month

    def _paid(self, action: Recover) -> Transfer:
        """Return what a decision paid; raise UnknownError where it paid nothing."""
        closed = self.ledger.find(ISSUER, f"close:{action.proposal}")
        for transfer in closed.transfers if closed else ():
            if transfer.reason == "grant":
                return transfer
        raise UnknownError("there is no such payout")

    def _yes(self, proposal: str) -> int:
        closed = self.ledger.find(ISSUER, f"close:{proposal}")
        assert closed is not None  # _paid has found it
        return int(told(self.ledger, closed)["yes"])

    # --- how it is found --------------------------------------------------------------------------------

    def _find(self, name: str) -> Proposal | None:
        posting = self.ledger.find(ISSUER, f"proposal:{name}")
        if posting is None:
            return None
        facts = told(self.ledger, posting)
        rules = {name: int(value) for name, value in facts["rules"].items()}
        proposer = posting.transfers[0].debit.removeprefix("wallet:").rpartition(":")[0]
        at = datetime.fromisoformat(facts["snapshot_at"])
        return Proposal(name, proposer, _action(facts["action"]), at, Rules(**rules))


def _outcome(proposal: Proposal, tally: Tally, now: datetime) -> Outcome:
    cast, rules = tally.yes + tally.no, proposal.rules
    if cast * WHOLE_BASIS_POINTS < tally.roll * rules.quorum_basis_points:
        return Outcome.NO_QUORUM
    if tally.yes * WHOLE_BASIS_POINTS <= cast * rules.approval_basis_points:
        return Outcome.REJECTED
    return Outcome.PASSED if now < proposal.lapses_at else Outcome.LAPSED


def _side(proposal: str, side: str) -> str:
    return account(f"votes:{proposal}:{side}", VOTES)


def _same(proposal: Proposal, action: Action) -> Proposal:
    if proposal.action != action:
        raise KeyConflictError
    return proposal


def _body(action: Action) -> dict[str, Any]:
    """Write an action as JSON; units are text, for JSON numbers lose digits beyond 2^53."""
    if isinstance(action, Spend):
        return {"kind": "spend", "treasury": action.treasury, "holder": action.holder, "units": str(action.units)}
    if isinstance(action, Reach):
        return {"kind": "reach", "allocation": action.allocation, "milestone": action.milestone}
    return {"kind": "recover", "proposal": action.proposal}


def _action(body: Mapping[str, Any]) -> Action:
    if body["kind"] == "spend":
        return Spend(body["treasury"], body["holder"], int(body["units"]))
    if body["kind"] == "reach":
        return Reach(body["allocation"], body["milestone"])
    return Recover(body["proposal"])
