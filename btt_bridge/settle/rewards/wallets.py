"""Patients' points: an account each that never falls below zero, a debt beside it, and the history that explains both.

Each change of a wallet is posted under the number of its event, so that of two changes that were planned from the same
state only one is carried out, and the other is planned again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import select

from btt_bridge.database import reading
from btt_bridge.errors import CapacityError, KeyConflictError, RefusedError
from btt_bridge.ledger import Event, Ledger, Move, Posting, Step
from btt_bridge.ledger.rows import notice
from btt_bridge.ledger.schema import account_table, outbox_table, posting_table, transfer_table
from btt_bridge.money import POINTS, Amount
from btt_bridge.settle.billing import account
from btt_bridge.settle.events import reference
from btt_bridge.settle.rewards import events
from btt_bridge.settle.rewards.events import Cause, Grant

#: Anything that is no plan of a change says why there is none.
No = TypeVar("No")
Change = tuple[list[Step], Event]

_OPAQUE = re.compile(r"[0-9a-f]{32,64}")
# How often a wallet is read again when somebody else has just changed it.
_TRIES = 16


@dataclass(slots=True)
class Lot:
    """Points that came in together, and so grow old together."""

    at: datetime
    left: int
    #: The grant they came with.
    reward: str = ""


@dataclass(slots=True)
class Wallet:
    """One patient's points, as their history adds up."""

    clinic: str
    patient: str
    #: How many changes it has seen.
    number: int = 0
    #: Points that were taken back after they were spent.
    debt: int = 0
    #: Grants that stand, by name, with the moment of each.
    grants: dict[str, tuple[Grant, datetime]] = field(default_factory=dict)
    #: What redemptions told, by name; and the names of those that were undone.
    redemptions: dict[str, tuple[Mapping[str, Any], datetime]] = field(default_factory=dict)
    undone: set[str] = field(default_factory=set)
    #: What its points are made of, the oldest first; and what each redemption took, with the age that it had.
    lots: list[Lot] = field(default_factory=list)
    taken: dict[str, list[Lot]] = field(default_factory=dict)
    #: How many points of each grant have expired.
    lapsed: Counter[str] = field(default_factory=Counter)

    @property
    def account(self) -> str:
        return account(f"patient:{self.clinic}:{self.patient}", POINTS)

    @property
    def points(self) -> int:
        return sum(lot.left for lot in self.lots)

    @property
    def debt_account(self) -> str:
        return account(f"patient:{self.clinic}:{self.patient}:debt", POINTS)

    def due(self, before: datetime) -> int:
        """Return how many points came in before a moment and are not spent: the oldest are spent first."""
        return sum(lot.left for lot in self.lots if lot.at < before)

    def standing(self, fact: str) -> list[Grant]:
        """Return the grants for a fact."""
        return [grant for grant, _ in self.grants.values() if grant.fact == fact]

    def earned(self, since: datetime) -> int:
        """Return the points of grants that stand, from a moment on."""
        return sum(grant.points for grant, at in self.grants.values() if at >= since)

    def spent(self, since: datetime) -> int:
        """Return the points that were spent from a moment on, and not returned."""
        told = [data for name, (data, at) in self.redemptions.items() if at >= since and name not in self.undone]
        return sum(int(data["amount"]["units"]) for data in told)

    def learn(self, kind: str, data: Mapping[str, Any], at: datetime) -> None:
        """Add one event of its history."""
        units, repaid, owed = (
            int(text) for text in (data["amount"]["units"], data.get("repaid", 0), data.get("owed", 0))
        )
        self.number += 1
        self.debt += owed - repaid
        if kind == events.GRANTED:
            names = {name: data[name] for name in ("reward", "fact", "rule", "program", "slot")}
            self.grants[data["reward"]] = (Grant(**names, points=units), at)
            self.lots.append(Lot(at, units - repaid, data["reward"]))
        elif kind == events.REVERSED:
            del self.grants[data["reward"]]
            self._take(units - owed, first=data["reward"])
        elif kind == events.REDEEMED:
            self.redemptions[data["redemption"]] = (data, at)
            self.taken[data["redemption"]] = self._take(units)
        elif kind == events.RETURNED:
            self.undone.add(data["redemption"])
            self._restore(self.taken.pop(data["redemption"]), repaid)
        else:
            self.lapsed.update({lot.reward: lot.left for lot in self._take(units)})

    def _take(self, points: int, first: str = "") -> list[Lot]:
        """Take points out of the oldest lots, or out of one grant's own before all others; return what was taken."""
        taken = []
        for lot in sorted(self.lots, key=lambda lot: not first or lot.reward != first):
            part = min(lot.left, points)
            lot.left, points = lot.left - part, points - part
            if part:
                taken.append(Lot(lot.at, part, lot.reward))
        self.lots = [lot for lot in self.lots if lot.left]
        return taken

    def _restore(self, lots: Sequence[Lot], repaid: int) -> None:
        """Put lots back at the age they had, for buying and returning makes nothing young; a debt takes the oldest."""
        for lot in lots:
            part = min(lot.left, repaid)
            lot.left, repaid = lot.left - part, repaid - part
        self.lots = sorted((*self.lots, *(lot for lot in lots if lot.left)), key=lambda lot: lot.at)


