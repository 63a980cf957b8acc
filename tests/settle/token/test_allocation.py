"""The allocation table: the figures of the business, exact schedules, and every wrong file refused with its line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge.errors import InvalidAmountError
from btt_bridge.settle.token import allocation, check
from btt_bridge.settle.token.allocation import Linear, Milestones, Mining, Ongoing, Table

MAPPINGS: Final = Path(__file__).parents[3] / "mappings"
SHIPPED: Final = MAPPINGS / "token" / "allocation"
E18: Final = 10**18
#: Percent of 21 million, as the business model has them.
PERCENT: Final = {
    "bithive": 10,
    "china-digital-healthcare-group": 4,
    "bitwave-protocol-labs": 3,
    "m-dao": 2,
    "web3-ventures": 2,
    "institutional-investors": 2,
    "technical-development-foundation": 17,
    "mining-reward-pool": 30,
    "community-incentives": 12,
    "ecosystem-development-fund": 7,
}


@pytest.fixture
def table() -> Table:
    (shipped,) = allocation.load(SHIPPED)
    return shipped


def test_the_shipped_table_is_the_sources_and_its_remainder_is_named(table: Table) -> None:
    """21 million, ten parts that sum to 89 percent, and 11 percent that is nobody's."""
    assert check(MAPPINGS) == []
    assert table.supply == 21_000_000 * E18
    assert {one.name: one.units for one in table.allocations} == {
        name: percent * 210_000 * E18 for name, percent in PERCENT.items()
    }
    assert table.unallocated == 2_310_000 * E18


def test_the_shipped_schedules_are_the_sources(table: Table) -> None:
    """Delays and lengths; nothing in the month the delay ends, something in the next, everything in the last."""
    for name, months, delay in [("bithive", 36, 6), ("m-dao", 30, 3), ("web3-ventures", 30, 3)]:
        one = table.named(name)
        assert one.release == Linear(months, delay)
        assert one.release.vested(one.units, delay) == 0
        assert one.release.vested(one.units, delay + 1) == one.units // months
        assert one.release.vested(one.units, delay + months - 1) < one.units
        assert one.release.vested(one.units, delay + months) == one.units
    mining = table.named("mining-reward-pool").release
    assert isinstance(mining, Mining)
    assert mining.last == 8 * 12
    foundation = table.named("technical-development-foundation").release
    assert isinstance(foundation, Milestones)
    assert max(foundation.after) == 48


SCHEDULES = st.one_of(
    st.builds(Linear, st.integers(1, 120), st.integers(0, 60)),
    st.builds(Ongoing, st.integers(1, 10_000)),
    st.builds(
        lambda cuts, cap: Mining(tuple(b - a for a, b in pairwise([0, *sorted(cuts), 10_000])), cap),
        st.lists(st.integers(0, 10_000), max_size=9),
        st.integers(1, 10_000),
    ),
)


@given(SCHEDULES, st.integers(0, 10**37))
def test_what_a_schedule_releases_is_exactly_what_there_is(schedule: Linear | Ongoing | Mining, units: int) -> None:
    """Whatever the amount, no month takes back, all of them together are it, and later ones nothing."""
    months = [schedule.vested(units, month) for month in range(-2, schedule.last + 3)]
    assert months == sorted(months)
    assert months[:3] == [0, 0, 0]
    assert months[-3:] == [units] * 3
    assert sum(b - a for a, b in pairwise(months)) == units


@given(st.integers(0, 10**37), st.lists(st.integers(1, 5000), min_size=1, max_size=6))
def test_milestones_share_exactly_what_there_is(units: int, points: list[int]) -> None:
    """The tranches sum to the allocation."""
    names = tuple(f"m{number}" for number in range(len(points)))
    parts = Milestones(names, tuple(points), (0,) * len(points)).parts(units)
    assert sum(parts.values()) == units
    assert list(parts) == list(names)


@given(
    st.integers(0, 10**30),
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 10**20), max_size=8),
    st.integers(1, 10_000),
)
def test_mining_is_shared_by_work_and_capped(emission: int, work: dict[str, int], cap: int) -> None:
    """Nobody exceeds the cap, uncapped shares are within a unit of proportion, and no more is shared than there is."""
    shares = Mining((10_000,), cap).shares(emission, work)
    most, total = emission * cap // 10_000, sum(work.values())
    assert shares.keys() == {node for node, done in work.items() if done}
    assert sum(shares.values()) <= emission
    for node, units in shares.items():
        assert units <= most
        assert units == most or abs(units * total - emission * work[node]) < total
    if cap == 10_000 and total:
        assert sum(shares.values()) == emission


