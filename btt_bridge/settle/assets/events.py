"""What the world is told of assets: an event for each posting but single uses, which would tell of single studies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from btt_bridge.ledger import Event
from btt_bridge.money import Amount
from btt_bridge.settle.assets.schedule import Fee
from btt_bridge.settle.events import money

MINTED = "btt.asset.minted.v1"
TRADED = "btt.asset.traded.v1"
REVALUED = "btt.asset.revalued.v1"
LISTED = "btt.asset.listed.v1"
PAID = "btt.asset.paid.v1"
POOLED = "btt.asset.pooled.v1"
JOINED = "btt.asset.joined.v1"
LEFT = "btt.asset.left.v1"
MANAGED = "btt.asset.managed.v1"
REVERSED = "btt.asset.reversed.v1"
FUNDED = "btt.asset.funded.v1"
WITHDRAWN = "btt.asset.withdrawn.v1"

KINDS = (MINTED, TRADED, REVALUED, LISTED, PAID, POOLED, JOINED, LEFT, MANAGED, REVERSED, FUNDED, WITHDRAWN)


def charged(kind: str, account: str, facts: Mapping[str, Any], fee: Fee) -> Event:
    """Tell a fact that had a fee, and who got what of it."""
    parts = [{"party": party, "account": name, "units": str(part.units)} for party, name, part in fee.parts]
    return Event(kind, account, {**facts, "schedule": fee.schedule, "fee": money(fee.amount), "parts": parts})


def paid(account: str, facts: Mapping[str, Any], uses: int, revenue: Amount, holders: int) -> Event:
    """Tell that revenue was shared among holders: how many uses, never which."""
    return Event(PAID, account, {**facts, "uses": uses, "revenue": money(revenue), "holders": holders})
