"""The registry: things divided into shares, each thing once, and what may be done with the shares."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from btt_bridge.errors import (
    CapacityError,
    InvalidAmountError,
    KeyConflictError,
    RefusedError,
    UnknownAccountError,
    UnknownError,
)
from btt_bridge.ledger import Event, Ledger, Move, Posting, Step
from btt_bridge.money import BTT, Amount, Asset
from btt_bridge.settle import dated
from btt_bridge.settle.assets import events
from btt_bridge.settle.assets.schedule import Schedule
from btt_bridge.settle.billing import account, bank
from btt_bridge.settle.events import money
from btt_bridge.settle.events import reference as digest_of
from btt_bridge.settle.splits import WHOLE_BASIS_POINTS
from btt_bridge.settle.token.accounts import check_holder, check_reference, numbered, positive, told, wallet

#: In whose name the ledger knows the postings of this package.
ISSUER: Final = "assets"

_KEYED_DIGEST = re.compile(r"[0-9a-f]{64}")
# How often values are read again when somebody else has just added one.
_TRIES = 8
_PAGE = 1000


class Kind(StrEnum):
    """What can be divided into shares."""

    EQUIPMENT = "equipment"
    PROPERTY = "property"
    INTELLECTUAL_PROPERTY = "intellectual-property"
    SERVICE_RIGHT = "service-right"


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that was divided, as the book has it."""

    #: A digest of the keyed digest that names the thing: one thing, one deed, for ever.
    id: str
    kind: Kind
    #: Its shares are an asset of the ledger's own, so that the database keeps them from any other's accounts.
    shares: Asset
    total: int
    #: What it was worth when it was divided.
    valuation: Amount
    #: What each attested use earns its holders; nothing where uses do not count.
    use_fee: Amount

    def held_by(self, holder: str) -> str:
        """Name the account of a holder's shares."""
        return account(f"shares:{check_holder(holder)}", self.shares)

    @property
    def issue(self) -> str:
        """The account that the shares came from; it may owe exactly all of them."""
        return account("shares:issue", self.shares)


def deed_id(title: str) -> str:
    """Return the deed that a thing has, or would have; a thing is named by a keyed digest, as of a serial number."""
    if not _KEYED_DIGEST.fullmatch(title):
        raise RefusedError("a thing is named by 64 hexadecimal digits of a keyed digest")
    return digest_of(f"deed:{title}")


def share_code(seed: str, first: str) -> str:
    """Return a ledger code of eight letters for what a hexadecimal digest names.

    There are 8 thousand million; of two deeds that fall together the second is refused, for all was issued.
    """
    number, letters = int(seed, 16), ""
    for _ in range(7):
        number, rest = divmod(number, 26)
        letters += chr(ord("A") + rest)
    return first + letters


def find(ledger: Ledger, name: str) -> Deed | None:
    """Return a deed as the book has it, or None."""
    posting = ledger.find(ISSUER, f"deed:{name}")
    if posting is None:
        return None
    facts, shares = told(ledger, posting), posting.transfers[0].amount
    value, use_fee = amount_in(facts, "valuation"), amount_in(facts, "use_fee")
    return Deed(name, Kind(facts["kind"]), shares.asset, shares.units, value, use_fee)


