"""Amounts as people type them."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from btt_bridge.errors import InvalidAmountError


def decimal(text: str) -> Decimal:
    """Return a number written as 1000.00; raise InvalidAmountError for what is none."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise InvalidAmountError("an amount is written as 1000.00") from None
    return number
