"""What somebody gets wrong in a file is told with file and line before anything starts."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from tests.journeys.bridge import ROOT, Bridge, destination
from tests.peers.server import free_port


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    """A bridge that is not started, with mappings of its own."""
    shutil.copytree(ROOT / "mappings", tmp_path / "mappings")
    return Bridge(
        tmp_path,
        mappings_dir=str(tmp_path / "mappings"),
        accept={"port": free_port()},
        destinations=[destination("PACS", 104)],
    )


def _refused(bridge: Bridge, *told: str) -> None:
    """Assert that `up` and `check` end at once with status 1, each having told this and nothing but its own words."""
    for command in ("up", "check"):
        answer = bridge.cli(command)
        said = answer.stdout + answer.stderr
        assert answer.returncode == 1, said
        assert [words for words in told if words not in said] == []
        assert "Traceback" not in said
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", bridge.settings.accept.port)) != 0
    assert not bridge.run_dir.exists(), "no process was started"


def test_wrong_settings_are_told_by_file_and_line(bridge: Bridge) -> None:
    """A misspelled name and a value beyond its limit: both are told at once, each with its line."""
    lines = bridge.file.read_text().splitlines()
    lines[lines.index("accept:")] += "\n  prot: 104"
    lines.append("workers: 0")
    bridge.file.write_text("\n".join(lines))
    numbered = bridge.file.read_text().splitlines()
    _refused(
        bridge,
        f"{bridge.file}:{numbered.index('  prot: 104') + 1}: accept.prot: ",
        f"{bridge.file}:{numbered.index('workers: 0') + 1}: workers: ",
    )


def test_settings_that_are_no_yaml_are_told_by_line(bridge: Bridge) -> None:
    """A file that was cut or pasted wrongly is told with the line where reading stopped."""
    bridge.file.write_text("workers: 2\naccept: [port: 104\n")
    _refused(bridge, f"{bridge.file}:3: this is not YAML")


def test_wrong_mappings_are_told_by_file_and_line(bridge: Bridge) -> None:
    """Keywords that DICOM does not know, a destination that the settings do not have, a split that is not whole: all
    are told at once, each with its file and line."""
    route = bridge.folder / "mappings" / "routes" / "chest-ct.yaml"
    route.write_text(route.read_text().replace("Modality: CT", "Modalty: CT").replace("[pacs]", "[pax]"))
    split = next((bridge.folder / "mappings" / "splits").glob("*.yaml"))
    split.write_text(split.read_text().replace("70", "71", 1))
    _refused(
        bridge,
        f"{_place(route, 'Modalty: CT')}: ",
        f"{_place(route, '[pax]')}: ",
        f"{split}:",
    )


def test_hardware_without_a_price_is_told_by_file_and_line(bridge: Bridge) -> None:
    """A route asks for a GPU that no price list prices, which nothing could ever quote."""
    route = bridge.folder / "mappings" / "routes" / "chest-ct.yaml"
    route.write_text(route.read_text().replace("tier: hospital", "tier: hospital\n    hardware: gpu"))
    assert bridge.cli("check").returncode == 0
    prices = next((bridge.folder / "mappings" / "prices").glob("*.yaml"))
    prices.write_text(prices.read_text().replace("  gpu: 120\n", ""))
    _refused(
        bridge, f"{_place(route, 'hardware: gpu')}: hardware: no price list prices `gpu`", "priced are: cpu, gpu-conf"
    )


def _place(file: Path, words: str) -> str:
    """Return file and line where these words stand."""
    lines = file.read_text().splitlines()
    return f"{file}:{next(number for number, line in enumerate(lines, 1) if words in line)}"
