"""Who pays for rewards: each bill once, by size and terms, shared out exactly, and taken back as it was shared."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from btt_bridge.errors import (
    BridgeError,
    InvalidAmountError,
    KeyConflictError,
    OverdrawnError,
    RefusedError,
    UnknownError,
)
from btt_bridge.isolate import Isolation
from btt_bridge.ledger import Ledger
from btt_bridge.money import BTT, CNY, Amount
from btt_bridge.settle.rewards import Incentives
from btt_bridge.testing import FakeClock
from tests.settle.rewards.conftest import changed, opened

CLINIC = "clinic:test:payable:cny"


def units(incentives: Incentives, name: str) -> int:
    return incentives.wallets.ledger.balance(name).units


def shared(incentives: Incentives) -> int:
    return sum(b.units for b in incentives.wallets.ledger.balances() if b.account.startswith("fund:"))


def test_a_clinic_pays_by_its_size_between_3000_and_25000_yuan(embedded: Incentives, clock: FakeClock) -> None:
    """Each size on either side of a border, a month each; a quarter of it is the development fund's."""
    owed = 0
    for clinicians, price in ((1, 3000), (5, 3000), (6, 8000), (20, 8000), (21, 15000), (60, 15000), (61, 25000)):
        posting = embedded.fees.subscribe(f"{clock.now():%Y-%m}", clinicians)
        assert sum(transfer.amount.units for transfer in posting.transfers) == price * 100
        owed += price * 100
        clock.advance(31 * 86400)
    assert units(embedded, CLINIC) == -owed == -shared(embedded)
    assert units(embedded, "fund:development:cny") * 4 == owed


def test_a_month_is_billed_once_whatever_is_said_of_the_size_later(incentives: Incentives) -> None:
    """Eight times at once with other sizes: one bill, and all are shown it."""
    with ThreadPoolExecutor(8) as pool:
        bills = list(pool.map(lambda size: incentives.fees.subscribe("2026-01", size).id, range(1, 80, 10)))
    assert len(set(bills)) == 1
    assert units(incentives, CLINIC) in {-300_000, -800_000, -1_500_000, -2_500_000}


@pytest.mark.parametrize(
    ("month", "clinicians"),
    [("2026-02", 5), ("2026-13", 5), ("2026-1", 5), ("", 5), ("2026-01", 0), ("2026-01", True), ("2026-01", 2.5)],
    ids=["to-come", "no-month", "short", "empty", "nobody", "a-bool", "a-float"],
)
def test_a_bill_for_no_month_or_no_size_is_refused(embedded: Incentives, month: str, clinicians: int) -> None:
    """Nothing is billed ahead, and nothing by a size that is none."""
    with pytest.raises(BridgeError):
        embedded.fees.subscribe(month, clinicians)
    assert units(embedded, CLINIC) == 0


def test_a_partner_pays_its_arrangement_once(incentives: Incentives) -> None:
    """5,000 yuan for the pharmacy, however often it is asked for; an unknown partner is refused."""
    assert len({incentives.fees.arrange("pharmacy").id for _ in range(3)}) == 1
    assert units(incentives, "partner:pharmacy:payable:cny") == -500_000 == -shared(incentives)
    with pytest.raises(UnknownError):
        incentives.fees.arrange("casino")


def test_part_of_a_saving_flows_back_once_a_year(incentives: Incentives) -> None:
    """A fifth, rounded up to a whole fen; said again it stands, and another saving of that year is refused."""
    incentives.fees.share_saving("example-life", "2025", Amount(1_000_001, CNY))
    incentives.fees.share_saving("example-life", "2025", Amount(1_000_001, CNY))
    with pytest.raises(KeyConflictError):
        incentives.fees.share_saving("example-life", "2025", Amount(5, CNY))
    assert units(incentives, "insurer:example-life:payable:cny") == -200_001 == -shared(incentives)
    for insurer, year, amount, error in (
        ("nobody", "2025", Amount(5, CNY), UnknownError),
        ("example-life", "2027", Amount(5, CNY), RefusedError),
        ("example-life", "2024", Amount(0, CNY), InvalidAmountError),
        ("example-life", "2024", Amount(5, BTT), InvalidAmountError),
    ):
        with pytest.raises(error):
            incentives.fees.share_saving(insurer, year, amount)


