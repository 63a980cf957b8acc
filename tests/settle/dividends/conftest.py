"""The house, on both engines or on SQLite alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.settle.dividends import house
from tests.settle.dividends.house import House


@pytest.fixture
def pooled(database_url: str) -> Iterator[House]:
    with house.opened(database_url) as opened:
        yield opened


@pytest.fixture
def one_book(tmp_path: Path) -> Iterator[House]:
    """On SQLite alone, for what does not depend on the engine."""
    with house.opened(f"sqlite:///{tmp_path / 'ledger.db'}") as opened:
        yield opened
