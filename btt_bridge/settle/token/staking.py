"""Staking: tokens put aside under a lock, and what they give their holder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from btt_bridge.errors import CapacityError, KeyConflictError, RefusedError, UnknownError
from btt_bridge.ledger import Balance, Ledger, Move, Posting
from btt_bridge.money import BTT, Amount
from btt_bridge.settle import dated
from btt_bridge.settle.token import events
from btt_bridge.settle.token.accounts import ISSUER, check_reference, numbered, positive, staked, told, wallet
from btt_bridge.settle.token.terms import Lock, Stake, Staking, Terms, discount_percent, priority

# How often a holder's stakes are read again when somebody else has just added to them.
_TRIES = 8


@dataclass(frozen=True)
class Stakes:
    """Everybody's stakes: each a numbered posting, which the ledger alone remembers."""

    ledger: Ledger
    terms: Sequence[Terms]

    def stake(self, holder: str, reference: str, units: int, lock: str) -> Stake:
        """Put tokens aside under a lock, once for each reference of the holder."""
        check_reference(reference)
        rules = self._rules()
        kept, amount, account = rules.lock(lock), positive(units), staked(holder)
        self.ledger.open_account(account, BTT)
        step = Move(wallet(holder), account, amount, "stake")
        event = events.stake_made(holder, reference, amount, kept)
        for _ in range(_TRIES):
            standing = self.of(holder)
            for one in standing:
                if one.reference == reference:
                    return _same(one, units, lock)
            if sum(one.ended_at is None for one in standing) >= rules.open_max:
                raise RefusedError(f"a holder has at most {rules.open_max} stakes open")
            with suppress(KeyConflictError):  # somebody else was quicker; look again
                number = len(standing) + 1
                posting = self.ledger.post_all(ISSUER, f"stake:{holder}:{number}", [step], event)
                return _stake(holder, number, posting, event.data, None)
        raise CapacityError("the stakes of this holder are being changed by others all the time")

    def end(self, holder: str, number: int) -> Posting:
        """Give a stake back to its holder, once; raise RefusedError while it is locked."""
        standing = {one.number: one for one in self.of(holder)}
        if number not in standing:
            raise UnknownError("there is no such stake")
        stake, amount = standing[number], Amount(standing[number].units, BTT)
        if stake.ended_at is None and self.ledger.now() < stake.locked_until:
            raise RefusedError("the stake is still locked")
        step = Move(staked(holder), wallet(holder), amount, "unstake")
        key, event = f"stake:{holder}:{number}:end", events.stake_ended(holder, number, amount)
        return self.ledger.post_all(ISSUER, key, [step], event)

    def of(self, holder: str) -> list[Stake]:
        """Return the stakes of a holder, oldest first, those that are over among them."""
        staked(holder)
        made = numbered(self.ledger, ISSUER, f"stake:{holder}")
        ended = {p.key: p.at for p in self.ledger.find_all(ISSUER, [f"{posting.key}:end" for posting in made])}
        return [
            _stake(holder, number, posting, told(self.ledger, posting), ended.get(f"{posting.key}:end"))
            for number, posting in enumerate(made, start=1)
        ]

    def everybody(self) -> dict[str, list[Stake]]:
        """Return the stakes of all holders; as long as the list of accounts, so for rare questions."""
        holders = (b.account.removeprefix("staked:").rpartition(":")[0] for b in self._accounts())
        return {holder: self.of(holder) for holder in holders}

    def priority(self, holder: str) -> int:
        """Return the priority of a holder's node or bridge at the exchange; 0 is everybody's."""
        return priority(self._rules(), self.of(holder), self.ledger.now())

    def discount_percent(self, holder: str) -> int:
        """Return by how much a holder's fees are lower."""
        return discount_percent(self._rules(), self.of(holder), self.ledger.now())

    def _rules(self) -> Staking:
        return dated.in_force(self.terms, self.ledger.now().date()).staking

    def _accounts(self) -> list[Balance]:
        return self.ledger.balances("staked:")


def _stake(holder: str, number: int, posting: Posting, facts: Mapping[str, Any], ended_at: datetime | None) -> Stake:
    units = int(facts["amount"]["units"])
    return Stake(holder, number, facts["reference"], units, Lock(**facts["lock"]), posting.at, ended_at)


def _same(stake: Stake, units: int, lock: str) -> Stake:
    if (stake.units, stake.lock.name) != (units, lock):
        raise KeyConflictError
    return stake
