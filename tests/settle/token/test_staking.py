"""Staking: locks that hold, benefits that need age, and each stake once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from btt_bridge.errors import InvalidAmountError, KeyConflictError, OverdrawnError, RefusedError, UnknownError
from btt_bridge.ledger import Ledger
from btt_bridge.money import BTT, CNY, Amount
from btt_bridge.settle.token import Stake, Token, discounted, terms
from btt_bridge.testing import FakeClock

E18: Final = 10**18
DAY: Final = 86400
HOLDER: Final = "investor:bithive"
(SHIPPED,) = terms.load(Path(__file__).parents[3] / "mappings" / "token" / "terms")
NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def token(token: Token) -> Token:
    """With the first year released, so that there is something to stake."""
    token.supply.release()
    return token


def stake(units: int, lock: str, days: int, ended_days_ago: int | None = None) -> Stake:
    """A stake that was made so many days before NOW."""
    ended = None if ended_days_ago is None else NOW - timedelta(days=ended_days_ago)
    return Stake("node:n", 1, "r", units, SHIPPED.staking.lock(lock), NOW - timedelta(days=days), ended)


def test_a_stake_leaves_the_wallet_and_comes_back_when_its_lock_is_over(
    token: Token, ledger: Ledger, clock: FakeClock
) -> None:
    """Not a second before; then once, however often it is asked."""
    before = ledger.balance(f"wallet:{HOLDER}:btt").units
    made = token.stakes.stake(HOLDER, "s1", 1000 * E18, "quarter")
    assert ledger.balance(f"staked:{HOLDER}:btt").units == 1000 * E18
    clock.advance(90 * DAY - 1)
    with pytest.raises(RefusedError, match="locked"):
        token.stakes.end(HOLDER, made.number)
    clock.advance(1)
    assert token.stakes.end(HOLDER, made.number) == token.stakes.end(HOLDER, made.number)
    assert ledger.balance(f"wallet:{HOLDER}:btt").units == before
    assert token.stakes.of(HOLDER)[0].ended_at == clock.now()


def test_a_reference_is_one_stake(token: Token, ledger: Ledger) -> None:
    """A caller that comes back gets the stake it made; the same reference for another is refused."""
    made = token.stakes.stake(HOLDER, "s1", E18, "none")
    assert token.stakes.stake(HOLDER, "s1", E18, "none") == made
    for units, lock in ((2 * E18, "none"), (E18, "year")):
        with pytest.raises(KeyConflictError):
            token.stakes.stake(HOLDER, "s1", units, lock)
    assert token.stakes.stake(HOLDER, "s2", E18, "none").number == 2
    assert ledger.balance(f"staked:{HOLDER}:btt").units == 2 * E18


def test_many_at_once_make_each_stake_once(token: Token, ledger: Ledger) -> None:
    """Eight callers with four references between them make four stakes."""
    with ThreadPoolExecutor(8) as callers:
        made = list(callers.map(lambda n: token.stakes.stake(HOLDER, f"s{n % 4}", E18, "none"), range(8)))
    assert sorted({one.number for one in made}) == [1, 2, 3, 4]
    assert ledger.balance(f"staked:{HOLDER}:btt").units == 4 * E18


def test_what_cannot_be_staked(token: Token) -> None:
    """More than there is, nothing, a float, an unknown lock, a wrong reference; and no end of what is not there."""
    with pytest.raises(OverdrawnError):
        token.stakes.stake(HOLDER, "s1", 10**25, "none")
    for units in (0, -1, 1.5, True):
        with pytest.raises(InvalidAmountError):
            token.stakes.stake(HOLDER, "s1", units, "none")  # type: ignore[arg-type]
    with pytest.raises(UnknownError):
        token.stakes.stake(HOLDER, "s1", 1, "forever")
    with pytest.raises(RefusedError):
        token.stakes.stake(HOLDER, "s 1", 1, "none")
    with pytest.raises(UnknownError):
        token.stakes.end(HOLDER, 1)


def test_open_stakes_are_limited(token: Token) -> None:
    """One holder cannot make everybody's roll long; what is over does not count."""
    for number in range(SHIPPED.staking.open_max):
        token.stakes.stake(HOLDER, f"s{number}", 1, "none")
    with pytest.raises(RefusedError, match="at most 64"):
        token.stakes.stake(HOLDER, "more", 1, "none")
    token.stakes.end(HOLDER, 1)
    assert token.stakes.stake(HOLDER, "more", 1, "none").number == 65


def test_benefits_follow_from_the_book(token: Token, clock: FakeClock) -> None:
    """1,000 under a year's lock weigh 2,000: tier two, from the seventh day; and 1,000 when the year is over."""
    token.stakes.stake(HOLDER, "s1", 1000 * E18, "year")
    clock.advance(7 * DAY - 1)
    assert (token.stakes.priority(HOLDER), token.stakes.discount_percent(HOLDER)) == (0, 0)
    clock.advance(1)
    assert (token.stakes.priority(HOLDER), token.stakes.discount_percent(HOLDER)) == (2, 5)
    assert (token.stakes.priority("node:none"), token.stakes.discount_percent("node:none")) == (0, 0)


@pytest.mark.parametrize(
    ("stakes", "priority", "discount"),
    [
        ([], 0, 0),
        ([stake(100 * E18 - 1, "none", 7)], 0, 0),
        ([stake(100 * E18, "none", 7)], 1, 2),
        ([stake(10**26, "two-years", 6)], 0, 0),
        ([stake(10**26, "two-years", 700, ended_days_ago=1)], 0, 0),
        ([stake(400 * E18, "year", 100), stake(200 * E18, "none", 8)], 2, 5),
        ([stake(9999 * E18, "year", 365)], 2, 5),
        ([stake(9999 * E18, "year", 364)], 3, 10),
        ([stake(10**26, "none", 8)], 4, 15),
    ],
)
def test_tiers_count_what_has_stood_long_enough(stakes: list[Stake], priority: int, discount: int) -> None:
    """Age before weight: no flash stake, nothing that is over, and a lock's multiplier only while it lasts."""
    assert terms.priority(SHIPPED.staking, stakes, NOW) == priority
    assert terms.discount_percent(SHIPPED.staking, stakes, NOW) == discount


@pytest.mark.parametrize(
    ("fee", "percent", "left"),
    [(100, 15, 85), (1, 15, 1), (7, 15, 6), (0, 15, 0), (33, 0, 33), (10**30, 5, 95 * 10**28)],
)
def test_a_discount_is_rounded_down(fee: int, percent: int, left: int) -> None:
    """What does not divide is paid, and an amount keeps its asset."""
    assert discounted(Amount(fee, CNY), percent) == Amount(left, CNY)
    assert discounted(Amount(fee, BTT), percent).asset == BTT


@pytest.mark.parametrize(
    ("made", "weight"),
    [
        (stake(10, "none", 0), 0),
        (stake(10, "none", 6), 0),
        (stake(10, "none", 7), 70),
        (stake(10, "none", 366), 3650),
        (stake(10, "year", 100), 2000),
        (stake(10, "year", 365), 3650),
        (stake(10, "two-years", 100, ended_days_ago=0), 3000),
        (stake(10, "two-years", 100, ended_days_ago=1), 0),
        (stake(10**25, "two-years", -1), 0),
    ],
)
def test_a_vote_weighs_stake_by_age_by_lock(made: Stake, weight: int) -> None:
    """Units x whole days, at most 365 of them, x the multiplier of a lock that still holds; a later stake nothing."""
    assert terms.votes(SHIPPED.governance, [made], NOW) == weight
