"""The package: contracts are compiled when it is built, and what is installed needs no compiler."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from btt_bridge import plugins
from btt_bridge.plugins import SettlementRail
from btt_evm import artifacts
from btt_evm.rail import EvmRail

PLUGIN = Path(__file__).parents[3] / "plugins" / "evm"

_WITHOUT_COMPILER = """
import sys
sys.modules["vyper"] = None
from btt_evm import artifacts
assert artifacts.__file__.startswith(sys.argv[1]), artifacts.__file__
for name in artifacts.CONTRACTS:
    found = artifacts.load(name)
    assert found.abi and found.bytecode.startswith("0x")
print(len(artifacts.CONTRACTS))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is built from a clean checkout."""
    folder = tmp_path_factory.mktemp("build")
    clean = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(PLUGIN, folder / "evm", ignore=clean)
    # The build's own requirements are those of the test extra; nothing is fetched.
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(folder), str(folder / "evm")], check=True, timeout=170)
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_holds_the_compiled_contracts(wheel: Path) -> None:
    """Sources, what was compiled from them, and every other data file that the code reads."""
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"btt_evm/build/{name}.json" for name in artifacts.CONTRACTS}
    tracked = {f"btt_evm/{path.relative_to(PLUGIN / 'btt_evm')}" for path in (PLUGIN / "btt_evm").rglob("*.vy")}
    assert expected | tracked | {"btt_evm/chain.schema.json", "btt_evm/py.typed"} <= names


def test_an_install_without_the_compiler_works(wheel: Path, tmp_path: Path) -> None:
    """Unpacked where vyper cannot be imported, every contract loads."""
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path)
    command = [sys.executable, "-c", _WITHOUT_COMPILER, str(tmp_path)]
    done = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "3", done.stderr


def test_a_changed_source_is_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a checkout the compiled contract follows its source; a damaged one is made again."""
    shutil.copytree(artifacts._SOURCES, tmp_path / "contracts")
    monkeypatch.setattr(artifacts, "_SOURCES", tmp_path / "contracts")
    monkeypatch.setattr(artifacts, "_BUILD", tmp_path / "build")
    first = artifacts.load("Token")
    file = tmp_path / "build" / "Token.json"
    before = json.loads(file.read_text())["sources"]
    file.write_text("{")
    assert artifacts.load("Token") == first
    source = tmp_path / "contracts" / "Token.vy"
    source.write_text(source.read_text().replace('= "BTT"', '= "XXX"'))
    assert artifacts.load("Token").bytecode != first.bytecode
    assert json.loads(file.read_text())["sources"] != before


def test_the_bridge_finds_the_rail_by_its_name(tmp_path: Path) -> None:
    """The entry point is installed, makes the rail with its place, and it is what the Protocol asks for."""
    (point,) = (point for point in entry_points(group="btt_bridge.rails") if point.name == "evm")
    assert point.load() is EvmRail
    (tmp_path / "chain.yaml").write_text("{url: tester, chain_id: 1, confirmations: 0, key: poster.key}\n")
    found: SettlementRail = plugins.rail("evm", str(tmp_path))
    assert isinstance(found, EvmRail)
    assert found.statements() == []
    chain: plugins.ChainRail = found
    assert isinstance(chain, plugins.ChainRail)
    assert chain.place() == "", "nothing settles BTT there, so that no roots are kept"
