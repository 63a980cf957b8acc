"""What clinics, partners and insurers pay: each bill once, shared out, and taken back as it was shared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from btt_bridge.errors import InvalidAmountError, KeyConflictError, RefusedError, UnknownError
from btt_bridge.ledger import Ledger, Move, Posting, Step
from btt_bridge.money import Amount, Asset
from btt_bridge.settle import dated
from btt_bridge.settle.billing import account, bank
from btt_bridge.settle.rewards import events
from btt_bridge.settle.rewards.events import Parts
from btt_bridge.settle.rewards.program import Program
from btt_bridge.settle.splits import WHOLE_BASIS_POINTS

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_YEAR = re.compile(r"\d{4}")


@dataclass(frozen=True)
class Fees:
    """The fees around one clinic's program."""

    ledger: Ledger
    clinic: str
    programs: Sequence[Program]

    def open(self) -> None:
        """Open the accounts of all who pay and all who get a share, by every program; today's limits count."""
        for name, asset in self._payers().items():
            self._limit(name, asset)
        for program in self.programs:
            for share in program.split.shares:
                self.ledger.open_account(account(share.account, program.asset), program.asset)
            self.ledger.open_account(bank(program.asset), program.asset, credit_limit=None)

    def program(self) -> Program:
        """Return the program of today."""
        return dated.in_force(self.programs, self.ledger.now().date())

    def payable(self, kind: str, name: str) -> str:
        """Name the account of a clinic, partner or insurer; below zero it is what it owes."""
        return account(f"{kind}:{name}:payable", self.program().asset)

    # --- bills ------------------------------------------------------------------------------------------

    def subscribe(self, month: str, clinicians: int) -> Posting:
        """Bill the clinic's subscription for a month, as 2026-01, by its size; once, whatever its size says later."""
        if not _MONTH.fullmatch(month) or month > self.ledger.now().strftime("%Y-%m"):
            raise RefusedError("a subscription is for a month, as 2026-01, that has begun")
        if type(clinicians) is not int or clinicians < 1:
            raise InvalidAmountError("a clinic has a whole number of clinicians")
        sizes = self.program().sizes
        size = next(s for s in sizes if s.clinicians_max is None or clinicians <= s.clinicians_max)
        facts = {"month": month, "tier": size.name}
        key = f"subscription:{self.clinic}:{month}"
        return self._bill(events.SUBSCRIBED, self.payable("clinic", self.clinic), key, size.units, facts)

    def arrange(self, partner: str) -> Posting:
        """Bill what a partner pays once to take part."""
        terms = self.program().partners.get(partner)
        if terms is None:
            raise UnknownError("no partner has this name")
        payer, key = self.payable("partner", partner), f"arrangement:{partner}"
        return self._bill(events.ARRANGED, payer, key, terms.arrangement_units, {"partner": partner})

    def share_saving(self, insurer: str, year: str, saving: Amount, *, again: bool = False) -> Posting:
        """Bill the part of what an insurer saved in a year, as 2026, that flows back; once for each.

        A year whose bill was refunded is not billed once more unless `again` says so. Raises KeyConflictError where
        another saving was told of that year before.
        """
        program = self.program()
        terms = program.insurers.get(insurer)
        if terms is None:
            raise UnknownError("no insurer has this name")
        if not _YEAR.fullmatch(year) or year > self.ledger.now().strftime("%Y"):
            raise RefusedError("savings are of a year, as 2026, that has begun")
        if saving.asset != program.asset or not saving.units:
            raise InvalidAmountError(f"a saving is an amount of {program.asset}")
        part = rounded_up(saving, terms.saving_basis_points)
        facts = {"insurer": insurer, "year": year}
        payer, key = self.payable("insurer", insurer), self._newest(f"saving:{insurer}:{year}", again=again)
        billed = self._bill(events.SAVED, payer, key, part.units, facts)
        told = self.ledger.notices(billed.id - 1, 1)[0].data
        # What flows back of it may have changed since, with the program.
        before = next((one for one in self.programs if one.name == told["program"]), program).insurers.get(insurer)
        if int(told["amount"]["units"]) != rounded_up(saving, (before or terms).saving_basis_points).units:
            raise KeyConflictError("another saving of that year was billed before")
        return billed

    def refund(self, key: str) -> Posting:
        """Take a bill back by the same transfers the other way round, by the key of its posting; each at most once."""
        billed = self.ledger.find(self.clinic, key)
        if billed is None or not key.startswith(("subscription:", "arrangement:", "saving:")):
            raise UnknownError("there is no such bill")
        told = self.ledger.notices(billed.id - 1, 1)[0]
        steps: list[Step] = [Move(t.credit, t.debit, t.amount, "fee refund") for t in reversed(billed.transfers)]
        event = events.refunded(told.account, told.data)
        posting = self.ledger.post_all(self.clinic, f"refund:{key}", steps, event)
        self._limit(told.account, billed.transfers[0].amount.asset)
        return posting

    def receive(self, payer: str, payment_key: str, amount: Amount) -> Posting:
        """Book a payment by one of those who owe fees, by the name of its account; once for each payment key."""
        if payer not in self._payers():
            raise UnknownError("nobody pays fees with this account")
        key = f"fee-payment:{payment_key}"
        steps: list[Step] = [Move(bank(amount.asset), payer, amount, "fee payment")]
        posting = self.ledger.post_all(self.clinic, key, steps, events.paid(payer, key, amount))
        self._limit(payer, amount.asset)
        return posting

    # --- who pays ---------------------------------------------------------------------------------------

    def _payers(self) -> dict[str, Asset]:
        """Return the accounts of all who owe fees by any program, each with its asset."""
        found = {}
        for program in self.programs:
            partners = [f"partner:{name}" for name in program.partners]
            insurers = [f"insurer:{name}" for name in program.insurers]
            for payer in (f"clinic:{self.clinic}", *partners, *insurers):
                found[account(f"{payer}:payable", program.asset)] = program.asset
        return found

    def _limit(self, payer: str, asset: Asset) -> None:
        """Keep a credit line at what today's program says, or at what is used where that is more."""
        program = self.program()
        most = program.credit_units if asset == program.asset else 0
        self.ledger.open_account(payer, asset, credit_limit=most, keep_used=True)

    # --- how it is posted -------------------------------------------------------------------------------

    def moves(self, payer: str, parts: Parts, reason: str) -> list[Step]:
        """Return the steps that bring each party its part of a fee."""
        return [Move(payer, account(share.account, part.asset), part, reason) for share, part in parts if part.units]

    def moves_back(self, payer: str, told: Mapping[str, Any], reason: str) -> list[Step]:
        """Return the steps that take a fee back from each party, by what its event told."""
        asset = Asset(told["fee"]["asset"], told["fee"]["scale"])
        parts = [(share["account"], Amount(int(share["units"]), asset)) for share in told["shares"]]
        return [Move(name, payer, part, reason) for name, part in parts if part.units]

    def _newest(self, key: str, *, again: bool) -> str:
        """Return the key of the last bill of those under a key; with `again` the next, where that one was refunded."""
        newest, number = key, 1
        while self.ledger.find(self.clinic, f"refund:{newest}") is not None:
            number += 1
            if not again and self.ledger.find(self.clinic, f"{key}:{number}") is None:
                break
            newest = f"{key}:{number}"
        return newest

    def _bill(self, kind: str, payer: str, key: str, units: int, facts: Mapping[str, str]) -> Posting:
        if (billed := self.ledger.find(self.clinic, key)) is not None:
            return billed
        program = self.program()
        parts = program.shares(Amount(units, program.asset))
        event = events.billed(kind, payer, key, parts, {**facts, "program": program.name})
        with suppress(KeyConflictError):  # somebody else was quicker; what was billed first stands
            return self.ledger.post_all(self.clinic, key, self.moves(payer, parts, "fee share"), event)
        (billed,) = self.ledger.find_all(self.clinic, [key])
        return billed


def rounded_up(amount: Amount, basis_points: int) -> Amount:
    """Return so many basis points of an amount, rounded up to a whole minor unit."""
    return Amount(-(-amount.units * basis_points // WHOLE_BASIS_POINTS), amount.asset)
