"""What the world is told of rewards: opaque references, rules and amounts; no act, no day, and nobody's name.

A `slot` stands for a patient, a rule and the day of an act, under the bridge's own key: it lets the bridge tell that a
day is taken, and tells nobody else anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from btt_bridge.ledger import Event
from btt_bridge.money import POINTS, Amount
from btt_bridge.settle.events import money, reference
from btt_bridge.settle.splits import Share

GRANTED = "btt.reward.granted.v1"
REVERSED = "btt.reward.reversed.v1"
REDEEMED = "btt.reward.redeemed.v1"
RETURNED = "btt.reward.returned.v1"
EXPIRED = "btt.reward.expired.v1"
SUBSCRIBED = "btt.subscription.billed.v1"
ARRANGED = "btt.arrangement.billed.v1"
SAVED = "btt.saving.shared.v1"
REFUNDED = "btt.fee.refunded.v1"
PAID = "btt.fee.paid.v1"

KINDS = (GRANTED, REVERSED, REDEEMED, RETURNED, EXPIRED, SUBSCRIBED, ARRANGED, SAVED, REFUNDED, PAID)

Parts = Sequence[tuple[Share, Amount]]


class Cause(StrEnum):
    """Why points were taken back; words from this list only."""

    RETRACTED = "retracted"  # the source says that it was a mistake, or did not happen
    EDITED = "edited"  # a later version does not earn them any more
    REASSIGNED = "reassigned"  # a later version is about somebody else


@dataclass(frozen=True, slots=True)
class Grant:
    """Points for one act."""

    #: Names the grant, and the resource that it is for.
    reward: str
    fact: str
    rule: str
    program: str
    slot: str
    points: int


def granted(wallet: str, grant: Grant, repaid: int) -> Event:
    """Tell that points were earned, and how many of them went to a debt."""
    names = {name: getattr(grant, name) for name in ("reward", "fact", "rule", "program", "slot")}
    return Event(GRANTED, wallet, names | {"amount": _points(grant.points), "repaid": str(repaid)})


def reversed_(wallet: str, grant: Grant, points: int, owed: int, cause: Cause) -> Event:
    """Tell that points of a grant were taken back, and how many of them had been spent and are owed now."""
    names = {name: getattr(grant, name) for name in ("reward", "fact", "rule", "program")}
    return Event(REVERSED, wallet, names | {"amount": _points(points), "owed": str(owed), "cause": cause})


def redeemed(wallet: str, redemption: str, partner: str, points: int, value: Amount, fee: Parts) -> Event:
    """Tell that points were spent with a partner, what they were worth there, and what the partner pays for it."""
    data = {"redemption": redemption, "partner": partner, "amount": _points(points), "value": money(value)}
    return Event(REDEEMED, wallet, data | {"fee": money(_sum(fee)), "shares": _shares(fee)})


def returned(wallet: str, told: Mapping[str, Any], repaid: int) -> Event:
    """Tell that a redemption was undone; `told` is the data of its event."""
    names = ("redemption", "partner", "amount", "fee", "shares")
    return Event(RETURNED, wallet, {name: told[name] for name in names} | {"repaid": str(repaid)})


def expired(wallet: str, points: int) -> Event:
    """Tell that points had waited too long."""
    return Event(EXPIRED, wallet, {"amount": _points(points)})


def billed(kind: str, payer: str, key: str, fee: Parts, facts: Mapping[str, str]) -> Event:
    """Tell that a clinic, partner or insurer owes a fee, and who gets what of it."""
    bill = {"bill": reference(key), "amount": money(_sum(fee)), "shares": _shares(fee)}
    return Event(kind, payer, {**facts, **bill})


def refunded(payer: str, told: Mapping[str, Any]) -> Event:
    """Tell that a fee was taken back from those who had shares of it; `told` is the data of its event."""
    return Event(REFUNDED, payer, {name: told[name] for name in ("bill", "amount", "shares")})


def paid(payer: str, key: str, amount: Amount) -> Event:
    """Tell that a clinic, partner or insurer paid what it owed, or part of it."""
    return Event(PAID, payer, {"payment": reference(key), "amount": money(amount)})


def _points(units: int) -> dict[str, Any]:
    return money(Amount(units, POINTS))


def _sum(parts: Parts) -> Amount:
    first, *rest = (part for _, part in parts)
    for part in rest:
        first += part
    return first


def _shares(parts: Parts) -> list[dict[str, str]]:
    return [
        {"party": share.party, "account": f"{share.account}:{part.asset.code.lower()}", "units": str(part.units)}
        for share, part in parts
    ]