@dataclass(frozen=True)
class Registry:
    """All deeds, by a schedule of fees; `discount_percent` says by how much a holder's fees are lower."""

    ledger: Ledger
    schedules: Sequence[Schedule]
    discount_percent: Callable[[str], int]

    def mint(
        self, kind: Kind, title: str, owner: str, total: int, valuation: Amount, complexity: str, use_fee: Amount
    ) -> Deed:
        """Divide a thing into shares, all of them the owner's, who pays the fee; each thing once, for ever."""
        if type(total) is not int or total < 1 or use_fee.asset != valuation.asset:
            raise InvalidAmountError("there is at least one share, and uses are paid in the money of the valuation")
        positive(valuation.units, valuation.asset)
        name = deed_id(title)
        facts = {
            "deed": name,
            "kind": Kind(kind),
            "owner": owner,
            "shares": str(total),
            "valuation": money(valuation),
            "complexity": complexity,
            "use_fee": money(use_fee),
        }
        deed = Deed(name, Kind(kind), Asset(share_code(name, "X"), 0), total, valuation, use_fee)

        def post() -> Posting:
            payer = self._wallet(owner, valuation.asset)
            fee = self.schedule.mint_fee(valuation, complexity, self.discount_percent(owner))
            # What was issued once under this code stays all that is ever issued under it.
            if not self._known(deed.issue) or not self.ledger.balance(deed.issue).units:
                self.ledger.open_account(deed.issue, deed.shares, credit_limit=total)
            self.ledger.open_account(deed.held_by(owner), deed.shares)
            steps = [Move(deed.issue, deed.held_by(owner), Amount(total, deed.shares), "shares")]
            event = events.charged(events.MINTED, payer, facts, fee)
            return self.ledger.post_all(ISSUER, f"deed:{name}", [*steps, *fee.steps(self.ledger, payer)], event)

        once(self.ledger, f"deed:{name}", facts, post)
        return deed

    def deed(self, name: str) -> Deed:
        """Return a deed; raise UnknownError where there is none."""
        found = self.find(name)
        if found is None:
            raise UnknownError("there is no such deed")
        return found

    def find(self, name: str) -> Deed | None:
        """Return a deed, or None."""
        return find(self.ledger, name)

    def fund(self, holder: str, reference: str, amount: Amount) -> Posting:
        """Book what a holder has paid in, once for each reference of the bank's."""
        key = f"funding:{holder}:{check_reference(reference)}"
        step = Move(bank(amount.asset), wallet(holder, amount.asset), amount, "paid in")
        return self._banked(events.FUNDED, key, holder, reference, step)

    def withdraw(self, holder: str, reference: str, amount: Amount) -> Posting:
        """Book what was paid out to a holder, once for each reference of the bank's."""
        key = f"withdrawal:{holder}:{check_reference(reference)}"
        step = Move(wallet(holder, amount.asset), bank(amount.asset), amount, "paid out")
        return self._banked(events.WITHDRAWN, key, holder, reference, step)

    def deeds(self) -> list[Deed]:
        """Return every deed, oldest first."""
        found: list[Deed] = []
        after = 0
        while page := self.ledger.notices(after, _PAGE):
            found += [self.deed(notice.data["deed"]) for notice in page if notice.type == events.MINTED]
            after = page[-1].position
        return found

    def trade(self, name: str, reference: str, seller: str, buyer: str, shares: int, price: Amount) -> Posting:
        """Sell shares for a price, of which the seller pays the fee; once for each reference of the seller."""
        deed = self.deed(name)
        sold = positive(shares, deed.shares)
        positive(price.units, price.asset)
        if seller == buyer:
            raise RefusedError("nobody sells to itself")
        facts = {"deed": name, "seller": seller, "buyer": buyer, "shares": str(shares), "price": money(price)}
        key = f"trade:{name}:{seller}:{check_reference(reference)}"

        def post() -> Posting:
            payer, payee = self._wallet(buyer, price.asset), self._wallet(seller, price.asset)
            fee = self.schedule.trade_fee(price, self.discount_percent(seller))
            if not self._known(deed.held_by(buyer)) and len(self.holders(deed)) >= self.schedule.holders_max:
                raise RefusedError(f"one deed has at most {self.schedule.holders_max} holders")
            for holder in (seller, buyer):
                self.ledger.open_account(deed.held_by(holder), deed.shares)
            steps: list[Step] = [
                Move(deed.held_by(seller), deed.held_by(buyer), sold, "shares"),
                Move(payer, payee, price, "price of shares"),
                *fee.steps(self.ledger, payee),
            ]
            return self.ledger.post_all(ISSUER, key, steps, events.charged(events.TRADED, payee, facts, fee))

        return once(self.ledger, key, facts, post)

    def valuation(self, deed: Deed) -> Amount:
        """Return what a thing is worth by its newest valuation."""
        values = numbered(self.ledger, ISSUER, f"value:{deed.id}")
        return amount_in(told(self.ledger, values[-1]), "valuation") if values else deed.valuation

    def revalue(self, name: str, reference: str, method: str, valuation: Amount, payer: str) -> Amount:
        """Value a thing anew, within what the method may change; once for each reference."""
        deed, source = self.deed(name), self._wallet(payer, valuation.asset)
        positive(valuation.units, valuation.asset)
        facts = {"deed": name, "reference": check_reference(reference), "method": method, "valuation": money(valuation)}
        for _ in range(_TRIES):
            values = [told(self.ledger, posting) for posting in numbered(self.ledger, ISSUER, f"value:{name}")]
            for value in values:
                if value["reference"] == reference:
                    return amount_in(_same(value, facts), "valuation")
            rule = self.schedule.method(method)
            _check_change(
                amount_in(values[-1], "valuation") if values else deed.valuation,
                valuation,
                rule.change_basis_points_max,
            )
            fee = self.schedule.revaluation_fee(valuation, method, self.discount_percent(payer))
            event = events.charged(events.REVALUED, source, facts, fee)
            with suppress(KeyConflictError):  # somebody else was quicker; look again
                self.ledger.post_all(ISSUER, f"value:{name}:{len(values) + 1}", fee.steps(self.ledger, source), event)
                return valuation
        raise CapacityError("this thing is being valued by others all the time")

    def list_prominently(self, name: str, reference: str, payer: str) -> Posting:
        """Charge for a prominent place, once for each reference."""
        deed, key = self.deed(name), f"listing:{name}:{check_reference(reference)}"
        facts = {"deed": name, "payer": payer}

        def post() -> Posting:
            value = self.valuation(deed)
            source = self._wallet(payer, value.asset)
            fee = self.schedule.listing_fee(value, self.discount_percent(payer))
            event = events.charged(events.LISTED, source, facts, fee)
            return self.ledger.post_all(ISSUER, key, fee.steps(self.ledger, source), event)

        return once(self.ledger, key, facts, post)

    def holders(self, deed: Deed) -> dict[str, int]:
        """Return who holds how many shares, by name."""
        found = {
            balance.account.removeprefix("shares:").rpartition(":")[0]: balance.units
            for balance in self.ledger.balances()
            if balance.asset == deed.shares and balance.account != deed.issue
        }
        return {holder: units for holder, units in sorted(found.items()) if units}

    @property
    def schedule(self) -> Schedule:
        """The schedule in force."""
        return dated.in_force(self.schedules, self.ledger.now().date())

    def _wallet(self, holder: str, asset: Asset) -> str:
        name = wallet(holder, asset)
        self.ledger.open_account(name, asset)
        return name

    def _banked(self, kind: str, key: str, holder: str, reference: str, step: Move) -> Posting:
        """Move money between a wallet and the bank; BTT comes into the book by its own ways, and never leaves it."""
        amount = positive(step.amount.units, step.amount.asset)
        if amount.asset == BTT:
            raise RefusedError("the bank has no BTT")
        facts = {"holder": holder, "reference": reference, "amount": money(amount)}

        def post() -> Posting:
            self.ledger.open_account(bank(amount.asset), amount.asset, credit_limit=None)
            name = self._wallet(holder, amount.asset)
            return self.ledger.post_all(ISSUER, key, [step], Event(kind, name, facts))

        return once(self.ledger, key, facts, post)

    def _known(self, name: str) -> bool:
        with suppress(UnknownAccountError):
            self.ledger.balance(name)
            return True
        return False


