"""A clearing house on either engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from btt_bridge.ledger import Ledger
from btt_bridge.settle.payfi import Clearing
from btt_bridge.testing import FakeClock
from tests.settle.payfi.house import opened


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def clearing(database_url: str, clock: FakeClock, tmp_path: Path) -> Iterator[Clearing]:
    """On SQLite and on PostgreSQL."""
    ledger = Ledger(database_url, clock)
    yield opened(ledger, tmp_path / "participants")
    ledger.close()


@pytest.fixture
def embedded(clock: FakeClock, tmp_path: Path) -> Iterator[Clearing]:
    """On SQLite alone, for what does not depend on the engine."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", clock)
    yield opened(ledger, tmp_path / "participants")
    ledger.close()
