"""Points with partners: each order once, within limits, never twice the same points, and back as they were."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from btt_bridge.errors import (
    BridgeError,
    InvalidAmountError,
    KeyConflictError,
    OverdrawnError,
    RefusedError,
    UnknownError,
)
from btt_bridge.settle.rewards import Answer, Incentives
from btt_bridge.testing import FakeClock
from tests.settle.rewards.conftest import key_of, sample

PATIENT = key_of("Patient/example")
OTHER = key_of("Patient/other")
DAY = 86400


def earn(incentives: Incentives, *names: str, **changes: Any) -> None:
    """Grant what shipped samples earn: checkup 100, plan 200, goal 150, immunization 80."""
    patient = changes.get("patient", "Patient/example")
    for name in names:
        (decision,) = incentives.rewards.consider(sample(name, **changes), [sample("consent", patient=patient)])
        assert decision.answer is Answer.GRANTED


def units(incentives: Incentives, name: str) -> int:
    return incentives.wallets.ledger.balance(name).units


def points(incentives: Incentives, patient: str = PATIENT) -> tuple[int, int]:
    wallet = incentives.wallets.read(patient)
    assert wallet.points == units(incentives, wallet.account)
    assert wallet.debt == -units(incentives, wallet.debt_account)
    return wallet.points, wallet.debt


# --- one order --------------------------------------------------------------------------------------------


def test_points_are_spent_and_the_partner_owes_a_fee_of_which_a_part_is_the_development_funds(
    incentives: Incentives,
) -> None:
    """100 points are 10 yuan at the pharmacy and cost it 3 %; the shares sum to the fee."""
    earn(incentives, "checkup", "plan")
    made = incentives.redemptions.redeem(PATIENT, "pharmacy", "order-1", 100)
    assert (made.partner, made.points, made.value_units, made.fee_units) == ("pharmacy", 100, 1000, 30)
    assert points(incentives) == (200, 0)
    assert units(incentives, "partner:pharmacy:payable:cny") == -30
    funds = {b.account: b.units for b in incentives.wallets.ledger.balances() if b.account.startswith("fund:")}
    assert funds == {
        "fund:clinical-partners:cny": 18,
        "fund:development:cny": 8,
        "fund:foundation:cny": 3,
        "fund:operational-reserve:cny": 1,
    }


def test_an_order_counts_once_and_is_one_patients(incentives: Incentives) -> None:
    """Asked again it says what stands; with other points, or by somebody else, it is refused."""
    earn(incentives, "checkup")
    earn(incentives, "plan", patient="Patient/other")
    made = incentives.redemptions.redeem(PATIENT, "pharmacy", "order-1", 60)
    assert [incentives.redemptions.redeem(PATIENT, "pharmacy", "order-1", 60) for _ in range(3)] == [made] * 3
    with pytest.raises(KeyConflictError):
        incentives.redemptions.redeem(PATIENT, "pharmacy", "order-1", 50)
    with pytest.raises(KeyConflictError):
        incentives.redemptions.redeem(OTHER, "pharmacy", "order-1", 60)
    assert (points(incentives), points(incentives, OTHER)) == ((40, 0), (200, 0))


@pytest.mark.parametrize(
    ("partner", "spent", "error"),
    [
        ("pharmacy", 49, RefusedError),
        ("pharmacy", 501, RefusedError),
        ("pharmacy", 0, BridgeError),
        ("pharmacy", -100, InvalidAmountError),
        ("pharmacy", 101, OverdrawnError),
        ("nobody", 100, UnknownError),
    ],
    ids=["too-few", "too-many", "none", "negative", "more-than-there-is", "unknown-partner"],
)
def test_what_a_partner_does_not_take_is_refused(
    embedded: Incentives, partner: str, spent: int, error: type[Exception]
) -> None:
    """The reason is the error's, and nothing moves."""
    earn(embedded, "checkup")
    with pytest.raises(error):
        embedded.redemptions.redeem(PATIENT, partner, "order-1", spent)
    assert points(embedded) == (100, 0)


def test_who_never_earned_has_nothing_to_spend_and_gets_no_wallet_by_asking(embedded: Incentives) -> None:
    """Neither redeeming nor returning opens an account."""
    with pytest.raises(UnknownError):
        embedded.redemptions.redeem(PATIENT, "pharmacy", "order-1", 100)
    with pytest.raises(UnknownError):
        embedded.redemptions.undo(PATIENT, "0" * 32)
    assert not [b for b in embedded.wallets.ledger.balances() if b.account.startswith("patient:")]


def test_a_day_has_a_limit_that_the_next_day_lifts(embedded: Incentives, clock: FakeClock) -> None:
    """500 points a day over all orders; what was returned does not count."""
    earn(embedded, "checkup", "plan", "goal", "immunization")
    embedded.redemptions.redeem(PATIENT, "pharmacy", "order-1", 400)
    with pytest.raises(RefusedError):
        embedded.redemptions.redeem(PATIENT, "fitness", "order-2", 101)
    embedded.redemptions.redeem(PATIENT, "fitness", "order-3", 100)
    clock.advance(DAY + 1)
    with pytest.raises(OverdrawnError):
        embedded.redemptions.redeem(PATIENT, "fitness", "order-4", 101)


