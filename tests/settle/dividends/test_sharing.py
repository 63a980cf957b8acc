"""A month's pool: shared once, to the last unit, in order, whatever is refunded, repeated or interrupted."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge.errors import OverdrawnError, RefusedError
from btt_bridge.money import CNY
from btt_bridge.records import Performance
from btt_bridge.settle import Cause, State, events, pools
from btt_bridge.settle.bills import find
from btt_bridge.settle.dividends import Audited, sharing
from btt_bridge.settle.dividends import events as told
from btt_bridge.settle.events import envelope
from tests.settle import books
from tests.settle.dividends.house import FEBRUARY, JANUARY, MARCH, SHARE, SHIPPED, STRANGER, House, signer
from tests.settle.schemas import SCHEMAS, validator


def refund(house: House, number: int) -> None:
    assert house.billing.refund(books.study(number), books.SERVICE, Cause.DISPUTED).state is State.REFUNDED


def crash(*_: object) -> None:
    raise OSError("power")


def test_a_pool_gets_what_a_node_would_get_and_is_shared_by_work(pooled: House) -> None:
    """70 % waits in the month's pool; three results to one are three parts to one; all of it is paid."""
    pooled.work("ann", 3)
    pooled.work("bob", 1)
    assert pooled.units(pools.pool(JANUARY.first, CNY)) == 4 * SHARE
    bill = find(pooled.billing, books.study(1), books.SERVICE)
    assert bill is not None
    assert bill.node == "a" * 64
    pooled.over()
    found = pooled.distribute(JANUARY)
    assert {share.contributor: share.units for share in found.shares} == {"ann": 3 * SHARE, "bob": SHARE}
    assert (pooled.has("ann"), pooled.has("bob"), pooled.carried) == (3 * SHARE, SHARE, 0)
    assert found.paid == found.pooled.units == 4 * SHARE
    pooled.assert_sound()


def test_a_month_is_shared_out_once(pooled: House) -> None:
    """Again, later and with other measurements, it says what stands and writes nothing."""
    pooled.work("ann")
    pooled.work("bob")
    pooled.over()
    first = pooled.distribute(JANUARY)
    newest = pooled.billing.ledger.latest(1)
    assert pooled.distribute(JANUARY, [Performance("b" * 64, 1000, 0, 10**15, 1)]) == first
    assert pooled.billing.ledger.latest(1) == newest


def test_eight_who_share_out_at_once_share_out_once(pooled: House) -> None:
    """Whoever is second finds what the first decided, and nobody is paid twice."""
    pooled.work("ann", 2)
    pooled.work("bob", 1)
    pooled.over()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: pooled.distribute(JANUARY), range(8)))
    assert all(one == found[0] for one in found)
    assert (pooled.has("ann"), pooled.has("bob")) == (2 * SHARE, SHARE)
    pooled.assert_sound()


