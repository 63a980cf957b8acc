"""A hospital whose contributors' share is pooled, and three contributors who work for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btt_bridge.ledger import audit
from btt_bridge.money import CNY
from btt_bridge.records import Performance
from btt_bridge.settle import Billing, pools
from btt_bridge.settle.bills import Month
from btt_bridge.settle.dividends import Distribution, Dividends, Registry, formula
from btt_bridge.settle.dividends.contributors import Contributor
from btt_bridge.signing import Signer
from btt_bridge.testing import FakeClock
from tests.settle import books

SHIPPED: Final = formula.load(books.ROOT / "mappings" / "dividends")[0]
JANUARY, FEBRUARY, MARCH = (Month.parse(f"2026-0{n}") for n in (1, 2, 3))
#: What a routine study puts into the pool: 70 % of 5.36.
SHARE: Final = 375
NODES: Final = {"ann": "a" * 64, "bob": "b" * 64, "own": "c" * 64}
STRANGER: Final = "e" * 64
REGISTRY: Final = Registry(
    {
        "ann": Contributor("ann", "ann", (NODES["ann"], "d" * 64)),
        "bob": Contributor("bob", "bob-ltd", (NODES["bob"],)),
        "own": Contributor("own", "university", (NODES["own"],)),
    },
    {"test": "university"},
)
DAY: Final = 86400


def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


@dataclass
class House:
    """The hospital's bills, the dividends, and a clock that is January the fifth."""

    billing: Billing
    clock: FakeClock
    dividends: Dividends
    studies: int = 0

    def work(self, name: str, count: int = 1) -> list[int]:
        """Let a contributor's node deliver studies; return their numbers."""
        numbers = list(range(self.studies + 1, self.studies + count + 1))
        for number in numbers:
            self.billing.post(
                books.study(number), books.SERVICE, self.billing.quote(books.facts()), NODES.get(name, name)
            )
        self.studies += count
        return numbers

    def over(self) -> None:
        """Let more than a month and its grace go by."""
        self.clock.advance(30 * DAY)

    def distribute(self, period: Month, performances: Sequence[Performance] = (), **given: Any) -> Distribution:
        return self.dividends.distribute(period, CNY, performances, **given)

    def formula(self, **changes: Any) -> None:
        """Put another formula in force."""
        self.dividends = replace(self.dividends, formulas=(replace(self.dividends.formulas[0], **changes),))

    def has(self, name: str) -> int:
        """What a contributor was paid."""
        return self.units(f"contributor:{name}:earnings:cny")

    def units(self, account: str) -> int:
        return sum(b.units for b in self.billing.ledger.balances() if b.account == account)

    @property
    def carried(self) -> int:
        return self.units(pools.carried(CNY))

    @property
    def owed(self) -> int:
        return -self.units(self.billing.payable(CNY))

    def assert_sound(self) -> None:
        """The book holds, everything is set apart and paid, and what the hospital owes is somewhere."""
        assert audit.verify(self.billing.ledger).problem == ""
        assert set(self.billing.ledger.trial_balance().values()) == {0}
        assert not [b for b in self.billing.ledger.balances() if b.account.startswith("dividend:") and b.units]
        held = sum(
            b.units
            for b in self.billing.ledger.balances()
            if b.asset == CNY and b.account.startswith(("pool:", "contributor:", "fund:"))
        )
        assert held == self.owed


@contextmanager
def opened(url: str) -> Iterator[House]:
    """A house in which one contributor may get everything, so that the plain proportion shows."""
    clock = FakeClock(books.JANUARY)
    with books.opened(url, clock) as billing:
        pooled = replace(billing, splits=tuple(replace(split, pooled=True) for split in billing.splits))
        plain = replace(SHIPPED, contributor_basis_points_max=10_000)
        yield House(pooled, clock, Dividends(billing.ledger, (plain,), REGISTRY))