# --- at once ----------------------------------------------------------------------------------------------


def test_the_same_points_are_never_spent_twice_however_many_try(incentives: Incentives) -> None:
    """Eight orders of 50 at once against 100 points: two go through, six are told why not."""
    earn(incentives, "checkup")

    def spend(number: int) -> str:
        try:
            return incentives.redemptions.redeem(PATIENT, "pharmacy", f"order-{number}", 50).name
        except OverdrawnError:
            return ""

    with ThreadPoolExecutor(8) as pool:
        names = [name for name in pool.map(spend, range(8)) if name]
    assert len(set(names)) == len(names) == 2
    assert points(incentives) == (0, 0)
    assert units(incentives, "partner:pharmacy:redeemed:points") == 100


def test_one_order_that_is_sent_eight_times_at_once_counts_once(incentives: Incentives) -> None:
    """All get the same answer; the fee is owed once."""
    earn(incentives, "checkup")
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: incentives.redemptions.redeem(PATIENT, "pharmacy", "order", 50), range(8)))
    assert len(made) == 1
    assert points(incentives) == (50, 0)
    assert units(incentives, "partner:pharmacy:payable:cny") == -15


# --- back -------------------------------------------------------------------------------------------------


def test_a_returned_order_gives_points_and_fee_back_once(incentives: Incentives) -> None:
    """The partner owes nothing and holds nothing any more, and the order cannot be used again."""
    earn(incentives, "checkup")
    made = incentives.redemptions.redeem(PATIENT, "pharmacy", "order-1", 70)
    name = incentives.redemptions.name("pharmacy", "order-1")
    assert name == made.name
    assert [incentives.redemptions.undo(PATIENT, name) for _ in range(3)] == [made] * 3
    assert points(incentives) == (100, 0)
    moved = [b for b in incentives.wallets.ledger.balances() if b.account.startswith(("fund:", "partner:"))]
    assert {balance.units for balance in moved} == {0}
    with pytest.raises(KeyConflictError):
        incentives.redemptions.redeem(PATIENT, "pharmacy", "order-1", 70)
    with pytest.raises(UnknownError):
        incentives.redemptions.undo(PATIENT, "0" * 32)


def test_what_a_patient_owes_is_paid_from_a_return_first(embedded: Incentives) -> None:
    """The visit was retracted after its points were spent; returning the goods settles that."""
    earn(embedded, "checkup")
    made = embedded.redemptions.redeem(PATIENT, "pharmacy", "order-1", 70)
    embedded.rewards.consider(sample("checkup", status="entered-in-error", version=2))
    assert points(embedded) == (0, 70)
    embedded.redemptions.undo(PATIENT, made.name)
    assert points(embedded) == (0, 0)


# --- age --------------------------------------------------------------------------------------------------


def test_expired_points_cannot_be_spent_even_before_anybody_took_them(incentives: Incentives, clock: FakeClock) -> None:
    """Two years and a moment later they are gone, whether or not the sweep has run."""
    earn(incentives, "checkup")
    clock.advance(timedelta(days=730).total_seconds() + 1)
    with pytest.raises(OverdrawnError):
        incentives.redemptions.redeem(PATIENT, "pharmacy", "order-1", 50)
    assert points(incentives) == (0, 0)


def test_buying_and_returning_makes_no_points_younger(incentives: Incentives, clock: FakeClock) -> None:
    """Points that come back are as old as they were, and expire with the rest of their grant."""
    earn(incentives, "checkup")
    clock.advance(729 * DAY)
    made = incentives.redemptions.redeem(PATIENT, "pharmacy", "order-1", 60)
    clock.advance(2 * DAY)
    assert incentives.rewards.expire(PATIENT) == 40
    incentives.redemptions.undo(PATIENT, made.name)
    assert points(incentives) == (60, 0)
    assert incentives.rewards.expire(PATIENT) == 60


def test_an_act_that_is_taken_back_keeps_no_older_points_alive(embedded: Incentives, clock: FakeClock) -> None:
    """A reversal takes the points of its own act; it does not count as having spent the oldest."""
    earn(embedded, "checkup")
    clock.advance(60 * DAY)
    earn(embedded, "immunization", occurrenceDateTime="2026-03-01")
    embedded.rewards.consider(sample("immunization", status="entered-in-error", version=2))
    clock.advance(671 * DAY)
    assert embedded.rewards.expire(PATIENT) == 100
    assert points(embedded) == (0, 0)


def test_what_has_expired_is_not_owed_when_its_act_is_taken_back(incentives: Incentives, clock: FakeClock) -> None:
    """What was spent is owed; what expired went back by itself, and is not taken a second time."""
    earn(incentives, "checkup")
    incentives.redemptions.redeem(PATIENT, "fitness", "order-0", 100)
    earn(incentives, "plan")
    clock.advance(731 * DAY)
    assert incentives.rewards.expire(PATIENT) == 200
    (first,) = incentives.rewards.consider(sample("checkup", status="entered-in-error", version=2))
    assert (first.answer, first.points) == (Answer.REVERSED, 100)
    assert points(incentives) == (0, 100)
    assert incentives.rewards.consider(sample("plan", status="entered-in-error", version=2)) == []
    assert points(incentives) == (0, 100)
