"""Sums that the database makes are exact, however long the numbers and however many; and lists are read in pieces."""

from __future__ import annotations

from contextlib import closing

from sqlalchemy import select

from btt_bridge.database import reading
from btt_bridge.ledger import Ledger, Move
from btt_bridge.ledger.schema import account_table, transfer_table
from btt_bridge.ledger.totals import total
from btt_bridge.money import BTT, CNY, Amount
from btt_bridge.testing import FakeClock

AMOUNTS = (10**38 - 1 - 10**30, 7 * 10**29 + 123_456_789_012_345_678, 9_999_999_999, 10**18)


def test_sums_are_exact_on_either_engine(database_url: str) -> None:
    """38 digits, far beyond 64 bits; nothing adds up to 0; and what was, is what is less what came since."""
    with closing(Ledger(database_url, FakeClock())) as ledger:
        for name, asset in (("a:btt", BTT), ("b:btt", BTT), ("c:btt", BTT), ("a:cny", CNY)):
            ledger.open_account(name, asset, credit_limit=None)
        assert ledger.trial_balance() == {BTT: 0, CNY: 0}
        for number, (sides, units) in enumerate(zip(("ab", "ab", "bc", "cb"), AMOUNTS, strict=True)):
            debit, credit = (f"{side}:btt" for side in sides)
            ledger.post_all("test", str(number), [Move(debit, credit, Amount(units, BTT), "test")])
        with reading(ledger.engine) as connection:
            amounts = connection.execute(select(total(transfer_table.c.amount))).scalar_one()
            nothing = connection.execute(select(total(account_table.c.credits_posted)).filter_by(asset="CNY"))
            assert (amounts, nothing.scalar_one()) == (sum(AMOUNTS), 0)
        assert ledger.trial_balance() == {BTT: 0, CNY: 0}
        balances = [AMOUNTS[0], sum(AMOUNTS[:2]), sum(AMOUNTS[:2]) - AMOUNTS[2]]
        for number, balance in enumerate(balances, 1):
            (line,) = ledger.statement("b:btt", 1, number + 1)
            assert (line.transfer.id, line.balance) == (number, balance)
            assert ledger.statement("b:btt", 2, number, back=True)[-1].transfer.id == number + 1


def test_accounts_are_listed_from_any_of_them_either_way(database_url: str) -> None:
    """By the order of their names as the engine has it, without a gap."""
    with closing(Ledger(database_url, FakeClock())) as ledger:
        for name in ("a:cny", "a.b:cny", "a-b:cny", "a_b:cny", "a0:cny", "b:cny"):
            ledger.open_account(name, CNY)
        listed = [one.account for one in ledger.accounts(10)]
        assert listed == [one.account for one in ledger.balances()]
        for number, name in enumerate(listed):
            assert [one.account for one in ledger.accounts(2, name)] == listed[number + 1 : number + 3]
            assert [one.account for one in ledger.accounts(2, name, back=True)] == listed[max(number - 2, 0) : number]
