"""A hospital's book with two months of bills in it, as the tests of what is read from it want one."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from btt_bridge.config import Settings
from btt_bridge.ledger import Ledger
from btt_bridge.money import CNY, Amount
from btt_bridge.records import Charge, Urgency
from btt_bridge.settle import Billing, Cause, Facts, open_billing
from btt_bridge.settle.bills import Bill, find
from btt_bridge.testing import FakeClock

ROOT: Final = Path(__file__).parents[2]
SERVICE: Final = "ct-lung"
JANUARY: Final = datetime(2026, 1, 5, 8, tzinfo=UTC)


def opaque(text: str) -> str:
    """The keyed digest of a hospital."""
    return hmac.new(b"secret", text.encode(), hashlib.sha256).hexdigest()


def study(number: int) -> str:
    return f"{number:064x}"


def facts(urgency: Urgency = Urgency.ROUTINE) -> Facts:
    """130 billion operations on 248 slices: 5.36 CNY as routine on a GPU, 9.66 as stat (965.57 fen, rounded once)."""
    return Facts(130_000_000_000, 65_011_712, 130_000_000, urgency, "gpu")


@contextmanager
def opened(url: str, clock: FakeClock) -> Iterator[Billing]:
    settings = Settings(mappings_dir=ROOT / "mappings", settle={"hospital": "test"})  # type: ignore[arg-type]
    with closing(Ledger(url, clock)) as ledger:
        yield open_billing(settings, ledger)


def bill(billing: Billing, number: int) -> Bill:
    """Return what a study came to."""
    found = find(billing, study(number), SERVICE)
    assert found is not None
    return found


def deliver(billing: Billing, number: int, urgency: Urgency = Urgency.ROUTINE, node: str = "n1") -> Charge:
    """Hold and charge one study."""
    charge = billing.quote(facts(urgency))
    billing.hold(study(number), SERVICE, charge, billing.ledger.clock.now() + timedelta(minutes=30))
    billing.post(study(number), SERVICE, charge, node)
    return charge


def two_months(billing: Billing, clock: FakeClock) -> None:
    """January: 1 routine, 2 stat, 3 routine and refunded, 4 held and released, a payment, 5 without a reading.
    February: 2 refunded, 6 urgent, 7 held."""
    deliver(billing, 1)
    deliver(billing, 2, Urgency.STAT)
    clock.advance(86400)
    deliver(billing, 3, node="n2")
    billing.refund(study(3), SERVICE, Cause.DISPUTED)
    soon = clock.now() + timedelta(minutes=30)
    billing.hold(study(4), SERVICE, billing.quote(facts()), soon)
    billing.void(study(4), SERVICE, Cause.NOT_DELIVERED)
    billing.receive("january", Amount(1000, CNY))
    billing.post(study(5), SERVICE, replace(billing.quote(facts()), operations=0, voxels=0, size_bytes=0), "n1")
    clock.advance(31 * 86400)
    billing.refund(study(2), SERVICE, Cause.WITHDRAWN)
    deliver(billing, 6, Urgency.URGENT)
    billing.hold(study(7), SERVICE, billing.quote(facts()), clock.now() + timedelta(minutes=30))
