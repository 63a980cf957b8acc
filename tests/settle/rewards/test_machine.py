"""Acts, retractions, orders, returns and years in any order, against an auditor that counts in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from btt_bridge.errors import KeyConflictError, OverdrawnError, RefusedError, UnknownAccountError, UnknownError
from btt_bridge.isolate import Isolation
from btt_bridge.ledger import Ledger, audit
from btt_bridge.settle.rewards import Answer
from btt_bridge.testing import FakeClock
from tests.machines import on_postgresql, on_sqlite, play
from tests.peers.postgres import PostgreSQL
from tests.settle.rewards.conftest import key_of, opened, sample

PATIENTS = ("Patient/a", "Patient/b")
FEES = {"pharmacy": (10, 300), "fitness": (8, 500)}


class Straight:
    """Judges in this process: what is proved here is the money."""

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)


class Machine(RuleBasedStateMachine):
    """Two patients of one clinic."""

    new_url: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.ledger = Ledger(type(self).new_url(), self.clock)
        self.incentives = opened(self.ledger, cast(Isolation, Straight()))
        self.consents = [sample("consent", id=patient[-1], patient=patient) for patient in PATIENTS]
        #: By fact: its newest version, whether it was done, and of whom; by order: what was agreed.
        self.newest: dict[int, tuple[int, bool, str]] = {}
        self.orders: dict[str, tuple[str, str, int]] = {}
        self.returned: set[str] = set()
        self.issued = 0

    # --- what may happen ------------------------------------------------------------------------------------

    @rule(
        fact=st.integers(0, 2),
        version=st.integers(1, 9),
        done=st.sampled_from([True, True, False]),
        patient=st.sampled_from(PATIENTS),
    )
    def act(self, fact: int, version: int, done: bool, patient: str) -> None:
        """A version of a visit arrives: new, old, known, or known with another content."""
        day = (self.clock.now().date() - timedelta(days=fact * 31)).isoformat()
        body = sample(
            "checkup",
            id=f"visit-{fact}",
            version=version,
            status="fulfilled" if done else "cancelled",
            patient=patient,
            start=day,
        )
        try:
            decisions = self.incentives.rewards.consider(body, self.consents)
        except KeyConflictError:
            return
        if fact not in self.newest or version > self.newest[fact][0]:
            self.newest[fact] = version, done, patient
        for decision in decisions:
            sign = {Answer.GRANTED: 1, Answer.REVERSED: -1}.get(decision.answer, 0)
            self.issued += sign * decision.points

    @rule(
        patient=st.sampled_from(PATIENTS),
        partner=st.sampled_from(sorted(FEES)),
        number=st.integers(0, 2),
        points=st.sampled_from([50, 100]),
    )
    def spend(self, patient: str, partner: str, number: int, points: int) -> None:
        """An order, new or again, of a patient who may have enough or not."""
        order, key = f"{partner}-{number}", key_of(patient)
        before = self._points(patient)
        try:
            self.incentives.redemptions.redeem(key, partner, order, points)
        except (KeyConflictError, OverdrawnError, RefusedError, UnknownError):
            # What had expired was taken on the way.
            self.issued -= before - self._points(patient)
            return
        spent = 0 if order in self.orders else points
        assert self.orders.setdefault(order, (patient, partner, points)) == (patient, partner, points)
        self.issued -= before - self._points(patient) - spent

    @rule(number=st.integers(0, 5))
    def give_back(self, number: int) -> None:
        """One of the orders comes back, perhaps once more."""
        if self.orders:
            order = sorted(self.orders)[number % len(self.orders)]
            patient, partner, _ = self.orders[order]
            self.incentives.redemptions.undo(key_of(patient), self.incentives.redemptions.name(partner, order))
            self.returned.add(order)

    @rule(days=st.sampled_from([1, 31, 400, 740]))
    def wait(self, days: int) -> None:
        """Time passes, and what is too old expires."""
        self.clock.advance(days * 86400)
        for patient in PATIENTS:
            if self.incentives.wallets.read(key_of(patient)).number:
                self.issued -= self.incentives.rewards.expire(key_of(patient))

    # --- what always holds ----------------------------------------------------------------------------------

    @invariant()
    def points_are_where_the_auditor_has_them(self) -> None:
        """Issued is owned, less owed, plus spent; nobody owns and owes at once; wallets are what the ledger says."""
        standing = [order for name, order in self.orders.items() if name not in self.returned]
        owned = 0
        for patient in PATIENTS:
            wallet = self.incentives.wallets.read(key_of(patient))
            assert wallet.points >= 0
            assert wallet.debt >= 0
            assert 0 in (wallet.points, wallet.debt)
            assert wallet.points == self._points(patient)
            owned += wallet.points - wallet.debt
        assert self.issued == owned + sum(points for _, _, points in standing)
        assert -self.ledger.balance(self.incentives.wallets.issued).units == self.issued
        for partner, (worth, basis_points) in FEES.items():
            mine = [points for _, one, points in standing if one == partner]
            fees = sum(-(-points * worth * basis_points // 10_000) for points in mine)
            assert self.ledger.balance(f"partner:{partner}:payable:cny").units == -fees

    @invariant()
    def nothing_stands_that_the_newest_version_does_not_bear_out(self) -> None:
        """A visit is granted at most once, to the patient of its newest version, and only where it was done."""
        rewards = self.incentives.rewards
        for fact, (_, done, newest) in self.newest.items():
            name = rewards.wallets.opaque(f"Appointment/visit-{fact}")[:32]
            for patient in PATIENTS:
                count = len(rewards.wallets.read(key_of(patient)).standing(name))
                lapsed = any(rewards.wallets.read(key_of(patient)).lapsed.values())
                assert count <= (1 if done and patient == newest else 0) or lapsed

    def teardown(self) -> None:
        assert audit.verify(self.ledger).problem == ""
        assert set(self.ledger.trial_balance().values()) <= {0}
        self.incentives.close()
        self.ledger.close()

    def _points(self, patient: str) -> int:
        """What the ledger's own account of a patient holds."""
        name = f"patient:test:{key_of(patient)}:points"
        with suppress(UnknownAccountError):
            return self.ledger.balance(name).units
        return 0


def test_no_order_of_events_makes_or_loses_a_point_on_sqlite() -> None:
    """Every wallet, every debt and every fee is the auditor's after every step."""
    with on_sqlite() as new_url:
        play(Machine, examples=15, new_url=new_url)


@pytest.mark.peer("postgres")
def test_no_order_of_events_makes_or_loses_a_point_on_postgresql(postgresql_server: PostgreSQL) -> None:
    """The same on PostgreSQL."""
    with on_postgresql(postgresql_server) as new_url:
        play(Machine, examples=3, new_url=new_url)
