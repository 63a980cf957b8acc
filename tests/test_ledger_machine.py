"""Every operation in every order, with crashes, retries and clock jumps, against an auditor that shares no code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from sqlalchemy import event

from btt_bridge.errors import LedgerError
from btt_bridge.ledger import Event, Expire, Hold, Instruction, Ledger, Move, Post, Posting, Void, audit
from btt_bridge.money import BTT, CNY, Amount, Asset
from btt_bridge.testing import FakeClock
from tests.machines import on_postgresql, on_sqlite, play
from tests.peers.postgres import PostgreSQL

#: Name, asset, and how far it may owe; None is without limit.
ACCOUNTS: list[tuple[str, Asset, int | None]] = [
    ("world:cny", CNY, None),
    ("credit:cny", CNY, 500),
    ("a:cny", CNY, 0),
    ("b:cny", CNY, 0),
    ("world:btt", BTT, None),
    ("a:btt", BTT, 0),
]
NAMES = [name for name, _, _ in ACCOUNTS]
AMOUNTS = st.one_of(st.integers(1, 300), st.sampled_from([10**18, 10**30]))
NAME = st.sampled_from(NAMES)


class CrashError(Exception):
    """The plug was pulled."""


@dataclass
class Auditor:
    """The rules of the book in the plainest Python; knows nothing of the ledger's code."""

    assets: dict[str, str]
    limits: dict[str, int | None]
    balance: dict[str, int] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    #: Open holds: debit, credit, units, end.
    holds: dict[int, tuple[str, str, int, datetime]] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    now: datetime | None = None

    def copy(self) -> Auditor:
        return Auditor(
            self.assets, self.limits, {**self.balance}, {**self.pending}, {**self.holds}, {**self.events}, self.now
        )

    def spend(self, debit: str, credit: str, units: int) -> bool:
        self.balance[debit] = self.balance.get(debit, 0) - units
        self.balance[credit] = self.balance.get(credit, 0) + units
        return self.bears(debit)

    def bears(self, name: str) -> bool:
        limit = self.limits[name]
        return limit is None or self.balance.get(name, 0) + limit - self.pending.get(name, 0) >= 0

    def step(self, step: Any, number: int, at: datetime) -> bool:
        """Apply one step, or say that it is forbidden."""
        if isinstance(step, Move | Hold):
            asset = step.amount.asset.code
            if self.assets[step.debit] != asset or self.assets[step.credit] != asset:
                return False
            if isinstance(step, Move):
                return self.spend(step.debit, step.credit, step.amount.units)
            self.holds[number] = (step.debit, step.credit, step.amount.units, step.expires_at)
            self.pending[step.debit] = self.pending.get(step.debit, 0) + step.amount.units
            return self.bears(step.debit)
        if step.hold not in self.holds:
            return False
        debit, credit, units, end = self.holds.pop(step.hold)
        self.pending[debit] -= units
        if isinstance(step, Expire):
            return at >= end
        if isinstance(step, Void):
            return True
        taken = step.amount.units if step.amount else units
        asset = step.amount.asset.code if step.amount else self.assets[debit]
        return at < end and taken <= units and asset == self.assets[debit] and self.spend(debit, credit, taken)


