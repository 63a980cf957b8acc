"""The registry: each thing once, its shares apart from all others, and every fee to the fen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any, Final

import pytest

from btt_bridge.errors import (
    InvalidAmountError,
    KeyConflictError,
    OverdrawnError,
    RefusedError,
    UnbalancedError,
    UnknownError,
)
from btt_bridge.ledger import Ledger, Move, audit
from btt_bridge.money import BTT, CNY, Amount
from btt_bridge.settle.assets import Assets, Deed, Kind, deed_id
from btt_bridge.settle.token import Token
from btt_bridge.testing import FakeClock

SCANNER: Final = sha256(b"serial 1").hexdigest()
DAY: Final = 86400
VALUE: Final = Amount(1_000_000_00, CNY)
NOTHING: Final = Amount(0, CNY)
A, B, C = "hospital:a", "hospital:b", "investor:c"


@pytest.fixture
def deed(assets: Assets) -> Deed:
    """A scanner worth a million, in 1,000 shares of hospital A."""
    return assets.registry.mint(Kind.EQUIPMENT, SCANNER, A, 1000, VALUE, "standard", Amount(500, CNY))


def cash(ledger: Ledger, holder: str) -> int:
    return ledger.balance(f"wallet:{holder}:cny").units - 10**10


def assert_sound(ledger: Ledger) -> None:
    assert audit.verify(ledger).problem == ""
    assert set(ledger.trial_balance().values()) == {0}


def test_a_thing_is_divided_once_and_the_owner_pays(assets: Assets, ledger: Ledger, deed: Deed) -> None:
    """All shares to the owner; 2 % of a million, a tenth for buying back, and the rest in halves."""
    assert assets.registry.holders(deed) == {A: 1000}
    assert cash(ledger, A) == -20_000_00
    funds = ("fund:buyback:cny", "fund:development:cny", "fund:asset-operations:cny")
    assert [ledger.balance(name).units for name in funds] == [2_000_00, 9_000_00, 9_000_00]
    assert assets.registry.deed(deed.id) == deed
    assert_sound(ledger)


def test_minted_again_it_is_the_same_also_on_another_day(assets: Assets, deed: Deed, clock: FakeClock) -> None:
    """One thing has one deed: the same request finds it, whatever fees are by then; any other is refused."""
    clock.advance(400 * DAY)
    again: dict[str, Any] = {
        "kind": Kind.EQUIPMENT,
        "title": SCANNER,
        "owner": A,
        "total": 1000,
        "valuation": VALUE,
        "complexity": "standard",
        "use_fee": Amount(500, CNY),
    }
    assert assets.registry.mint(**again) == deed
    for change in ({"owner": B}, {"total": 1001}, {"kind": Kind.PROPERTY}, {"valuation": Amount(1, CNY)}):
        with pytest.raises(KeyConflictError):
            assets.registry.mint(**{**again, **change})
    assert assets.registry.holders(deed) == {A: 1000}


def test_many_at_once_mint_once(assets: Assets, ledger: Ledger) -> None:
    """Four callers, one deed, one fee."""

    def mint(_: int) -> Deed:
        return assets.registry.mint(Kind.PROPERTY, SCANNER, A, 10, VALUE, "simple", NOTHING)

    with ThreadPoolExecutor(4) as callers:
        assert len(set(callers.map(mint, range(4)))) == 1
    assert cash(ledger, A) == -10_000_00
    assert_sound(ledger)


def test_what_cannot_be_minted(assets: Assets, ledger: Ledger) -> None:
    """No shares, no value, a raw serial number, two kinds of money, or no money for the fee."""
    for total in (0, -1, 1.5, True):
        with pytest.raises(InvalidAmountError):
            assets.registry.mint(Kind.PROPERTY, SCANNER, A, total, VALUE, "simple", NOTHING)  # type: ignore[arg-type]
    with pytest.raises(InvalidAmountError):
        assets.registry.mint(Kind.PROPERTY, SCANNER, A, 1, NOTHING, "simple", NOTHING)
    with pytest.raises(InvalidAmountError):
        assets.registry.mint(Kind.PROPERTY, SCANNER, A, 1, VALUE, "simple", Amount(0, BTT))
    with pytest.raises(RefusedError, match="keyed digest"):
        assets.registry.mint(Kind.PROPERTY, "SN-4711", A, 1, VALUE, "simple", NOTHING)
    with pytest.raises(OverdrawnError):
        assets.registry.mint(Kind.PROPERTY, SCANNER, A, 1, Amount(10**13, CNY), "complex", NOTHING)
    assert assets.registry.find(deed_id(SCANNER)) is None
    assert assets.registry.mint(Kind.PROPERTY, SCANNER, A, 7, VALUE, "simple", NOTHING).total == 7
    assert_sound(ledger)


def test_no_more_shares_are_issued_than_there_are_and_none_becomes_another_things(
    assets: Assets, ledger: Ledger, deed: Deed
) -> None:
    """Whoever writes past the rules, the database refuses a share more, and a share of another thing."""
    other = assets.registry.mint(Kind.PROPERTY, "b" * 64, A, 1000, VALUE, "simple", NOTHING)
    with pytest.raises(OverdrawnError):
        ledger.post_all("thief", "k1", [Move(deed.issue, deed.held_by(A), Amount(1, deed.shares), "theft")])
    with pytest.raises(UnbalancedError):
        ledger.post_all("thief", "k2", [Move(other.held_by(A), deed.held_by(A), Amount(1, deed.shares), "theft")])


def test_a_trade_moves_shares_money_and_fee_at_once(assets: Assets, ledger: Ledger, deed: Deed) -> None:
    """100 shares for 100,000: the seller has 99,000 of it; again, nothing more happens."""
    before = cash(ledger, A)
    price = Amount(100_000_00, CNY)
    first = assets.registry.trade(deed.id, "t1", A, C, 100, price)
    assert assets.registry.trade(deed.id, "t1", A, C, 100, price) == first
    assert assets.registry.holders(deed) == {A: 900, C: 100}
    assert (cash(ledger, A) - before, cash(ledger, C)) == (99_000_00, -100_000_00)
    with pytest.raises(KeyConflictError):
        assets.registry.trade(deed.id, "t1", A, C, 101, price)
    assert_sound(ledger)


def test_a_trade_in_btt_burns_its_part(assets: Assets, ledger: Ledger, deed: Deed, token: Token) -> None:
    """A tenth of the fee is gone for ever, and the supply is still what it was."""
    assets.registry.trade(deed.id, "t1", A, C, 1, Amount(1000 * 10**18, BTT))
    assert token.supply.figures().burned == 10**18
    assert token.supply.figures().minted == 21_000_000 * 10**18
    assert ledger.balance("token:burned:btt").available == 0
    assert_sound(ledger)


def test_stakes_lower_the_fees_of_their_holder(
    assets: Assets, ledger: Ledger, deed: Deed, token: Token, clock: FakeClock
) -> None:
    """1,000 BTT under a year's lock are 5 % off, once they have stood a week."""
    assets.registry.trade(deed.id, "t1", A, C, 100, Amount(100_00, CNY))
    token.stakes.stake(C, "s1", 1000 * 10**18, "year")
    before = cash(ledger, C)
    assets.registry.trade(deed.id, "t2", C, A, 10, Amount(100_00, CNY))
    assert cash(ledger, C) - before == 99_00
    clock.advance(7 * DAY)
    assets.registry.trade(deed.id, "t3", C, A, 10, Amount(100_00, CNY))
    assert cash(ledger, C) - before == 99_00 + 99_05


