"""Referrals: who brought an institution, and what its milestones are worth to them, up to a cap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from btt_bridge.errors import KeyConflictError, LedgerError, RefusedError, UnknownError
from btt_bridge.ledger import Instruction, Ledger, Move, Posting
from btt_bridge.money import BTT, Amount
from btt_bridge.settle import dated
from btt_bridge.settle.billing import account
from btt_bridge.settle.token import events
from btt_bridge.settle.token.accounts import ISSUER, QUOTA, QUOTA_USED, check_holder, purse, told, wallet
from btt_bridge.settle.token.terms import Milestone, Terms

# How far a chain of referrals is followed back when a circle is looked for.
_CHAIN_MAX = 100


@dataclass(frozen=True, slots=True)
class Institution:
    """A holder, and who owns it: nobody is rewarded for bringing itself."""

    holder: str
    owner: str


@dataclass(frozen=True)
class Referrals:
    """Everybody's referrals, paid from the purse of one allocation."""

    ledger: Ledger
    terms: Sequence[Terms]
    #: The name of the allocation that pays.
    payer: str

    def refer(self, referrer: Institution, referred: Institution, studies: int) -> Posting:
        """Note who brought an institution: once for ever, before it has had its first study.

        Raises OverdrawnError beyond as many institutions as one referrer may bring.
        """
        key = f"referral:{check_holder(referred.holder)}"
        if referrer.holder == referred.holder or referrer.owner == referred.owner:
            raise RefusedError("nobody refers itself")
        if self._brought(referred.holder, referrer.holder):
            raise RefusedError("these institutions refer each other in a circle")
        if studies and self.ledger.find(ISSUER, key) is None:
            raise RefusedError("an institution is referred before its first study")
        rules = dated.in_force(self.terms, self.ledger.now().date()).referrals
        self.ledger.open_account(QUOTA_USED, QUOTA)
        self._allow("institutions", referrer.holder, rules.institutions_max)
        self._allow("rewards", referrer.holder, rules.reward_units_max)
        self.ledger.open_account(wallet(referrer.holder), BTT)
        step = Move(_quota("institutions", referrer.holder), QUOTA_USED, Amount(1, QUOTA), "referral")
        try:
            return self.ledger.post_all(ISSUER, key, [step], events.referred(referrer.holder, referred.holder))
        except KeyConflictError:
            raise RefusedError("another referrer has brought this institution") from None

    def referral(self, referred: str) -> Posting:
        """Return the posting that notes who brought an institution; raise UnknownError where nobody did."""
        registered = self.ledger.find(ISSUER, f"referral:{check_holder(referred)}")
        if registered is None:
            raise UnknownError("nobody has referred this institution")
        return registered

    def reward(self, referred: str, studies: int) -> list[Posting | LedgerError]:
        """Pay the referrer for each milestone that an institution has reached and that was not paid.

        `studies` are those delivered and paid since it was referred; the days are counted here. A reward beyond the
        referrer's cap, or beyond what the purse holds, has its OverdrawnError.
        """
        registered = self.referral(referred)
        referrer, now = told(self.ledger, registered)["referrer"], self.ledger.now()
        reached = [
            self._reward(referrer, referred, milestone)
            for milestone in dated.in_force(self.terms, now.date()).referrals.milestones
            if studies >= milestone.studies and (now - registered.at).days >= milestone.days
        ]
        paid = {posting.key for posting in self.ledger.find_all(ISSUER, [one.key for one in reached])}
        due = [one for one in reached if one.key not in paid]
        return self.ledger.post_many(due) if due else []

    def _reward(self, referrer: str, referred: str, milestone: Milestone) -> Instruction:
        units = milestone.reward_units
        steps = (
            Move(purse(self.payer), wallet(referrer), Amount(units, BTT), "referral reward"),
            Move(_quota("rewards", referrer), QUOTA_USED, Amount(units, QUOTA), "referral reward"),
        )
        key = f"referral:{referred}:{milestone.name}"
        return Instruction(ISSUER, key, steps, events.rewarded(referrer, referred, milestone))

    def _allow(self, what: str, referrer: str, most: int) -> None:
        """Keep an allowance at what the terms say now, or at what was used where that is more."""
        self.ledger.open_account(_quota(what, referrer), QUOTA, credit_limit=most, keep_used=True)

    def _brought(self, referrer: str, referred: str) -> bool:
        """Say whether `referrer` brought `referred`, or brought who brought it, and so on."""
        for _ in range(_CHAIN_MAX):
            posting = self.ledger.find(ISSUER, f"referral:{check_holder(referred)}")
            if posting is None:
                return False
            referred = told(self.ledger, posting)["referrer"]
            if referred == referrer:
                return True
        return True


def _quota(what: str, referrer: str) -> str:
    return account(f"quota:{what}:{referrer}", QUOTA)
