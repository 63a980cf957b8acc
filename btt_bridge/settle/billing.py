"""One hospital's compute bills: held when a study is offered, posted when its result is delivered, voided otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import takewhile

from btt_bridge.errors import (
    CapacityError,
    HoldResolvedError,
    KeyConflictError,
    LedgerError,
    OverdrawnError,
    RefusedError,
    UnknownError,
)
from btt_bridge.ledger import Expire, Hold, Instruction, Ledger, Move, Post, Posting, Step, Transaction, Transfer, Void
from btt_bridge.money import BTT, POINTS, Amount, Asset
from btt_bridge.records import Charge, Urgency
from btt_bridge.settle import events, meters, pools
from btt_bridge.settle.prices import Facts, PriceList, quote
from btt_bridge.settle.splits import Split, on

_STUDY_KEY = re.compile(r"[0-9a-f]{32,64}")
_SERVICE = re.compile(r"[a-z0-9._-]{1,64}")
# How often a bill is read again when somebody else has just changed it.
_TRIES = 8

# What the transfers are for, as the book says it.
_HOLD = "compute hold"
_CHARGE = "compute charge"
_SHARE = "compute share"
_RELEASE = "compute release"
_REFUND = "compute refund"
_PAYMENT = "compute payment"


class Cause(StrEnum):
    """Why an amount was released or given back; words from this list only, for events carry them outside."""

    NOT_DELIVERED = "not-delivered"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    DISPUTED = "disputed"
    WITHDRAWN = "withdrawn"


class State(StrEnum):
    """How a bill stands."""

    OPEN = "open"  # nothing is held, nothing charged
    HELD = "held"
    CHARGED = "charged"
    REFUNDED = "refunded"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a bill came to, and the posting that says so; None where there is none."""

    state: State
    posting: Posting | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """A result that reached all its destinations, and is to be charged."""

    study_key: str
    service: str
    charge: Charge
    node: str

    @property
    def bill(self) -> str:
        return _bill(self.study_key, self.service)


