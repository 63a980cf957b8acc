"""Vesting: the months of the chain are the months of the book, for every table and on every day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web3.exceptions import ContractLogicError

from btt_bridge.settle.token.allocation import Governed, Linear, Milestones, Mining, Ongoing, Table
from btt_evm import vesting
from btt_evm.deploy import stretches
from tests.plugins.evm.chains import NOBODY, SUPPLY, House, Place, payee

FIRST, LAST = date(1970, 1, 1), date(2300, 12, 31)


def timestamp(day: date, seconds: int = 0) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) + seconds


def promise(house: House, beneficiary: str, units: int, start: date, parts: Any) -> int:
    """Grant what the owner holds; return the grant's number."""
    number: int = house.vesting.functions.count().call()
    house.send(house.token.functions.approve(house.vesting.address, units), house.owner)
    call = house.vesting.functions.grant(beneficiary, units, start.year, start.month, start.day, list(parts))
    house.send(call, house.owner)
    return number


def in_book(table: Table, release: Linear | Ongoing | Mining, units: int, day: date) -> int:
    """What the ledger has released by a day: the sum over every month that is over."""
    months = min(table.months(day), release.last)
    return sum(release.vested(units, month) - release.vested(units, month - 1) for month in range(1, months + 1))


def test_every_allocation_of_the_shipped_table_is_released_as_in_the_book(house: House, table: Table) -> None:
    """Each schedule, on the last second before a month ends, on the first after, and beyond its end; to the unit."""
    compared = 0
    for one in table.allocations:
        parts = stretches(one.release)
        if isinstance(one.release, Milestones | Governed):
            assert parts == ()
            continue
        assert isinstance(one.release, Linear | Ongoing | Mining)
        number = promise(house, house.others[0], one.units, table.effective_from, parts)
        for month in sorted({0, 1, 3, 4, 6, 7, 12, 13, 24, one.release.last - 1, one.release.last, 130}):
            years, rest = divmod(month, 12)
            day = date(table.effective_from.year + years, rest + 1, 1)
            for moment in (timestamp(day, -1), timestamp(day), timestamp(day, 86399)):
                expected = in_book(table, one.release, one.units, datetime.fromtimestamp(moment, UTC).date())
                assert house.vesting.functions.vested(number, moment).call() == expected
                compared += 1
        assert house.vesting.functions.vested(number, timestamp(LAST)).call() == one.units
    assert compared > 200


@st.composite
def schedules(draw: st.DrawFn) -> Linear | Ongoing | Mining:
    kind = draw(st.sampled_from(["linear", "ongoing", "mining"]))
    if kind == "linear":
        return Linear(draw(st.integers(1, 1200)), draw(st.integers(0, 1200)))
    if kind == "ongoing":
        return Ongoing(draw(st.integers(5, 10_000)))
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=0, max_size=31)))
    years = [high - low for low, high in zip([0, *cuts], [*cuts, 10_000], strict=True)]
    return Mining(tuple(years), 10_000)


@pytest.fixture(scope="module")
def shared() -> House:
    """One chain for many examples: each makes a grant of its own."""
    return House()


