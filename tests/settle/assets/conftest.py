"""Assets on either engine, with money in some wallets and a token whose stakes lower fees."""

from __future__ import annotations

from pathlib import Path

import pytest

from btt_bridge.ledger import Ledger, Move
from btt_bridge.money import BTT, CNY, Amount
from btt_bridge.settle.assets import Assets, open_assets
from btt_bridge.settle.token import Token, open_token

MAPPINGS = Path(__file__).parents[3] / "mappings"
HOLDERS = ("hospital:a", "hospital:b", "investor:c", "investor:d")
#: 100 million yuan each.
FUNDS = 10**10


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    """With money in every holder's wallet."""
    ledger.open_account("bank:cny", CNY, credit_limit=None)
    for holder in HOLDERS:
        ledger.open_account(f"wallet:{holder}:cny", CNY)
        ledger.post_all(
            "test", f"fund:{holder}", [Move("bank:cny", f"wallet:{holder}:cny", Amount(FUNDS, CNY), "fund")]
        )
    return ledger


@pytest.fixture
def token(ledger: Ledger) -> Token:
    """With a year released, and 50,000 BTT in one holder's wallet."""
    token = open_token(MAPPINGS, ledger)
    token.supply.release()
    ledger.open_account("wallet:investor:c:btt", BTT)
    gift = Move("wallet:investor:bithive:btt", "wallet:investor:c:btt", Amount(50_000 * 10**18, BTT), "gift")
    ledger.post_all("test", "gift", [gift])
    return token


@pytest.fixture
def assets(ledger: Ledger, token: Token) -> Assets:
    return open_assets(MAPPINGS, ledger, token.stakes)
