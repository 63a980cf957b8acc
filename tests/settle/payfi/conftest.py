"""A clearing house on either engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from btt_bridge.ledger import Ledger
from btt_bridge.settle.payfi import Clearing
from tests.settle.payfi.house import opened


@pytest.fixture
def clearing(ledger: Ledger, tmp_path: Path) -> Clearing:
    """On SQLite and on PostgreSQL."""
    return opened(ledger, tmp_path / "participants")


@pytest.fixture
def embedded(embedded_ledger: Ledger, tmp_path: Path) -> Clearing:
    """On SQLite alone, for what does not depend on the engine."""
    return opened(embedded_ledger, tmp_path / "participants")
