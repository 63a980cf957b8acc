"""The ledger's rules as its callers meet them, on both engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from btt_bridge.errors import (
    HoldResolvedError,
    InvalidAmountError,
    KeyConflictError,
    LedgerError,
    OverdrawnError,
    UnbalancedError,
    UnknownAccountError,
    UnknownHoldError,
)
from btt_bridge.ledger import Event, Expire, Hold, Instruction, Ledger, Move, Post, Posting, Void, audit
from btt_bridge.money import BTT, CNY, POINTS, Amount, Asset
from btt_bridge.testing import FakeClock

A, B, WORLD = "a:cny", "b:cny", "world:cny"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ledger(database_url: str, clock: FakeClock) -> Iterator[Ledger]:
    """Two accounts and the world, with 100 minor units on the first."""
    ledger = Ledger(database_url, clock)
    for name in (A, B):
        ledger.open_account(name, CNY)
    ledger.open_account(WORLD, CNY, credit_limit=None)
    ledger.post_all("test", "fund", [move(WORLD, A, 100)])
    yield ledger
    ledger.close()


def move(debit: str, credit: str, units: int, asset: Asset = CNY) -> Move:
    return Move(debit, credit, Amount(units, asset), "test")


def hold(units: int, expires_at: datetime, debit: str = A, credit: str = B) -> Hold:
    return Hold(debit, credit, Amount(units, CNY), "test", expires_at)


def units(ledger: Ledger, *accounts: str) -> list[int]:
    return [ledger.balance(name).units for name in accounts]


def assert_sound(ledger: Ledger) -> None:
    """The book holds, and adds up to nothing for each asset."""
    found = audit.verify(ledger)
    assert found.problem == ""
    assert set(found.trial_balance.values()) <= {0}
    assert set(ledger.trial_balance().values()) <= {0}


# --- moves ----------------------------------------------------------------------------------------------


def test_a_move_debits_one_account_and_credits_the_other(ledger: Ledger, clock: FakeClock) -> None:
    """Both sides change by the same amount, and the answer says what was written."""
    posting = ledger.post_all("test", "one", [move(A, B, 30)])
    assert units(ledger, A, B, WORLD) == [70, 30, -100]
    (transfer,) = posting.transfers
    assert (transfer.debit, transfer.credit, transfer.amount, transfer.at) == (A, B, Amount(30, CNY), clock.now())
    assert_sound(ledger)


def test_nobody_spends_what_is_not_there(ledger: Ledger) -> None:
    """One unit too many is refused with the account's name, and nothing has changed."""
    with pytest.raises(OverdrawnError, match=A):
        ledger.post_all("test", "one", [move(A, B, 101)])
    assert units(ledger, A, B) == [100, 0]
    ledger.post_all("test", "one", [move(A, B, 100)])
    assert units(ledger, A, B) == [0, 100]
    assert_sound(ledger)


def test_linked_steps_happen_together_or_not_at_all(ledger: Ledger) -> None:
    """The last of three steps is one unit too many: the first two never happened."""
    with pytest.raises(OverdrawnError):
        ledger.post_all("test", "one", [move(A, B, 60), move(B, WORLD, 10), move(A, B, 41)])
    assert units(ledger, A, B, WORLD) == [100, 0, -100]
    assert ledger.find("test", "one") is None
    ledger.post_all("test", "one", [move(A, B, 60), move(B, WORLD, 10), move(A, B, 40)])
    assert units(ledger, A, B, WORLD) == [0, 90, -90]
    assert_sound(ledger)


def test_in_a_batch_a_refused_instruction_costs_only_itself(ledger: Ledger) -> None:
    """Many instructions share a commit, each sees what those before it left, and refusals stand in their places."""
    answers = ledger.post_many([
        Instruction("test", "1", (move(A, B, 70),)),
        Instruction("test", "2", (move(A, B, 70),)),
        Instruction("test", "3", (move(A, B, 20), move(A, "nobody", 1))),
        Instruction("test", "4", (move(A, B, 30),)),
        Instruction("test", "1", (move(A, B, 70),)),
    ])  # fmt: skip
    kinds = [type(answer) for answer in answers]
    assert kinds == [Posting, OverdrawnError, UnknownAccountError, Posting, Posting]
    assert answers[4] == answers[0]
    assert units(ledger, A, B) == [0, 100]
    assert_sound(ledger)


