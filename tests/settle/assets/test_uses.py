"""Attested use: which device made a series, and one use for a study, however often it is told."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest

from btt_bridge import settle
from btt_bridge.ledger import Ledger
from btt_bridge.money import CNY, Amount
from btt_bridge.settle import Uses, device_key
from btt_bridge.settle.assets import Assets, Kind
from tests.settle.assets.conftest import MAPPINGS


def opaque(text: str) -> str:
    """The keyed digest of a caller."""
    return hmac.new(b"secret", text.encode(), hashlib.sha256).hexdigest()


SCANNER = {"Manufacturer": "ACME", "DeviceSerialNumber": "00042"}


@pytest.mark.parametrize(
    "keywords",
    [
        {"Manufacturer": "Acme", "DeviceSerialNumber": "00042"},
        {"Manufacturer": " ACME ", "DeviceSerialNumber": "00042 ", "StationName": "CT1"},
    ],
)
def test_one_device_is_one_however_its_name_is_written(keywords: dict[str, Any]) -> None:
    """Case and blanks differ between a scanner's software versions; the device does not."""
    assert device_key(opaque, keywords) == device_key(opaque, SCANNER)


@pytest.mark.parametrize(
    "keywords",
    [
        {"Manufacturer": "ACME", "DeviceSerialNumber": "42"},
        {"Manufacturer": "OTHER", "DeviceSerialNumber": "00042"},
        {"DeviceSerialNumber": "00042"},
        {"Manufacturer": "ACME 00042", "DeviceSerialNumber": "00042"},
        {"Manufacturer": "ACME", "DeviceSerialNumber": ("00042", "00043")},
    ],
)
def test_another_device_is_another(keywords: dict[str, Any]) -> None:
    """Serial numbers are a manufacturer's own, and leading zeros count."""
    assert device_key(opaque, keywords) not in ("", device_key(opaque, SCANNER))


@pytest.mark.parametrize("keywords", [{}, {"Manufacturer": "ACME"}, {"DeviceSerialNumber": "  "}])
def test_a_series_without_a_serial_number_is_of_nobody(assets: Assets, keywords: dict[str, Any]) -> None:
    """It names no device, and counts for none."""
    assert device_key(opaque, keywords) == ""
    assert assets.revenue.attest("", opaque("study")) is False


def test_uses_are_counted_without_schedule_or_token(assets: Assets, ledger: Ledger) -> None:
    """What the pipeline holds counts what the holders are paid for; revisions and replays of a study are one use."""
    key = device_key(opaque, SCANNER)
    deed = assets.registry.mint(
        Kind.EQUIPMENT, key, "hospital:a", 10, Amount(10_000_00, CNY), "simple", Amount(100, CNY)
    )
    uses = Uses(ledger)
    for study in ("one", "two", "one", "one"):
        assert uses.attest(key, opaque(study))
    assert uses.unpaid(deed.id) == assets.revenue.unpaid(deed.id) == 2
    assets.revenue.pay(deed.id, "2026-01", "hospital:b")
    uses.attest(key, opaque("two"))
    assert uses.unpaid(deed.id) == 0, "what is paid does not count anew when its study comes again"


def test_a_device_that_is_divided_later_earns_from_then_on(assets: Assets, ledger: Ledger) -> None:
    """What it did before nobody owned shares of is nobody's use; and nothing of it stands in the book."""
    key, uses = device_key(opaque, SCANNER), Uses(ledger)
    before = len(ledger.postings(0, 1000))
    assert not uses.attest(key, opaque("one"))
    assert len(ledger.postings(0, 1000)) == before
    deed = assets.registry.mint(
        Kind.EQUIPMENT, key, "hospital:a", 10, Amount(10_000_00, CNY), "simple", Amount(100, CNY)
    )
    assert uses.attest(key, opaque("two"))
    assert uses.unpaid(deed.id) == 1


def test_check_covers_assets_and_payfi(tmp_path: Path) -> None:
    """What ships holds; a schedule that cannot be read is found with file and line, and no folder is no error."""
    assert settle.check(MAPPINGS) == []
    for name in ("prices", "splits", "references", "dividends", "assets", "payfi"):
        (tmp_path / name).mkdir()
        for path in (MAPPINGS / name).glob("*.yaml"):
            (tmp_path / name / path.name).write_text(path.read_text())
    (tmp_path / "payfi" / "participants").mkdir()
    (tmp_path / "assets" / "btt-2025.yaml").write_text("name: btt-2025\n")
    files = {error.file for error in settle.check(tmp_path)}
    assert files == {str(tmp_path / "assets" / "btt-2025.yaml"), str(tmp_path / "payfi" / "participants")}
    for name in ("assets", "payfi"):
        (tmp_path / name).rename(tmp_path / f"no-{name}")
    assert settle.check(tmp_path) == []