@dataclass(frozen=True)
class Wallets:
    """The wallets of one clinic's patients."""

    ledger: Ledger
    clinic: str
    #: Names whatever would identify somebody by a keyed digest, hex; only who has the key can tell what it stands for.
    key_of: Callable[[str], str]

    @property
    def issued(self) -> str:
        """Name the account that points come from; below zero it is what is out or spent."""
        return account(f"rewards:{self.clinic}:issued", POINTS)

    def opaque(self, text: str) -> str:
        """Return the keyed digest of a text; raise RefusedError where the key function gives anything else."""
        key = self.key_of(text)
        if not _OPAQUE.fullmatch(key):
            raise RefusedError("a patient is named by 32 to 64 hexadecimal digits of a keyed digest")
        return key

    def read(self, patient: str) -> Wallet:
        """Return a patient's wallet; an empty one where there is none yet."""
        wallet = Wallet(self.clinic, patient)
        history = (
            select(outbox_table, account_table.c.name, transfer_table.c.at, transfer_table.c.hash)
            .join(posting_table, posting_table.c.id == outbox_table.c.posting)
            .join(transfer_table, transfer_table.c.id == posting_table.c.id + posting_table.c.transfers - 1)
            .join(account_table, account_table.c.id == outbox_table.c.account)
            .where(account_table.c.name == wallet.account)
            .order_by(outbox_table.c.sequence)
        )
        with reading(self.ledger.engine) as connection:
            for told in map(notice, connection.execute(history)):
                wallet.learn(told.type, told.data, told.at)
        return wallet

    def change(self, patient: str, plan: Callable[[Wallet, str], Change | No]) -> Posting | No:
        """Carry out a plan on a wallet as it stands, or return what the plan says instead of a change.

        The plan gets the wallet and the name that its event may give to what it makes.
        """
        self._open(Wallet(self.clinic, patient))
        for _ in range(_TRIES):
            wallet = self.read(patient)
            key = f"points:{patient}:{wallet.number + 1}"
            planned = plan(wallet, reference(key))
            if not isinstance(planned, tuple):
                return planned
            steps, event = planned
            with suppress(KeyConflictError):  # somebody else was quicker; look again
                return self.ledger.post_all(self.clinic, key, steps, event)
        raise CapacityError("this wallet is being changed by others all the time")

    def names(self, after: str, limit: int) -> list[str]:
        """Return patients with a wallet, by name, behind one; "" is before the first."""
        prefix, suffix = f"patient:{self.clinic}:", account("", POINTS)
        query = (
            select(account_table.c.name)
            .where(account_table.c.name > f"{prefix}{after}{suffix if after else ''}")
            .where(account_table.c.name.like(f"{prefix}%{suffix}"), ~account_table.c.name.like(f"%:debt{suffix}"))
            .order_by(account_table.c.name)
            .limit(limit)
        )
        with reading(self.ledger.engine) as connection:
            return [name[len(prefix) : -len(suffix)] for name in connection.execute(query).scalars()]

    # --- plans ------------------------------------------------------------------------------------------

    def grant(self, wallet: Wallet, grant: Grant) -> Change:
        """Plan a grant; what is owed is paid first."""
        steps = self.credit(wallet, self.issued, grant.points, "points granted")
        return steps, events.granted(wallet.account, grant, min(wallet.debt, grant.points))

    def credit(self, wallet: Wallet, source: str, points: int, reason: str) -> list[Step]:
        """Return the steps that bring points in, to the debt as far as there is one."""
        repaid = min(wallet.debt, points)
        parts = ((wallet.debt_account, repaid), (wallet.account, points - repaid))
        return [Move(source, name, Amount(units, POINTS), reason) for name, units in parts if units]

    def reverse(self, wallet: Wallet, grant: Grant, cause: Cause) -> Change | None:
        """Plan taking a grant back; what was spent of it becomes a debt, for a wallet never falls below zero.

        What has expired is gone already: None where that is all of it.
        """
        points = grant.points - wallet.lapsed[grant.reward]
        if not points:
            return None
        owed = max(0, points - wallet.points)
        parts = ((wallet.account, points - owed), (wallet.debt_account, owed))
        steps: list[Step] = [
            Move(name, self.issued, Amount(units, POINTS), "points reversed") for name, units in parts if units
        ]
        return steps, events.reversed_(wallet.account, grant, points, owed, cause)

    def expire(self, wallet: Wallet, lifetime: timedelta) -> Change | None:
        """Plan taking what is older than `lifetime` and not spent; None where nothing is."""
        points = wallet.due(self.ledger.now() - lifetime)
        if not points:
            return None
        steps: list[Step] = [Move(wallet.account, self.issued, Amount(points, POINTS), "points expired")]
        return steps, events.expired(wallet.account, points)

    def _open(self, wallet: Wallet) -> None:
        self.ledger.open_account(wallet.account, POINTS)
        # What is owed has no bound of its own: it is never more than what was granted.
        self.ledger.open_account(wallet.debt_account, POINTS, credit_limit=None)
