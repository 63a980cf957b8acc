"""Months of work, refunds and dividends at random, against a second account of it in plain Python."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from btt_bridge.errors import RefusedError
from btt_bridge.settle import Cause
from btt_bridge.settle.bills import Month
from tests.settle import books
from tests.settle.dividends.house import DAY, NODES, SHARE, House, opened

_NAMES: Final = (*NODES, "e" * 64)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("work"), st.sampled_from(_NAMES)),
        st.tuples(st.just("refund"), st.integers(0, 30)),
        st.tuples(st.just("month"), st.just(0)),
    ),
    max_size=25,
)


@dataclass
class Auditor:
    """What ought to be: counts of equal studies, by month, and nothing of the ledger's."""

    #: Month, contributor, and whether it was taken back, of each study.
    studies: list[list[object]] = field(default_factory=list)
    month: int = 0
    shared: set[int] = field(default_factory=set)
    late: Counter[str] = field(default_factory=Counter)
    carried: int = 0
    paid: Counter[str] = field(default_factory=Counter)

    def refund(self, number: int) -> None:
        month, name, back = self.studies[number]
        if not back and month in self.shared:
            self.carried -= SHARE
            self.late[str(name)] += 1
        self.studies[number][2] = True

    def share(self) -> None:
        """Divide the month that is over by largest remainder, ties by name."""
        standing = [str(name) for month, name, back in self.studies if month == self.month and not back]
        if standing:
            supplied = {name: standing.count(name) - self.late[name] for name in ("ann", "bob")}
            parts = {name: count for name, count in supplied.items() if count > 0}
            there = max(len(standing) * SHARE + self.carried, 0)
            exact = {name: divmod(there * count, sum(parts.values())) for name, count in parts.items()}
            left = there - sum(whole for whole, _ in exact.values()) if parts else 0
            order = sorted(exact, key=lambda name: (-exact[name][1], name))
            given = {name: whole + (name in order[:left]) for name, (whole, _) in exact.items()}
            self.paid.update(given)
            self.carried += len(standing) * SHARE - sum(given.values())
            self.shared.add(self.month)
            self.late.clear()
        self.month += 1


def act(house: House, auditor: Auditor, kind: str, what: object) -> None:
    if kind == "work":
        house.work(str(what))
        auditor.studies.append([auditor.month, str(what), False])
    elif kind == "refund" and auditor.studies:
        number = int(str(what)) % len(auditor.studies)
        house.billing.refund(books.study(number + 1), books.SERVICE, Cause.DISPUTED)
        auditor.refund(number)
    elif kind == "month":
        over = Month(date(2026, 1 + auditor.month, 1)) if auditor.month < 11 else None
        if over:
            house.clock.instant = datetime(over.end.year, over.end.month, 1, tzinfo=UTC)
            house.clock.advance(2 * DAY)
            with suppress(RefusedError):  # there was nothing to share out
                house.distribute(over)
            auditor.share()


@settings(max_examples=15, deadline=None)
@given(_STEPS)
def test_whatever_happens_the_shares_are_those_of_a_second_account(steps: list[tuple[str, object]]) -> None:
    """Each contributor has what plain counting says, what is carried agrees, nobody owes, and the book holds."""
    with tempfile.TemporaryDirectory() as folder, opened(f"sqlite:///{folder}/ledger.db") as house:
        auditor = Auditor()
        for kind, what in [*steps, ("month", 0)]:
            act(house, auditor, kind, what)
            assert {name: house.has(name) for name in ("ann", "bob")} == {n: auditor.paid[n] for n in ("ann", "bob")}
            assert house.carried == auditor.carried
        assert house.has("own") == 0
        house.assert_sound()
