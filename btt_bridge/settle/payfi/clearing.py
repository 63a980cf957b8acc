"""The clearing house: payments instructed, netted, handed to a rail, and settled or undone when the rail says so.

It keeps nothing of its own. Whatever it knows is read from the book, so that a crash between two postings leaves
nothing to repair: whoever comes next goes on from what stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import islice

from btt_bridge import log
from btt_bridge.errors import (
    BridgeError,
    CapacityError,
    InvalidAmountError,
    KeyConflictError,
    LedgerError,
    RateUnavailableError,
    RefusedError,
    UnknownError,
)
from btt_bridge.ledger import Instruction, Ledger, Move, Notice, Posting
from btt_bridge.money import Amount, Asset, exactly
from btt_bridge.plugins import SettlementRail
from btt_bridge.records import Confirmation, Outcome, PaymentOrder
from btt_bridge.settle.billing import account, bank
from btt_bridge.settle.events import reference
from btt_bridge.settle.payfi import events, names, policy
from btt_bridge.settle.payfi.instructions import PaymentInstruction
from btt_bridge.settle.payfi.netting import Batch, Leg, Payment, net
from btt_bridge.settle.payfi.participants import Directory, Participant
from btt_bridge.settle.payfi.policy import Policy
from btt_bridge.settle.payfi.rates import Quote

_log = log.logger("settle")

ISSUER = "payfi"
_TRIES = 8
_PAGE = 1000
#: Closed batches that are kept at hand.
_KEPT = 32

# What the transfers are for, as the book says it.
_FUND = "payfi funding"
_LIQUIDITY = "payfi liquidity"
_PAYMENT = "payfi payment"
_CONVERSION = "payfi conversion"
_NETTING = "payfi netting"
_PAYOUT = "payfi payout"
_SET_OFF = "payfi set-off"
_SHARE = "payfi fee share"
_RETURN = "payfi return"


class State(StrEnum):
    """How a payment stands."""

    INSTRUCTED = "instructed"  # debited from the payer, waiting for its batch
    NETTED = "netted"  # in a batch, on its way to the payee's bank
    SETTLED = "settled"  # confirmed by the bank, or set off in full
    RETURNED = "returned"  # undone: the payer has everything back


@dataclass(frozen=True, slots=True)
class Standing:
    """How a payment or the leg that carries it stands, since when; and the leg, once there is one."""

    state: State
    at: datetime
    leg: Leg | None = None


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What came of handing payouts to a rail."""

    #: How many payouts are at the rail and wait for the bank.
    payouts: int
    #: Message and error class of each batch that could not be handed over; whoever comes next tries again.
    failed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Clearing:
    """The payments of one book."""

    ledger: Ledger
    policies: Sequence[Policy]
    directory: Directory
    #: What never changes again, so that it need not be read again: closed batches, and which are wholly resolved.
    _closed: Callable[[int], Batch] = field(init=False, repr=False, compare=False)
    _done: set[int] = field(init=False, repr=False, compare=False, default_factory=set)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_closed", lru_cache(_KEPT)(self._netted_again))

    def open(self) -> None:
        """Open the accounts that every payment needs, and those of every participant."""
        rules = self.rules()
        shares = {share.account for version in self.policies for share in version.shares.shares}
        for asset in self._assets():
            lent = rules.limits[asset.code].liquidity_units if asset.code in rules.limits else 0
            self.ledger.open_account(bank(asset), asset, credit_limit=None)
            self.ledger.open_account(names.liquidity(asset), asset, credit_limit=lent, keep_used=True)
            for name in (names.due(asset), names.transit(asset), names.fees(asset)):
                self.ledger.open_account(name, asset)
            for share in sorted(shares):
                self.ledger.open_account(account(share, asset), asset)
        for participant in self.directory.participants.values():
            for code, credit_units in participant.credit_units.items():
                asset = rules.asset(code)
                name = names.funds(participant.party, asset)
                self.ledger.open_account(name, asset, credit_limit=credit_units, keep_used=True)

    # --- payments ---------------------------------------------------------------------------------------

    def fund(self, party: str, amount: Amount, key: str) -> Posting:
        """Book what a party has paid in, once for each key; a person's account opens with the first of it."""
        name = names.funds(party, amount.asset)
        if party.startswith("person:"):
            self.ledger.open_account(name, amount.asset)
        steps = [Move(bank(amount.asset), name, amount, _FUND)]
        return self.ledger.post_all(
            ISSUER, f"fund:{key}", steps, events.funded(party, reference(f"fund:{key}"), amount)
        )

    def instruct(self, instruction: PaymentInstruction, quote: Quote | None = None, *, again: bool = False) -> Payment:
        """Debit the payer and owe the payee, once for a document; asked again, it says what stands.

        Where the payee is paid in another currency it takes a quote that has not expired. A payment that was returned
        is not tried once more unless `again` says so. Raises OverdrawnError beyond what the payer has or may owe,
        KeyConflictError where the document asked for something else before.
        """
        payee = self.directory.participant(instruction.payee)
        for _ in range(_TRIES):
            attempt, last = self._last_attempt(instruction.key)
            if last is not None:
                if last.data["instruction"] != instruction.digest:
                    raise KeyConflictError("this document asked for another payment before")
                standing = events.payment(last)
                if not again or self._standing(standing).state is not State.RETURNED:
                    return standing
            key = _attempt(instruction.key, attempt + 1)
            with suppress(KeyConflictError):  # somebody else was quicker; look again
                posting = self.ledger.post(self._instructed(key, instruction, payee, quote))
                return events.payment(self._notice(posting.id))
        raise CapacityError("this payment is being changed by others all the time")

    def standing(self, document: str) -> Standing:
        """Say how the payment for a document (its keyed digest) stands; raise UnknownError where there is none."""
        _, last = self._last_attempt(document)
        if last is None:
            raise UnknownError("there is no payment for this document")
        return self._standing(events.payment(last))

    # --- batches ----------------------------------------------------------------------------------------

    def close(self, *, early: bool = False) -> Batch | None:
        """Net what waits and close a batch, if its time has come; None where it has not.

        The time has come when the oldest payment has waited as long as the rules allow, or when there are as many
        payments as they allow; `early` does not wait for that.
        """
        rules = self.rules()
        for _ in range(_TRIES):
            number, last = self._last_batch()
            waiting = self._waiting(last.data["last"] if last else 0, rules.payments_max)
            if not waiting:
                return None
            ends = waiting[0].at + timedelta(seconds=rules.netting_seconds_max)
            if not early and len(waiting) < rules.payments_max and self.ledger.now() < ends:
                return None
            batch = net(number + 1, waiting)
            with suppress(KeyConflictError):  # somebody else has just closed it; look again
                self.ledger.post(self._netted(batch))
                return batch
        raise CapacityError("batches are being closed by others all the time")

    def batch(self, number: int) -> Batch:
        """Return a closed batch, netted again from its payments; raise UnknownError where there is none."""
        return self._closed(number)

    def _netted_again(self, number: int) -> Batch:
        posting = self.ledger.find(ISSUER, f"batch:{number}")
        if posting is None:
            raise UnknownError("there is no such batch")
        told = self._notice(posting.id).data
        batch = net(number, [events.payment(n) for n in self._told(told["first"] - 1, told["last"])])
        if batch.digest != told["digest"]:
            raise LedgerError("a batch is not what its payments come to")
        return batch

    def on_their_way(self) -> list[Payment]:
        """Return every payment that is neither settled nor returned."""
        _, last = self._last_batch()
        found = [
            payment
            for batch in self.unpaid()
            for leg in batch.legs
            if self.leg_standing(leg).state is State.NETTED
            for payment in leg.payments
        ]
        return found + self._waiting(last.data["last"] if last else 0, None)

    def batches(self) -> Iterator[Batch]:
        """Yield all batches, newest first."""
        number, _ = self._last_batch()
        for one in range(number, 0, -1):
            yield self.batch(one)

    def unpaid(self) -> list[Batch]:
        """Return batches with legs that are neither settled nor returned, oldest first.

        What they received stands in transit, and nothing else does; so, looking from the newest back, whatever adds
        up to that is all of them.
        """
        open_units = {a: u for a in self._assets() if (u := self.ledger.balance(names.transit(a)).units)}
        found: list[Batch] = []
        number, _ = self._last_batch()
        while number and any(units > 0 for units in open_units.values()):
            received = self._open_legs(number)
            for amount in received:
                open_units[amount.asset] = open_units.get(amount.asset, 0) - amount.units
            if received:
                found.append(self.batch(number))
            number -= 1
        return found[::-1]

    def _open_legs(self, number: int) -> list[Amount]:
        """Return what the legs of a batch that nothing has resolved received, by what was told when it closed."""
        if number in self._done:
            return []
        posting = self.ledger.find(ISSUER, f"batch:{number}")
        assert posting is not None  # they are numbered without gaps
        received = events.received(self._notice(posting.id))
        resolved = {one.key for one in self.ledger.find_all(ISSUER, [_outcome(order) for order in received])}
        if len(resolved) == len(received):
            self._done.add(number)
        return [amount for order, amount in received.items() if _outcome(order) not in resolved]

    def submit(self, rail: SettlementRail) -> HandedOver:
        """Hand the payouts of unpaid batches to a rail, each batch as one message; one that fails costs only itself.

        A batch is handed over again until it is resolved, for a crash may have come between its posting and the
        rail, and a rail takes each message once. Legs that no bank has a part in are settled here and now.
        """
        payouts, failed = 0, []
        for batch in self.unpaid():
            message = f"btt-{batch.number}"
            try:
                payouts += self._hand_over(batch, rail, message)
            except Exception as problem:
                # Whatever a rail may raise, and a payee who settles here no more: others must not wait for it.
                failed.append((message, type(problem).__name__))
                reason = str(problem) if isinstance(problem, BridgeError) else ""
                _log.error("batch not handed over", file=message, reason=reason, error=type(problem).__name__)
        return HandedOver(payouts, tuple(failed))

    def _hand_over(self, batch: Batch, rail: SettlementRail, message: str) -> int:
        for leg in batch.legs:
            if leg.payout.units == 0:
                self._resolve(leg, lambda leg=leg: self._settled(leg))  # type: ignore[misc]
        orders = [self._order(leg) for leg in batch.legs if leg.payout.units]
        if orders:
            rail.submit(message, orders, self.closed_at(batch.number))
        return len(orders)

    # --- outcomes ---------------------------------------------------------------------------------------

    def confirm(self, confirmation: Confirmation) -> Standing:
        """Book what a bank says of an order; said again, it changes nothing.

        Raises UnknownError for an order that is not ours, InvalidAmountError where currency or amount are not those
        of the order, and OverdrawnError where a settled payment came back and somebody has
        spent their part of it: once that is made good, the same confirmation passes.
        """
        leg = self.leg(confirmation.order)
        asset = leg.received.asset
        if confirmation.currency != asset.code:
            raise InvalidAmountError("the confirmation is in another currency than the order")
        if leg.payout.units == 0 or exactly(confirmation.value, asset) != leg.payout:
            raise InvalidAmountError("the confirmation is of another amount than the order")
        if confirmation.outcome is Outcome.BOOKED:
            return self._resolve(leg, lambda: self._settled(leg))
        standing = self._resolve(leg, lambda: self._returned(leg, confirmation.reason))
        if standing.state is State.SETTLED:
            with suppress(KeyConflictError):  # it came back before, for another reason
                self.ledger.post(self._returned_late(leg, confirmation.reason))
        return self.leg_standing(leg)

    def leg(self, order: str) -> Leg:
        """Return the leg that an order is of; raise UnknownError where there is none."""
        parts = order.split("-")
        if len(parts) == 3 and parts[1].isascii() and parts[1].isdigit() and len(parts[1]) < 12:
            for leg in self.batch(int(parts[1])).legs:
                if leg.order == order:
                    return leg
        raise UnknownError("this order is not one of ours")

    def leg_standing(self, leg: Leg) -> Standing:
        """Say how a leg stands, and with it every payment in it."""
        late = self.ledger.find(ISSUER, f"{leg.order}:return")
        if late is not None:
            return Standing(State.RETURNED, late.at, leg)
        posting = self.ledger.find(ISSUER, _outcome(leg.order))
        if posting is None:
            return Standing(State.NETTED, self.closed_at(leg.batch), leg)
        settled = self._notice(posting.id).type == events.SETTLED
        return Standing(State.SETTLED if settled else State.RETURNED, posting.at, leg)

    def _resolve(self, leg: Leg, instruction: Callable[[], Instruction]) -> Standing:
        """Settle or undo a leg under the one key that both have, so that it can only be one of them."""
        if self.leg_standing(leg).state is State.NETTED:
            with suppress(KeyConflictError):  # somebody else has just resolved it
                self.ledger.post(instruction())
        return self.leg_standing(leg)

    # --- what is posted ---------------------------------------------------------------------------------

    def _instructed(
        self, key: str, instruction: PaymentInstruction, payee: Participant, quote: Quote | None
    ) -> Instruction:
        """The payer is debited by linked transfers: each fee, and what goes on to the payee, converted or not."""
        rules, gross = self.rules(), instruction.amount
        target = rules.asset(payee.paid_in(gross.asset.code))
        converted = target != gross.asset
        bill = rules.bill(gross, payee, converted=converted)
        payer, net_amount = names.funds(instruction.payer, gross.asset), bill.net
        steps = [Move(payer, names.fees(gross.asset), amount, f"payfi {fee} fee") for fee, amount in bill.fees]
        if converted:
            net_amount = self._usable(quote, gross.asset, target).convert(bill.net)
            steps.append(Move(payer, names.liquidity(gross.asset), bill.net, _CONVERSION))
            steps.append(Move(names.liquidity(target), names.due(target), net_amount, _CONVERSION))
        else:
            steps.append(Move(payer, names.due(target), net_amount, _PAYMENT))
        used = quote if converted else None
        event = events.instructed(reference(key), instruction, bill, net_amount, rules.name, used)
        return Instruction(ISSUER, key, tuple(steps), event)

    def _usable(self, quote: Quote | None, base: Asset, target: Asset) -> Quote:
        if quote is None:
            raise RateUnavailableError("the payee is paid in another currency, and there is no quote")
        if (quote.base, quote.quote) != (base, target):
            raise RefusedError("the quote is for another pair of currencies")
        now = self.ledger.now()
        if not quote.at <= now < quote.expires_at:
            raise RateUnavailableError("the quote has expired")
        return quote

    def _netted(self, batch: Batch) -> Instruction:
        totals: dict[Asset, int] = {}
        for leg in batch.legs:
            totals[leg.received.asset] = totals.get(leg.received.asset, 0) + leg.received.units
        steps = [Move(names.due(a), names.transit(a), Amount(units, a), _NETTING) for a, units in totals.items()]
        home = next(iter(self.rules().limits.values())).asset
        return Instruction(ISSUER, f"batch:{batch.number}", tuple(steps), events.netted(batch, names.fees(home)))

    def _settled(self, leg: Leg) -> Instruction:
        """The bank has paid: what was in transit is gone, what was set off is the payee's, and the fees are earned."""
        asset, shares, at = leg.received.asset, self._shares(leg), self.ledger.now()
        steps: list[Move] = []
        if leg.payout.units:
            steps.append(Move(names.transit(asset), bank(asset), leg.payout, _PAYOUT))
        if leg.set_off.units:
            steps.append(Move(names.transit(asset), names.funds(leg.payee, asset), leg.set_off, _SET_OFF))
        steps += [Move(names.fees(part.asset), name, part, _SHARE) for _, name, part in shares]
        return Instruction(ISSUER, _outcome(leg.order), tuple(steps), events.settled(leg, at, shares))

    def _returned(self, leg: Leg, reason: str) -> Instruction:
        event = events.returned(leg, reason, after_settlement=False)
        return Instruction(ISSUER, _outcome(leg.order), tuple(self._undone(leg)), event)

    def _returned_late(self, leg: Leg, reason: str) -> Instruction:
        """What was settled comes back: every transfer of it the other way round, then those of its payments."""
        settled = self.ledger.find(ISSUER, _outcome(leg.order))
        assert settled is not None  # only what is settled comes back late
        back = [Move(t.credit, t.debit, t.amount, _RETURN) for t in reversed(settled.transfers)]
        event = events.returned(leg, reason, after_settlement=True)
        return Instruction(ISSUER, f"{leg.order}:return", (*back, *self._undone(leg)), event)

    def _undone(self, leg: Leg) -> Iterator[Move]:
        """Yield the transfers of a leg's payments the other way round; what was due is in transit by now."""
        due, transit = names.due(leg.received.asset), names.transit(leg.received.asset)
        for payment in leg.payments:
            (posting,) = self.ledger.postings(payment.posting - 1, 1)
            for t in reversed(posting.transfers):
                yield Move(transit if t.credit == due else t.credit, t.debit, t.amount, _RETURN)

    def _shares(self, leg: Leg) -> list[tuple[str, str, Amount]]:
        """Divide the fees of a leg's payments, by the rules in force now: party, account and part."""
        fees: dict[Asset, int] = {}
        for payment in leg.payments:
            fees[payment.fees.asset] = fees.get(payment.fees.asset, 0) + payment.fees.units
        return [
            (share.party, account(share.account, asset), part)
            for asset, units in fees.items()
            for share, part in self.rules().shares.divide(Amount(units, asset))
            if part.units
        ]

    # --- how it is found --------------------------------------------------------------------------------

    def rules(self) -> Policy:
        """Return the rules in force now."""
        return policy.on(self.policies, self.ledger.now().date())

    def _assets(self) -> list[Asset]:
        """Return every asset that was ever, is or will be settled here."""
        return sorted({limits.asset for version in self.policies for limits in version.limits.values()}, key=str)

    def _notice(self, posting: int) -> Notice:
        (notice,) = self.ledger.notices(posting - 1, 1)
        return notice

    def _last_attempt(self, document: str) -> tuple[int, Notice | None]:
        """Return how often a document was instructed, and what was told the last time."""
        found: list[Posting] = []
        while more := self.ledger.find_all(ISSUER, [_attempt(document, len(found) + n) for n in (1, 2, 3, 4)]):
            found += more
        return len(found), self._notice(found[-1].id) if found else None

    def _last_batch(self) -> tuple[int, Notice | None]:
        """Return the number of the last batch, and what was told of it; they are numbered without gaps."""
        low, high = 0, 1
        while self.ledger.find(ISSUER, f"batch:{high}"):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.ledger.find(ISSUER, f"batch:{middle}") else (low, middle)
        posting = self.ledger.find(ISSUER, f"batch:{low}") if low else None
        return low, self._notice(posting.id) if posting else None

    def closed_at(self, number: int) -> datetime:
        """Return when a batch was closed; raise UnknownError where there is none."""
        posting = self.ledger.find(ISSUER, f"batch:{number}")
        if posting is None:
            raise UnknownError("there is no such batch")
        return posting.at

    def _order(self, leg: Leg) -> PaymentOrder:
        code = leg.received.asset.code
        creditor = self.directory.participant(leg.payee).accounts[code]
        return PaymentOrder(leg.order, leg.payout, self.directory.operator[code], creditor)

    def _waiting(self, after: int, limit: int | None) -> list[Payment]:
        """Return the oldest payments behind the last of a batch: they are not netted yet."""
        if not any(self.ledger.balance(names.due(asset)).units for asset in self._assets()):
            return []
        return [events.payment(notice) for notice in islice(self._told(after, None), limit)]

    def _told(self, after: int, last: int | None) -> Iterator[Notice]:
        """Yield what was told of payments, behind one posting and up to another."""
        while page := self.ledger.notices(after, _PAGE, [events.INSTRUCTED]):
            for notice in page:
                if last is not None and notice.position > last:
                    return
                yield notice
            after = page[-1].position

    def _standing(self, payment: Payment) -> Standing:
        """Say how a payment stands, by the batch that it fell into."""
        low, (high, newest) = 0, self._last_batch()
        if newest is None or newest.data["last"] < payment.posting:
            return Standing(State.INSTRUCTED, payment.at)
        while high - low > 1:
            middle = (low + high) // 2
            posting = self.ledger.find(ISSUER, f"batch:{middle}")
            assert posting is not None  # they are numbered without gaps
            behind = self._notice(posting.id).data["last"] < payment.posting
            low, high = (middle, high) if behind else (low, middle)
        for leg in self.batch(high).legs:
            if payment in leg.payments:
                return self.leg_standing(leg)
        raise LedgerError("a payment is missing from its batch")


def _outcome(order: str) -> str:
    return f"{order}:outcome"


def _attempt(document: str, number: int) -> str:
    return f"payment:{document}:{number}"
