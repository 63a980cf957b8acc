"""The supply: made once, shut where only a vote may spend, released by the month, mined by work, burned for ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
import yaml
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from btt_bridge.errors import (
    ConfigurationError,
    InvalidAmountError,
    KeyConflictError,
    OverdrawnError,
    RefusedError,
    UnknownError,
)
from btt_bridge.ledger import Ledger, Move, audit
from btt_bridge.money import BTT, Amount
from btt_bridge.settle.billing import Cause
from btt_bridge.settle.token import Token, open_token
from btt_bridge.testing import FakeClock

MAPPINGS: Final = Path(__file__).parents[3] / "mappings"
E18: Final = 10**18
SUPPLY: Final = 21_000_000 * E18


def units(ledger: Ledger, account: str) -> int:
    return ledger.balance(account).units


def assert_sound(token: Token) -> None:
    """Whatever happened, there are 21 million, and the book holds."""
    figures = token.supply.figures()
    assert figures.minted == SUPPLY
    assert min(figures.burned, figures.allocated, figures.staked, figures.circulating) >= 0
    assert units(token.supply.ledger, "token:genesis:btt") == -SUPPLY
    assert audit.verify(token.supply.ledger).problem == ""
    assert set(token.supply.ledger.trial_balance().values()) == {0}


def test_the_supply_is_made_once(token: Token, ledger: Ledger) -> None:
    """Opened again, by this or another process, nothing more is made, and the database itself refuses one unit more."""
    assert token.supply.figures().allocated == SUPPLY
    again = open_token(MAPPINGS, ledger)
    assert again.supply.mint() == token.supply.mint()
    with pytest.raises(OverdrawnError):
        ledger.post_all("thief", "more", [Move("token:genesis:btt", "token:deposits:btt", Amount(1, BTT), "mint")])
    assert_sound(token)


def test_another_table_cannot_take_the_place_of_the_one_it_was_made_by(
    token: Token, ledger: Ledger, tmp_path: Path
) -> None:
    """A table with twice the supply, or with another split, is refused before it changes anything."""
    for spoil in ({"supply": 42_000_000}, {"allocations": [{**_first(), "basis_points": 10_000}]}):
        body = yaml.safe_load((MAPPINGS / "token" / "allocation" / "btt-2025.yaml").read_text())
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        (folder / "token" / "allocation").mkdir(parents=True)
        (folder / "token" / "terms").symlink_to(MAPPINGS / "token" / "terms")
        (folder / "token" / "allocation" / "a.yaml").write_text(
            yaml.safe_dump({**body, "effective_from": "2025-01-01", **spoil})
        )
        with pytest.raises(ConfigurationError, match="another allocation table"):
            open_token(folder, ledger)
        assert ledger.balance("token:genesis:btt").credit_limit == SUPPLY
    assert_sound(token)


def _first() -> dict[str, object]:
    body = yaml.safe_load((MAPPINGS / "token" / "allocation" / "btt-2025.yaml").read_text())
    return dict(body["allocations"][0])


@pytest.mark.parametrize(
    "account",
    [
        "allocation:unallocated:btt",
        "allocation:ecosystem-development-fund:btt",
        "allocation:technical-development-foundation:image-analysis:btt",
    ],
)
def test_what_only_a_vote_may_spend_cannot_be_spent(token: Token, ledger: Ledger, account: str) -> None:
    """Neither all of it nor one unit, neither through the ledger nor past it, in SQL."""
    held = ledger.balance(account)
    assert held.units > 0
    assert held.available == 0
    for spent in (1, held.units):
        with pytest.raises(OverdrawnError):
            ledger.post_all("thief", f"k{spent}", [Move(account, "token:deposits:btt", Amount(spent, BTT), "theft")])
    with pytest.raises(DBAPIError), ledger.engine.begin() as connection:
        connection.execute(text("UPDATE account SET debits_pending = credits_pending WHERE name = :n"), {"n": account})
    assert ledger.balance(account) == held


def test_each_month_is_released_once_and_jumps_release_all_they_pass(
    token: Token, ledger: Ledger, clock: FakeClock
) -> None:
    """After 12 months 6 of 36 and 9 of 30 parts are out; asked again nothing; at the end everything, to the unit."""
    token.supply.release()
    assert units(ledger, "wallet:investor:bithive:btt") == 2_100_000 * E18 * 6 // 36
    assert units(ledger, "wallet:investor:m-dao:btt") == 420_000 * E18 * 9 // 30
    assert units(ledger, "purse:community-incentives:btt") == 2_520_000 * E18 * 12 // 100
    assert token.supply.release() == []
    clock.instant = datetime(2026, 1, 31, tzinfo=UTC)
    assert token.supply.release() == []
    clock.instant = datetime(2026, 2, 1, tzinfo=UTC)
    assert len(token.supply.release()) == 7
    clock.instant = datetime(2060, 1, 1, tzinfo=UTC)
    token.supply.release()
    for name in ("bithive", "m-dao", "web3-ventures", "institutional-investors"):
        assert units(ledger, f"allocation:{name}:btt") == 0
    assert units(ledger, "wallet:investor:bithive:btt") == 2_100_000 * E18
    assert units(ledger, "purse:community-incentives:btt") == 2_520_000 * E18
    assert_sound(token)


def test_a_clock_set_back_releases_nothing_and_takes_nothing_back(
    token: Token, ledger: Ledger, clock: FakeClock
) -> None:
    """The book does not go back in time with it."""
    token.supply.release()
    before = token.supply.figures()
    clock.instant = datetime(2025, 3, 1, tzinfo=UTC)
    assert token.supply.release() == []
    assert token.supply.figures() == before


def test_a_release_by_many_at_once_happens_once(token: Token, ledger: Ledger) -> None:
    """Four workers that all see the month end release it once."""
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda _: token.supply.release(), range(4)))
    assert units(ledger, "wallet:investor:bithive:btt") == 2_100_000 * E18 * 6 // 36
    assert_sound(token)


def test_mining_pays_each_month_once_in_proportion_to_work(token: Token, ledger: Ledger) -> None:
    """The first month of the first year's 22 percent, shared 1:1:1:1:1:1 and to the last unit; again, nothing."""
    emission = 6_300_000 * E18 * 22 // 100 // 12
    work = {f"n{number}": 7 for number in range(6)}
    paid = token.supply.mine(1, work)
    assert sum(posting.transfers[0].amount.units for posting in paid) == emission
    assert units(ledger, "wallet:node:n0:btt") in (emission // 6, emission // 6 + 1)
    assert token.supply.mine(1, work) == paid
    with pytest.raises(KeyConflictError):
        token.supply.mine(1, {**work, "n6": 1_000_000})
    assert units(ledger, "allocation:mining-reward-pool:btt") == 6_300_000 * E18 - emission
    assert_sound(token)


def test_a_node_that_works_alone_gets_no_more_than_the_cap(token: Token, ledger: Ledger) -> None:
    """A fifth of the month's emission; the rest stays in the pool and is not the next month's."""
    emission = 6_300_000 * E18 * 22 // 100 // 12
    for month in (1, 2):
        token.supply.mine(month, {"alone": 1})
        assert units(ledger, "wallet:node:alone:btt") == month * (emission // 5)
    assert token.supply.mine(3, {}) == token.supply.mine(3, {"idle": 0}) == []


@pytest.mark.parametrize("month", [-1, 0, 13, 97, 10**6])
def test_a_month_that_is_not_over_is_not_mined(token: Token, month: int) -> None:
    """Neither the current month, nor one before the first or after the last."""
    with pytest.raises(RefusedError):
        token.supply.mine(month, {"n1": 1})
    assert_sound(token)


def test_a_burn_is_for_ever(token: Token, ledger: Ledger) -> None:
    """Burned tokens cannot be spent, a burn happens once, and nobody burns what it has not."""
    token.supply.release()
    for _ in range(2):
        token.supply.burn("investor:bithive", "b1", Amount(10 * E18, BTT))
    assert token.supply.figures().burned == 10 * E18
    assert ledger.balance("token:burned:btt").available == 0
    with pytest.raises(OverdrawnError):
        ledger.post_all("thief", "k", [Move("token:burned:btt", "token:deposits:btt", Amount(1, BTT), "theft")])
    with pytest.raises(OverdrawnError):
        token.supply.burn("investor:bithive", "b2", Amount(2_100_000 * E18, BTT))
    with pytest.raises(KeyConflictError):
        token.supply.burn("investor:bithive", "b1", Amount(11 * E18, BTT))
    with pytest.raises(InvalidAmountError):
        token.supply.burn("investor:bithive", "b3", Amount(0, BTT))
    assert_sound(token)


def test_a_payout_is_taken_back_once(token: Token, ledger: Ledger) -> None:
    """A cheat's reward goes back, once for whatever cause, and is not paid again; what was spent cannot be taken."""
    work = {"cheat": 1, "honest": 1}
    token.supply.mine(1, work)
    honest = units(ledger, "wallet:node:honest:btt")
    first = token.supply.reverse("mining:1:cheat", Cause.DISPUTED)
    assert token.supply.reverse("mining:1:cheat", Cause.WITHDRAWN) == first
    token.supply.mine(1, work)
    assert units(ledger, "wallet:node:cheat:btt") == 0
    token.supply.burn("node:honest", "all", Amount(honest, BTT))
    with pytest.raises(OverdrawnError):
        token.supply.reverse("mining:1:honest", Cause.DISPUTED)
    assert_sound(token)


@pytest.mark.parametrize("key", ["genesis", "mining:1:a", "mining:1:a:reverse", "stake:investor:bithive:1", ""])
def test_only_payouts_are_taken_back(token: Token, key: str) -> None:
    """No reversal unmakes the supply, undoes another reversal or opens a lock."""
    token.supply.release()
    token.stakes.stake("investor:bithive", "s1", E18, "year")
    with pytest.raises(UnknownError):
        token.supply.reverse(key, Cause.DISPUTED)
    assert_sound(token)


@pytest.mark.parametrize("holder", ["bithive", "a:b:c", "Node:x", "node:", "node:" + "x" * 65, "a b:c", ""])
def test_what_is_no_holder_is_refused(token: Token, holder: str) -> None:
    """A name that could reach another kind of account does not name a wallet."""
    with pytest.raises(RefusedError, match="a holder"):
        token.supply.burn(holder, "b", Amount(1, BTT))
