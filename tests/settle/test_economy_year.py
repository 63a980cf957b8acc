"""A week of the business as the bench runs a year of it: every balance the tally's, the chain sound, nothing lost."""

from __future__ import annotations

from pathlib import Path

from tests.bench.economy import page, simulate


def test_a_week_reproduces_every_split_and_fee_to_the_smallest_unit(database_url: str, tmp_path: Path) -> None:
    """Studies in batches, a month's dividends, tokens, clinics, things and payments; the page of it adds up too."""
    week = simulate(database_url, scale=20_000, days=7)
    (month,) = week.months
    assert week.days == 7
    assert month.studies > 20
    assert all(units > 0 for units in month.revenue.values())
    compute = sum(week.shares.values())
    assert abs(week.shares["contributors"] * 10 - compute * 7) <= 10 * month.studies
    assert len(week.dividends) == 4
    assert all(units > 0 for _, units in week.dividends.values())
    # Each day leaves one more charge of five yuan standing; one of them is refunded in the end.
    pooled = week.shares["contributors"] + 350 * week.days - 350
    assert sum(units for _, units in week.dividends.values()) + week.carried == pooled
    text = page(week)
    assert f"{month.studies:,}" in text
    assert f"{week.transfers:,}" in text
