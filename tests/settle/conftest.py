"""What the tests of the accounts share: a clock, a book that holds whatever a test does, and a child for FHIRPath."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from btt_bridge.config import Settings
from btt_bridge.inbox import Inbox
from btt_bridge.isolate import Isolation
from btt_bridge.ledger import Ledger, audit
from btt_bridge.settle import Billing, Clinical, open_clinical
from btt_bridge.testing import FakeClock
from tests.settle import books


@contextmanager
def opened(url: str, clock: FakeClock) -> Iterator[Ledger]:
    """Yield a ledger in which, whatever a test does, the book holds in the end."""
    with closing(Ledger(url, clock)) as ledger:
        yield ledger
        found = audit.verify(ledger)
        assert found.problem == ""
        assert set(found.trial_balance.values()) <= {0}


@pytest.fixture
def clock() -> FakeClock:
    """Monday, 5 January 2026, in the morning: the day of every sample."""
    return FakeClock(books.JANUARY)


@pytest.fixture
def ledger(database_url: str, clock: FakeClock) -> Iterator[Ledger]:
    """On SQLite and on PostgreSQL."""
    with opened(database_url, clock) as ledger:
        yield ledger


@pytest.fixture
def embedded_ledger(tmp_path: Path, clock: FakeClock) -> Iterator[Ledger]:
    """On SQLite alone, for what does not depend on the engine."""
    with opened(f"sqlite:///{tmp_path / 'ledger.db'}", clock) as ledger:
        yield ledger


@pytest.fixture
def billing(database_url: str, clock: FakeClock) -> Iterator[Billing]:
    """Two months of bills, on SQLite and on PostgreSQL."""
    with books.opened(database_url, clock) as billing:
        books.two_months(billing, clock)
        yield billing


@pytest.fixture
def one_book(tmp_path: Path, clock: FakeClock) -> Iterator[Billing]:
    """The same on SQLite alone, for what does not depend on the engine."""
    with books.opened(f"sqlite:///{tmp_path / 'ledger.db'}", clock) as billing:
        books.two_months(billing, clock)
        yield billing


@pytest.fixture(scope="session")
def isolation() -> Iterator[Isolation]:
    with Isolation(1, 2**29, 20, preload=["btt_bridge.settle.rewards.conditions"]) as isolation:
        yield isolation


@pytest.fixture
def clinical(ledger: Ledger, tmp_path: Path, clock: FakeClock, isolation: Isolation) -> Iterator[Clinical]:
    """From what the EHR told to the book, by the shipped mappings."""
    settings = Settings(mappings_dir=books.ROOT / "mappings", settle={"hospital": "test"})  # type: ignore[arg-type]
    with closing(Inbox(f"sqlite:///{tmp_path / 'inbox.db'}", clock)) as inbox:
        clinical = open_clinical(settings, ledger, inbox, isolation, books.opaque)
        yield clinical
        assert clinical.incentives is not None
        clinical.incentives.close()
