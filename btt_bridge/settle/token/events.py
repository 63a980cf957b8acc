"""What the world is told of the token: one event for each posting that means something outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from btt_bridge.database import moment_text
from btt_bridge.ledger import Event
from btt_bridge.money import BTT, Amount
from btt_bridge.settle.events import money, reference
from btt_bridge.settle.token.accounts import GENESIS, staked, wallet
from btt_bridge.settle.token.allocation import Table
from btt_bridge.settle.token.terms import Governance, Lock, Milestone

MINTED = "btt.token.minted.v1"
RELEASED = "btt.token.released.v1"
EMITTED = "btt.token.emitted.v1"
MINED = "btt.token.mined.v1"
BURNED = "btt.token.burned.v1"
STAKED = "btt.token.staked.v1"
UNSTAKED = "btt.token.unstaked.v1"
DEDICATED = "btt.token.dedicated.v1"
PROPOSED = "btt.token.proposed.v1"
VOTED = "btt.token.voted.v1"
DECIDED = "btt.token.decided.v1"
REFERRED = "btt.token.referred.v1"
REWARDED = "btt.token.rewarded.v1"
REVERSED = "btt.token.reversed.v1"

KINDS = (
    *(MINTED, RELEASED, EMITTED, MINED, BURNED, STAKED, UNSTAKED, DEDICATED),
    *(PROPOSED, VOTED, DECIDED, REFERRED, REWARDED, REVERSED),
)


def _btt(units: int) -> dict[str, Any]:
    return money(Amount(units, BTT))


def minted(table: Table) -> Event:
    """Tell that the whole supply was made, once, and whose it is."""
    parts = [{"name": one.name, "units": str(one.units)} for one in table.allocations]
    facts = {"table": table.name, "digest": table.digest, "supply": _btt(table.supply), "allocations": parts}
    return Event(MINTED, GENESIS, facts | {"unallocated": _btt(table.unallocated)})


def released(account: str, allocation: str, month: int, units: int) -> Event:
    """Tell that a month's part of an allocation was released."""
    return Event(RELEASED, account, {"allocation": allocation, "month": month, "amount": _btt(units)})


def emitted(account: str, month: int, emission: int, paid: int, nodes: int, work: str) -> Event:
    """Tell what a month of mining emits and pays; `work` is the digest of what was measured."""
    facts = {"month": month, "emission": _btt(emission), "paid": _btt(paid), "nodes": nodes, "work": work}
    return Event(EMITTED, account, facts)


def mined(account: str, month: int, units: int) -> Event:
    """Tell what a node got of a month of mining."""
    return Event(MINED, account, {"month": month, "amount": _btt(units)})


def burned(account: str, amount: Amount) -> Event:
    """Tell that tokens are gone for ever."""
    return Event(BURNED, account, {"amount": money(amount)})


def stake_made(holder: str, name: str, amount: Amount, lock: Lock) -> Event:
    """Tell that tokens were staked, and on which terms."""
    return Event(STAKED, staked(holder), {"reference": name, "amount": money(amount), "lock": asdict(lock)})


def stake_ended(holder: str, number: int, amount: Amount) -> Event:
    """Tell that a stake was taken back."""
    return Event(UNSTAKED, staked(holder), {"stake": number, "amount": money(amount)})


def dedicated(holder: str, bridge_id: str, since: datetime) -> Event:
    """Tell which bridge a holder's stakes count for at an exchange, and from when on."""
    return Event(DEDICATED, staked(holder), {"bridge_id": bridge_id, "since": moment_text(since)})


def proposed(
    proposer: str, proposal: str, action: Mapping[str, Any], snapshot_at: datetime, roll: int, rules: Governance
) -> Event:
    """Tell what is put to the vote, on which terms, and how many votes there are."""
    facts = {"proposal": proposal, "action": action, "snapshot_at": moment_text(snapshot_at), "roll": str(roll)}
    terms = {name: str(value) if name == "deposit_units" else value for name, value in asdict(rules).items()}
    return Event(PROPOSED, wallet(proposer), facts | {"rules": terms})


def voted(holder: str, proposal: str, choice: str, weight: int) -> Event:
    """Tell how a holder voted."""
    return Event(VOTED, wallet(holder), {"proposal": proposal, "choice": choice, "weight": str(weight)})


def decided(proposer: str, proposal: str, outcome: str, yes: int, no: int) -> Event:
    """Tell what came of a proposal."""
    facts = {"proposal": proposal, "outcome": outcome, "yes": str(yes), "no": str(no)}
    return Event(DECIDED, wallet(proposer), facts)


def referred(referrer: str, institution: str) -> Event:
    """Tell who referred an institution."""
    return Event(REFERRED, wallet(referrer), {"referrer": referrer, "institution": institution})


def rewarded(referrer: str, institution: str, milestone: Milestone) -> Event:
    """Tell that a referrer was rewarded for what an institution reached."""
    facts = {"institution": institution, "milestone": milestone.name, "amount": _btt(milestone.reward_units)}
    return Event(REWARDED, wallet(referrer), facts)


def reversed_(kind: str, account: str, key: str, amount: Amount, cause: str) -> Event:
    """Tell that a payout was taken back; `kind` says of which component."""
    return Event(kind, account, {"payout": reference(key), "amount": money(amount), "cause": cause})
