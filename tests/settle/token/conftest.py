"""A token on either engine, a year after the first day of its table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from btt_bridge.ledger import Ledger
from btt_bridge.settle.token import Token, open_token
from btt_bridge.testing import FakeClock

MAPPINGS = Path(__file__).parents[3] / "mappings"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ledger(database_url: str, clock: FakeClock) -> Iterator[Ledger]:
    ledger = Ledger(database_url, clock)
    yield ledger
    ledger.close()


@pytest.fixture
def token(ledger: Ledger) -> Token:
    """The shipped token, with its supply made and nothing released yet."""
    return open_token(MAPPINGS, ledger)
