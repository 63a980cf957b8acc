"""Managed pools: units for money at today's value, the fee by the month, and no gift that robs the next."""

from __future__ import annotations

from typing import Final

import pytest

from btt_bridge.errors import InvalidAmountError, KeyConflictError, OverdrawnError, RefusedError, UnknownError
from btt_bridge.ledger import Ledger, Move, audit
from btt_bridge.money import CNY, Amount
from btt_bridge.settle.assets import Assets, Kind, Pool
from btt_bridge.testing import FakeClock

DAY: Final = 86400
A, B, C = "hospital:a", "hospital:b", "investor:c"
THOUSAND: Final = Amount(1000_00, CNY)


@pytest.fixture
def pool(assets: Assets) -> Pool:
    """An actively managed pool for a scanner of 1,000 shares at 10.00 each."""
    deed = assets.registry.mint(Kind.EQUIPMENT, "a" * 64, A, 1000, Amount(10_000_00, CNY), "simple", Amount(0, CNY))
    return assets.pools.open("scanners", deed.id, "active", A)


def cash(ledger: Ledger, holder: str) -> int:
    return ledger.balance(f"wallet:{holder}:cny").units


def test_who_joins_and_leaves_gets_back_what_it_put_in(assets: Assets, ledger: Ledger, pool: Pool) -> None:
    """To within one fen, which stays in the pool; each once for its reference."""
    before = cash(ledger, B)
    for _ in range(2):
        assets.pools.join("scanners", "j1", B, THOUSAND)
    assert cash(ledger, B) == before - 1000_00
    units = ledger.balance(pool.owned_by(B)).units
    for _ in range(2):
        assets.pools.leave("scanners", "l1", B, units)
    assert before - 1 <= cash(ledger, B) <= before
    assert ledger.balance(pool.owned_by(B)).units == 0
    with pytest.raises(KeyConflictError):
        assets.pools.join("scanners", "j1", B, Amount(1, CNY))
    assert audit.verify(ledger).problem == ""


def test_a_pool_is_worth_its_money_and_its_shares(assets: Assets, ledger: Ledger, pool: Pool) -> None:
    """It buys 50 shares at 10.00, which rise by a quarter; who joined before has the gain, who joins now has not."""
    assets.pools.join("scanners", "j1", B, THOUSAND)
    assets.registry.trade(pool.deed.id, "t1", A, pool.holder, 50, Amount(500_00, CNY))
    assert assets.pools.value(pool).units == 1000_00 + 1
    assets.registry.revalue(pool.deed.id, "r1", "desk", Amount(12_500_00, CNY), A)
    assert assets.pools.value(pool).units == 1125_00 + 1
    assets.pools.join("scanners", "j1", C, THOUSAND)
    early, late = (ledger.balance(pool.owned_by(holder)).units for holder in (B, C))
    assert abs(late * 1125 - early * 1000) <= late * 1125 // 100_000
    before = cash(ledger, C)
    assets.pools.leave("scanners", "l1", C, late)
    assert 1000_00 - 2 <= cash(ledger, C) - before <= 1000_00
    with pytest.raises(OverdrawnError):
        assets.pools.leave("scanners", "l1", B, early)


def test_a_gift_does_not_rob_who_joins_next(assets: Assets, ledger: Ledger, pool: Pool) -> None:
    """The first holds the least there is and gives the pool ten thousand; the next loses no more than a hundredth."""
    assets.pools.join("scanners", "j1", B, Amount(1, CNY))
    gift = Move(f"wallet:{B}:cny", f"wallet:{pool.holder}:cny", Amount(10_000_00, CNY), "gift")
    ledger.post_all("test", "gift-to-the-pool", [gift])
    before = cash(ledger, C)
    assets.pools.join("scanners", "j1", C, THOUSAND)
    assets.pools.leave("scanners", "l1", C, ledger.balance(pool.owned_by(C)).units)
    assert before - cash(ledger, C) <= 10_00


def test_the_year_costs_two_percent_in_twelve_months(
    assets: Assets, ledger: Ledger, pool: Pool, clock: FakeClock
) -> None:
    """A twelfth of 2 % of what it holds, each month once, and none before it is over."""
    assets.pools.join("scanners", "j1", B, Amount(1_199_999_99, CNY))
    with pytest.raises(RefusedError):
        assets.pools.charge("scanners", 1)
    clock.advance(31 * DAY)
    for _ in range(2):
        assets.pools.charge("scanners", 1)
    assert cash(ledger, pool.holder) == 1_200_000_00 - 2_000_00
    for month in (0, 2, -1):
        with pytest.raises(RefusedError):
            assets.pools.charge("scanners", month)
    assert audit.verify(ledger).problem == ""


def test_what_a_pool_refuses(assets: Assets, ledger: Ledger, pool: Pool) -> None:
    """Nothing, more units than one has, another pool, another thing under its name, a style without a price."""
    with pytest.raises(InvalidAmountError):
        assets.pools.join("scanners", "j", B, Amount(0, CNY))
    assets.pools.join("scanners", "j", B, THOUSAND)
    units = ledger.balance(pool.owned_by(B)).units
    with pytest.raises(OverdrawnError):
        assets.pools.leave("scanners", "l", B, units + 1)
    for wrong in (0, -1, 1.5):
        with pytest.raises(InvalidAmountError):
            assets.pools.leave("scanners", "l", B, wrong)  # type: ignore[arg-type]
    with pytest.raises(UnknownError):
        assets.pools.join("other", "j", B, THOUSAND)
    with pytest.raises(UnknownError):
        assets.pools.open("third", pool.deed.id, "lazy", A)
    with pytest.raises(KeyConflictError):
        assets.pools.open("scanners", pool.deed.id, "passive", A)
    with pytest.raises(RefusedError):
        assets.pools.open("A pool", pool.deed.id, "active", A)
    assert assets.pools.open("scanners", pool.deed.id, "active", A) == pool
