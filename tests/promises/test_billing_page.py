"""docs/billing.md says what is so: its commands exist, and its figures are those of the shipped data."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

from typer.main import get_command

from btt_bridge.commands import billing
from btt_bridge.settle import splits
from btt_bridge.settle.dividends import formula

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "billing.md").read_text(encoding="utf-8")


def test_the_page_has_every_command_and_no_other() -> None:
    """What an accountant reads there can be typed."""
    named = set(re.findall(r"^\| `btt-bridge billing ([a-z-]+)", PAGE, re.MULTILINE))
    assert named == set(get_command(billing.app).commands)  # type: ignore[attr-defined]


def test_the_page_has_the_shares_and_bounds_of_the_shipped_data() -> None:
    """70/15/10/5, and each factor's bounds, as mappings/splits and mappings/dividends have them."""
    (split,) = splits.load(ROOT / "mappings" / "splits")
    said = re.search(r"\((\d+) %\s+contributors, (\d+) % development fund, (\d+) % foundation, (\d+) %", PAGE)
    assert said is not None
    assert [int(share) * 100 for share in said.groups()] == [share.basis_points for share in split.shares]
    (shipped,) = formula.load(ROOT / "mappings" / "dividends")
    for name in ("reliability", "quality", "geography", "energy"):
        found = re.search(rf"^\| {name} \|.*\| ([\d.]+) to ([\d.]+) \|$", PAGE, re.MULTILINE)
        assert found is not None
        bounds = getattr(shipped, name)
        assert [Fraction(text) * 10_000 for text in found.groups()] == [bounds.low, bounds.high]
