"""Chain and book: the same supply at first, the same after every burn, on whichever side it began."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from btt_bridge.errors import ConfigurationError, DeliveryRefusedError
from btt_bridge.ledger import Ledger, Move
from btt_bridge.money import BTT, Amount
from btt_bridge.settle import chain
from btt_bridge.settle.token import Supply, Token, open_token
from btt_bridge.settle.token.accounts import BURNED, wallet
from btt_bridge.testing import FakeClock
from btt_evm import supply as both
from btt_evm.node import Node
from btt_evm.place import save
from btt_evm.rail import EvmRail
from tests.plugins.evm.chains import MAPPINGS, SUPPLY, Place


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", FakeClock())
    yield ledger
    ledger.close()


@pytest.fixture
def token(ledger: Ledger) -> Token:
    """The shipped token in a book, with a year of releases."""
    found = open_token(MAPPINGS, ledger)
    found.supply.release()
    return found


def test_a_burn_in_the_book_is_followed_on_the_chain_once(place: Place, token: Token) -> None:
    """21 million less what is burned is the supply of both; asked again, nothing more is burned."""
    assert both.compare(place.node, token.supply) == both.Comparison(0, 0)
    place.fund(1000)
    token.supply.burn("investor:m-dao", "fee-1", Amount(300, BTT))
    assert not both.compare(place.node, token.supply).agrees
    assert both.burn(place.node, token.supply)
    assert both.burn(place.node, token.supply) == ""
    token.supply.burn("investor:m-dao", "fee-2", Amount(5, BTT))
    assert both.burn(place.node, token.supply)
    assert not both.compare(place.node, token.supply).agrees  # not deep enough yet
    place.mine(2)
    assert both.compare(place.node, token.supply) == both.Comparison(305, 305)
    total = place.node.read(place.node.contract("Token", place.chain.token).functions.totalSupply())
    assert SUPPLY - total == token.supply.figures().burned == 305
    assert place.balance(place.node.address) == 695


def with_wallets(place: Place, **wallets: str) -> EvmRail:
    """Write whose wallet is which address into the chain's file, and open the rail."""
    save(place.folder, replace(place.chain, wallets={name.replace("_", ":"): of for name, of in wallets.items()}))
    return EvmRail(place.folder)


def test_a_burn_on_the_chain_is_booked_once(place: Place, ledger: Ledger, token: Token) -> None:
    """A holder burns tokens of its own: the book burns the holder's, by the transaction's name, and then agrees."""
    governance, rail = place.governance, with_wallets(place, treasury_main=place.governance.address)
    coin = governance.contract("Token", place.chain.token)
    for name, units in (("one", 40), ("two", 2)):
        governance.transact(name, coin.functions.burn(units))
    ledger.open_account(wallet("treasury:main"), BTT)
    assert 0 < place.chain.first_block < rail.node.deep()
    begun, none = rail.burns(0)
    assert (begun, list(none)) == (rail.node.deep(), []), "not deep enough yet"
    place.mine(2)
    ledger.post_all(
        "test", "fund", [Move(wallet("investor:m-dao"), wallet("treasury:main"), Amount(41, BTT), "test")], None
    )
    (refused,) = chain.book_burns(token.supply, rail)
    assert (refused.holder, refused.amount.units) == ("treasury:main", 2), "41 are there, and 40 are burned"
    assert both.compare(place.node, token.supply) == both.Comparison(42, 40)
    ledger.post_all(
        "test", "more", [Move(wallet("investor:m-dao"), wallet("treasury:main"), Amount(9, BTT), "test")], None
    )
    for since in (None, None, 0):
        assert chain.book_burns(token.supply, rail, since) == []
    assert both.compare(place.node, token.supply) == both.Comparison(42, 42)
    assert ledger.balance(wallet("treasury:main")).units == 8
    assert both.burn(place.node, token.supply) == ""
    assert rail.burns(rail.node.deep()) == (rail.node.deep(), [])


def test_burns_of_our_own_and_of_strangers_are_not_booked(place: Place, token: Token, ledger: Ledger) -> None:
    """What our key burned followed the book; of what a stranger burned the book holds nothing."""
    place.fund(100)
    token.supply.burn("investor:m-dao", "fee-1", Amount(30, BTT))
    both.burn(place.node, token.supply)
    coin = place.governance.contract("Token", place.chain.token)
    place.governance.transact("one", coin.functions.burn(40))
    place.mine(2)
    rail = with_wallets(place, investor_m=place.node.address)
    assert chain.book_burns(token.supply, rail, 0) == []
    assert ledger.balance(BURNED).units == 30


def test_without_tokens_of_our_own_nothing_is_burned(place: Place, token: Token) -> None:
    """The chain refuses, nobody else's tokens are touched, and chain and book are known to differ."""
    token.supply.burn("investor:m-dao", "fee-1", Amount(300, BTT))
    with pytest.raises(DeliveryRefusedError, match="more than there is"):
        both.burn(place.node, token.supply)
    place.mine(2)
    assert both.compare(place.node, token.supply) == both.Comparison(0, 300)


def test_another_supply_is_not_compared(place: Place, ledger: Ledger, token: Token) -> None:
    """A chain without a token, or a book of another supply, is a wrong configuration and not a difference."""
    with pytest.raises(ConfigurationError):
        both.compare(Node(replace(place.chain, token=""), place.folder), token.supply)
    other = Supply(ledger, replace(token.supply.table, supply=1))
    assert both.compare(place.node, other).agrees  # what was made counts, not what a table says
