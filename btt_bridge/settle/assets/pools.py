"""Managed liquidity pools: money and shares of one thing, owned in units, and charged for by the month."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from btt_bridge.errors import InvalidAmountError, RefusedError, UnknownError
from btt_bridge.ledger import Event, Ledger, Move, Posting
from btt_bridge.money import Amount, Asset
from btt_bridge.settle.assets import events
from btt_bridge.settle.assets.registry import ISSUER, Deed, Registry, once, share_code
from btt_bridge.settle.billing import account
from btt_bridge.settle.events import money
from btt_bridge.settle.events import reference as digest_of
from btt_bridge.settle.token.accounts import check_holder, check_reference, positive, told, wallet

_POOL = re.compile(r"[a-z0-9-]{1,40}")
# Units are counted as if so many stood against one minor unit from the beginning. Whoever is first cannot then make
# one unit so dear, by a gift to the pool, that who comes next gets none for its money.
_UNITS_PER_MINOR: Final = 10**6


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as the book has it."""

    name: str
    deed: Deed
    style: str
    units: Asset
    opened: date

    @property
    def holder(self) -> str:
        """As whom it holds money and shares, and trades."""
        return f"pool:{self.name}"

    @property
    def issue(self) -> str:
        """The account that its units came from."""
        return account("units:issue", self.units)

    def owned_by(self, holder: str) -> str:
        """Name the account of a holder's units."""
        return account(f"units:{check_holder(holder)}", self.units)


@dataclass(frozen=True)
class Pools:
    """All managed pools."""

    ledger: Ledger
    registry: Registry

    def open(self, name: str, deed: str, style: str, manager: str) -> Pool:
        """Open a pool for the shares of one thing; once. Who manages it puts in the first minor unit."""
        if not _POOL.fullmatch(name):
            raise RefusedError("a pool has a name of a-z, 0-9 and hyphens")
        thing = self.registry.deed(deed)
        facts = {"pool": name, "deed": deed, "style": style, "manager": manager}
        units, asset = Asset(share_code(digest_of(f"pool:{name}"), "Y"), 0), thing.valuation.asset

        def post() -> Posting:
            self.registry.schedule.pool_style(style)
            source, target = wallet(manager, asset), wallet(f"pool:{name}", asset)
            for account_name in (source, target):
                self.ledger.open_account(account_name, asset)
            self.ledger.open_account(account("units:issue", units), units, credit_limit=None)
            step = Move(source, target, Amount(1, asset), "opening of a pool")
            return self.ledger.post_all(ISSUER, f"pool:{name}", [step], Event(events.POOLED, target, facts))

        once(self.ledger, f"pool:{name}", facts, post)
        return self.pool(name)

    def pool(self, name: str) -> Pool:
        """Return a pool; raise UnknownError where there is none."""
        posting = self.ledger.find(ISSUER, f"pool:{name}")
        if posting is None:
            raise UnknownError("there is no such pool")
        facts = told(self.ledger, posting)
        units = Asset(share_code(digest_of(f"pool:{name}"), "Y"), 0)
        return Pool(name, self.registry.deed(facts["deed"]), facts["style"], units, posting.at.date())

    def value(self, pool: Pool) -> Amount:
        """Return what a pool holds: its money, and its shares at the newest valuation, rounded down."""
        worth, held = self.registry.valuation(pool.deed), self.registry.holders(pool.deed).get(pool.holder, 0)
        cash = self.ledger.balance(wallet(pool.holder, worth.asset)).units
        return Amount(cash + worth.units * held // pool.deed.total, worth.asset)

    def join(self, name: str, reference: str, holder: str, amount: Amount) -> Posting:
        """Put money in for units at today's value, rounded down; once for each reference of the holder."""
        pool = self.pool(name)
        positive(amount.units, amount.asset)
        facts = {"pool": name, "holder": holder, "amount": money(amount)}
        key = f"pool:{name}:join:{check_holder(holder)}:{check_reference(reference)}"

        def post() -> Posting:
            units = amount.units * (self._issued(pool) + _UNITS_PER_MINOR) // (self.value(pool).units + 1)
            bought = positive(units, pool.units)
            self.ledger.open_account(pool.owned_by(holder), pool.units)
            source = wallet(holder, amount.asset)
            steps = [
                Move(source, wallet(pool.holder, amount.asset), amount, "into a pool"),
                Move(pool.issue, pool.owned_by(holder), bought, "units"),
            ]
            return self.ledger.post_all(ISSUER, key, steps, _moved(events.JOINED, source, facts, bought))

        return once(self.ledger, key, facts, post)

    def leave(self, name: str, reference: str, holder: str, units: int) -> Posting:
        """Give units back for money at today's value, rounded down; once for each reference of the holder.

        Raises OverdrawnError where the pool's money is in shares, until its manager has sold some.
        """
        pool = self.pool(name)
        given = positive(units, pool.units)
        facts = {"pool": name, "holder": holder, "units": str(units)}
        key = f"pool:{name}:leave:{check_holder(holder)}:{check_reference(reference)}"

        def post() -> Posting:
            value = self.value(pool)
            paid = units * (value.units + 1) // (self._issued(pool) + _UNITS_PER_MINOR)
            amount, target = positive(paid, value.asset), wallet(holder, value.asset)
            steps = [
                Move(pool.owned_by(holder), pool.issue, given, "units"),
                Move(wallet(pool.holder, value.asset), target, amount, "out of a pool"),
            ]
            event = Event(events.LEFT, target, {**facts, "amount": money(amount)})
            return self.ledger.post_all(ISSUER, key, steps, event)

        return once(self.ledger, key, facts, post)

    def charge(self, name: str, month: int) -> Posting:
        """Charge a month of managing that is over, at today's value; once. 1 is the month that it was opened in."""
        pool, key = self.pool(name), f"pool:{name}:month:{month}"
        facts = {"pool": name, "month": month}

        def post() -> Posting:
            today = self.ledger.now().date()
            if not 1 <= month <= (today.year - pool.opened.year) * 12 + today.month - pool.opened.month:
                raise RefusedError("this month is not over, or there is none")
            value = self.value(pool)
            source, fee = wallet(pool.holder, value.asset), self.registry.schedule.pool_fee(value, pool.style)
            if not fee.amount.units:
                raise InvalidAmountError("there is nothing to charge for")
            event = events.charged(events.MANAGED, source, {**facts, "value": money(value)}, fee)
            return self.ledger.post_all(ISSUER, key, fee.steps(self.ledger, source), event)

        return once(self.ledger, key, facts, post)

    def _issued(self, pool: Pool) -> int:
        return -self.ledger.balance(pool.issue).units


def _moved(kind: str, target: str, facts: Mapping[str, Any], units: Amount) -> Event:
    return Event(kind, target, {**facts, "units": str(units.units)})
