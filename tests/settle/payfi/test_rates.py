"""Rates: fresh, several, in agreement, and exact; or none at all."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge.errors import InvalidAmountError, MalformedError, RateUnavailableError, RefusedError
from btt_bridge.money import CNY, Amount, Asset
from btt_bridge.records import RateObservation
from btt_bridge.settle.payfi import Desk, Quote, policy
from btt_bridge.settle.payfi.rates import FileRates
from btt_bridge.testing import FakeClock, SetRates
from tests.settle.payfi.house import MAPPINGS

USD: Final = Asset("USD", 2)
EUR: Final = Asset("EUR", 2)
(RULES,) = policy.load(MAPPINGS)


def quoted(*rates: str, ages: tuple[int, ...] = (), pair: tuple[Asset, Asset] = (USD, CNY)) -> Quote:
    """Ask for a rate of which each source has its own."""
    clock, sources = FakeClock(), []
    for number, rate in enumerate(rates):
        source = SetRates(f"s{number}")
        age = ages[number] if ages else 0
        source.set(pair[0].code, pair[1].code, rate, clock.now() - timedelta(seconds=age))
        sources.append(source)
    return Desk(sources, clock).quote(RULES, *pair)


def test_the_median_of_those_that_agree_counts() -> None:
    """One source alone may lie as it likes: it is left out, and the quote names the others."""
    assert quoted("7.25", "7.26", "7.27").rate == Fraction("7.26")
    assert quoted("7.25", "7.26").rate == Fraction("7.255")
    spiked = quoted("7.25", "72.5", "7.26")
    assert (spiked.rate, spiked.sources) == (Fraction("7.255"), ("s0", "s2"))
    assert quoted("7.25", "0.0001", "7.26").rate == Fraction("7.255")


@pytest.mark.parametrize(
    ("rates", "ages"),
    [
        ((), ()),
        (("7.25",), ()),
        (("7.25", "7.25"), (0, 601)),
        (("7.25", "7.25"), (0, -6)),
        (("7.25", "8.25"), ()),
        (("7.1", "7.1", "7.9", "7.9"), ()),
        (("72.5", "72.5", "72.5"), ()),
        (("0.0725", "0.0725"), ()),
    ],
    ids=["none", "one", "stale", "from the future", "two that differ", "two camps", "all spiked up", "all spiked down"],
)
def test_a_rate_that_cannot_be_trusted_is_none(rates: tuple[str, ...], ages: tuple[int, ...]) -> None:
    """Too few, too old, too new, too far apart, or outside the corridor."""
    with pytest.raises(RateUnavailableError) as refusal:
        quoted(*rates, ages=ages)
    assert refusal.value.transient


def test_one_source_given_twice_is_one_source() -> None:
    """Nobody makes a quorum of themselves."""
    clock, source = FakeClock(), SetRates("same")
    source.set("USD", "CNY", "7.25", clock.now())
    with pytest.raises(RateUnavailableError, match="1 sources"):
        Desk([source, source], clock).quote(RULES, USD, CNY)


def test_a_source_that_fails_or_answers_something_else_is_one_fewer(tmp_path: Path) -> None:
    """Two good ones beside a file that is not there, and one that speaks of another pair."""

    class Confused(SetRates):
        def rate(self, base: str, quote: str) -> RateObservation | None:
            return super().rate("USD", "EUR")

    clock, good, other, confused = FakeClock(), SetRates("good"), SetRates("other"), Confused("confused")
    good.set("USD", "CNY", "7.25", clock.now())
    other.set("USD", "CNY", "7.25", clock.now())
    confused.set("USD", "EUR", "7.25", clock.now())
    gone = FileRates(tmp_path / "gone.csv")
    assert Desk([gone, confused, good, other], clock).quote(RULES, USD, CNY).sources == ("good", "other")
    with pytest.raises(RateUnavailableError):
        Desk([gone, confused, good], clock).quote(RULES, USD, CNY)
    with pytest.raises(RefusedError):
        Desk([good, other], clock).quote(RULES, CNY, CNY)


SCALES: Final = st.integers(0, 4)


@given(st.integers(1, 10**20), st.fractions(min_value=Fraction(1, 10**6), max_value=10**6), SCALES, SCALES)
def test_a_conversion_is_exact_and_rounds_to_the_liquidity_accounts_favor(
    units: int, rate: Fraction, scale: int, other: int
) -> None:
    """Never more than the exact amount, never a whole unit less; nothing is refused rather than given away."""
    base, target, now = Asset("AAA", scale), Asset("BBB", other), FakeClock().now()
    quote = Quote(base, target, rate, ("a", "b"), now, now)
    exact = Fraction(units, 10**scale) * rate * 10**other
    if exact < 1:
        with pytest.raises(InvalidAmountError):
            quote.convert(Amount(units, base))
    else:
        converted = quote.convert(Amount(units, base))
        assert converted.asset == target
        assert 0 <= exact - converted.units < 1
    with pytest.raises(InvalidAmountError):
        quote.convert(Amount(units, target))


def test_a_file_is_a_source_and_its_newest_line_counts(tmp_path: Path) -> None:
    """By time and not by place; a rate is exact, as decimal or as fraction."""
    path = tmp_path / "bank.csv"
    path.write_text(
        "at,base,quote,rate\n"
        "2026-01-05T08:00:00Z,USD,CNY,29/4\n"
        "2026-01-05T07:00:00Z,USD,CNY,7.1\n"
        "2026-01-05T07:00:00Z,EUR,CNY,8.123456789\n"
    )
    source = FileRates(path)
    found = source.rate("USD", "CNY")
    assert found is not None
    assert (found.source, found.rate) == ("bank", Fraction(29, 4))
    euro = source.rate("EUR", "CNY")
    assert euro is not None
    assert euro.rate == Fraction(8123456789, 10**9)
    assert source.rate("CNY", "USD") is None


@pytest.mark.parametrize(
    "line",
    [
        "2026-01-05T08:00:00Z,USD,CNY,0",
        "2026-01-05T08:00:00Z,USD,CNY,-7",
        "2026-01-05T08:00:00Z,USD,CNY,nan",
        "2026-01-05T08:00:00Z,USD,CNY,7.25/0",
        "2026-01-05T08:00:00Z,USD,CNY,1e9",
        "2026-01-05T08:00:00Z,USD,CNY,\u0667",
        "2026-01-05T08:00:00,USD,CNY,7.25",
        "yesterday,USD,CNY,7.25",
        "2026-01-05T08:00:00Z,USD,CNY",
        '2026-01-05T08:00:00Z,USD,CNY,"7.25',
    ],
)
def test_a_line_that_does_not_hold_spoils_its_file(tmp_path: Path, line: str) -> None:
    """Zero, negative, NaN, without a time zone, cut short: the whole source is not believed."""
    path = tmp_path / "bank.csv"
    path.write_text(f"at,base,quote,rate\n2026-01-05T08:00:00Z,USD,CNY,7.25\n{line}\n", encoding="utf-8")
    with pytest.raises(MalformedError):
        FileRates(path).rate("USD", "CNY")


def test_a_file_of_something_else_is_no_source(tmp_path: Path) -> None:
    """Other columns, or bytes that are no text."""
    contents: list[Any] = [b"", b"date,rate\n", b"\xff\xfe\x00"]
    for content in contents:
        (tmp_path / "bank.csv").write_bytes(content)
        with pytest.raises(MalformedError):
            FileRates(tmp_path / "bank.csv").rate("USD", "CNY")
