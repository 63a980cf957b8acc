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
        for program in (*self.programs, self.program()):
            asset = program.asset
            payers = [("clinic", self.clinic), *(("partner", name) for name in program.partners)]
            for kind, name in [*payers, *(("insurer", name) for name in program.insurers)]:
                payable = account(f"{kind}:{name}:payable", asset)
                self.ledger.open_account(payable, asset, credit_limit=program.credit_units)
            for share in program.split.shares:
                self.ledger.open_account(account(share.account, asset), asset)
            self.ledger.open_account(bank(asset), asset, credit_limit=None)

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

    def share_saving(self, insurer: str, year: str, saving: Amount) -> Posting:
        """Bill the part of what an insurer saved in a year, as 2026, that flows back; once for each."""
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
        payer, key = self.payable("insurer", insurer), f"saving:{insurer}:{year}"
        return self._bill(events.SAVED, payer, key, part.units, facts)

    def refund(self, key: str) -> Posting:
        """Take a bill back by the same transfers the other way round, by the key of its posting; each at most once."""
        billed = self.ledger.find(self.clinic, key)
        if billed is None or not key.startswith(("subscription:", "arrangement:", "saving:")):
            raise UnknownError("there is no such bill")
        told = self.ledger.notices(billed.id - 1, 1)[0]
        steps: list[Step] = [Move(t.credit, t.debit, t.amount, "fee refund") for t in reversed(billed.transfers)]
        event = events.refunded(told.account, told.data)
        return self.ledger.post_all(self.clinic, f"refund:{key}", steps, event)

    def receive(self, payer: str, payment_key: str, amount: Amount) -> Posting:
        """Book a payment by one of those who owe fees, by the name of its account; once for each payment key."""
        key = f"fee-payment:{payment_key}"
        steps: list[Step] = [Move(bank(amount.asset), payer, amount, "fee payment")]
        return self.ledger.post_all(self.clinic, key, steps, events.paid(payer, key, amount))

    # --- how it is posted -------------------------------------------------------------------------------

    def moves(self, payer: str, parts: Parts, reason: str) -> list[Step]:
        """Return the steps that bring each party its part of a fee."""
        return [Move(payer, account(share.account, part.asset), part, reason) for share, part in parts if part.units]

    def moves_back(self, payer: str, told: Mapping[str, Any], reason: str) -> list[Step]:
        """Return the steps that take a fee back from each party, by what its event told."""
        asset = Asset(told["fee"]["asset"], told["fee"]["scale"])
        parts = [(share["account"], Amount(int(share["units"]), asset)) for share in told["shares"]]
        return [Move(name, payer, part, reason) for name, part in parts if part.units]

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
