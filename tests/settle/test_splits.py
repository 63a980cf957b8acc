"""The split of a charge: who, how much, and nothing lost."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge.errors import MappingError
from btt_bridge.money import CNY, Amount
from btt_bridge.settle import splits

FOLDER: Final = Path(__file__).parents[2] / "mappings" / "splits"


def written(tmp_path: Path, shares: Any) -> Path:
    body = {"name": "test", "effective_from": "2025-01-01", "shares": shares}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(body))
    return tmp_path


def share(party: str, basis_points: Any, account: str = "") -> dict[str, Any]:
    return {"party": party, "basis_points": basis_points} | ({"account": account} if account else {})


@given(st.integers(0, 10**38 - 1))
def test_the_shipped_split_is_70_15_10_5_and_sums_exactly(units: int) -> None:
    """Whatever the amount, the four parts are it, and none is a whole unit from its exact share."""
    (shipped,) = splits.load(FOLDER)
    divided = shipped.divide(Amount(units, CNY))
    assert [part.party for part, _ in divided] == [
        "contributors",
        "development-fund",
        "foundation",
        "operational-reserve",
    ]
    assert sum(part.units for _, part in divided) == units
    for (_, part), percent in zip(divided, (70, 15, 10, 5), strict=True):
        assert abs(100 * part.units - units * percent) < 100


def test_the_split_in_force_on_the_day_counts() -> None:
    """The shipped split counts from the first day of 2025."""
    assert splits.on(splits.load(FOLDER), date(2025, 1, 1)).name == "btt-2025"


@pytest.mark.parametrize(
    ("shares", "problem"),
    [
        ([share("contributors", 9000), share("fund", 1001, "fund:x")], "above 10000"),
        ([share("contributors", 9000), share("fund", 999, "fund:x")], "below 10000"),
        ([share("contributors", 10000, "fund:x")], "the node's"),
        ([share("contributors", 9000), share("fund", 1000)], "needs an account"),
        ([share("contributors", 5000), share("contributors", 5000)], "twice"),
        ([share("contributors", 7000.5), share("fund", 2999.5, "fund:x")], "whole number"),
        ([share("contributors", -1), share("fund", 10001, "fund:x")], "at least 0"),
        ([share("contributors", 9000), share("fund", 1000, "node:mine:earnings")], "fund:"),
        ([], "empty"),
    ],
    ids=str,
)
def test_a_split_that_does_not_add_up_is_refused(tmp_path: Path, shares: Any, problem: str) -> None:
    """Above or below the whole, nobody's or somebody else's account, halves of a point: refused with the reason."""
    errors = splits.check(written(tmp_path, shares))
    assert any(problem in str(error) for error in errors), errors
    with pytest.raises(MappingError):
        splits.load(tmp_path)
