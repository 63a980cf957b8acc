"""Arithmetic on zero-padded text of 38 digits, as SQL, for SQLite's own integers end at 19 digits."""

from __future__ import annotations

DIGITS = 38
ZERO = "0" * DIGITS

# 2 + 18 + 18 digits: two limbs of 18 digits, a carry and a borrow fit into 64 bits together.
_LIMB = 10**18


def _limbs(text: str) -> tuple[str, str, str]:
    """Return the three limbs of a 38-digit text, highest first."""
    return (
        f"CAST(substr({text}, 1, 2) AS INTEGER)",
        f"CAST(substr({text}, 3, 18) AS INTEGER)",
        f"CAST(substr({text}, 21, 18) AS INTEGER)",
    )


def plus(one: str, other: str, digits: int = DIGITS) -> str:
    """Return SQL for the sum in at least so many digits; a longer one is refused by the constraint of its column."""
    (a, b, c), (x, y, z) = _limbs(one), _limbs(other)
    low = f"({c} + {z})"
    middle = f"({b} + {y} + {low} / {_LIMB})"
    high = f"({a} + {x} + {middle} / {_LIMB})"
    long = f"printf('%0{digits - 36}d%018d%018d', {high}, {middle} % {_LIMB}, {low} % {_LIMB})"
    # Nearly all money is below 10^18 minor units, where one addition does.
    short = f"printf('%0{digits}d', CAST({one} AS INTEGER) + CAST({other} AS INTEGER))"
    return f"CASE WHEN max({one}, {other}) < '{_LIMB:038d}' THEN {short} ELSE {long} END"


def minus(one: str, other: str) -> str:
    """Return SQL for the difference; below zero it carries a minus sign, and the column's constraint refuses it."""
    (a, b, c), (x, y, z) = _limbs(one), _limbs(other)
    # Each lower limb borrows one in advance; what it did not need goes back up as a carry.
    low = f"({c} - {z} + {_LIMB})"
    middle = f"({b} - {y} + {_LIMB} - 1 + {low} / {_LIMB})"
    high = f"({a} - {x} - 1 + {middle} / {_LIMB})"
    return f"printf('%02d%018d%018d', {high}, {middle} % {_LIMB}, {low} % {_LIMB})"
