"""Where the contributors' share waits until its month is shared out, and who gives when that is taken back later."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from btt_bridge.ledger import Ledger, Posting
from btt_bridge.money import Asset

#: In whose name the ledger knows that months are shared out.
ISSUER: Final = "dividends"
_POOL: Final = "pool:contributors"


def pool(day: date, asset: Asset) -> str:
    """Name the account of the month that a day is in, by UTC."""
    return f"{_POOL}:{day:%Y-%m}:{asset.code.lower()}"


def carried(asset: Asset) -> str:
    """Name the account between one month and the next: what a cap cut off; below zero, what refunds took ahead."""
    return f"{_POOL}:carried:{asset.code.lower()}"


def closings(ledger: Ledger, asset: Asset) -> list[tuple[Posting, Mapping[str, Any]]]:
    """Return every sharing out in an asset, oldest first, each with what was told of it; there is one a month."""
    found: list[Posting] = []
    while more := ledger.find_all(ISSUER, [closing_key(asset, len(found) + n) for n in range(1, 13)]):
        found += more
    return [(posting, ledger.notices(posting.id - 1, 1)[0].data) for posting in found]


def closing_key(asset: Asset, number: int) -> str:
    return f"dividend:{asset.code.lower()}:{number}"


def giver(ledger: Ledger, account: str, asset: Asset) -> str:
    """Return who gives what an account once got: itself, or what is carried, where it is a pool that was shared out."""
    if is_pool(account) and any(told["pool"] == account for _, told in closings(ledger, asset)):
        return carried(asset)
    return account


def is_pool(account: str) -> bool:
    """Say whether an account is a month's pool, or what is carried between months."""
    return account.startswith(f"{_POOL}:")