@pytest.mark.parametrize("work", [{"a": -1, "b": 2}, {"a": 1.5}, {"a": True}], ids=str)
def test_work_is_whole_and_not_negative(work: Any) -> None:
    """No float, no negative number and no truth value can become a share."""
    with pytest.raises(InvalidAmountError):
        Mining((10_000,), 10_000).shares(100, work)


@pytest.mark.parametrize(
    ("day", "months"),
    [
        (date(2025, 1, 31), 0),
        (date(2025, 2, 27), 0),
        (date(2025, 2, 28), 1),
        (date(2025, 3, 30), 1),
        (date(2025, 3, 31), 2),
        (date(2025, 4, 30), 3),
        (date(2026, 1, 30), 11),
        (date(2026, 1, 31), 12),
        (date(2024, 12, 31), -1),
        (date(2028, 2, 28), 36),
        (date(2028, 2, 29), 37),
    ],
    ids=str,
)
def test_months_end_on_days_that_exist(day: date, months: int) -> None:
    """A schedule that starts on the 31st neither skips February nor releases it twice."""
    assert Table("t", date(2025, 1, 31), 0, (), "").months(day) == months


# --- wrong files ----------------------------------------------------------------------------------------


def _over(body: Any) -> None:
    body["allocations"][0]["basis_points"] += 1101


def _twice(body: Any) -> None:
    body["allocations"][1]["name"] = "bithive"


def _taken(body: Any) -> None:
    body["allocations"][1]["name"] = "unallocated"


def _half(body: Any) -> None:
    body["allocations"][0]["basis_points"] = 10.5


def _short(body: Any) -> None:
    body["allocations"][7]["release"]["yearly_basis_points"][0] -= 1


def _milestones(body: Any) -> None:
    body["allocations"][6]["release"]["milestones"][0]["basis_points"] -= 1


def _late(body: Any) -> None:
    body["allocations"][6]["release"]["milestones"][3]["month"] = 49


def _missing(body: Any) -> None:
    del body["allocations"][0]["release"]["months"]


def _stray(body: Any) -> None:
    body["allocations"][0]["release"]["monthly_basis_points"] = 5


def _unknown(body: Any) -> None:
    body["allocations"][0]["release"]["kind"] = "cliff"


def _negative(body: Any) -> None:
    body["supply"] = -21


@pytest.mark.parametrize(
    ("spoil", "problem", "at"),
    [
        (_over, "sum to 10001 basis points, above 10000", "allocations:"),
        (_twice, "twice", "allocations:"),
        (_taken, "unallocated", "allocations:"),
        (_half, "a whole number", "basis_points: 10.5"),
        (_short, "years sum to 9999", "kind: mining"),
        (_milestones, "milestones sum to 9999", "kind: milestones"),
        (_late, "after the last month", "month: 49"),
        (_missing, "months: is missing from a linear", "kind: linear"),
        (_stray, "no place in a linear", "monthly_basis_points: 5"),
        (_unknown, "must be one of", "kind: cliff"),
        (_negative, "at least 1", "supply: -21"),
    ],
)
def test_a_wrong_table_is_refused_with_file_and_line(
    tmp_path: Path, spoil: Callable[[Any], None], problem: str, at: str
) -> None:
    """Above the whole, twice the same name, halves, what is missing or astray: one error, at the line that says it."""
    body = yaml.safe_load((SHIPPED / "btt-2025.yaml").read_text())
    body["effective_from"] = "2025-01-01"
    spoil(body)
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(body, sort_keys=False))
    (error,) = allocation.check(tmp_path)
    assert problem in str(error)
    assert error.file == str(path)
    lines = path.read_text().splitlines()
    assert at in "\n".join(lines[max(0, error.line - 2) : error.line + 1])


def test_a_table_that_leaves_something_is_not_wrong(tmp_path: Path) -> None:
    """Below the whole there is a remainder, and it is all of what is left."""
    body = yaml.safe_load((SHIPPED / "btt-2025.yaml").read_text())
    body["effective_from"], body["allocations"] = "2025-01-01", body["allocations"][:1]
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(body))
    (table,) = allocation.load(tmp_path)
    assert table.unallocated == table.supply * 9 // 10


@pytest.mark.parametrize("start", [date(2025, 1, 1), date(2024, 1, 31), date(2024, 2, 29)])
def test_the_span_of_a_month_is_when_it_is_the_next_to_be_over(start: date) -> None:
    """Months follow each other without gap; on a month's last day it is not over, and on the next day it is."""
    table = Table("any", start, 1, (), "")
    for month in range(1, 61):
        begins, ends = table.span(month)
        assert begins == table.span(month - 1)[1] if month > 1 else begins.date() == start
        assert table.months((ends - timedelta(days=1)).date()) == month - 1
        assert table.months(ends.date()) == month
