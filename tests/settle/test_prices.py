"""Prices: from facts of the job, exact, rounded once, by the list that was in force."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge.errors import ConfigurationError, InvalidAmountError, MappingError, UnknownError
from btt_bridge.money import CNY, Amount
from btt_bridge.records import Urgency
from btt_bridge.settle import Facts, prices

FOLDER: Final = Path(__file__).parents[2] / "mappings" / "prices"
DAY: Final = date(2026, 1, 5)
#: A chest CT of 248 slices.
CT: Final = Facts(130_000_000_000, 65_011_712, 130_000_000, Urgency.ROUTINE, "gpu")
COUNT = st.integers(0, 10**15)


def changed(tmp_path: Path, **changes: Any) -> Path:
    """Write the shipped list with some lines changed into a folder of its own; None leaves a line out."""
    body = yaml.safe_load((FOLDER / "btt-2025.yaml").read_text()) | changes
    body["effective_from"] = str(body["effective_from"])
    folder = tmp_path / "prices"
    folder.mkdir(exist_ok=True)
    kept = {name: value for name, value in body.items() if value is not None}
    (folder / f"{body['name'] or 'x'}.yaml").write_text(yaml.safe_dump(kept))
    return folder


def test_the_shipped_prices_hold_and_price_a_chest_ct_at_about_five_yuan() -> None:
    """The default list is valid, and meets the volume the business plans with: some 5 RMB a study."""
    assert prices.check(FOLDER) == []
    charge = prices.quote(prices.load(FOLDER), CT, DAY)
    assert charge.amount == Amount(536, CNY)
    assert (charge.price_list, charge.urgency, charge.hardware) == ("btt-2025", Urgency.ROUTINE, "gpu")


def test_urgency_and_hardware_cost_more_and_floor_and_cap_hold() -> None:
    """Stat costs 1.8 times routine; nothing is free and nothing is without limit."""
    lists = prices.load(FOLDER)

    def units(**changes: Any) -> int:
        facts = {name: getattr(CT, name) for name in CT.__slots__} | changes
        return prices.quote(lists, Facts(**facts), DAY).amount.units

    assert abs(units(urgency=Urgency.STAT) - Fraction(units() * 18, 10)) <= 1 + Fraction(1, 2)
    assert units(hardware="cpu") < units(hardware="gpu") < units(hardware="gpu-confidential")
    assert units(operations=0, voxels=0, size_bytes=0) == 100
    assert units(operations=10**18) == 5000


@given(COUNT, COUNT, COUNT, st.sampled_from(Urgency), st.sampled_from(["cpu", "gpu", "gpu-confidential"]))
def test_the_price_is_the_formula_rounded_once(
    ops: int, voxels: int, size: int, urgency: Urgency, hardware: str
) -> None:
    """Within one half of a minor unit of the exact rational price, between floor and cap, for any job."""
    shipped = yaml.safe_load((FOLDER / "btt-2025.yaml").read_text())
    exact = Fraction(shipped["base_micro"])
    for name, count in (("operations", ops), ("voxels", voxels), ("bytes", size)):
        exact += Fraction(count * shipped[name]["micro"], shipped[name]["per"])
    exact *= Fraction(shipped["urgency_percent"][urgency] * shipped["hardware_percent"][hardware], 10**10)
    units = prices.quote(prices.load(FOLDER), Facts(ops, voxels, size, urgency, hardware), DAY).amount.units
    assert abs(units - min(max(exact, Fraction(100)), Fraction(5000))) <= Fraction(1, 2)


@pytest.mark.parametrize(("rounding", "units"), [("half-even", 150), ("up", 151), ("down", 150)])
def test_the_declared_rounding_is_the_one_that_counts(tmp_path: Path, rounding: str, units: int) -> None:
    """A price of exactly 150.5 minor units goes where its list says."""
    nothing = {name: {"per": 1, "micro": 0} for name in ("operations", "voxels", "bytes")}
    folder = changed(tmp_path, rounding=rounding, base_micro=150_500_000, **nothing)
    facts = Facts(1, 1, 1, Urgency.ROUTINE, "cpu")
    assert prices.quote(prices.load(folder), facts, DAY).amount.units == units


def test_the_list_in_force_on_the_day_counts(tmp_path: Path) -> None:
    """A new list counts from its day; before the first list there is no price."""
    folder = changed(tmp_path)
    changed(tmp_path, name="btt-2026", effective_from="2026-03-01", floor_units=4000)
    lists = prices.load(folder)
    assert prices.quote(lists, CT, date(2026, 2, 28)).price_list == "btt-2025"
    assert prices.quote(lists, CT, date(2026, 3, 1)).price_list == "btt-2026"
    assert prices.quote(lists, CT, date(2026, 3, 1)).amount.units == 4000
    with pytest.raises(ConfigurationError):
        prices.quote(lists, CT, date(2024, 12, 31))


def test_what_has_no_price_is_refused() -> None:
    """Hardware the list does not know, and facts that are not whole numbers."""
    lists = prices.load(FOLDER)
    with pytest.raises(UnknownError):
        prices.quote(lists, Facts(1, 1, 1, Urgency.ROUTINE, "quantum"), DAY)
    wrong: list[Any] = [-1, 1.5, float("nan"), True, "1"]
    for number in wrong:
        with pytest.raises(InvalidAmountError):
            Facts(number, 1, 1, Urgency.ROUTINE, "cpu")


@pytest.mark.parametrize(
    ("changes", "keyword"),
    [
        ({"floor_units": 0}, "floor_units"),
        ({"cap_units": 99}, "cap_units"),
        ({"base_micro": 1.5}, "base_micro"),
        ({"base_micro": -1}, "base_micro"),
        ({"rounding": "nearest"}, "rounding"),
        ({"effective_from": "2025-02-30"}, "effective_from"),
        ({"effective_from": "soon"}, "effective_from"),
        ({"urgency_percent": {"routine": 100}}, "urgent"),
        ({"operations": {"per": 0, "micro": 1}}, "per"),
        ({"currency": "CNY"}, "currency"),
        ({"asset": None}, "asset"),
        ({"scale": 40}, "scale"),
        ({"scale": 3}, "scale"),
        ({"asset": "BTT"}, "scale"),
    ],
    ids=str,
)
def test_a_wrong_list_is_named_with_file_line_and_keyword(
    tmp_path: Path, changes: dict[str, Any], keyword: str
) -> None:
    """Each mistake is one error that says where it is; nothing of the list is used."""
    folder = changed(tmp_path, **changes)
    errors = prices.check(folder)
    assert keyword in {error.keyword for error in errors}
    assert all(error.file.endswith(".yaml") and error.line >= 1 for error in errors)
    with pytest.raises(MappingError):
        prices.load(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: changed(folder.parent, name="other"),
        lambda folder: (folder / "btt-2025.yaml").unlink(),
    ],
    ids=["two lists from one day", "no list at all"],
)
def test_a_folder_that_does_not_decide_is_refused(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    """Two lists for one day, or none."""
    folder = changed(tmp_path)
    spoil(folder)
    assert len(prices.check(folder)) == 1


@pytest.mark.parametrize(
    ("percent", "limit", "floor", "expected"),
    [(10, 15, 100, 483), (40, 15, 100, 456), (40, None, 100, 536), (40, 50, 500, 500)],
)
def test_a_discount_ends_at_the_limit_of_the_list_and_at_its_floor(
    tmp_path: Path, percent: int, limit: int | None, floor: int, expected: int
) -> None:
    """Of 5.36 CNY; a list that names no limit gives no discount, and price and discount add up to the full price."""
    lists = prices.load(changed(tmp_path, discount_percent_max=limit, floor_units=floor))
    charge = prices.quote(lists, Facts(130_000_000_000, 65_011_712, 130_000_000, Urgency.ROUTINE, "gpu"), DAY, percent)
    assert charge.amount.units == expected
    assert charge.amount.units + charge.discount_units == 536
    assert charge.discount_percent <= (limit or 0)
