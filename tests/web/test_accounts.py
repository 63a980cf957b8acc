"""Balances, prices and settlement as tables and charts, read from the book and drawn without a script."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from btt_bridge import settle
from btt_bridge.ledger import Event, Move, anchors, batches
from btt_bridge.money import BTT, Amount
from btt_bridge.records import Anchored, RootStanding, Urgency
from btt_bridge.settle import Facts, events
from btt_bridge.signing import Signer
from btt_bridge.web import accounts, words
from btt_bridge.web.charts import HEIGHT, WIDTH, Chart, history, ranges, stacks
from tests.peers import browser
from tests.web.conftest import House
from tests.web.test_escaping import served
from tests.web.test_pages import text


def charge_for_days(house: House, days: int = 5) -> None:
    """Deliver a few results a day, some of them in a hurry, and seal what came of it."""
    billing = settle.open_billing(house.settings, house.ledger)
    for number in range(3 * days):
        urgency = Urgency.STAT if number % 4 == 3 else Urgency.ROUTINE
        job = Facts(130_000_000_000 + number * 9_000_000_000, 65_000_000, 130_000_000, urgency, "gpu")
        charge = billing.quote(job)
        billing.hold(f"{number:064x}", "ct-lung", charge, house.clock.now() + timedelta(minutes=30))
        billing.post(f"{number:064x}", "ct-lung", charge, f"n{number % 3}")
        house.clock.advance(8 * 3600)
    batches.close(house.ledger, Signer.load(house.settings.keys_dir / "bridge.key"))


def shapes(page: str) -> list[ElementTree.Element]:
    """Return every chart of a page; each must be well-formed and say what it shows."""
    found = [ElementTree.fromstring(svg) for svg in re.findall(r'<svg viewBox="0 0 960.*?</svg>', page, re.DOTALL)]
    assert all(one.get("aria-label") and one.find("title") is not None for one in found)
    return found


def test_a_statement_draws_the_balance_over_its_lines(house: House) -> None:
    """The line has a step for every change, and stays within its box."""
    charge_for_days(house)
    page = house.client.get("/ledger?account=fund:development:cny").text
    (chart,) = shapes(page)
    line = chart.find("polyline")
    assert line is not None
    points = [tuple(map(float, point.split(","))) for point in (line.get("points") or "").split()]
    assert len(points) == 2 * 15 - 1
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert points[-1][1] < points[0][1], "what a fund has only grows here"


def test_prices_are_shown_by_day_and_by_list(house: House) -> None:
    """A bar for each day, the mean of each, and the lists that were in force."""
    charge_for_days(house)
    page = house.client.get("/prices").text
    (chart,) = shapes(page)
    assert len(chart.findall("rect")) == 6
    said = text(page)
    assert "btt-2025" in said
    assert re.search(r"routine: 12 at \d+\.\d\d CNY on average; stat: 3 at", said)


def test_a_mean_is_exact_to_the_last_place(house: House) -> None:
    """Two charges of BTT with eighteen places, of which a float would lose the last ones."""
    for name in ("from:btt", "to:btt"):
        house.ledger.open_account(name, BTT, credit_limit=None)
    for units in (10**20 + 1, 10**20 + 3):
        told = {"amount": events.money(Amount(units, BTT)), "urgency": "routine"}
        step = Move("from:btt", "to:btt", Amount(units, BTT), "charge")
        house.ledger.post_all("test", str(units), [step], Event(events.CHARGED, "from:btt", told))
    (found,) = accounts.charged(house.ledger)
    assert found.days[0][3] == found.urgencies[0][2] == "100.000000000000000002 BTT"


def test_settlement_shows_shares_that_are_the_charges(house: House) -> None:
    """Each day is stacked from its parties; the table's percentages are those of the split; batches are listed."""
    charge_for_days(house)
    page = house.client.get("/settlement").text
    (chart,) = shapes(page)
    assert len(chart.findall("rect")) == 4 * 6
    said = text(page)
    assert re.search(r"contributors [\d,. ]+CNY 70\.\d %", said)
    assert "No batch has closed yet." in said
    (sealed,) = batches.newest(house.ledger, 5)
    assert sealed.root.hex() in page
    assert "not anchored" in said


@pytest.mark.parametrize("standing", RootStanding)
def test_settlement_says_how_a_batch_is_anchored(house: House, standing: RootStanding) -> None:
    """Where, since when, by which transaction, and in words how it stands."""
    charge_for_days(house, 1)
    transaction = "" if standing is RootStanding.REFUSED else f"0x{7:064x}"
    anchors.note(house.ledger, "eip155:1:0xabc", 1, Anchored(standing, transaction))
    said = text(house.client.get("/settlement").text)
    assert f"{words.ROOT_STANDINGS[standing].name} {transaction or 'transaction not known'} at eip155:1:0xabc" in said


def test_pages_without_money_say_so(house: House) -> None:
    """An empty book draws nothing and breaks nothing."""
    for path in ("/ledger", "/prices", "/settlement"):
        answer = house.client.get(path)
        assert answer.status_code == 200
        assert shapes(answer.text) == []


@pytest.mark.parametrize("values", [[0, 0], [-5, 5], [1], [10**30, 3 * 10**30], [-(10**12), -1], [7, 7, 7]])
def test_an_axis_holds_what_is_drawn_on_it(values: list[int]) -> None:
    """Zero is on it, marks are few and round, and every shape lies within."""
    start = datetime(2026, 1, 5, tzinfo=UTC)
    drawn: list[Chart | None] = [
        history("h", [(start + timedelta(days=n), value) for n, value in enumerate([*values, values[0]])], str),
        ranges("r", [(date(2026, 1, 1 + n), [value, 0]) for n, value in enumerate(values)], str),
        stacks("s", [(date(2026, 1, 1 + n), [abs(value), 1]) for n, value in enumerate(values)], ["a", "b"], str),
    ]
    for chart in drawn:
        assert chart is not None
        assert "0" in [tick.label for tick in chart.y_ticks]
        assert 2 <= len(chart.y_ticks) <= 12
        assert all(0 <= tick.at <= HEIGHT for tick in chart.y_ticks)
        assert all(bar.height >= 0 and 0 <= bar.y <= HEIGHT for bar in chart.bars)


def test_a_browser_draws_them(house: House, tmp_path: Path) -> None:
    """Chromium renders the page with its chart: colors come from the one style sheet that is allowed."""
    charge_for_days(house)
    with served(house) as url:
        pictures = [
            browser.screenshot(f"{url}{path}", tmp_path / f"{number}.png", height=1500, dark=number == 1)
            for number, path in enumerate(("/settlement", "/prices", "/ledger?account=fund:development:cny"))
        ]
    for picture in pictures:
        with Image.open(picture) as image:
            colors = {color for _, color in image.convert("RGB").getcolors(2**24) or []}
        assert colors & {(15, 118, 110), (29, 95, 168), (79, 209, 193), (139, 189, 245)}, "the chart has its colors"