class Machine(RuleBasedStateMachine):
    """Drives the ledger; `url` is set by the test."""

    new_url: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.ledger = Ledger(type(self).new_url(), self.clock)
        self.auditor = Auditor({n: a.code for n, a, _ in ACCOUNTS}, {n: limit for n, _, limit in ACCOUNTS})
        self.known: dict[str, tuple[Instruction, Posting]] = {}
        self.transfers = self.keys = 0
        #: Statements until the plug is pulled; negative is never.
        self.fuse = -1
        for moment in ("before_cursor_execute", "commit"):
            event.listen(self.ledger.engine, moment, self._burn)

    def _burn(self, *_: Any) -> None:
        self.fuse -= 1
        if self.fuse == 0:
            raise CrashError

    @initialize()
    def open(self) -> None:
        for name, asset, limit in ACCOUNTS:
            self.ledger.open_account(name, asset, credit_limit=limit)
        for asset in (CNY, BTT):
            code = asset.code.lower()
            steps = (Move(f"world:{code}", f"a:{code}", Amount(1000, asset), "fund"),)
            self._post(Instruction("machine", f"fund-{code}", steps))

    # --- what can happen ---

    @rule(debit=NAME, credit=NAME, units=AMOUNTS, asset=st.sampled_from([CNY, BTT]), tell=st.booleans())
    def move(self, debit: str, credit: str, units: int, asset: Asset, tell: bool) -> None:
        if debit != credit:
            self._post(self._instruction(Move(debit, credit, Amount(units, asset), "move"), tell=tell))

    @rule(steps=st.lists(st.tuples(NAME, NAME, st.integers(1, 200)), min_size=2, max_size=4))
    def linked(self, steps: list[tuple[str, str, int]]) -> None:
        moves = [Move(debit, credit, Amount(units, CNY), "link") for debit, credit, units in steps if debit != credit]
        if moves:
            self._post(self._instruction(*moves))

    @rule(debit=NAME, credit=NAME, units=AMOUNTS, minutes=st.integers(1, 90), tell=st.booleans())
    def hold(self, debit: str, credit: str, units: int, minutes: int, tell: bool) -> None:
        if debit != credit:
            asset = CNY if debit.endswith("cny") else BTT
            end = self.clock.now() + timedelta(minutes=minutes)
            self._post(self._instruction(Hold(debit, credit, Amount(units, asset), "hold", end), tell=tell))

    @precondition(lambda self: self.transfers > 2)
    @rule(data=st.data(), kind=st.sampled_from([Post, Void, Expire]), spread=st.integers(-2, 2))
    def resolve(self, data: st.DataObject, kind: Any, spread: int) -> None:
        """Resolve an open hold mostly, sometimes any transfer at all; take all, part, or a little too much."""
        holds = sorted(self.auditor.holds) or [1]
        number = data.draw(st.one_of(st.sampled_from(holds), st.integers(1, self.transfers + 2)))
        step = kind(number, "resolve")
        if kind is Post and spread and number in self.auditor.holds:
            debit, _, units, _ = self.auditor.holds[number]
            asset = CNY if self.auditor.assets[debit] == "CNY" else BTT
            step = Post(number, "resolve", Amount(max(1, units + spread), asset))
        self._post(self._instruction(step))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """The same instruction again, however much later: the same answer, and nothing moves."""
        instruction, posting = self.known[data.draw(st.sampled_from(sorted(self.known)))]
        assert self.ledger.post(instruction) == posting

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def conflict(self, data: st.DataObject) -> None:
        """The same key for something else: refused."""
        key = data.draw(st.sampled_from(sorted(self.known)))
        other = Instruction("machine", key, (Move("world:cny", "b:cny", Amount(7, CNY), "other"),))
        assert type(self.ledger.post_many([other])[0]).__name__ == "KeyConflictError"

    @rule(moves=st.lists(st.tuples(NAME, NAME, st.integers(1, 400)), min_size=1, max_size=5))
    def batch(self, moves: list[tuple[str, str, int]]) -> None:
        """Several instructions in one commit: each is judged by what those before it left."""
        instructions = [
            self._instruction(Move(debit, credit, Amount(units, CNY), "batch"))
            for debit, credit, units in moves
            if debit != credit
        ]
        expected = [self._expect(instruction) for instruction in instructions]
        answers = self.ledger.post_many(instructions)
        for instruction, answer, fine in zip(instructions, answers, expected, strict=True):
            self._learn(instruction, answer, fine)

    @rule(minutes=st.integers(-30, 120))
    def jump(self, minutes: int) -> None:
        """The clock runs, or is set back."""
        self.clock.advance(minutes * 60)

    @rule(debit=NAME, credit=NAME, units=st.integers(1, 300), fuse=st.integers(1, 14), tell=st.booleans())
    def crash(self, debit: str, credit: str, units: int, fuse: int, tell: bool) -> None:
        """The plug is pulled before some statement or the commit; then the caller comes back with the same key."""
        if debit == credit:
            return
        instruction = self._instruction(Move(debit, credit, Amount(units, CNY), "crash"), tell=tell)
        self.fuse = fuse
        with suppress(CrashError, LedgerError):
            self.ledger.post(instruction)
        self.fuse = -1
        self._post(instruction)

    # --- what must hold ---

    @invariant()
    def balances_are_the_auditors(self) -> None:
        for name in NAMES if self.transfers else ():
            balance = self.ledger.balance(name)
            assert balance.units == self.auditor.balance.get(name, 0)
            assert balance.debits_pending == self.auditor.pending.get(name, 0)

    def teardown(self) -> None:
        found = audit.verify(self.ledger)
        assert found.problem == ""
        assert found.transfers == self.transfers
        assert set(found.trial_balance.values()) <= {0}
        notices = self.ledger.notices(0, 10_000)
        assert {n.account: n.sequence for n in notices} == self.auditor.events
        assert len(notices) == sum(self.auditor.events.values())
        self.ledger.close()

    # --- how it is compared ---

    def _instruction(self, *steps: Any, tell: bool = False) -> Instruction:
        self.keys += 1
        told = Event("btt.test.v1", "a:cny", {"n": self.keys}) if tell else None
        return Instruction("machine", f"k{self.keys:05d}", steps, told)

    def _expect(self, instruction: Instruction) -> bool:
        """Say whether the auditor lets it pass; keep what follows from it."""
        trial = self.auditor.copy()
        at = max(self.clock.now(), trial.now or self.clock.now())
        number = self.transfers
        for step in instruction.steps:
            number += 1
            if not trial.step(step, number, at):
                return False
        trial.now, self.transfers = at, number
        if instruction.event:
            trial.events[instruction.event.account] = trial.events.get(instruction.event.account, 0) + 1
        self.auditor = trial
        return True

    def _post(self, instruction: Instruction) -> None:
        fine = self._expect(instruction)
        self._learn(instruction, self.ledger.post_many([instruction])[0], fine)

    def _learn(self, instruction: Instruction, answer: Posting | LedgerError, fine: bool) -> None:
        assert isinstance(answer, Posting) == fine, answer
        if isinstance(answer, Posting):
            self.known[instruction.key] = (instruction, answer)


def test_no_order_of_events_breaks_the_book_on_sqlite() -> None:
    """Conservation, no overdraft, each key once, each hold once, whatever happens and whenever the plug is pulled."""
    with on_sqlite() as new_url:
        play(Machine, examples=25, steps=30, new_url=new_url)


@pytest.mark.peer("postgres")
def test_no_order_of_events_breaks_the_book_on_postgresql(postgresql_server: PostgreSQL) -> None:
    """The same on PostgreSQL."""
    with on_postgresql(postgresql_server) as new_url:
        play(Machine, examples=8, steps=30, new_url=new_url)