def test_amounts_of_38_digits_are_kept_to_the_last(ledger: Ledger) -> None:
    """The largest amount, in the asset with 18 decimals, moves without losing a unit; one more unit is refused."""
    largest = 10**38 - 1
    for name in ("a:btt", "b:btt"):
        ledger.open_account(name, BTT)
    ledger.open_account("world:btt", BTT, credit_limit=None)
    ledger.post_all("test", "mint", [move("world:btt", "a:btt", largest, BTT)])
    ledger.post_all("test", "odd", [move("a:btt", "b:btt", 10**18 + 1, BTT)])
    assert units(ledger, "a:btt", "b:btt", "world:btt") == [largest - 10**18 - 1, 10**18 + 1, -largest]
    with pytest.raises(InvalidAmountError):
        ledger.post_all("test", "more", [move("world:btt", "a:btt", 1, BTT)])
    assert_sound(ledger)


def test_a_batch_of_many_rows_is_as_whole_as_one(ledger: Ledger) -> None:
    """More rows than one statement takes: each posting, its transfers and its event are there, numbered by account."""
    asked = [
        Instruction(
            "test", f"m{n}", (move(WORLD, A, 1), move(A, B, 1)), Event("btt.test.v1", A if n % 3 else B, {"n": n})
        )
        for n in range(251)
    ]
    answers = ledger.post_many(asked)
    assert answers == ledger.find_all("test", [instruction.key for instruction in asked])
    assert units(ledger, A, B) == [100, 251]
    notices = ledger.notices(0, 1000)
    assert [notice.data["n"] for notice in notices] == list(range(251))
    assert [notice.sequence for notice in notices if notice.account == B] == list(range(1, 85))
    assert_sound(ledger)


# --- transactions ---------------------------------------------------------------------------------------


def test_what_a_transaction_posted_it_knows(ledger: Ledger, clock: FakeClock) -> None:
    """Later postings of one transaction build on earlier ones: chain, keys, holds and the numbers of events."""
    event = Event("btt.test.v1", A, {})
    with ledger.transaction() as book:
        assert book.find_all("test", ["one", "fund"]) == [ledger.find("test", "fund")]
        held = book.post(Instruction("test", "one", (hold(40, clock.now() + timedelta(minutes=1)),), event))
        assert isinstance(held, Posting)
        assert book.find_all("test", ["one"]) == [held]
        assert book.unresolved([held.id, 1]) == {held.id}
        taken = book.post(Instruction("test", "two", (Post(held.id, "test"),), event))
        assert isinstance(taken, Posting)
        assert book.unresolved([held.id]) == set()
        assert isinstance(book.post(Instruction("test", "two", (move(A, B, 1),))), KeyConflictError)
        assert isinstance(book.post(Instruction("test", "three", (Void(held.id, "test"),))), HoldResolvedError)
    assert ledger.find_all("test", ["one", "two"]) == [held, taken]
    assert [notice.sequence for notice in ledger.notices(0, 10)] == [1, 2]
    assert units(ledger, A, B) == [60, 40]
    assert_sound(ledger)


def test_a_transaction_is_one_instant_and_happens_or_does_not(ledger: Ledger, clock: FakeClock) -> None:
    """Time that passes in it is not told by it; what breaks it leaves no posting and no account behind."""
    with ledger.transaction() as book:
        clock.advance(5)
        answers = book.post_many([Instruction("test", "one", (move(A, "new:cny", 1),))], {"new:cny": CNY, B: CNY})
    (posting,) = answers
    assert isinstance(posting, Posting)
    assert posting.at == book.at == clock.now() - timedelta(seconds=5)

    def broken() -> None:
        with ledger.transaction() as book:
            book.post_many([Instruction("test", "two", (move(A, "newer:cny", 1),))], {"newer:cny": CNY})
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - it is our own
        broken()
    assert [balance.account for balance in ledger.balances()] == [A, B, "new:cny", WORLD]
    assert ledger.find("test", "two") is None
    assert_sound(ledger)


