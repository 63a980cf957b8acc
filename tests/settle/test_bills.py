"""Bills and months as the book tells them, and what the meters read beside them; on both engines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from btt_bridge.errors import RefusedError
from btt_bridge.ledger import audit
from btt_bridge.money import CNY
from btt_bridge.records import Urgency
from btt_bridge.settle import Billing, Cause, State, meters
from btt_bridge.settle.bills import Account, Month, activity, before, entries, find, studies, work
from btt_bridge.settle.meters import Reading
from tests.settle import books
from tests.settle.dividends.house import NODES, REGISTRY, STRANGER


def test_a_month_begins_and_ends_where_its_zone_says() -> None:
    """December ends in the next year; a month in Shanghai begins eight hours earlier; nonsense is refused."""
    assert Month.parse("2026-12").end == datetime(2027, 1, 1, tzinfo=UTC)
    assert Month.parse("2026-02", ZoneInfo("Asia/Shanghai")).start == datetime(2026, 1, 31, 16, tzinfo=UTC)
    assert str(Month.parse("2026-02")) == "2026-02"
    for text in ("2026-13", "2026-1", "2026-01-01", "0000-01", "", "january"):
        with pytest.raises(RefusedError):
            Month.parse(text)


def test_a_month_tells_its_charges_refunds_and_payments(billing: Billing) -> None:
    """Each fact is in the month in which it happened, and the account's closing is the next month's opening."""
    january, february = (activity(billing, Month.parse(text)) for text in ("2026-01", "2026-02"))
    assert [int(bill.study_key, 16) for bill in january.charges] == [1, 2, 3, 5]
    assert [bill.state for bill in january.charges] == [
        State.CHARGED,
        State.REFUNDED,
        State.REFUNDED,
        State.CHARGED,
    ]
    assert [int(refund.bill.study_key, 16) for refund in january.refunds] == [3]
    assert january.accounts == (Account(CNY, 0, 536 + 966 + 536 + 536, 536, 1000),)
    assert [int(bill.study_key, 16) for bill in february.charges] == [6]
    assert [(int(r.bill.study_key, 16), r.cause, r.bill.amount.units) for r in february.refunds] == [
        (2, "withdrawn", 966)
    ]
    assert february.accounts[0].opening == january.accounts[0].closing
    assert february.accounts[0].closing == billing.ledger.balance(billing.payable(CNY)).units


def test_the_first_posting_of_a_month_is_found_wherever_it_lies(billing: Billing) -> None:
    """Bisection agrees with reading the whole book, at every instant in it and around it."""
    postings = [posting for posting, _ in entries(billing.ledger, 0)]
    for at in sorted({posting.at + timedelta(seconds=s) for posting in postings for s in (-1, 0, 1)}):
        assert before(billing.ledger, at) == max((p.id for p in postings if p.at < at), default=0)


def test_what_a_result_took_is_in_the_posting_of_its_charge(billing: Billing) -> None:
    """Readings are audited and balanced, made once, kept after a refund, and never of what was not charged."""
    january = activity(billing, Month.parse("2026-01"))
    read = Reading(130_000_000_000, 65_011_712, 130_000_000)
    assert [bill.reading for bill in january.charges] == [read, read, read, None]
    usage = [billing.ledger.balance(meters.account("test", unit)).units for unit in meters.UNITS]
    assert usage == [4 * units for units in (read.operations, read.voxels, read.size_bytes)]
    books.deliver(billing, 1, Urgency.STAT)
    assert usage == [billing.ledger.balance(meters.account("test", unit)).units for unit in meters.UNITS]
    held = find(billing, books.study(7), books.SERVICE)
    assert held is not None
    assert held.reading is None
    assert audit.verify(billing.ledger).problem == ""
    assert set(billing.ledger.trial_balance().values()) == {0}
    told = [notice.data for notice in billing.ledger.notices(0, 100)]
    assert not any("65011712" in str(data) or books.study(1) in str(data) for data in told)


@pytest.mark.parametrize(
    ("number", "state", "units"),
    [
        (1, State.CHARGED, 536),
        (2, State.REFUNDED, 966),
        (4, State.OPEN, 536),
        (7, State.HELD, 536),
    ],
)
def test_a_bill_is_found_as_it_stands(billing: Billing, number: int, state: State, units: int) -> None:
    """Charged, taken back, released or held: one answer each, with its price and who did the work."""
    bill = find(billing, books.study(number), books.SERVICE)
    assert bill is not None
    assert (bill.state, bill.amount.units) == (state, units)
    assert bill.node == ("n1" if number in (1, 2) else "")
    assert bill.reference not in bill.key


def test_a_bill_nobody_asked_for_is_none(billing: Billing) -> None:
    """Nothing held and nothing charged is no bill; voiding it makes none."""
    billing.void(books.study(9), books.SERVICE, Cause.NOT_DELIVERED)
    assert find(billing, books.study(9), books.SERVICE) is None


def everybody(node: str, hospital: str) -> bool:
    return True


def test_the_work_of_a_span_is_summed_by_node(billing: Billing) -> None:
    """Delivered work counts for the node that did it, where it was charged; its end is not in the span."""
    each = books.facts().operations
    january, march = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 3))
    assert work(billing.ledger, january, march, everybody) == {"n1": 2 * each}
    assert work(billing.ledger, books.JANUARY, books.JANUARY, everybody) == {}
    assert work(billing.ledger, books.JANUARY, books.JANUARY + timedelta(seconds=1), everybody) == {"n1": each}


def test_refunded_work_is_no_work_whenever_it_was_taken_back(billing: Billing) -> None:
    """In the same month or a later one; as the book stood before the refund, it still counts."""
    each, ledger = books.facts().operations, billing.ledger
    span = (books.JANUARY, datetime(2026, 2, 1, tzinfo=UTC))
    refund = next(posting for posting, _ in entries(ledger, 0) if posting.key.endswith(f"2:{books.SERVICE}:refund"))
    assert work(ledger, *span, everybody, refund.id - 1) == {"n1": 2 * each}
    assert work(ledger, *span, everybody, refund.id) == {"n1": each}
    billing.refund(books.study(1), books.SERVICE, Cause.DISPUTED)
    assert work(ledger, *span, everybody) == {}


def test_work_for_oneself_is_not_paid_for_by_the_rule_of_the_dividends(billing: Billing) -> None:
    """The requesting hospital's own node, and one that nobody is known to own, against one of another owner."""
    each = books.facts().operations
    for number, node in enumerate((NODES["own"], STRANGER, NODES["ann"], NODES["bob"]), start=20):
        books.deliver(billing, number, node=node)
    found = work(billing.ledger, books.JANUARY, datetime(2026, 3, 1, tzinfo=UTC), REGISTRY.supplier)
    assert found == {NODES["ann"]: each, NODES["bob"]: each}


def test_studies_are_counted_from_the_book(billing: Billing) -> None:
    """Charged and not refunded, behind a posting, of one hospital; two services on one study are one."""
    assert studies(billing.ledger, "test") == 3
    assert studies(billing.ledger, "another") == 0
    head = billing.ledger.latest(1)[0].posting
    assert studies(billing.ledger, "test", head) == 0
    books.deliver(billing, 8)
    billing.post(books.study(8), "ct-liver", billing.quote(books.facts()), "n1")
    assert studies(billing.ledger, "test", head) == 1
    billing.refund(books.study(8), books.SERVICE, Cause.DISPUTED)
    assert studies(billing.ledger, "test", head) == 1
    billing.refund(books.study(8), "ct-liver", Cause.DISPUTED)
    assert studies(billing.ledger, "test", head) == 0
