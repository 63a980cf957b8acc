"""A token on either engine, a year after the first day of its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from btt_bridge.ledger import Ledger
from btt_bridge.settle.token import Token, open_token

MAPPINGS = Path(__file__).parents[3] / "mappings"


@pytest.fixture
def token(ledger: Ledger) -> Token:
    """The shipped token, with its supply made and nothing released yet."""
    return open_token(MAPPINGS, ledger)