def test_an_account_that_a_transaction_opens_keeps_its_asset(ledger: Ledger) -> None:
    """What stands under that name in another asset refuses the one posting; another scale refuses the whole."""
    with ledger.transaction() as book:
        asked = [Instruction("test", "odd", (move(A, "c", 1),)), Instruction("test", "even", (move(A, B, 1),))]
        assert isinstance(book.post_many(asked[:1], {"c": POINTS})[0], UnbalancedError)
        assert isinstance(book.post_many(asked, {"c": CNY})[1], Posting)
        with pytest.raises(InvalidAmountError):
            book.post_many(asked, {"d": Asset("CNY", 3)})
    assert ledger.balance("c").asset == POINTS
    assert_sound(ledger)


# --- keys -----------------------------------------------------------------------------------------------


def test_the_same_instruction_again_gets_the_same_answer(ledger: Ledger, clock: FakeClock) -> None:
    """A retry, even days later, moves nothing and hears exactly what the first attempt heard."""
    first = ledger.post_all("test", "one", [move(A, B, 30)], Event("btt.test.v1", A, {"n": 1}))
    clock.advance(3 * 86400)
    assert ledger.post_all("test", "one", [move(A, B, 30)], Event("btt.test.v1", A, {"n": 1})) == first
    assert ledger.find("test", "one") == first
    assert units(ledger, A, B) == [70, 30]
    assert len(ledger.notices(0, 10)) == 1
    assert_sound(ledger)


@pytest.mark.parametrize(
    ("steps", "event"),
    [
        ([move(A, B, 31)], None),
        ([move(B, A, 30)], None),
        ([move(A, B, 30), move(A, B, 1)], None),
        ([Move(A, B, Amount(30, CNY), "other reason")], None),
        ([move(A, B, 30)], Event("btt.test.v1", A, {"n": 1})),
    ],
    ids=["amount", "direction", "one more step", "reason", "event"],
)
def test_the_same_key_for_something_else_is_a_conflict(ledger: Ledger, steps: list[Move], event: Event | None) -> None:
    """Whatever differs in the body, the key is taken, and nothing moves."""
    ledger.post_all("test", "one", [move(A, B, 30)])
    with pytest.raises(KeyConflictError):
        ledger.post_all("test", "one", steps, event)
    assert units(ledger, A, B) == [70, 30]


def test_keys_of_different_issuers_do_not_meet(ledger: Ledger) -> None:
    """Two issuers may choose the same key."""
    ledger.post_all("one", "key", [move(A, B, 10)])
    ledger.post_all("two", "key", [move(A, B, 20)])
    assert units(ledger, A, B) == [70, 30]


def test_a_refused_instruction_leaves_its_key_free(ledger: Ledger) -> None:
    """Refused for want of money, the same instruction succeeds once there is some."""
    with pytest.raises(OverdrawnError):
        ledger.post_all("test", "one", [move(B, A, 10)])
    ledger.post_all("test", "two", [move(A, B, 10)])
    ledger.post_all("test", "one", [move(B, A, 10)])
    assert units(ledger, A, B) == [100, 0]


# --- holds ----------------------------------------------------------------------------------------------


def test_a_hold_reserves_and_a_post_takes_it(ledger: Ledger, clock: FakeClock) -> None:
    """What is held is not available and not yet moved; posting moves it."""
    held = ledger.post_all("test", "hold", [hold(60, clock.now() + timedelta(hours=1))])
    assert (ledger.balance(A).available, ledger.balance(A).units, ledger.balance(B).units) == (40, 100, 0)
    with pytest.raises(OverdrawnError):
        ledger.post_all("test", "spend", [move(A, B, 41)])
    ledger.post_all("test", "post", [Post(held.id, "test")])
    assert units(ledger, A, B) == [40, 60]
    assert not ledger.is_open(held.id)
    assert_sound(ledger)