def test_a_crash_before_anybody_is_paid_is_mended_by_a_repeat(pooled: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decided stands in the book: the repeat pays it, even if a refund has come in between."""
    numbers = pooled.work("ann", 2)
    pooled.work("bob", 2)
    pooled.over()
    with monkeypatch.context() as patch:
        patch.setattr(sharing.Dividends, "_pay", crash)
        with pytest.raises(OSError, match="power"):
            pooled.distribute(JANUARY)
    assert pooled.has("ann") == 0
    refund(pooled, numbers[0])
    pooled.distribute(JANUARY)
    assert (pooled.has("ann"), pooled.has("bob"), pooled.carried) == (2 * SHARE, 2 * SHARE, -SHARE)
    pooled.assert_sound()


def test_a_month_must_be_over_and_those_before_it_shared_out(pooled: House) -> None:
    """Not before its end and its grace, not before the month before it, not after a later one, not for nothing."""
    pooled.work("ann")
    with pytest.raises(RefusedError, match="over for long enough"):
        pooled.distribute(JANUARY)
    pooled.clock.instant = JANUARY.end
    with pytest.raises(RefusedError, match="over for long enough"):
        pooled.distribute(JANUARY)
    pooled.work("bob")
    pooled.clock.instant = MARCH.end
    pooled.over()
    with pytest.raises(RefusedError, match="earlier month"):
        pooled.distribute(FEBRUARY)
    pooled.distribute(JANUARY)
    pooled.distribute(FEBRUARY)
    with pytest.raises(RefusedError, match="nothing to share out"):
        pooled.distribute(MARCH)
    assert (pooled.has("ann"), pooled.has("bob")) == (SHARE, SHARE)


def test_what_the_cap_cuts_off_goes_into_the_next_month(pooled: House) -> None:
    """Nobody gets more than the cap of what there is; the rest is carried, and shared then."""
    pooled.formula(contributor_basis_points_max=6000)
    pooled.work("ann", 3)
    pooled.work("bob", 1)
    pooled.over()
    found = pooled.distribute(JANUARY)
    assert [share.units for share in found.shares] == [4 * SHARE * 6 // 10, SHARE]
    assert found.carried_after == pooled.carried == 3 * SHARE - 4 * SHARE * 6 // 10
    pooled.work("ann", 1)
    pooled.work("bob", 1)
    pooled.over()
    later = pooled.distribute(FEBRUARY)
    assert later.carried_before == found.carried_after
    assert later.paid == 2 * SHARE + found.carried_after
    assert pooled.carried == 0
    pooled.assert_sound()


def test_a_refund_before_the_month_is_shared_out_leaves_nothing_of_the_work(pooled: House) -> None:
    """The pool gives it back, and the result does not count for who delivered it, whenever in time it was refunded."""
    (number, _) = pooled.work("ann", 2)
    pooled.work("bob", 1)
    pooled.over()
    refund(pooled, number)
    pooled.distribute(JANUARY)
    assert (pooled.has("ann"), pooled.has("bob")) == (SHARE, SHARE)
    pooled.work("ann")
    pooled.work("bob")
    pooled.over()
    pooled.distribute(FEBRUARY)
    assert (pooled.has("ann"), pooled.has("bob")) == (2 * SHARE, 2 * SHARE)
    pooled.assert_sound()


def test_a_refund_after_that_is_made_up_for_by_the_next_month(pooled: House) -> None:
    """The hospital has its money at once; the next pool pays less, and the result counts against who delivered it."""
    (number, _) = pooled.work("ann", 2)
    pooled.work("bob", 2)
    pooled.over()
    pooled.distribute(JANUARY)
    before = pooled.owed
    refund(pooled, number)
    assert before - pooled.owed == 536
    assert pooled.carried == -SHARE
    assert (pooled.has("ann"), pooled.has("bob")) == (2 * SHARE, 2 * SHARE)
    pooled.work("ann", 2)
    pooled.work("bob", 2)
    pooled.over()
    found = pooled.distribute(FEBRUARY)
    # Three results are left to be paid by three shares: one of ann's was paid in January.
    assert {share.contributor: share.units for share in found.shares} == {"ann": SHARE, "bob": 2 * SHARE}
    assert pooled.carried == 0
    pooled.assert_sound()


def test_more_refunds_than_work_make_nobody_owe(pooled: House) -> None:
    """A share is never negative: the next month's pool goes into the gap, and what is still open is carried on."""
    numbers = pooled.work("ann", 3)
    pooled.over()
    pooled.distribute(JANUARY)
    for number in numbers:
        refund(pooled, number)
    pooled.work("bob", 1)
    pooled.over()
    found = pooled.distribute(FEBRUARY)
    assert [share.units for share in found.shares] == [0]
    assert found.carried_after == pooled.carried == -2 * SHARE
    pooled.work("bob", 3)
    pooled.over()
    assert pooled.distribute(MARCH).paid == pooled.has("bob") == SHARE
    pooled.assert_sound()


def test_refunds_may_not_run_ahead_for_ever(pooled: House) -> None:
    """Beyond what may be carried, a refund waits for the next month's pool; nothing has changed by asking."""
    pooled.formula(carry_units_max=SHARE)
    first, second = pooled.work("ann", 2)
    pooled.over()
    pooled.distribute(JANUARY)
    refund(pooled, first)
    with pytest.raises(OverdrawnError):
        pooled.billing.refund(books.study(second), books.SERVICE, Cause.DISPUTED)
    assert pooled.billing.standing(books.study(second), books.SERVICE).state is State.CHARGED
    pooled.assert_sound()


def test_a_lowered_limit_stops_no_sharing_and_sinks_as_it_is_made_up_for(pooled: House) -> None:
    """What was taken ahead before stays allowed, and no more: the next pool goes into it, and the limit follows."""
    numbers = pooled.work("ann", 4)
    pooled.over()
    pooled.distribute(JANUARY)
    for number in numbers[:3]:
        refund(pooled, number)
    pooled.formula(carry_units_max=SHARE)
    pooled.work("bob", 1)
    pooled.over()
    found = pooled.distribute(FEBRUARY)
    assert (found.paid, pooled.carried) == (0, -2 * SHARE)
    assert pooled.billing.ledger.balance(pools.carried(CNY)).credit_limit == 2 * SHARE
    with pytest.raises(OverdrawnError):
        refund(pooled, numbers[3])
    pooled.work("bob", 3)
    pooled.over()
    assert pooled.distribute(MARCH).paid == pooled.has("bob") == SHARE
    assert pooled.billing.ledger.balance(pools.carried(CNY)).credit_limit == SHARE
    pooled.assert_sound()


@pytest.mark.parametrize("when", ["read", "decided"])
def test_a_refund_in_the_middle_of_it_is_not_lost(pooled: House, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Between reading and writing it makes everything be read again; between writing and paying it is carried."""
    number, *_ = pooled.work("ann", 2)
    pooled.work("bob", 2)
    pooled.over()
    name, done = ("_work", []) if when == "read" else ("_pay", [])
    real = getattr(sharing.Dividends, name)

    def interrupted(self: Any, *given: Any) -> Any:
        found = real(self, *given) if when == "read" else None
        if not done:
            done.append(refund(pooled, number))
        return found if when == "read" else real(self, *given)

    monkeypatch.setattr(sharing.Dividends, name, interrupted)
    pooled.distribute(JANUARY)
    expected = (SHARE, 2 * SHARE, 0) if when == "read" else (2 * SHARE, 2 * SHARE, -SHARE)
    assert (pooled.has("ann"), pooled.has("bob"), pooled.carried) == expected
    pooled.assert_sound()


def test_a_refund_while_the_pool_is_being_shared_out_comes_from_what_is_carried(
    pooled: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refund saw an open pool and met an empty one: it looks again, and the hospital has its money."""
    (number,) = pooled.work("ann")
    pooled.over()
    real, asked = pools.giver, []

    def late(*given: Any) -> str:
        found = real(*given)
        if not asked and pools.is_pool(given[1]):
            asked.append(pooled.distribute(JANUARY))
        return found

    monkeypatch.setattr(pools, "giver", late)
    refund(pooled, number)
    assert (pooled.has("ann"), pooled.carried, pooled.owed) == (SHARE, -SHARE, 0)
    pooled.assert_sound()


# --- who does not count ---------------------------------------------------------------------------------


def test_work_for_oneself_earns_no_dividend(pooled: House) -> None:
    """The hospital's owner lets its own nodes work for it as much as it likes: the others share the pool."""
    pooled.work("own", 5)
    pooled.work("ann", 1)
    pooled.over()
    found = pooled.distribute(JANUARY)
    assert [(share.contributor, share.units) for share in found.shares] == [("ann", 6 * SHARE)]
    assert pooled.has("own") == 0
    pooled.assert_sound()


def test_work_for_oneself_alone_is_carried(one_book: House) -> None:
    """Where nobody else worked, nobody is paid, and the month is closed all the same."""
    one_book.work("own", 2)
    one_book.over()
    found = one_book.distribute(JANUARY)
    assert (found.shares, found.carried_after, one_book.carried) == ((), 2 * SHARE, 2 * SHARE)
    assert one_book.distribute(JANUARY) == found
    one_book.assert_sound()


def test_nodes_of_nobody_earn_nothing(one_book: House) -> None:
    """A node that no file names could be anybody's, the hospital's own included."""
    one_book.work(STRANGER, 3)
    one_book.work("bob", 1)
    one_book.over()
    found = one_book.distribute(JANUARY)
    assert [(share.contributor, share.units) for share in found.shares] == [("bob", 4 * SHARE)]


# --- what is told ---------------------------------------------------------------------------------------


def test_what_is_told_is_what_the_schemas_say(one_book: House) -> None:
    """One event for the month and one for each contributor, valid, and without the size of anybody's study."""
    one_book.work("ann", 2)
    one_book.work("bob", 1)
    one_book.over()
    one_book.distribute(JANUARY, [Performance("a" * 64, 30, 3, 10**12, 10**5)])
    key = signer()
    told_of = [envelope(notice, "urn:btt:test", key) for notice in one_book.billing.ledger.notices(0, 100)]
    for event in told_of:
        validator(event["type"]).validate(event)
    kinds = [event["type"] for event in told_of if event["type"] != events.CHARGED]
    assert kinds == [told.SHARED, told.PAID, told.PAID]
    assert {kind for kind in SCHEMAS if kind.startswith("btt.dividend.")} == set(told.KINDS)
    (shared,) = [event["data"] for event in told_of if event["type"] == told.SHARED]
    assert sum(int(share["units"]) for share in shared["shares"]) == 3 * SHARE
    # 30 of 33 leases kept, of 95 % that are expected.
    assert shared["shares"][0]["factors"]["reliability"] == "200/209"
    assert not [word for word in ("130000000000", "260000000000") if word in json.dumps(told_of)]


# --- the division itself --------------------------------------------------------------------------------

_PERFORMANCES = st.builds(
    Performance,
    st.just(""),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**18),
    st.integers(0, 10**12),
)
_AUDITED = st.builds(
    Audited,
    st.none() | st.integers(0, 10**6),
    st.none() | st.sampled_from([*SHIPPED.regions, "atlantis"]),
    st.none() | st.integers(0, 10**12),
)


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=4), st.tuples(st.integers(1, 10**18), _PERFORMANCES, _AUDITED)),
    st.integers(0, 10**30),
)
def test_shares_sum_exactly_and_stay_within_their_bounds(work: dict[str, Any], units: int) -> None:
    """Nothing negative, nothing above the cap, nothing lost but to the cap; every factor within its bounds."""
    operations = {name: work[name][0] for name in sorted(work)}
    measured, vouched = ({name: one[n] for name, one in work.items()} for n in (1, 2))
    uncapped = replace(SHIPPED, contributor_basis_points_max=10_000)
    capped = sharing._shares(SHIPPED, operations, measured, vouched, units)
    whole = sharing._shares(uncapped, operations, measured, vouched, units)
    assert sum(share.units for share in whole) == (units if work else 0)
    cap = units * SHIPPED.contributor_basis_points_max // 10_000
    assert [share.units for share in capped] == [min(share.units, cap) for share in whole]
    bounds = {"reliability": SHIPPED.reliability, "quality": SHIPPED.quality, "geography": SHIPPED.geography}
    for share in whole:
        assert share.units >= 0
        for name, bound in (bounds | {"energy": SHIPPED.energy}).items():
            factor = share.factors[name]
            assert factor == 1 or Fraction(bound.low, 10_000) <= factor <= Fraction(bound.high, 10_000)