def test_what_cannot_be_traded(assets: Assets, ledger: Ledger, deed: Deed) -> None:
    """Shares or money that are not there, nothing, halves, with oneself, and what has no deed: nothing moves."""
    price = Amount(100, CNY)
    with pytest.raises(OverdrawnError):
        assets.registry.trade(deed.id, "t", C, A, 1, price)
    with pytest.raises(OverdrawnError):
        assets.registry.trade(deed.id, "t", A, C, 1, Amount(10**11, CNY))
    for shares in (0, -1, 0.5):
        with pytest.raises(InvalidAmountError):
            assets.registry.trade(deed.id, "t", A, C, shares, price)  # type: ignore[arg-type]
    with pytest.raises(InvalidAmountError):
        assets.registry.trade(deed.id, "t", A, C, 1, NOTHING)
    with pytest.raises(RefusedError, match="itself"):
        assets.registry.trade(deed.id, "t", A, A, 1, price)
    with pytest.raises(UnknownError):
        assets.registry.trade("0" * 32, "t", A, C, 1, price)
    assert assets.registry.holders(deed) == {A: 1000}
    assert_sound(ledger)


def test_one_share_is_sold_once(assets: Assets, ledger: Ledger, deed: Deed) -> None:
    """Eight buyers at once for the last share: one gets it, seven keep their money."""
    assets.registry.trade(deed.id, "all", A, B, 999, Amount(100, CNY))

    def buy(number: int) -> bool:
        try:
            assets.registry.trade(deed.id, f"t{number}", A, C, 1, Amount(100_00, CNY))
        except OverdrawnError:
            return False
        return True

    with ThreadPoolExecutor(8) as buyers:
        assert sum(buyers.map(buy, range(8))) == 1
    assert assets.registry.holders(deed) == {B: 999, C: 1}
    assert cash(ledger, C) == -100_00
    assert_sound(ledger)