def test_a_partial_post_releases_the_rest(ledger: Ledger, clock: FakeClock) -> None:
    """Taking 25 of 60 leaves 75 to spend, and the hold is over."""
    held = ledger.post_all("test", "hold", [hold(60, clock.now() + timedelta(hours=1))])
    ledger.post_all("test", "post", [Post(held.id, "test", Amount(25, CNY))])
    assert (ledger.balance(A).available, ledger.balance(B).units) == (75, 25)
    assert ledger.balance(B).credits_pending == 0
    with pytest.raises(HoldResolvedError):
        ledger.post_all("test", "again", [Post(held.id, "test", Amount(35, CNY))])
    assert_sound(ledger)


def test_a_post_never_takes_more_than_was_held(ledger: Ledger, clock: FakeClock) -> None:
    """One unit more, or another asset, is refused and the hold stays open."""
    held = ledger.post_all("test", "hold", [hold(60, clock.now() + timedelta(hours=1))])
    with pytest.raises(OverdrawnError):
        ledger.post_all("test", "more", [Post(held.id, "test", Amount(61, CNY))])
    with pytest.raises(UnbalancedError):
        ledger.post_all("test", "other", [Post(held.id, "test", Amount(60, POINTS))])
    assert ledger.is_open(held.id)


@pytest.mark.parametrize("first", [Post, Void])
@pytest.mark.parametrize("second", [Post, Void, Expire])
def test_a_hold_is_resolved_once(
    ledger: Ledger, clock: FakeClock, first: Callable[..., Any], second: Callable[..., Any]
) -> None:
    """Whatever resolved it, nothing resolves it again: neither later nor within one posting."""
    held = ledger.post_all("test", "hold", [hold(60, clock.now() + timedelta(hours=1))])
    with pytest.raises(HoldResolvedError):
        ledger.post_all("test", "both", [first(held.id, "test"), second(held.id, "test")])
    ledger.post_all("test", "first", [first(held.id, "test")])
    clock.advance(7200)
    before = units(ledger, A, B)
    with pytest.raises(HoldResolvedError):
        ledger.post_all("test", "second", [second(held.id, "test")])
    assert units(ledger, A, B) == before
    assert_sound(ledger)


def test_a_hold_runs_out(ledger: Ledger, clock: FakeClock) -> None:
    """Before its time it cannot expire; from that instant it cannot be posted, and expiring releases it."""
    held = ledger.post_all("test", "hold", [hold(60, clock.now() + timedelta(hours=1))])
    clock.advance(3599)
    assert ledger.overdue([A], 10) == []
    with pytest.raises(HoldResolvedError, match="not run out"):
        ledger.post_all("test", "early", [Expire(held.id, "test")])
    clock.advance(1)
    assert [overdue.id for overdue in ledger.overdue([A], 10)] == [held.id]
    assert ledger.overdue([B], 10) == []
    with pytest.raises(HoldResolvedError, match="run out"):
        ledger.post_all("test", "late", [Post(held.id, "test")])
    ledger.post_all("test", "expire", [Expire(held.id, "test")])
    assert ledger.balance(A).available == 100
    assert ledger.overdue([A], 10) == []
    assert_sound(ledger)


def test_only_a_hold_can_be_resolved(ledger: Ledger) -> None:
    """A transfer that is no hold, or no transfer at all, is unknown as a hold."""
    for number in (1, 999):
        with pytest.raises(UnknownHoldError):
            ledger.post_all("test", "post", [Post(number, "test")])


def test_a_clock_that_is_set_back_does_not_turn_back_the_book(ledger: Ledger, clock: FakeClock) -> None:
    """Postings never bear an earlier instant than the one before them, and an expired hold stays expired."""
    held = ledger.post_all("test", "hold", [hold(60, clock.now() + timedelta(hours=1))])
    clock.advance(7200)
    later = ledger.post_all("test", "later", [move(A, B, 1)])
    clock.advance(-7200)
    assert ledger.now() == later.at
    assert ledger.post_all("test", "back", [move(A, B, 1)]).at == later.at
    with pytest.raises(HoldResolvedError):
        ledger.post_all("test", "post", [Post(held.id, "test")])