def test_a_saving_that_was_refunded_is_billed_once_more_where_that_is_asked_for(incentives: Incentives) -> None:
    """A repeat that comes late bills nothing; who says so gets one new bill, as often as it is refunded."""
    fees, insurer = incentives.fees, "insurer:example-life:payable:cny"
    wrong, right = Amount(1_000_000, CNY), Amount(2_000_000, CNY)
    first = fees.share_saving("example-life", "2025", wrong)
    assert fees.share_saving("example-life", "2025", wrong, again=True) == first
    fees.refund(first.key)
    assert fees.share_saving("example-life", "2025", wrong) == first
    with pytest.raises(KeyConflictError):
        fees.share_saving("example-life", "2025", right)
    assert units(incentives, insurer) == 0 == shared(incentives)
    with ThreadPoolExecutor(4) as pool:
        bills = list(pool.map(lambda _: fees.share_saving("example-life", "2025", right, again=True), range(4)))
    assert {bill.key for bill in bills} == {"saving:example-life:2025:2"}
    assert fees.share_saving("example-life", "2025", right) == bills[0]
    assert units(incentives, insurer) == -400_000 == -shared(incentives)
    fees.refund(bills[0].key)
    assert fees.share_saving("example-life", "2025", wrong, again=True).key == "saving:example-life:2025:3"
    assert units(incentives, insurer) == -200_000 == -shared(incentives)


def test_a_bill_is_taken_back_by_the_same_transfers_and_once(incentives: Incentives) -> None:
    """Everybody stands where they stood; what is no bill cannot be refunded."""
    key = incentives.fees.subscribe("2026-01", 7).key
    assert len({incentives.fees.refund(key).id for _ in range(3)}) == 1
    assert units(incentives, CLINIC) == 0 == shared(incentives)
    incentives.fees.receive(CLINIC, "bank-1", Amount(5, CNY))
    for wrong in ("fee-payment:bank-1", f"refund:{key}", "subscription:test:2025-01"):
        with pytest.raises(UnknownError):
            incentives.fees.refund(wrong)


def test_a_payment_is_booked_once_for_each_reference(embedded: Incentives) -> None:
    """What the bank reports twice came once."""
    embedded.fees.subscribe("2026-01", 1)
    for _ in range(2):
        embedded.fees.receive(CLINIC, "bank-1", Amount(300_000, CNY))
    assert units(embedded, CLINIC) == 0
    assert units(embedded, "bank:cny") == -300_000


def test_who_is_too_far_behind_gets_no_further_bill(ledger: Ledger, isolation: Isolation, tmp_path: Path) -> None:
    """The credit line of the program holds; a payment makes room."""
    incentives = opened(ledger, isolation, changed(tmp_path, fees={"credit_units": 400_000}))
    incentives.fees.subscribe("2026-01", 1)
    with pytest.raises(OverdrawnError):
        incentives.fees.subscribe("2025-12", 1)
    incentives.fees.receive(CLINIC, "bank-1", Amount(200_000, CNY))
    incentives.fees.subscribe("2025-12", 1)
    assert units(incentives, CLINIC) == -400_000
    incentives.close()


def test_limits_that_were_lowered_stop_nobody_and_sink_as_they_are_paid(embedded: Incentives, clock: FakeClock) -> None:
    """Today's program counts, neither an older nor a coming one; what is owed and given out beyond it stays for now."""
    fees, rewards, ledger = embedded.fees, embedded.rewards, embedded.fees.ledger
    key = fees.subscribe("2026-01", 1).key
    before, today = fees.program(), clock.now().date()
    lower = replace(before, name="lower", effective_from=today, credit_units=100_000, budget=0)
    coming = replace(before, name="coming", effective_from=today + timedelta(days=9), credit_units=10**9)
    after = replace(fees, programs=(before, lower, coming))
    after.open()
    replace(rewards, programs=after.programs).open()
    assert ledger.balance(CLINIC).credit_limit == 300_000
    assert ledger.balance("partner:pharmacy:payable:cny").credit_limit == 100_000
    assert ledger.balance(embedded.wallets.issued).credit_limit == 0
    with pytest.raises(OverdrawnError):
        after.subscribe("2025-12", 1)
    after.receive(CLINIC, "bank-1", Amount(50_000, CNY))
    assert ledger.balance(CLINIC).credit_limit == 250_000
    after.refund(key)
    assert ledger.balance(CLINIC).credit_limit == 100_000


def test_only_who_owes_fees_pays_them(embedded: Incentives) -> None:
    """A payment for a fund, or for nobody, is refused, and nothing moves."""
    for name in ("fund:development:cny", "partner:casino:payable:cny"):
        with pytest.raises(UnknownError):
            embedded.fees.receive(name, "bank-1", Amount(5, CNY))
    assert units(embedded, "bank:cny") == 0
