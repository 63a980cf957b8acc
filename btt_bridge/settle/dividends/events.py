"""What the world is told of dividends: that a month was shared out and how, and what each contributor got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from btt_bridge.ledger import Event
from btt_bridge.money import Amount, Asset
from btt_bridge.settle.events import money

SHARED: Final = "btt.dividend.shared.v1"
PAID: Final = "btt.dividend.paid.v1"
KINDS: Final = (SHARED, PAID)


def shared(
    pool: str, period: str, formula: str, head: int, work: str, pooled: Amount, carried: int, shares: Sequence[Any]
) -> Event:
    """Tell how a month's pool was divided; `work` is the digest of what each supplied, for sizes stay inside."""
    facts = {"period": period, "pool": pool, "formula": formula, "head": head, "work": work, "pooled": money(pooled)}
    return Event(SHARED, pool, facts | {"carried_units": str(carried), "shares": list(shares)})


def share(contributor: str, kind: str, factors: Mapping[str, Fraction], units: int) -> dict[str, Any]:
    """Write one contributor's part, with each factor as an exact fraction."""
    written = {name: f"{factor.numerator}/{factor.denominator}" for name, factor in factors.items()}
    return {"contributor": contributor, "class": kind, "factors": written, "units": str(units)}


def paid(account: str, period: str, contributor: str, units: int, asset: Asset) -> Event:
    """Tell a contributor what it got of a month."""
    facts = {"period": period, "contributor": contributor, "amount": money(Amount(units, asset))}
    return Event(PAID, account, facts)