# --- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: move(A, B, 0), InvalidAmountError),
        (lambda: move(A, A, 1), UnbalancedError),
        (lambda: Move(A, B, 1, "test"), InvalidAmountError),  # type: ignore[arg-type]
        (lambda: Move(A, B, 1.5, "test"), InvalidAmountError),  # type: ignore[arg-type]
        (lambda: move("A B", B, 1), UnknownAccountError),
        (lambda: Move(A, B, Amount(1, CNY), "line\nbreak"), LedgerError),
        (lambda: Hold(A, B, Amount(1, CNY), "test", datetime(2026, 1, 1)), LedgerError),
        (lambda: Post(1, "test", Amount(0, CNY)), InvalidAmountError),
        (lambda: Instruction("test", "one", ()), UnbalancedError),
        (lambda: Instruction("test", "a\nb", (move(A, B, 1),)), LedgerError),
        (lambda: Instruction("", "one", (move(A, B, 1),)), LedgerError),
        (lambda: Event("Type", A, {}), LedgerError),
    ],
)
def test_what_cannot_be_asked_does_not_exist(make: Callable[[], Any], error: type[LedgerError]) -> None:
    """Wrong instructions are refused where they are made, each with its own error."""
    with pytest.raises(error):
        make()


def test_unknown_accounts_and_foreign_assets_are_refused(ledger: Ledger) -> None:
    """An account that is not open, another asset, and the same asset at another scale."""
    with pytest.raises(UnknownAccountError):
        ledger.post_all("test", "one", [move(A, "c:cny", 1)])
    with pytest.raises(UnbalancedError):
        ledger.post_all("test", "one", [move(A, B, 1, POINTS)])
    with pytest.raises(UnbalancedError):
        ledger.post_all("test", "one", [move(A, B, 1, Asset("CNY", 3))])
    with pytest.raises(UnknownAccountError):
        ledger.post_all("test", "one", [move(A, B, 1)], Event("btt.test.v1", "c:cny", {}))
    assert units(ledger, A, B) == [100, 0]


def test_an_account_keeps_its_asset_and_its_scale(ledger: Ledger) -> None:
    """Opening again changes nothing; another asset or scale is refused, also for a new account of a known asset."""
    ledger.open_account(A, CNY)
    assert units(ledger, A) == [100]
    with pytest.raises(UnbalancedError):
        ledger.open_account(A, POINTS)
    for name in (A, "new:cny"):
        with pytest.raises(InvalidAmountError):
            ledger.open_account(name, Asset("CNY", 3))
    with pytest.raises(UnknownAccountError):
        ledger.balance("new:cny")
    with pytest.raises(UnknownAccountError):
        ledger.open_account("New Account", CNY)
    with pytest.raises(InvalidAmountError):
        ledger.open_account("new:cny", CNY, credit_limit=-1)


def test_a_credit_limit_is_how_far_an_account_may_owe(ledger: Ledger, clock: FakeClock) -> None:
    """It can be raised, and lowered as far as what is owed and held allows; on demand just so far."""
    ledger.open_account(B, CNY, credit_limit=50)
    ledger.post_all("test", "owe", [move(B, A, 30)])
    ledger.post_all("test", "hold", [hold(20, clock.now() + timedelta(hours=1), B, A)])
    with pytest.raises(OverdrawnError):
        ledger.post_all("test", "more", [move(B, A, 1)])
    with pytest.raises(OverdrawnError):
        ledger.open_account(B, CNY, credit_limit=49)
    ledger.open_account(B, CNY, credit_limit=49, keep_used=True)
    assert ledger.balance(B).credit_limit == 50
    ledger.open_account(B, CNY, credit_limit=51)
    ledger.post_all("test", "more", [move(B, A, 1)])
    assert (ledger.balance(B).units, ledger.balance(B).available) == (-31, 0)
    assert_sound(ledger)


# --- what is read ---------------------------------------------------------------------------------------


