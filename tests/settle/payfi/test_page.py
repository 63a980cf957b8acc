"""The page for accountants says what happens: its example, its fees and its folders are those of the program."""

from __future__ import annotations

import re
from pathlib import Path

from btt_bridge.money import CNY, written
from btt_bridge.settle.payfi import Clearing, policy
from btt_bridge.settle.payfi.rails import FileRail
from tests.settle.payfi.house import MAPPINGS, ROOT, assert_sound, payment, said, units

PAGE = (ROOT / "docs" / "payfi.md").read_text(encoding="utf-8")


def shown(amount: int) -> str:
    return written(amount, CNY).removesuffix(" CNY").replace("-", "−")


def row(first: str, heading: str) -> list[str]:
    """Return the cells of one row of a table under a heading."""
    section = PAGE.partition(f"## {heading}")[2].partition("\n## ")[0]
    (line,) = re.findall(rf"^\| {re.escape(first)} \|.*$", section, re.MULTILINE)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_example_of_the_page_is_what_happens(embedded: Clearing) -> None:
    """Three payments, two payouts, and every number of the page to the fen."""
    heading = "Netting, by numbers"
    bills = {
        "insurer to East": payment("Claim/1", 100_00),
        "insurer to West": payment("Claim/2", 200_00, payee="party:west"),
        "East to West": payment("Invoice/1", 30_00, "party:east", "party:west"),
    }
    for name, bill in bills.items():
        made = embedded.instruct(bill)
        assert row(name, heading)[1:] == [shown(one.units) for one in (made.gross, made.fees, made.net)]
    batch = embedded.close(early=True)
    assert batch is not None
    positions = {name.split(":")[2]: units for (name, _), units in batch.positions.items() if ":party:" in name}
    assert row("insurer", heading)[1] == shown(positions["insurer"])
    for name, leg in zip(("East", "West"), batch.legs, strict=True):
        cells = row(name, heading)
        assert cells[1].split(" = ")[0] == shown(positions[name.lower()])
        assert cells[2:] == [shown(leg.set_off.units), shown(leg.payout.units)]
        embedded.confirm(said(leg))
    assert row("fees", heading)[1] == shown(
        units(embedded, "payfi:revenue:cny") + units(embedded, "fund:development:cny")
    )
    for account in ("payfi:revenue:cny", "fund:development:cny", "bank:cny"):
        assert shown(units(embedded, account)) in PAGE
    assert units(embedded, "payfi:party:east:cny") == 0
    assert_sound(embedded)


def test_the_fees_of_the_page_are_those_that_ship() -> None:
    """Each percentage is the rule's own."""
    (rules,) = policy.load(MAPPINGS)
    tiers = sorted(rules.tiers.values(), reverse=True)
    assert re.findall(r"0\.\d", row("payment", "Fees")[1]) == [f"{points / 100:.1f}" for points in tiers]
    for fee, points in rules.points.items():
        assert float(row(str(fee), "Fees")[1].split()[0]) == points / 100


def test_the_folders_of_the_page_are_the_rail_s(tmp_path: Path) -> None:
    """An integrator who makes them by this page makes the right ones."""
    FileRail(tmp_path)
    section = PAGE.partition("## The rail")[2].partition("\n## ")[0]
    named = {
        name for line in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE) for name in re.findall("`(.*?)`", line)
    }
    assert named == {path.name for path in tmp_path.iterdir() if path.is_dir()}
