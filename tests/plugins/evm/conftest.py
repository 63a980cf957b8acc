"""Chains in this process, each test's own."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from btt_bridge.settle import dated
from btt_bridge.settle.token import allocation
from btt_bridge.settle.token.allocation import Table
from tests.plugins.evm.chains import MAPPINGS, House, Place


@pytest.fixture
def house() -> House:
    """Our contracts on a chain."""
    return House()


@pytest.fixture(scope="session")
def table() -> Table:
    """The shipped table of allocations."""
    return dated.in_force(allocation.load(MAPPINGS / "token" / "allocation"), date(2026, 1, 5))


@pytest.fixture
def place(tmp_path: Path, table: Table) -> Place:
    """A folder of the plugin, with everything deployed."""
    return Place(tmp_path / "chain", table)