def test_balances_are_of_all_accounts_or_of_those_whose_name_begins_so(ledger: Ledger) -> None:
    """What begins a name is taken as it is: no letter of it stands for another."""
    for name in ("c_d:cny", "cxd:cny"):
        ledger.open_account(name, CNY)
    assert [one.account for one in ledger.balances()] == [A, B, "c_d:cny", "cxd:cny", WORLD]
    assert [one.account for one in ledger.balances("c_")] == ["c_d:cny"]
    assert ledger.balances("nobody") == []


def test_a_statement_has_the_newest_lines_with_the_balance_after_each(ledger: Ledger, clock: FakeClock) -> None:
    """Lines run back from today's balance; a hold is a line that changes nothing."""
    ledger.post_all("test", "1", [move(A, B, 30), move(B, A, 5)])
    held = ledger.post_all("test", "2", [hold(10, clock.now() + timedelta(hours=1))])
    ledger.post_all("test", "3", [Post(held.id, "test", Amount(4, CNY))])
    lines = ledger.statement(A)
    assert [(line.transfer.kind, line.change, line.balance) for line in lines] == [
        ("post", -4, 71),
        ("hold", 0, 75),
        ("move", 5, 75),
        ("move", -30, 70),
        ("move", 100, 100),
    ]
    assert ledger.statement(A, limit=2) == lines[:2]
    assert [line.balance for line in ledger.statement(B)] == [29, 25, 25, 30]
    with pytest.raises(UnknownAccountError):
        ledger.statement("nobody")


def test_events_are_in_the_book_order_and_numbered_by_account(ledger: Ledger) -> None:
    """Each account's events count 1, 2, 3; reading goes on from any position; each sink keeps its own place."""
    for number, account in enumerate([A, B, A, A]):
        ledger.post_all("test", f"e{number}", [move(A, B, 1)], Event("btt.test.v1", account, {"n": number}))
    notices = ledger.notices(0, 10)
    assert [(notice.account, notice.sequence, notice.data["n"]) for notice in notices] == [
        (A, 1, 0),
        (B, 1, 1),
        (A, 2, 2),
        (A, 3, 3),
    ]
    assert ledger.notices(notices[1].position, 1) == [notices[2]]
    ledger.post_all("test", "other", [move(A, B, 1)], Event("btt.other.v1", B, {}))
    assert ledger.notices(notices[1].position, 10, ["btt.test.v1"]) == notices[2:]
    assert [notice.type for notice in ledger.notices(0, 10, ["btt.other.v1"])] == ["btt.other.v1"]
    assert ledger.position("file") == 0
    ledger.set_position("file", notices[1].position)
    ledger.set_position("file", notices[2].position)
    assert (ledger.position("file"), ledger.position("other")) == (notices[2].position, 0)


def test_a_refused_posting_tells_nothing(ledger: Ledger) -> None:
    """The event is in the same transaction: no money, no event."""
    with pytest.raises(OverdrawnError):
        ledger.post_all("test", "one", [move(A, B, 101)], Event("btt.test.v1", A, {}))
    assert ledger.notices(0, 10) == []


def test_postings_are_read_in_pages(ledger: Ledger) -> None:
    """Page by page, every posting comes once, whole and in order."""
    for number in range(5):
        ledger.post_all("test", f"p{number}", [move(A, B, 1), move(A, B, 2)])
    pages, after = [], 0
    while page := ledger.postings(after, 2):
        pages.append(page)
        after = page[-1].id
    assert [posting.key for page in pages for posting in page] == ["fund", "p0", "p1", "p2", "p3", "p4"]
    assert all(len(posting.transfers) == 2 for page in pages for posting in page if posting.key != "fund")


def test_the_book_outlives_its_process(database_url: str, ledger: Ledger) -> None:
    """A second ledger on the same database sees everything and continues the chain."""
    again = Ledger(database_url, FakeClock())
    again.post_all("test", "one", [move(A, B, 30)])
    assert units(ledger, A, B) == [70, 30]
    assert_sound(again)
    again.close()
