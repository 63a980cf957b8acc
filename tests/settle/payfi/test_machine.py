"""Payments in every order, with crashes, replays and clock jumps, against an auditor that shares no code."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from sqlalchemy import event

from btt_bridge.errors import KeyConflictError, LedgerError
from btt_bridge.ledger import Ledger, audit
from btt_bridge.money import CNY
from btt_bridge.records import Outcome
from btt_bridge.settle.payfi import Clearing, Quote
from btt_bridge.testing import FakeClock, MemoryRail
from tests.machines import on_postgresql, on_sqlite, play
from tests.peers.postgres import PostgreSQL
from tests.settle.payfi.house import CREDIT, EUR, opaque, opened, payment, said

RATE: Final = Fraction(1, 8)
#: What each payee's fees are, in basis points; berlin is paid in euros and takes analytics and listing.
POINTS: Final = {"insurer": [80], "east": [70], "west": [50], "berlin": [70, 75, 25, 50]}
LIMITS: Final = {"insurer": CREDIT, "east": 5000, "west": 5000}


class CrashError(Exception):
    """The plug was pulled."""


@dataclass
class Bill:
    """One payment as the auditor knows it."""

    payer: str
    payee: str
    gross: int
    state: str = "instructed"
    batch: int = 0

    @property
    def fees(self) -> int:
        return sum(-(-self.gross * points // 10_000) for points in POINTS[self.payee])

    @property
    def asset(self) -> str:
        return "eur" if self.payee == "berlin" else "cny"

    @property
    def net(self) -> int:
        rest = self.gross - self.fees
        return rest * RATE.numerator // RATE.denominator if self.asset == "eur" else rest


@dataclass
class Auditor:
    """Works out every balance from the list of payments alone, each time anew; knows nothing of ledger or clearing."""

    bills: dict[str, Bill] = field(default_factory=dict)
    batches: int = 0

    def legs(self, batch: int) -> dict[tuple[str, str], list[Bill]]:
        found: dict[tuple[str, str], list[Bill]] = {}
        for bill in self.bills.values():
            if bill.batch == batch:
                found.setdefault((bill.payee, bill.asset), []).append(bill)
        return found

    def set_off(self, batch: int, payee: str, asset: str) -> int:
        received = sum(bill.net for bill in self.legs(batch)[payee, asset])
        sent = sum(b.gross for b in self.bills.values() if b.batch == batch and b.payer == payee and asset == "cny")
        return min(received, sent)

    def balances(self) -> dict[str, int]:
        found: dict[str, int] = {}

        def move(account: str, units: int) -> None:
            found[account] = found.get(account, 0) + units

        for bill in self.bills.values():
            if bill.state == "returned":
                continue
            move(f"payfi:party:{bill.payer}:cny", -bill.gross)
            if bill.asset == "eur":
                move("payfi:liquidity:cny", bill.gross - bill.fees)
                move("payfi:liquidity:eur", -bill.net)
            if bill.state != "settled":
                move("payfi:fees:cny", bill.fees)
                move(f"payfi:{'due' if bill.state == 'instructed' else 'transit'}:{bill.asset}", bill.net)
        for batch in range(1, self.batches + 1):
            for (payee, asset), bills in self.legs(batch).items():
                if bills[0].state == "settled":
                    fees, set_off = sum(b.fees for b in bills), self.set_off(batch, payee, asset)
                    # 85 to 15 by largest remainder; nobody's remainder is above the other's unless it is half or more.
                    operator = (fees * 8500 + 5000) // 10_000
                    move("payfi:revenue:cny", operator)
                    move("fund:development:cny", fees - operator)
                    move(f"payfi:party:{payee}:{asset}", set_off)
                    move(f"bank:{asset}", sum(b.net for b in bills) - set_off)
        return {account: units for account, units in found.items() if units}


class Machine(RuleBasedStateMachine):
    """Drives a clearing house; `new_url` is set by the test."""

    new_url: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.folder = FakeClock(), tempfile.TemporaryDirectory()
        self.clearing: Clearing = opened(Ledger(type(self).new_url(), self.clock), Path(self.folder.name))
        self.auditor, self.rail, self.documents = Auditor(), MemoryRail(), 0
        #: Statements until the plug is pulled; negative is never.
        self.fuse = -1
        for moment in ("before_cursor_execute", "commit"):
            event.listen(self.clearing.ledger.engine, moment, self._burn)

    def _burn(self, *_: Any) -> None:
        self.fuse -= 1
        if self.fuse == 0:
            raise CrashError

    def _surely(self, fuse: int, act: Callable[[], Any]) -> Any:
        """Do something while the plug is pulled before some statement, and then once more with the power on."""
        self.fuse = fuse
        with suppress(CrashError, LedgerError):
            act()
        self.fuse = -1
        return act()

    # --- what can happen ---

    @rule(
        payer=st.sampled_from(sorted(LIMITS)),
        payee=st.sampled_from(["east", "west", "berlin"]),
        units=st.integers(20, 3000),
        fuse=st.one_of(st.just(-1), st.integers(1, 25)),
    )
    def instruct(self, payer: str, payee: str, units: int, fuse: int) -> None:
        if payer == payee:
            return
        self.documents += 1
        name, bill = f"d{self.documents}", Bill(payer, payee, units)
        covered = self.auditor.balances().get(f"payfi:party:{payer}:cny", 0) - units >= -LIMITS[payer]
        quote = self._quote() if payee == "berlin" else None
        instruction = payment(name, units, f"party:{payer}", f"party:{payee}")
        try:
            made = self._surely(fuse, lambda: self.clearing.instruct(instruction, quote))
        except LedgerError:
            assert not covered
        else:
            assert covered
            assert (made.gross.units, made.fees.units, made.net.units) == (units, bill.fees, bill.net)
            self.auditor.bills[name] = bill

    @precondition(lambda self: self.auditor.bills)
    @rule(data=st.data(), more=st.integers(0, 1))
    def replay(self, data: st.DataObject, more: int) -> None:
        """The same document again: the same answer; asking for a unit more: refused."""
        name = data.draw(st.sampled_from(sorted(self.auditor.bills)))
        bill = self.auditor.bills[name]
        instruction = payment(name, bill.gross + more, f"party:{bill.payer}", f"party:{bill.payee}")
        if more:
            with pytest.raises(KeyConflictError):
                self.clearing.instruct(instruction, self._quote())
        else:
            assert self.clearing.instruct(instruction).net.units == bill.net

    @rule(fuse=st.one_of(st.just(-1), st.integers(1, 30)))
    def close(self, fuse: int) -> None:
        self._surely(fuse, lambda: self.clearing.close(early=True))
        waiting = [bill for bill in self.auditor.bills.values() if bill.state == "instructed"]
        if waiting:
            self.auditor.batches += 1
        for bill in waiting:
            bill.state, bill.batch = "netted", self.auditor.batches

    @rule(fuse=st.one_of(st.just(-1), st.integers(1, 60)))
    def submit(self, fuse: int) -> None:
        """What is handed over is what the auditor would pay; what is set off in full is settled by it.

        A bank that speaks of a batch before it was handed over is believed, and what is settled is not handed over.
        """
        self._surely(fuse, lambda: self.clearing.submit(self.rail))
        for batch in range(1, self.auditor.batches + 1):
            for (payee, asset), bills in self.auditor.legs(batch).items():
                payout = sum(bill.net for bill in bills) - self.auditor.set_off(batch, payee, asset)
                if bills[0].state != "netted":
                    continue
                if payout == 0:
                    self._mark(bills, "settled")
                else:
                    orders = [o for o in self.rail.messages[f"btt-{batch}"] if o.amount.asset.code.lower() == asset]
                    assert payout in [order.amount.units for order in orders]

    @precondition(lambda self: self.auditor.batches)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), fuse=st.one_of(st.just(-1), st.integers(1, 40)))
    def confirm(self, data: st.DataObject, outcome: Outcome, fuse: int) -> None:
        """Booked or returned, in any order and any number of times."""
        batch = data.draw(st.integers(1, self.auditor.batches))
        leg = data.draw(st.sampled_from(self.clearing.batch(batch).legs))
        if leg.payout.units == 0:
            return
        payee, asset = leg.payee.partition(":")[2], leg.received.asset.code.lower()
        bills = self.auditor.legs(batch)[payee, asset]
        assert leg.payout.units == sum(bill.net for bill in bills) - self.auditor.set_off(batch, payee, asset)
        before = bills[0].state
        after = "settled" if before == "netted" and outcome is Outcome.BOOKED else before
        if outcome is Outcome.RETURNED:
            after = "returned"
        self._mark(bills, after)
        covered = all(
            self.auditor.balances().get(f"payfi:party:{name}:cny", 0) >= -limit for name, limit in LIMITS.items()
        )
        try:
            standing = self._surely(fuse, lambda: self.clearing.confirm(said(leg, outcome, "AC04")))
        except LedgerError:
            # The payee has spent what was set off: the return waits, and nothing has moved.
            assert not covered
            self._mark(bills, before)
        else:
            assert covered
            assert standing.state.value == after

    @rule(seconds=st.integers(-600, 7200))
    def jump(self, seconds: int) -> None:
        """The clock runs, or is set back."""
        self.clock.advance(seconds)

    # --- what must hold ---

    @invariant()
    def balances_are_the_auditors(self) -> None:
        standing = {b.account: b.units for b in self.clearing.ledger.balances() if b.units}
        assert standing == self.auditor.balances()
        assert set(self.clearing.ledger.trial_balance().values()) <= {0}

    def teardown(self) -> None:
        for name, bill in self.auditor.bills.items():
            assert self.clearing.standing(opaque(name)).state.value == bill.state
        open_batches = {bill.batch for bill in self.auditor.bills.values() if bill.state == "netted"}
        assert [batch.number for batch in self.clearing.unpaid()] == sorted(open_batches)
        assert audit.verify(self.clearing.ledger).problem == ""
        self.clearing.ledger.close()
        self.folder.cleanup()

    def _quote(self) -> Quote:
        now = self.clearing.ledger.now()
        return Quote(CNY, EUR, RATE, ("a", "b"), now, now.replace(year=now.year + 1))

    @staticmethod
    def _mark(bills: list[Bill], state: str) -> None:
        for bill in bills:
            bill.state = state


def test_no_order_of_events_loses_a_unit_on_sqlite() -> None:
    """Every balance is the auditor's after every step: each payment once, each payout once, every return whole."""
    with on_sqlite() as new_url:
        play(Machine, examples=30, new_url=new_url)


@pytest.mark.peer("postgres")
def test_no_order_of_events_loses_a_unit_on_postgresql(postgresql_server: PostgreSQL) -> None:
    """The same on PostgreSQL."""
    with on_postgresql(postgresql_server) as new_url:
        play(Machine, examples=12, new_url=new_url)