@dataclass(frozen=True)
class Billing:
    """The bills of one hospital: one for each study and service, charged at most once whatever revisions come."""

    ledger: Ledger
    hospital: str
    prices: Sequence[PriceList]
    splits: Sequence[Split]
    #: How long a hold outlives the deadline of its offer: time for a delivery that is on its way.
    margin: timedelta
    #: By how much the hospital's stake lowers its prices just now; the price list has a limit to it.
    discount_percent: Callable[[], int] = lambda: 0
    #: What the hospital may owe, in minor units of each currency; anything else, as BTT, is paid ahead.
    credit_units: int = 0

    def open(self) -> None:
        """Open the accounts that every bill needs."""
        meters.open_accounts(self.ledger, self.hospital)
        for asset in self._assets():
            self._limit(self.ledger, asset)
            self.ledger.open_account(self.payer(asset), asset, credit_limit=None if _is_currency(asset) else 0)
            self.ledger.open_account(clearing(asset), asset)
            for share in (share for split in self.splits for share in split.shares if share.account):
                self.ledger.open_account(account(share.account, asset), asset)

    def payable(self, asset: Asset) -> str:
        """Name the hospital's account; below zero it is what the hospital owes."""
        return account(f"hospital:{self.hospital}:payable", asset)

    def payer(self, asset: Asset) -> str:
        """Name the account that payments come from: a bank brings in currency, and nothing else."""
        return bank(asset) if _is_currency(asset) else account(f"wallet:hospital:{self.hospital}", asset)

    def quote(self, facts: Facts) -> Charge:
        """Return what a job costs today."""
        return quote(self.prices, facts, self.ledger.clock.now().date(), self.discount_percent())

    def requote(self, charge: Charge, urgency: Urgency) -> Charge:
        """Return what the same job costs at another urgency, by the same list and discount; never more than it did."""
        facts = Facts(charge.operations, charge.voxels, charge.size_bytes, urgency, charge.hardware)
        named = [version for version in self.prices if version.name == charge.price_list]
        found = [version.quote(facts, charge.discount_percent) for version in named]
        return min([*found, replace(charge, urgency=urgency)], key=lambda one: one.amount.units)

    def hold(self, study_key: str, service: str, charge: Charge, deadline: datetime) -> Standing:
        """Reserve a charge until its offer's deadline and a margin; raises OverdrawnError beyond the credit line.

        A bill that was charged before stands as it is: a later revision costs nothing. A hold that is still open is
        kept where it suffices, and otherwise replaced by this one in the same posting.
        """
        bill, asset = _bill(study_key, service), charge.amount.asset
        expires_at = deadline + self.margin
        event = events.held(self.payable(asset), bill, charge, expires_at)
        with self.ledger.transaction() as book:
            past = _pasts(book, self.hospital, [bill])[bill]
            if past.charged or past.suffices(charge.amount, expires_at):
                return past.standing
            self._limit(book, asset)
            steps: list[Step] = [Void(past.open_hold.id, _RELEASE)] if past.open_hold else []
            steps.append(Hold(self.payable(asset), clearing(asset), charge.amount, _HOLD, expires_at))
            key = f"{bill}:hold:{len(past.holds) + 1}"
            answer = book.post(Instruction(self.hospital, key, tuple(steps), event))
        # Out here, so that the limit stands whatever becomes of the hold.
        if isinstance(answer, LedgerError):
            raise answer
        return Standing(State.HELD, answer)

    def post(self, study_key: str, service: str, charge: Charge, node: str) -> Standing:
        """Charge a delivered result and share it out; once for a study and service, and again it says what stands.

        What is held is taken first. A hold that ran out or was released leaves the charge due all the same, for the
        work was done: then it is debited directly, within the credit line. The same posting books what the result took.
        """
        (answer,) = self.post_all([Delivered(study_key, service, charge, node)])
        if isinstance(answer, LedgerError):
            raise answer
        return answer

    def post_all(self, deliveries: Sequence[Delivered]) -> list[Standing | LedgerError]:
        """Charge many delivered results in one commit; one that is refused has its error, and costs only itself."""
        due = {delivery.bill: delivery for delivery in reversed(deliveries)}
        if not due:
            return []
        with self.ledger.transaction() as book:
            answers = self._charge(book, due)
        return [answers[delivery.bill] for delivery in deliveries]

    def void(self, study_key: str, service: str, cause: Cause) -> Standing:
        """Release what is held for a result that will not be delivered; nothing happens where nothing is held."""
        bill = _bill(study_key, service)
        with self.ledger.transaction() as book:
            past = _pasts(book, self.hospital, [bill])[bill]
            if past.open_hold is None:
                return past.standing
            hold = past.open_hold
            payable = self.payable(hold.amount.asset)
            event = events.voided(payable, events.reference(bill), events.money(hold.amount), cause)
            key = f"{past.holds[-1].key}:void"
            answer = book.post(Instruction(self.hospital, key, (Void(hold.id, _RELEASE),), event))
        if isinstance(answer, LedgerError):
            raise answer
        return Standing(State.OPEN)

    def refund(self, study_key: str, service: str, cause: Cause) -> Standing:
        """Take a charge back by the same transfers the other way round; each bill at most once.

        Raises OverdrawnError where a party has already spent its share. A pool that was shared out has spent nothing of
        its own: what is carried to the next month gives it back.
        """
        bill = _bill(study_key, service)
        charged = self.ledger.find(self.hospital, bill)
        if charged is None:
            raise UnknownError("there is no charge to refund")
        told = self.ledger.notices(charged.id - 1, 1)[0].data
        event = events.refunded(self.payable(Asset(told["amount"]["asset"], told["amount"]["scale"])), told, cause)
        steps = self._given_back(charged)
        for _ in range(_TRIES):
            try:
                self.ledger.post_all(self.hospital, f"{bill}:refund", steps, event)
            except KeyConflictError:  # it was refunded before, for another cause
                pass
            except OverdrawnError:
                before, steps = steps, self._given_back(charged)
                if steps == before:
                    raise
                continue  # the pool was shared out meanwhile
            return self.standing(study_key, service)
        raise CapacityError("this bill is being changed by others all the time")

    def receive(self, payment_key: str, amount: Amount) -> Posting:
        """Book a payment by the hospital against what it owes; once for each payment key."""
        key = f"payment:{payment_key}"
        payable = self.payable(amount.asset)
        steps = [Move(self.payer(amount.asset), payable, amount, _PAYMENT)]
        return self.ledger.post_all(self.hospital, key, steps, events.paid(payable, key, amount))

    def expire(self, limit: int = 100) -> int:
        """Release up to `limit` holds of this hospital whose time is over; return how many."""
        released = 0
        for hold in self.ledger.overdue([self.payable(asset) for asset in self._assets()], limit):
            (held,) = self.ledger.postings(hold.posting - 1, 1)
            told = self.ledger.notices(hold.posting - 1, 1)[0].data
            event = events.voided(hold.debit, told["bill"], told["amount"], Cause.EXPIRED)
            with suppress(HoldResolvedError):
                self.ledger.post_all(self.hospital, f"{held.key}:expire", [Expire(hold.id, _RELEASE)], event)
                released += 1
        return released

    def standing(self, study_key: str, service: str) -> Standing:
        """Say how a bill stands."""
        bill = _bill(study_key, service)
        return _pasts(self.ledger, self.hospital, [bill])[bill].standing

    def _limit(self, book: Ledger | Transaction, asset: Asset) -> None:
        """Keep the credit line at what it is, or at what is used where that is more: it sinks as that is paid."""
        most = self.credit_units if _is_currency(asset) else 0
        book.open_account(self.payable(asset), asset, credit_limit=most, keep_used=True)

    def _assets(self) -> list[Asset]:
        return sorted({version.asset for version in self.prices}, key=str)

    # --- what is posted ---------------------------------------------------------------------------------

    def _charge(self, book: Transaction, due: Mapping[str, Delivered]) -> dict[str, Standing | LedgerError]:
        """Post those of the bills that are not charged yet; return how each stands, or what refuses it."""
        pasts = _pasts(book, self.hospital, list(due))
        new = {bill: delivery for bill, delivery in due.items() if not pasts[bill].charged}
        earners = {self._earner(one, book.at): one.charge.amount.asset for one in new.values()}
        asked = [self._charging(bill, one, pasts[bill].open_hold, book.at) for bill, one in new.items()]
        answers: dict[str, Standing | LedgerError] = {bill: past.standing for bill, past in pasts.items()}
        for bill, answer in zip(new, book.post_many(asked, earners), strict=True):
            answers[bill] = answer if isinstance(answer, LedgerError) else Standing(State.CHARGED, answer)
        return answers

    def _charging(self, bill: str, delivery: Delivered, open_hold: Transfer | None, now: datetime) -> Instruction:
        """A charge: what the hospital owes into the clearing account, and from there to each party its share."""
        charge, asset = delivery.charge, delivery.charge.amount.asset
        split, earner = on(self.splits, now.date()), self._earner(delivery, now)
        parts = [
            (share.party, account(share.account, asset) if share.account else earner, part)
            for share, part in split.divide(charge.amount)
        ]
        steps = self._take(open_hold, charge.amount, now)
        steps += [Move(clearing(asset), name, part, _SHARE) for _, name, part in parts if part.units]
        steps += meters.steps(self.hospital, charge)
        event = events.charged(self.payable(asset), bill, charge, delivery.node, split.name, parts)
        return Instruction(self.hospital, bill, tuple(steps), event)

    def _earner(self, delivery: Delivered, now: datetime) -> str:
        """Name who gets the contributors' share: the node that did the work, or the month's pool."""
        asset = delivery.charge.amount.asset
        if on(self.splits, now.date()).pooled:
            return pools.pool(now.date(), asset)
        return account(f"node:{delivery.node}:earnings", asset)

    def _given_back(self, charged: Posting) -> list[Step]:
        """Return the steps that take a charge back. What was measured stays: the work was done."""
        taken = [t for t in charged.transfers if t.kind in ("move", "post") and t.amount.asset not in meters.UNITS]
        return [
            Move(pools.giver(self.ledger, t.credit, t.amount.asset), t.debit, t.amount, _REFUND)
            for t in reversed(taken)
        ]

    def _take(self, hold: Transfer | None, amount: Amount, now: datetime) -> list[Step]:
        """Return the steps that bring a charge into the clearing account: from what is held as far as it goes."""
        payable, pool = self.payable(amount.asset), clearing(amount.asset)
        if hold is None:
            return [Move(payable, pool, amount, _CHARGE)]
        if hold.expires_at is not None and hold.expires_at <= now:
            return [Expire(hold.id, _RELEASE), Move(payable, pool, amount, _CHARGE)]
        if amount.units <= hold.amount.units:
            return [Post(hold.id, _CHARGE, amount)]
        return [Post(hold.id, _CHARGE), Move(payable, pool, amount - hold.amount, _CHARGE)]


