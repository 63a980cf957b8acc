"""Chains in this process, each test's own from its first day on."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from btt_bridge.settle import dated
from btt_bridge.settle.token import allocation
from btt_bridge.settle.token.allocation import Table
from tests.plugins.evm.chains import MAPPINGS, House, Place


@pytest.fixture(scope="session")
def _house() -> tuple[House, Any]:
    house = House()
    return house, house.provider.ethereum_tester.take_snapshot()


@pytest.fixture
def house(_house: tuple[House, Any]) -> House:
    """Our contracts on a chain, as they were on its first day: wound back is quicker than made anew."""
    house, first = _house
    house.provider.ethereum_tester.revert_to_snapshot(first)
    return house


@pytest.fixture(scope="session")
def table() -> Table:
    """The shipped table of allocations."""
    return dated.in_force(allocation.load(MAPPINGS / "token" / "allocation"), date(2026, 1, 5))


@pytest.fixture(scope="session")
def _deployed(tmp_path_factory: pytest.TempPathFactory, table: Table) -> tuple[Place, Any]:
    place = Place(tmp_path_factory.mktemp("deployed") / "chain", table)
    return place, place.provider.ethereum_tester.take_snapshot()


@pytest.fixture
def place(_deployed: tuple[Place, Any], tmp_path: Path, table: Table) -> Place:
    """A folder of the plugin, with everything deployed."""
    template, first = _deployed
    template.provider.ethereum_tester.revert_to_snapshot(first)
    shutil.copytree(template.folder, tmp_path / "chain")
    return Place(tmp_path / "chain", table, template.url)
