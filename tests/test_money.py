"""Amounts that cannot be wrong, and division that loses nothing."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge.errors import InvalidAmountError
from btt_bridge.money import BTT, CNY, POINTS, Amount, Asset, split, written

UNITS = st.integers(0, 10**38 - 1)


@pytest.mark.parametrize(
    "units",
    [-1, 1.0, 0.5, float("nan"), float("inf"), True, "100", Decimal(1), np.int64(1), None, 10**38],
    ids=repr,
)
def test_an_amount_is_a_whole_number_of_at_most_38_digits(units: Any) -> None:
    """Nothing but a plain non-negative int becomes an amount; a float or a bool would be a rounding or a slip."""
    with pytest.raises(InvalidAmountError):
        Amount(units, CNY)


@pytest.mark.parametrize(
    ("code", "scale"), [("cny", 2), ("CN", 2), ("C1Y", 2), ("TOOLONGCODE", 2), ("CNY", -1), ("CNY", 19)]
)
def test_an_asset_has_a_plain_code_and_a_sane_scale(code: str, scale: int) -> None:
    """What is not spelled like a currency is none."""
    with pytest.raises(InvalidAmountError):
        Asset(code, scale)


def test_amounts_of_different_assets_do_not_mix() -> None:
    """Neither another code nor another scale of the same code can be added or taken away."""
    for other in (BTT, POINTS, Asset("CNY", 3)):
        with pytest.raises(InvalidAmountError):
            Amount(1, CNY) + Amount(1, other)
        with pytest.raises(InvalidAmountError):
            Amount(1, CNY) - Amount(1, other)


def test_an_amount_never_goes_below_zero() -> None:
    """Taking away more than there is, is refused instead of becoming a debt."""
    with pytest.raises(InvalidAmountError):
        Amount(1, CNY) - Amount(2, CNY)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Amount(12345, CNY), "123.45 CNY"),
        (Amount(5, CNY), "0.05 CNY"),
        (Amount(7, Asset("JPY", 0)), "7 JPY"),
        (Amount(10**37 + 1, BTT), "10000000000000000000.000000000000000001 BTT"),
    ],
)
def test_an_amount_is_written_with_every_digit(amount: Amount, text: str) -> None:
    """No digit is lost to a float on the way to a reader."""
    assert str(amount) == text


@given(UNITS, st.lists(st.integers(0, 10**6), min_size=1, max_size=12))
def test_shares_sum_exactly_and_are_fair_to_one_unit(units: int, weights: list[int]) -> None:
    """Largest remainder hands out every unit, and nobody is a whole unit away from the exact share."""
    total = sum(weights)
    if total == 0:
        weights, total = [*weights, 1], 1
    shares = split(units, weights)
    assert sum(shares) == units
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - Fraction(units * weight, total)) < 1
        assert share >= 0
        if weight == 0:
            assert share == 0


def test_a_tie_goes_to_the_earlier_share() -> None:
    """Equal remainders are broken by order, so that the same charge is split the same way everywhere."""
    assert split(1, [1, 1, 1]) == [1, 0, 0]
    assert split(2, [1, 1, 1]) == [1, 1, 0]
    assert split(5, [5, 5]) == [3, 2]


def test_rounding_each_share_would_lose_what_largest_remainder_keeps() -> None:
    """The business's own split, 70/15/10/5, of 9 fen: rounding each share half-even would hand out 8."""
    weights = [7000, 1500, 1000, 500]
    assert sum(round(Fraction(9 * weight, 10000)) for weight in weights) == 8
    assert split(9, weights) == [6, 1, 1, 1]


@pytest.mark.parametrize(
    ("units", "weights"),
    [(1, [0, 0]), (1, []), (-1, [1]), (1.5, [1]), (True, [1]), (1, [-1, 2]), (1, [0.5]), (1, [True])],
)
def test_what_cannot_be_divided_is_refused(units: Any, weights: Any) -> None:
    """Nobody to have it, or numbers that are not whole and non-negative."""
    with pytest.raises(InvalidAmountError):
        split(units, weights)


@pytest.mark.parametrize(
    ("units", "asset", "text"),
    [
        (-123456, CNY, "-1,234.56 CNY"),
        (5, CNY, "0.05 CNY"),
        (0, POINTS, "0 POINTS"),
        (10**37, BTT, f"{10**19:,}.{'0' * 18} BTT"),
    ],
)
def test_units_are_written_as_people_read_them(units: int, asset: Asset, text: str) -> None:
    """Sign, thousands and every decimal place, and nothing rounded however long the number is."""
    assert written(units, asset) == text