def history(ledger: Ledger, hospital: str, study_key: str, service: str) -> list[Transfer]:
    """Return everything that happened to a bill, oldest first; raise RefusedError for what names none."""
    bill = _bill(study_key, service)
    keys = [bill, f"{bill}:refund"]
    for hold in _pasts(ledger, hospital, [bill])[bill].holds:
        keys += [hold.key, f"{hold.key}:void", f"{hold.key}:expire"]
    return [transfer for posting in ledger.find_all(hospital, keys) for transfer in posting.transfers]


def _bill(study_key: str, service: str) -> str:
    """Return the key of a bill; a study is named by a keyed digest, never by its own UID."""
    if not (_STUDY_KEY.fullmatch(study_key) and _SERVICE.fullmatch(service)):
        raise RefusedError("a bill is named by 32 to 64 hexadecimal digits of a keyed digest, and a service")
    return f"charge:{study_key}:{service}"


@dataclass(frozen=True, slots=True)
class _Past:
    """What the book knows of a bill."""

    charged: Posting | None
    refunded: Posting | None
    #: Oldest first.
    holds: Sequence[Posting]
    #: What the last of them holds, where nothing has resolved it.
    open_hold: Transfer | None

    @property
    def standing(self) -> Standing:
        if self.charged:
            return Standing(State.REFUNDED, self.refunded) if self.refunded else Standing(State.CHARGED, self.charged)
        return Standing(State.HELD, self.holds[-1]) if self.open_hold else Standing(State.OPEN)

    def suffices(self, amount: Amount, expires_at: datetime) -> bool:
        """Say whether this very amount is held, and long enough."""
        held = self.open_hold
        return bool(held and held.amount == amount and held.expires_at and held.expires_at >= expires_at)