def test_a_value_changes_within_what_the_method_may(assets: Assets, ledger: Ledger, deed: Deed) -> None:
    """From the desk by a quarter at most; by appraisal up to twice; each once, in its order, for its fee."""
    before = cash(ledger, B)
    with pytest.raises(RefusedError, match="so much"):
        assets.registry.revalue(deed.id, "r1", "desk", Amount(1_250_000_01, CNY), B)
    for _ in range(2):
        assets.registry.revalue(deed.id, "r1", "desk", Amount(1_250_000_00, CNY), B)
    assert cash(ledger, B) - before == -3_125_00
    assets.registry.revalue(deed.id, "r2", "appraisal", Amount(2_500_000_00, CNY), B)
    assert cash(ledger, B) - before == -3_125_00 - 12_500_00
    assert assets.registry.valuation(deed) == Amount(2_500_000_00, CNY)
    with pytest.raises(KeyConflictError):
        assets.registry.revalue(deed.id, "r1", "desk", Amount(1, CNY), B)
    with pytest.raises(InvalidAmountError):
        assets.registry.revalue(deed.id, "r3", "desk", Amount(1, BTT), C)
    assert_sound(ledger)


def test_money_comes_in_and_goes_out_once_for_each_reference(assets: Assets, ledger: Ledger) -> None:
    """What the bank says twice is booked once; more than is there, nothing, other amounts and BTT are refused."""
    registry, before = assets.registry, cash(ledger, A)
    for _ in range(2):
        registry.fund(A, "bank-1", Amount(500, CNY))
        registry.withdraw(A, "bank-1", Amount(200, CNY))
    assert cash(ledger, A) - before == 300
    with pytest.raises(KeyConflictError):
        registry.fund(A, "bank-1", Amount(501, CNY))
    with pytest.raises(OverdrawnError):
        registry.withdraw(A, "bank-2", Amount(10**11, CNY))
    with pytest.raises(InvalidAmountError):
        registry.fund(A, "bank-3", NOTHING)
    with pytest.raises(RefusedError, match="no BTT"):
        registry.withdraw(A, "bank-4", Amount(1, BTT))
    with pytest.raises(RefusedError, match="reference"):
        registry.fund(A, "a b", Amount(1, CNY))
    registry.fund("investor:new", "bank-1", Amount(7, CNY))
    assert ledger.balance("wallet:investor:new:cny").units == 7
    assert_sound(ledger)


def test_every_deed_is_listed(assets: Assets, deed: Deed) -> None:
    """Oldest first, as they were minted."""
    other = assets.registry.mint(Kind.PROPERTY, "b" * 64, A, 7, VALUE, "simple", NOTHING)
    assert assets.registry.deeds() == [deed, other]


def test_a_prominent_place_is_paid_once(assets: Assets, ledger: Ledger, deed: Deed) -> None:
    """Half a percent of the newest value, for each time, not for each call."""
    before = cash(ledger, B)
    for reference in ("2026-01", "2026-01", "2026-02"):
        assets.registry.list_prominently(deed.id, reference, B)
    assert cash(ledger, B) - before == -2 * 5_000_00
