"""A study's bill through its life: held, posted once, voided, refunded; on both engines."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import event
from structlog.testing import capture_logs

from btt_bridge import log
from btt_bridge.config import Settings
from btt_bridge.errors import LedgerError, OverdrawnError, RefusedError, UnknownError
from btt_bridge.ledger import Ledger, Move, audit
from btt_bridge.money import BTT, CNY, Amount
from btt_bridge.records import Charge, Urgency
from btt_bridge.settle import Billing, Cause, Delivered, Facts, Standing, State, Till, check, history, open_billing
from btt_bridge.settle.token import open_token
from btt_bridge.settle.token.accounts import wallet
from btt_bridge.testing import FakeClock

ROOT: Final = Path(__file__).parents[2]
STUDY: Final = hmac.new(b"key", b"1.2.840.113619.2.55.3", hashlib.sha256).hexdigest()
PAYABLE, CLEARING, NODE = "hospital:test:payable:cny", "compute:clearing:cny", "node:n1:earnings:cny"
FUNDS: Final = ("fund:development:cny", "fund:foundation:cny", "fund:operational-reserve:cny")


def bill(units: int) -> Charge:
    return Charge(Amount(units, CNY), "btt-2025", 1, 1, 1, Urgency.ROUTINE, "gpu")


def settings(credit_units: int) -> Settings:
    return Settings(
        mappings_dir=ROOT / "mappings",
        settle={"hospital": "test", "credit_units": credit_units, "hold_margin_seconds": 600},  # type: ignore[arg-type]
    )


@pytest.fixture
def billing(database_url: str, clock: FakeClock) -> Iterator[Billing]:
    """A hospital with a credit line of 100.00 CNY."""
    ledger = Ledger(database_url, clock)
    yield open_billing(settings(10_000), ledger)
    ledger.close()


def stands(billing: Billing) -> tuple[int, int, int, tuple[int, ...]]:
    """What the hospital owes, what is held of it, what the node earned, what the funds got."""
    payable = billing.ledger.balance(PAYABLE)
    funds = tuple(billing.ledger.balance(fund).units for fund in FUNDS)
    node = [b.units for b in billing.ledger.balances() if b.account == NODE]
    return -payable.units, payable.debits_pending, sum(node), funds


def assert_sound(billing: Billing) -> None:
    """The book holds, and nothing is left between the parties."""
    assert audit.verify(billing.ledger).problem == ""
    assert billing.ledger.balance(CLEARING).units == 0
    assert set(billing.ledger.trial_balance().values()) == {0}


def deadline(clock: FakeClock) -> Any:
    return clock.now() + timedelta(minutes=30)


def test_the_shipped_mappings_hold_and_an_empty_folder_does_not(tmp_path: Path) -> None:
    """What `btt-bridge check` says of prices, splits, references and dividends."""
    assert check(ROOT / "mappings") == []
    assert {Path(error.file).name for error in check(tmp_path)} == {"prices", "splits", "references", "dividends"}


def test_a_delivered_study_is_charged_and_shared_70_15_10_5(billing: Billing, clock: FakeClock) -> None:
    """Held at the offer, posted at delivery: the hospital owes it, and four parties have it between them."""
    facts = Facts(130_000_000_000, 65_011_712, 130_000_000, Urgency.ROUTINE, "gpu")
    charge = billing.quote(facts)
    assert billing.hold(STUDY, "ct-lung", charge, deadline(clock)).state is State.HELD
    assert stands(billing) == (0, 536, 0, (0, 0, 0))
    posted = billing.post(STUDY, "ct-lung", charge, "n1")
    assert posted.state is State.CHARGED
    assert stands(billing) == (536, 0, 375, (80, 54, 27))
    assert billing.standing(STUDY, "ct-lung") == posted
    assert_sound(billing)


def test_everything_may_be_asked_twice(billing: Billing, clock: FakeClock) -> None:
    """A caller that crashed and comes back changes nothing and hears the same."""
    for _ in range(2):
        held = billing.hold(STUDY, "ct-lung", bill(500), deadline(clock))
        assert held.state is State.HELD
    assert stands(billing)[1] == 500
    first = billing.post(STUDY, "ct-lung", bill(500), "n1")
    assert billing.post(STUDY, "ct-lung", bill(500), "n1") == first
    assert stands(billing)[0] == 500
    assert_sound(billing)


def test_a_later_revision_of_a_charged_study_costs_nothing(billing: Billing, clock: FakeClock) -> None:
    """One billable event a study and service, even when another node computed the later revision at another price."""
    billing.hold(STUDY, "ct-lung", bill(500), deadline(clock))
    first = billing.post(STUDY, "ct-lung", bill(500), "n1")
    assert billing.hold(STUDY, "ct-lung", bill(900), deadline(clock)) == first
    assert billing.post(STUDY, "ct-lung", bill(900), "n2") == first
    assert billing.void(STUDY, "ct-lung", Cause.SUPERSEDED) == first
    assert stands(billing) == (500, 0, 350, (75, 50, 25))
    assert_sound(billing)


def test_another_service_on_the_same_study_is_another_bill(billing: Billing) -> None:
    """Two services, two charges."""
    billing.post(STUDY, "ct-lung", bill(500), "n1")
    billing.post(STUDY, "ct-heart", bill(300), "n1")
    assert stands(billing)[0] == 800


def test_a_revision_that_supersedes_before_delivery_replaces_the_hold(billing: Billing, clock: FakeClock) -> None:
    """The larger study's hold takes the place of the smaller one's in one posting; only one is ever open."""
    billing.hold(STUDY, "ct-lung", bill(500), deadline(clock))
    billing.hold(STUDY, "ct-lung", bill(700), deadline(clock))
    assert stands(billing)[1] == 700
    billing.post(STUDY, "ct-lung", bill(700), "n1")
    assert stands(billing)[:2] == (700, 0)
    assert_sound(billing)


def test_an_undelivered_study_costs_nothing_and_may_be_offered_again(billing: Billing, clock: FakeClock) -> None:
    """Voided, the credit line is free again; voiding twice is nothing; a new attempt is held anew."""
    billing.hold(STUDY, "ct-lung", bill(500), deadline(clock))
    for _ in range(2):
        assert billing.void(STUDY, "ct-lung", Cause.NOT_DELIVERED).state is State.OPEN
    assert stands(billing) == (0, 0, 0, (0, 0, 0))
    billing.hold(STUDY, "ct-lung", bill(500), deadline(clock))
    assert stands(billing)[1] == 500
    billing.post(STUDY, "ct-lung", bill(500), "n1")
    assert_sound(billing)


@pytest.mark.parametrize("units", [300, 500, 800])
def test_the_charge_may_differ_from_the_hold(billing: Billing, clock: FakeClock, units: int) -> None:
    """Less releases the rest, more is debited beside it: the hospital owes the charge, and nothing stays held."""
    billing.hold(STUDY, "ct-lung", bill(500), deadline(clock))
    billing.post(STUDY, "ct-lung", bill(units), "n1")
    assert stands(billing)[:2] == (units, 0)
    assert_sound(billing)


@pytest.mark.parametrize("swept", [True, False])
def test_a_late_delivery_is_charged_all_the_same(billing: Billing, clock: FakeClock, swept: bool) -> None:
    """The hold ran out, but the work was done and delivered: it is debited directly."""
    billing.hold(STUDY, "ct-lung", bill(500), deadline(clock))
    clock.advance(1800 + 600)
    if swept:
        assert billing.expire() == 1
    assert billing.post(STUDY, "ct-lung", bill(500), "n1").state is State.CHARGED
    assert stands(billing)[:2] == (500, 0)
    assert billing.expire() == 0
    assert_sound(billing)


def test_a_hold_runs_out_after_its_deadline_and_margin(billing: Billing, clock: FakeClock) -> None:
    """Nothing expires before that; then it is released once, and said so."""
    billing.hold(STUDY, "ct-lung", bill(500), deadline(clock))
    clock.advance(1800 + 599)
    assert billing.expire() == 0
    clock.advance(1)
    assert (billing.expire(), billing.expire()) == (1, 0)
    assert billing.standing(STUDY, "ct-lung").state is State.OPEN
    assert billing.ledger.notices(0, 10)[-1].data["cause"] == "expired"
    assert_sound(billing)


def test_the_credit_line_is_the_end(billing: Billing, clock: FakeClock) -> None:
    """What is owed and what is held together stay within it; a payment makes room, and counts once."""
    billing.post(STUDY, "ct-lung", bill(6_000), "n1")
    billing.hold("a" * 64, "ct-lung", bill(4_000), deadline(clock))
    with pytest.raises(OverdrawnError):
        billing.hold("b" * 64, "ct-lung", bill(1), deadline(clock))
    for _ in range(2):
        billing.receive("invoice-2026-01", Amount(6_000, CNY))
    assert stands(billing)[0] == 0
    billing.hold("b" * 64, "ct-lung", bill(6_000), deadline(clock))
    assert_sound(billing)


def test_a_refund_takes_back_exactly_what_was_shared_out_and_once(billing: Billing) -> None:
    """Every party gives back its part to the unit; a second refund changes nothing; no later revision charges again."""
    billing.post(STUDY, "ct-lung", bill(501), "n1")
    for _ in range(2):
        assert billing.refund(STUDY, "ct-lung", Cause.DISPUTED).state is State.REFUNDED
    assert billing.refund(STUDY, "ct-lung", Cause.WITHDRAWN).state is State.REFUNDED
    assert stands(billing) == (0, 0, 0, (0, 0, 0))
    assert billing.post(STUDY, "ct-lung", bill(501), "n1").state is State.REFUNDED
    assert stands(billing)[0] == 0
    assert_sound(billing)


def test_a_refund_of_what_was_spent_or_never_charged_is_refused(billing: Billing) -> None:
    """Nothing to refund; and a node that was paid out cannot give back what it no longer has."""
    with pytest.raises(UnknownError):
        billing.refund(STUDY, "ct-lung", Cause.DISPUTED)
    billing.post(STUDY, "ct-lung", bill(500), "n1")
    billing.ledger.post_all("test", "payout", [Move(NODE, "bank:cny", Amount(1, CNY), "payout")])
    with pytest.raises(OverdrawnError):
        billing.refund(STUDY, "ct-lung", Cause.DISPUTED)
    assert billing.standing(STUDY, "ct-lung").state is State.CHARGED
    assert_sound(billing)


def test_the_smallest_charges_are_shared_without_a_loss(billing: Billing) -> None:
    """1 to 20 minor units: shares of nothing are left out, the rest sums exactly."""
    for units in range(1, 21):
        billing.post(f"{units:064x}", "ct-lung", bill(units), "n1")
    owed, _, node, funds = stands(billing)
    assert owed == sum(range(1, 21)) == node + sum(funds)
    assert_sound(billing)


def test_a_study_is_never_named_by_its_uid(billing: Billing, clock: FakeClock) -> None:
    """Only a keyed digest is taken: a UID in clear is refused before anything is written."""
    for key in ("1.2.840.113619.2.55.3", "", "A" * 64, "a" * 65):
        with pytest.raises(RefusedError):
            billing.hold(key, "ct-lung", bill(500), deadline(clock))
    with pytest.raises(RefusedError):
        billing.hold(STUDY, "ct lung", bill(500), deadline(clock))
    assert billing.ledger.postings(0, 10) == []


def test_the_history_of_a_bill_is_all_that_happened_to_it(billing: Billing, clock: FakeClock) -> None:
    """Held, released, held again more than once, run out, charged, refunded: in order, and nothing of other bills."""
    billing.post("c" * 64, "ct-lung", bill(300), "n1")
    for _ in range(5):
        billing.hold(STUDY, "ct-lung", bill(500), deadline(clock))
        billing.void(STUDY, "ct-lung", Cause.NOT_DELIVERED)
    billing.hold(STUDY, "ct-lung", bill(500), deadline(clock))
    clock.advance(2400)
    billing.expire()
    billing.post(STUDY, "ct-lung", bill(500), "n1")
    billing.refund(STUDY, "ct-lung", Cause.DISPUTED)
    transfers = history(billing.ledger, "test", STUDY, "ct-lung")
    kinds = [transfer.kind for transfer in transfers]
    # The charge, its four shares and three readings; then charge and shares back.
    assert kinds == ["hold", "void"] * 5 + ["hold", "expire"] + ["move"] * 8 + ["move"] * 5
    assert transfers == [t for t in billing.ledger.latest(100)[::-1] if t.id > 8]
    with pytest.raises(RefusedError):
        history(billing.ledger, "test", "1.2.3", "ct-lung")


def test_eight_workers_deliver_one_study_and_charge_it_once(billing: Billing, clock: FakeClock) -> None:
    """Redelivery, two revisions and a void at once: one charge, nothing left held."""
    billing.hold(STUDY, "ct-lung", bill(500), deadline(clock))

    def attempt(worker: int) -> State:
        if worker == 7:
            return billing.void(STUDY, "ct-lung", Cause.NOT_DELIVERED).state
        return billing.post(STUDY, "ct-lung", bill(500 + worker % 2), f"n{worker % 3}").state

    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(attempt, range(8)))
    assert states[:7] == [State.CHARGED] * 7
    owed, held, _, funds = stands(billing)
    assert owed in (500, 501)
    assert held == 0
    earned = sum(b.units for b in billing.ledger.balances() if b.account.startswith("node:"))
    assert earned + sum(funds) == owed
    assert sum(notice.type == "btt.compute.charged.v1" for notice in billing.ledger.notices(0, 50)) == 1
    assert_sound(billing)


def test_many_deliveries_are_charged_in_one_commit(billing: Billing, clock: FakeClock) -> None:
    """Held, not held, run out, charged before, twice in one batch, beyond the credit line: each as if it came alone."""
    held, late, before = "1" * 64, "2" * 64, "3" * 64
    billing.hold(late, "ct-lung", bill(500), deadline(clock))
    clock.advance(2400)
    billing.hold(held, "ct-lung", bill(600), deadline(clock))
    first = billing.post(before, "ct-lung", bill(300), "n1")
    commits = 0

    def count(_: Any) -> None:
        nonlocal commits
        commits += 1

    asked = [(held, 500), (late, 500), (before, 900), (STUDY, 400), (STUDY, 400), ("4" * 64, 9_000)]
    deliveries = [Delivered(study, "ct-lung", bill(units), "n1") for study, units in asked]
    event.listen(billing.ledger.engine, "commit", count)
    answers = billing.post_all(deliveries)
    event.remove(billing.ledger.engine, "commit", count)
    writes = sum(isinstance(answer, Standing) for answer in answers)
    assert [answer.state for answer in answers[:5] if isinstance(answer, Standing)] == [State.CHARGED] * 5
    assert isinstance(answers[5], OverdrawnError)
    assert (writes, answers[2], answers[3]) == (5, first, answers[4])
    assert billing.post_all(deliveries[:5]) == answers[:5]
    assert stands(billing)[:2] == (300 + 500 + 500 + 400, 0)
    charged = [p for p in billing.ledger.postings(0, 100) if p.key.endswith(":ct-lung")]
    assert len({posting.at for posting in charged[1:]}) == 1
    assert commits == 1
    assert_sound(billing)


def test_a_bill_asks_the_database_little(billing: Billing, clock: FakeClock) -> None:
    """A hold or a charge is one transaction of few statements, for each one is a way to PostgreSQL and back."""
    statements: list[str] = []
    engine = billing.ledger.engine
    event.listen(engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    event.listen(engine, "checkout", lambda *_: statements.append("checkout"))

    def counted(done: Standing) -> int:
        assert done.posting
        found = [statement for statement in statements if not statement.startswith("BEGIN")]
        statements.clear()
        assert found.pop(0) == "checkout"
        assert "checkout" not in found
        return len(found)

    billing.post("a" * 64, "ct-lung", bill(500), "n1")  # it opens the node's account
    statements.clear()
    direct = counted(billing.post("b" * 64, "ct-lung", bill(500), "n1"))
    held = counted(billing.hold(STUDY, "ct-lung", bill(500), deadline(clock)))
    taken = counted(billing.post(STUDY, "ct-lung", bill(500), "n1"))
    # PostgreSQL has its lock more, and two inserts fewer: it takes all three tables at once.
    assert (direct, held, taken) == ((5, 6, 7) if engine.dialect.name == "postgresql" else (6, 7, 8))


def test_a_till_gathers_who_comes_at_once_and_keeps_nobody_waiting(billing: Billing) -> None:
    """One alone is posted at once; those that come while a commit is on its way share the next, refusals and all."""
    sizes: list[int] = []
    at_work, go_on = threading.Event(), threading.Event()

    class Counted(Billing):
        def post_all(self, deliveries: Sequence[Delivered]) -> list[Standing | LedgerError]:
            sizes.append(len(deliveries))
            at_work.set()
            assert go_on.wait(60)
            return super().post_all(deliveries)

    till = Till(Counted(**vars(billing)))
    deliveries = [Delivered(f"{n:064x}", "ct-lung", bill(500), f"n{n % 2}") for n in range(7)]
    deliveries.append(Delivered("f" * 64, "ct-lung", bill(9_700), "n1"))
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(till.post, deliveries[0])
        assert at_work.wait(60)
        rest = [pool.submit(till.post, delivery) for delivery in deliveries[1:]]
        while len(till._waiting) < len(rest):
            assert not any(one.done() for one in rest)
        go_on.set()
        assert all(one.result().state is State.CHARGED for one in [first, *rest[:-1]])
        assert isinstance(rest[-1].exception(), OverdrawnError)
    assert sizes == [1, 7]
    assert stands(billing)[0] == 3_500
    assert_sound(billing)


def test_a_till_that_breaks_tells_everybody_and_works_again(billing: Billing) -> None:
    """What keeps the database from answering reaches each caller; the next delivery finds the till in order."""

    class Broken(Billing):
        def post_all(self, deliveries: Sequence[Delivered]) -> list[Standing | LedgerError]:
            if not broken:
                return super().post_all(deliveries)
            raise OSError(broken.pop())

    broken, till = ["the disk is full"], Till(Broken(**vars(billing)))
    with pytest.raises(OSError, match="full"):
        till.post(Delivered(STUDY, "ct-lung", bill(500), "n1"))
    assert till.post(Delivered(STUDY, "ct-lung", bill(500), "n1")).state is State.CHARGED
    assert_sound(billing)


def test_a_stake_lowers_the_price_as_far_as_the_list_allows_and_the_event_says_so(
    billing: Billing, clock: FakeClock
) -> None:
    """5 % of 9.66 CNY for a thousand staked BTT, once the stake has its age; what does not divide is paid."""
    token = open_token(ROOT / "mappings", billing.ledger)
    token.supply.release()
    held, name = 5000 * 10**18, "wallet:hospital:test:btt"
    billing.ledger.open_account(name, BTT)
    source = "wallet:investor:bithive:btt"
    billing.ledger.post_all("t", "gift", [Move(source, name, Amount(held, BTT), "gift")])
    facts = Facts(130_000_000_000, 65_011_712, 130_000_000, Urgency.STAT, "gpu")
    full = billing.quote(facts)
    token.stakes.stake("hospital:test", "s1", 1000 * 10**18, "none")
    assert billing.quote(facts) == full
    clock.advance(8 * 86400)
    less = billing.quote(facts)
    assert (full.amount.units, less.amount.units, less.discount_percent, less.discount_units) == (966, 918, 5, 48)
    billing.hold(STUDY, "ct-lung", less, deadline(clock))
    billing.post(STUDY, "ct-lung", less, "n1")
    told = {notice.type: notice.data for notice in billing.ledger.notices(0, 1000)}
    for kind in ("btt.compute.held.v1", "btt.compute.charged.v1"):
        assert (told[kind]["amount"]["units"], told[kind]["discount"]) == ("918", {"percent": 5, "units": "48"})
    assert stands(billing)[0] == 918
    assert_sound(billing)


def test_a_credit_line_that_was_lowered_stops_no_bridge_and_sinks_as_it_is_paid(
    billing: Billing, clock: FakeClock
) -> None:
    """Owed and held, 90.00 of 100.00; started again with 20.00: no hold until less than that is owed and held."""
    billing.post(STUDY, "ct-lung", bill(6_000), "n1")
    billing.hold(STUDY, "ct-brain", bill(3_000), deadline(clock))
    with capture_logs() as lines:
        again = open_billing(settings(2_000), billing.ledger)
        open_billing(settings(2_000), billing.ledger)
    assert billing.ledger.balance(PAYABLE).credit_limit == 9_000
    assert [(line["log_level"], line["asset"], line["units"]) for line in lines] == [("warning", "CNY", 9_000)]
    assert lines[0].keys() - {"log_level"} <= log.ALLOWED
    with pytest.raises(OverdrawnError):
        again.hold(STUDY, "mr", bill(1), deadline(clock))
    again.receive("bank-1", Amount(5_000, CNY))
    with pytest.raises(OverdrawnError):
        again.hold(STUDY, "mr", bill(1), deadline(clock))
    assert billing.ledger.balance(PAYABLE).credit_limit == 4_000
    again.post(STUDY, "ct-brain", bill(3_000), "n1")  # what is held is delivered and charged all the same
    again.receive("bank-2", Amount(2_500, CNY))
    assert again.hold(STUDY, "mr", bill(500), deadline(clock)).state is State.HELD
    assert billing.ledger.balance(PAYABLE).credit_limit == 2_000
    assert_sound(billing)


def test_in_btt_a_hospital_pays_ahead_and_from_its_wallet(billing: Billing, clock: FakeClock) -> None:
    """No bank makes BTT and nobody lends it: what is not in the wallet cannot be paid in, nor held for a study."""
    (listed,) = billing.prices
    again = replace(billing, prices=(replace(listed, asset=BTT),))
    again.open()
    charge = Charge(Amount(5, BTT), "btt-2025", 1, 1, 1, Urgency.ROUTINE, "gpu")
    with pytest.raises(OverdrawnError):
        again.hold(STUDY, "ct-lung", charge, deadline(clock))
    with pytest.raises(OverdrawnError):
        again.receive("transfer-1", Amount(5, BTT))
    open_token(ROOT / "mappings", billing.ledger).supply.release()
    name = wallet("hospital:test")
    gift = Move("wallet:investor:bithive:btt", name, Amount(5, BTT), "gift")
    billing.ledger.post_all("t", "gift", [gift])
    again.receive("transfer-1", Amount(5, BTT))
    assert again.hold(STUDY, "ct-lung", charge, deadline(clock)).state is State.HELD
    assert billing.ledger.balance(name).units == 0
    assert "bank:btt" not in {balance.account for balance in billing.ledger.balances()}
