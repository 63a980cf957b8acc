"""The accounts of PayFi: each holds one asset, which is the last part of its name."""

from __future__ import annotations

from btt_bridge.money import Asset
from btt_bridge.settle.billing import account


def funds(party: str, asset: Asset) -> str:
    """What a party has here, or owes where it is below zero."""
    return account(f"payfi:{party}", asset)


def due(asset: Asset) -> str:
    """What is instructed and not netted yet."""
    return account("payfi:due", asset)


def transit(asset: Asset) -> str:
    """What is netted and neither paid nor returned yet."""
    return account("payfi:transit", asset)


def fees(asset: Asset) -> str:
    """The fees of payments that are not paid yet: nobody has earned them."""
    return account("payfi:fees", asset)


def liquidity(asset: Asset) -> str:
    """Where conversions go in and come out."""
    return account("payfi:liquidity", asset)