@given(
    schedule=schedules(),
    units=st.one_of(st.integers(1, 1000), st.integers(1, 10**20)),
    start=st.dates(FIRST, date(2100, 12, 31)),
    days=st.lists(st.integers(-40, 40_000), min_size=3, max_size=3),
    seconds=st.integers(0, 86_399),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_chain_and_book_release_the_same_whatever_the_table(
    shared: House,
    schedule: Linear | Ongoing | Mining,
    units: int,
    start: date,
    days: list[int],
    seconds: int,
) -> None:
    """Any schedule, any start, also on a 31st or a leap day, any amount, any day before and after: the same units."""
    book = Table("any", start, units, (), "")
    number = promise(shared, shared.others[0], units, start, stretches(schedule))
    for offset in days:
        day = max(FIRST, start + timedelta(days=offset))
        found = shared.vesting.functions.vested(number, timestamp(day, seconds)).call()
        assert found == in_book(book, schedule, units, day)


@given(start=st.dates(FIRST, LAST), day=st.dates(FIRST, LAST))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_months_are_those_of_the_calendar(shared: House, start: date, day: date) -> None:
    """Three centuries, leap years and the year 2100 among them: a month each, counted by both."""
    months = min(max(Table("any", start, 1, (), "").months(day), 0), 2400)
    number = promise(shared, shared.others[0], 2400, start, [(2400, 1)])
    assert shared.vesting.functions.vested(number, timestamp(day)).call() == months


@pytest.mark.parametrize("start", [date(2024, 1, 29), date(2024, 1, 30), date(2023, 12, 31), date(2024, 2, 29)])
def test_a_month_without_the_day_ends_on_its_last(shared: House, start: date) -> None:
    """Every day of four years after the 29th, 30th and 31st, and after a leap day."""
    table = Table("any", start, 1, (), "")
    number = promise(shared, shared.others[0], 2400, start, [(2400, 1)])
    edges = {
        start + timedelta(days=offset)
        for offset in range(1500)
        if (start + timedelta(days=offset)).day in (1, 27, 28, 29, 30, 31)
    }
    for day in sorted(edges)[::2]:
        assert shared.vesting.functions.vested(number, timestamp(day)).call() == table.months(day)


def test_release_pays_what_is_due_and_nothing_twice(house: House) -> None:
    """Anybody may ask, the beneficiary is paid; asked again in the same month, nothing is due."""
    start = datetime.fromtimestamp(house.now(), UTC).date().replace(day=1)
    number, (beneficiary, stranger) = promise(house, house.others[0], 1000, start, [(1, 0), (3, 1)]), house.others[:2]
    release = house.vesting.functions.release(number)
    assert house.refused(release, stranger) == "nothing is due"
    paid = []
    for months in (2, 3, 4, 9):
        due = date(start.year + (start.month - 1 + months) // 12, (start.month - 1 + months) % 12 + 1, 1)
        house.wait(timestamp(due) - house.now())
        if months < 9:
            house.send(release, stranger)
        assert house.refused(release, stranger) == "nothing is due"
        paid.append(house.balance(beneficiary))
        left = house.vesting.functions.promised().call()
        assert left == house.balance(house.vesting.address) == 1000 - paid[-1]
    assert paid == [333, 666, 1000, 1000]
    assert house.balance(stranger) == 0


def test_every_refusal_of_the_vesting_says_why(house: House) -> None:
    """Each assertion of the contract, reached: nobody, nothing, no such day, no such schedule, no such grant."""
    grant, one = house.vesting.functions.grant, house.others[0]
    good: list[Any] = [one, 5, 2025, 1, 1, [(1, 1)]]

    def refused(**changes: Any) -> str:
        arguments = list(good)
        for place, value in changes.items():
            arguments[int(place[1:])] = value
        return house.refused(grant(*arguments), house.owner)

    assert refused(_0=NOBODY) == refused(_0=house.vesting.address) == "nobody benefits"
    assert refused(_1=0) == refused(_1=2**128) == "units out of range"
    days = [{"_2": 1969}, {"_2": 10_000}, {"_3": 0}, {"_3": 13}, {"_4": 0}, {"_4": 32}]
    assert {refused(**day) for day in days} == {"no such start"}
    wrong = [[(0, 1)], [(2401, 1)], [(1, 10_001)], [(2**256 - 1, 1)]]
    assert {refused(_5=parts) for parts in wrong} == {"stretch out of range"}
    assert refused(_5=[(2000, 1), (401, 1)]) == "too many months"
    assert refused(_5=[]) == refused(_5=[(12, 0)]) == "nothing would ever be released"
    assert refused() == "more than is allowed"
    assert house.refused(house.vesting.functions.release(0), one) == "there is no such grant"
    assert house.refused(house.vesting.functions.vested(7, 0), one) == "there is no such grant"
    with pytest.raises(ContractLogicError, match="there is no token"):
        house.create("Vesting", one, by=house.owner)
    assert house.balance(house.owner) == SUPPLY


def test_what_is_due_is_released_to_whom_it_is_promised(place: Place, table: Table) -> None:
    """Each beneficiary gets what the book has released by that day, once; a stranger may have asked for it."""
    today = datetime.fromtimestamp(place.node.web3.eth.get_block("latest")["timestamp"], UTC).date()
    expected = {
        payee(number): in_book(table, one.release, one.units, today)
        for number, one in enumerate(one for one in table.allocations if stretches(one.release))
        if isinstance(one.release, Linear | Ongoing | Mining)
    }
    released = vesting.release(place.node)
    assert {one.beneficiary: one.units for one, _ in released} == expected
    assert {account: place.balance(account) for account in expected} == expected
    assert vesting.release(place.node) == []
