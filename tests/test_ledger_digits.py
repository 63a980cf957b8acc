"""Arithmetic on 38-digit text in SQLite against Python's own integers."""

from __future__ import annotations

import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from btt_bridge.ledger.digits import minus, plus

# Around every limb border, where a carry or a borrow goes wrong first.
BORDERS = [10**18, 10**36, 10**38, 2 * 10**18, 9 * 10**18, 2**63]
NUMBERS = st.one_of(
    st.integers(0, 10**38 - 1),
    st.sampled_from(BORDERS).flatmap(lambda border: st.integers(max(0, border - 3), min(border + 3, 10**38 - 1))),
    st.integers(0, 1000),
)


def _sql(expression: str, one: int, other: int) -> str:
    with sqlite3.connect(":memory:") as connection:
        query = f"SELECT {expression} FROM (SELECT ? AS one, ? AS other)"
        return str(connection.execute(query, (f"{one:038d}", f"{other:038d}")).fetchone()[0])


@given(NUMBERS, NUMBERS)
def test_plus_is_addition_and_shows_when_it_outgrows_the_column(one: int, other: int) -> None:
    """The sum is exact; a 39th digit stays visible, so that the column's constraint can refuse it."""
    assert _sql(plus("one", "other"), one, other) == f"{one + other:038d}"
    assert _sql(plus("one", "other", 39), one, other) == f"{one + other:039d}"


@given(NUMBERS, NUMBERS)
def test_minus_is_subtraction_and_shows_when_it_falls_below_zero(one: int, other: int) -> None:
    """The difference is exact; below zero it starts with a minus sign, which no column takes."""
    difference = _sql(minus("one", "other"), one, other)
    if one >= other:
        assert difference == f"{one - other:038d}"
    else:
        assert difference.startswith("-")