def once(ledger: Ledger, key: str, facts: Mapping[str, Any], post: Callable[[], Posting]) -> Posting:
    """Return what was posted under a key, or post it now; raise KeyConflictError where it was for other facts.

    Fees follow from the day and the payer's stakes, so that only the facts can say whether it is the same again.
    """
    for attempt in (post, None):
        posting = ledger.find(ISSUER, key)
        if posting is not None:
            _same(told(ledger, posting), facts)
            return posting
        if attempt:
            with suppress(KeyConflictError):  # somebody else was quicker; look again
                return attempt()
    raise KeyConflictError


def amount_in(facts: Mapping[str, Any], name: str) -> Amount:
    """Return an amount as an event says it."""
    said = facts[name]
    return Amount(int(said["units"]), Asset(said["asset"], said["scale"]))


def _same(said: Mapping[str, Any], facts: Mapping[str, Any]) -> Mapping[str, Any]:
    if any(said[name] != fact for name, fact in facts.items()):
        raise KeyConflictError
    return said


def _check_change(before: Amount, after: Amount, basis_points_max: int) -> None:
    if after.asset != before.asset:
        raise InvalidAmountError("a thing keeps the money that it is valued in")
    if abs(after.units - before.units) * WHOLE_BASIS_POINTS > before.units * basis_points_max:
        raise RefusedError("this way of valuing may not change a value so much")