def _pasts(book: Ledger | Transaction, hospital: str, bills: Sequence[str]) -> dict[str, _Past]:
    """Return what the book knows of each of these bills; holds are numbered, and few, so that four are asked for."""
    found: dict[str, Posting] = {}
    first, keys = 1, [key for bill in bills for key in (bill, f"{bill}:refund", *_hold_keys(bill, 1, 5))]
    while keys:
        found |= {posting.key: posting for posting in book.find_all(hospital, keys)}
        first += 4
        seen_all = [bill for bill in bills if f"{bill}:hold:{first - 1}" in found]
        keys = [key for bill in seen_all for key in _hold_keys(bill, first, first + 4)]
    holds = {bill: [found[key] for key in takewhile(found.__contains__, _hold_keys(bill, 1, first))] for bill in bills}
    last = {bill: postings[-1].transfers[-1] for bill, postings in holds.items() if postings}
    still_open = book.unresolved([hold.id for hold in last.values()])
    return {
        bill: _Past(
            found.get(bill),
            found.get(f"{bill}:refund"),
            holds[bill],
            last[bill] if bill in last and last[bill].id in still_open else None,
        )
        for bill in bills
    }


def _hold_keys(bill: str, first: int, end: int) -> Iterable[str]:
    return (f"{bill}:hold:{number}" for number in range(first, end))


def account(name: str, asset: Asset) -> str:
    """Name an account: each holds one asset, which is the last part of its name."""
    return f"{name}:{asset.code.lower()}"


def _is_currency(asset: Asset) -> bool:
    return asset.code not in (BTT.code, POINTS.code)


def clearing(asset: Asset) -> str:
    """Name the account between the hospital and those who get a share; it is empty again after every posting."""
    return account("compute:clearing", asset)


def bank(asset: Asset) -> str:
    """Name the account that stands for the bank, where money comes in and goes out; it has no limit."""
    return account("bank", asset)
