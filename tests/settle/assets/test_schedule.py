"""What assets cost: the figures of the business, exact to the unit, and every wrong file refused with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge.errors import UnknownError
from btt_bridge.money import BTT, CNY, Amount, Asset
from btt_bridge.settle.assets import check, schedule

MAPPINGS: Final = Path(__file__).parents[3] / "mappings"
(SHIPPED,) = schedule.load(MAPPINGS / "assets")
MILLION: Final = 10**8  # of yuan, in fen


def test_the_shipped_fees_are_the_sources() -> None:
    """Minting 1-3 %, trades 0.5-1 %, revaluation 0.25-0.5 %, pools 1-2 % a year: the ends of each range, in fen."""
    value = Amount(100 * MILLION, CNY)
    assert check(MAPPINGS) == []
    assert SHIPPED.mint_fee(value, "simple", 0).amount.units == MILLION
    assert SHIPPED.mint_fee(value, "complex", 0).amount.units == 3 * MILLION
    assert SHIPPED.trade_fee(Amount(MILLION // 10, CNY), 0).amount.units == MILLION // 1000
    assert SHIPPED.trade_fee(value, 0).amount.units == MILLION // 2
    assert SHIPPED.revaluation_fee(value, "desk", 0).amount.units == MILLION // 4
    assert SHIPPED.revaluation_fee(value, "appraisal", 0).amount.units == MILLION // 2
    assert SHIPPED.listing_fee(value, 0).amount.units == MILLION // 2
    assert 12 * SHIPPED.pool_fee(Amount(12 * MILLION, CNY), "passive").amount.units == 12 * MILLION // 100
    assert 12 * SHIPPED.pool_fee(Amount(12 * MILLION, CNY), "active").amount.units == 12 * MILLION // 50


@pytest.mark.parametrize(
    ("units", "basis_points"),
    [(10_000_000, 100), (10_000_001, 75), (100_000_000, 75), (100_000_001, 50), (10**12, 50)],
)
def test_a_trade_pays_by_its_band(units: int, basis_points: int) -> None:
    """A band ends on its whole yuan; one fen above it is the next."""
    assert SHIPPED.trade_fee(Amount(units, CNY), 0).amount.units == -(-units * basis_points // 10_000)


@given(st.integers(1, 10**33), st.sampled_from([CNY, BTT]), st.integers(0, 15))
def test_the_parts_of_a_fee_are_the_fee(units: int, asset: Asset, discount: int) -> None:
    """Whatever the price, a fee is at least a unit and never the whole of it, and its parts sum to it."""
    fee = SHIPPED.trade_fee(Amount(units, asset), discount)
    assert sum(part.units for _, _, part in fee.parts) == fee.amount.units
    assert 1 <= fee.amount.units <= -(-units // 100)
    assert fee.amount.units * 10_000 * 100 >= units * 50 * (100 - discount)
    burned = next(part for party, _, part in fee.parts if party == "burn")
    assert burned.units == fee.amount.units // 10


def test_what_is_burned_is_btt_and_other_money_waits_to_buy_it() -> None:
    """A fee in yuan cannot be burned; its part goes to the account that buys."""
    assert SHIPPED.trade_fee(Amount(10**6, BTT), 0).parts[0][1] == "token:burned:btt"
    assert SHIPPED.trade_fee(Amount(10**6, CNY), 0).parts[0][1] == "fund:buyback:cny"


def test_unknown_names_are_refused() -> None:
    """Neither a complexity, nor a way of valuing, nor a style that the schedule does not know has a price."""
    value = Amount(MILLION, CNY)
    with pytest.raises(UnknownError):
        SHIPPED.mint_fee(value, "trivial", 0)
    with pytest.raises(UnknownError):
        SHIPPED.revaluation_fee(value, "guess", 0)
    with pytest.raises(UnknownError):
        SHIPPED.pool_fee(value, "absent")


def _over(body: Any) -> None:
    body["shares"][0]["basis_points"] = 5001


def _twice(body: Any) -> None:
    body["shares"][1]["party"] = "development-fund"


def _bands(body: Any) -> None:
    body["trade"][1]["up_to"] = 100000


def _open_band(body: Any) -> None:
    del body["trade"][0]["up_to"]


def _closed(body: Any) -> None:
    body["trade"][2]["up_to"] = 10**9


def _float(body: Any) -> None:
    body["holders_max"] = 500.5


def _foreign(body: Any) -> None:
    body["shares"][0]["account"] = "wallet:thief:x"


def _free(body: Any) -> None:
    body["revaluation"]["desk"]["basis_points"] = 0


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (_over, "sum to 10001"),
        (_twice, "twice"),
        (_bands, "small to large"),
        (_open_band, "small to large"),
        (_closed, "small to large"),
        (_float, "a whole number"),
        (_foreign, "fund:name"),
        (_free, "at least 1"),
    ],
)
def test_a_wrong_schedule_is_refused_with_file_and_line(
    tmp_path: Path, spoil: Callable[[Any], None], problem: str
) -> None:
    """Shares that do not add up, bands out of order, halves, other people's accounts: one error, with its line."""
    body = yaml.safe_load((MAPPINGS / "assets" / "btt-2025.yaml").read_text())
    body["effective_from"] = "2025-01-01"
    spoil(body)
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(body, sort_keys=False))
    (error,) = schedule.check(tmp_path)
    assert problem in str(error)
    assert str(error).startswith(f"{tmp_path / 'a.yaml'}:")
    assert error.line > 1
