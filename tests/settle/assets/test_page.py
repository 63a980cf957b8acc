"""The page says what the shipped schedule says, and its example is what the ledger would do."""

from __future__ import annotations

import re
from pathlib import Path

from btt_bridge.money import split
from btt_bridge.settle.assets import events, schedule

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "assets.md").read_text(encoding="utf-8")


def percentages(fee: str) -> list[int]:
    """Return the basis points of a row of the table of fees."""
    (line,) = re.findall(rf"^\| {re.escape(fee)} \|.*$", PAGE, re.MULTILINE)
    return [round(float(number) * 100) for number in re.findall(r"(\d+(?:\.\d+)?) %", line)]


def test_the_fees_of_the_page_are_those_that_ship() -> None:
    """Each percentage is the schedule's own, in its order."""
    (shipped,) = schedule.load(ROOT / "mappings" / "assets")
    assert percentages("mint") == list(shipped.mint_basis_points.values())
    assert percentages("trade") == [points for _, points in shipped.trade]
    assert percentages("revaluation") == [one.basis_points for one in shipped.revaluation.values()]
    assert percentages("premium listing") == [shipped.listing_basis_points]
    assert percentages("managed pool") == list(shipped.pool_basis_points.values())


def test_the_example_of_the_page_is_what_happens() -> None:
    """Three uses over seven shares."""
    assert "are 300 fen: {}, {} and {}.".format(*split(300, [4, 2, 1])) in PAGE


def test_every_kind_of_event_is_named() -> None:
    """An integrator finds each."""
    for kind in events.KINDS:
        assert f"`{kind.split('.')[2]}`" in PAGE or f"`{kind.removesuffix('.v1')}`" in PAGE
