"""A payment through its life: instructed, netted, settled or returned; and everybody who tries to be paid twice."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from btt_bridge.errors import (
    HeldError,
    InvalidAmountError,
    KeyConflictError,
    OverdrawnError,
    RateUnavailableError,
    RefusedError,
    UnknownAccountError,
    UnknownError,
)
from btt_bridge.ledger import Ledger, Move
from btt_bridge.money import CNY, Amount
from btt_bridge.records import Outcome
from btt_bridge.settle.payfi import Clearing, Desk, HandedOver, Quote, State
from btt_bridge.settle.payfi.instructions import PaymentInstruction
from btt_bridge.testing import FakeClock, MemoryRail, SetRates
from tests.settle.payfi.house import (
    CREDIT,
    EUR,
    JPY,
    PARTICIPANTS,
    PATIENT,
    assert_sound,
    directory,
    opaque,
    opened,
    payment,
    said,
    units,
)

INSURER, EAST, WEST, BERLIN = (f"payfi:party:{name}:cny" for name in ("insurer", "east", "west", "berlin"))


def quoted(clearing: Clearing, clock: FakeClock, rate: str = "0.125") -> Quote:
    sources = [SetRates(name) for name in ("one", "two")]
    for source in sources:
        source.set("CNY", "EUR", rate, clock.now())
    return Desk(sources, clock).quote(clearing.rules(), CNY, EUR)


def test_a_payment_is_debited_netted_and_settled_when_the_bank_says_so(clearing: Clearing) -> None:
    """10.00 at 0.7 %: the insurer owes 10.00, the clinic gets 9.93 at its bank, the fund its part of 0.07."""
    made = clearing.instruct(payment("Claim/1", 1000))
    assert (made.gross.units, made.fees.units, made.net.units) == (1000, 7, 993)
    assert units(clearing, INSURER) == -1000
    assert units(clearing, "payfi:due:cny") == 993
    assert clearing.standing(opaque("Claim/1")).state is State.INSTRUCTED

    batch = clearing.close(early=True)
    assert batch is not None
    (leg,) = batch.legs
    assert (leg.payout.units, units(clearing, "payfi:due:cny"), units(clearing, "payfi:transit:cny")) == (993, 0, 993)
    assert clearing.standing(opaque("Claim/1")).state is State.NETTED

    rail = MemoryRail()
    assert clearing.submit(rail).payouts == 1
    assert clearing.standing(opaque("Claim/1")).state is State.NETTED, "handing over is not paying"
    (order,) = rail.messages["btt-1"]
    assert (order.id, order.amount, order.debtor.number, order.creditor.number) == (
        leg.order,
        leg.payout,
        "1001",
        "3001",
    )

    assert clearing.confirm(said(leg)).state is State.SETTLED
    assert clearing.standing(opaque("Claim/1")).state is State.SETTLED
    assert units(clearing, "bank:cny") == 993, "the bank account is that much lower"
    assert (units(clearing, "payfi:revenue:cny"), units(clearing, "fund:development:cny")) == (6, 1)
    assert [units(clearing, f"payfi:{name}:cny") for name in ("due", "transit", "fees")] == [0, 0, 0]
    assert clearing.submit(rail).payouts == 0
    assert_sound(clearing)


def test_who_owes_and_is_owed_gets_the_difference(clearing: Clearing) -> None:
    """East gets 993 and owes 300: 693 go to its bank, and its account is what it was before."""
    clearing.instruct(payment("Claim/1", 1000))
    clearing.instruct(payment("Invoice/1", 300, "party:east", "party:west"))
    assert units(clearing, EAST) == -300
    batch = clearing.close(early=True)
    assert batch is not None
    east, west = batch.legs
    assert (east.received.units, east.set_off.units, east.payout.units) == (993, 300, 693)
    assert west.payout.units == 298
    assert sum(batch.positions.values()) == 0
    assert batch.positions[EAST, CNY] == 693
    clearing.confirm(said(east))
    clearing.confirm(said(west))
    assert units(clearing, EAST) == 0
    assert units(clearing, "bank:cny") == 693 + 298
    assert_sound(clearing)


def test_what_is_set_off_in_full_needs_no_bank(clearing: Clearing) -> None:
    """East and west owe each other much the same: whoever owes more is settled by the batch, without an order."""
    clearing.instruct(payment("Claim/1", 1000, "party:east", "party:west"))
    clearing.instruct(payment("Claim/2", 500, "party:west", "party:east"))
    batch = clearing.close(early=True)
    assert batch is not None
    east, west = batch.legs
    assert (east.payout.units, west.payout.units) == (0, 995 - 500)
    rail = MemoryRail()
    assert clearing.submit(rail).payouts == 1
    assert [order.id for order in rail.messages["btt-1"]] == [west.order]
    assert clearing.leg_standing(east).state is State.SETTLED
    assert clearing.leg_standing(west).state is State.NETTED
    with pytest.raises(InvalidAmountError):
        clearing.confirm(said(east))
    clearing.confirm(said(west))
    assert units(clearing, EAST) == -1000 + 496
    assert_sound(clearing)


def test_a_conversion_goes_through_liquidity_and_its_fee_stands_by_itself(clearing: Clearing, clock: FakeClock) -> None:
    """100.00 CNY to a clinic that is paid in euros: four fees, 97.80 CNY into liquidity, 12.22 EUR out of it."""
    instruction = payment("Claim/1", 10_000, payee="party:berlin")
    with pytest.raises(RateUnavailableError):
        clearing.instruct(instruction)
    made = clearing.instruct(instruction, quoted(clearing, clock))
    assert (made.fees.units, made.principal.units, made.net) == (70 + 75 + 25 + 50, 9780, Amount(1222, EUR))
    transfers = [(t.debit, t.credit, t.amount.units, t.reason) for t in clearing.ledger.latest(6)[::-1]]
    assert transfers == [
        (INSURER, "payfi:fees:cny", 70, "payfi payment fee"),
        (INSURER, "payfi:fees:cny", 75, "payfi conversion fee"),
        (INSURER, "payfi:fees:cny", 25, "payfi analytics fee"),
        (INSURER, "payfi:fees:cny", 50, "payfi listing fee"),
        (INSURER, "payfi:liquidity:cny", 9780, "payfi conversion"),
        ("payfi:liquidity:eur", "payfi:due:eur", 1222, "payfi conversion"),
    ]
    batch = clearing.close(early=True)
    assert batch is not None
    sums = {a: sum(u for (_, asset), u in batch.positions.items() if asset == a) for a in (CNY, EUR)}
    assert sums == {CNY: 0, EUR: 0}
    clearing.confirm(said(batch.legs[0]))
    assert units(clearing, "fund:development:cny") == 33
    assert units(clearing, "bank:eur") == 1222
    assert_sound(clearing)


def test_a_quote_counts_until_it_expires_and_for_its_pair_alone(clearing: Clearing, clock: FakeClock) -> None:
    """A second too late, or for another pair: refused, and nothing has moved."""
    quote = quoted(clearing, clock)
    clock.advance(60)
    with pytest.raises(RateUnavailableError, match="expired"):
        clearing.instruct(payment("Claim/1", 10_000, payee="party:berlin"), quote)
    turned = Quote(EUR, CNY, quote.rate, quote.sources, clock.now(), clock.now().replace(year=2030))
    with pytest.raises(RefusedError, match="another pair"):
        clearing.instruct(payment("Claim/1", 10_000, payee="party:berlin"), turned)
    assert clearing.ledger.latest(1) == []


def test_liquidity_that_is_spent_refuses_the_conversion(clearing: Clearing, clock: FakeClock) -> None:
    """The liquidity account lends what the rules say and no unit more."""
    clearing.ledger.open_account("payfi:liquidity:eur", EUR, credit_limit=1221)
    with pytest.raises(OverdrawnError):
        clearing.instruct(payment("Claim/1", 10_000, payee="party:berlin"), quoted(clearing, clock))
    assert clearing.ledger.latest(1) == []


def test_a_house_opens_though_more_was_lent_than_it_lends_now(embedded: Clearing, tmp_path: Path) -> None:
    """A payer's credit lowered below what is owed stays at that, and sinks with the next start after a payment."""
    embedded.instruct(payment("Claim/1", 5_000))
    body = copy.deepcopy(PARTICIPANTS)
    body["participants"][0]["accounts"][0]["credit_units"] = 1_000
    lower = replace(embedded, directory=directory(tmp_path / "lower", body))
    lower.open()
    name = "payfi:party:insurer:cny"
    assert lower.ledger.balance(name).available == 0
    with pytest.raises(OverdrawnError):
        lower.instruct(payment("Claim/2", 100))
    lower.fund("party:insurer", Amount(4_500, CNY), "bank-1")
    lower.open()
    assert lower.ledger.balance(name).credit_limit == 1_000


# --- twice ----------------------------------------------------------------------------------------------


def test_a_document_is_paid_once_however_often_it_comes(clearing: Clearing) -> None:
    """Instructed again at once, in the next batch, and after it was paid: the same answer, and nothing moves."""
    first = clearing.instruct(payment("Claim/1", 1000))
    assert clearing.instruct(payment("Claim/1", 1000)) == first
    batch = clearing.close(early=True)
    assert batch is not None
    assert clearing.instruct(payment("Claim/1", 1000)) == first
    clearing.confirm(said(batch.legs[0]))
    assert clearing.instruct(payment("Claim/1", 1000), again=True) == first
    assert clearing.close(early=True) is None
    assert units(clearing, INSURER) == -1000


@pytest.mark.parametrize(
    "other",
    [
        payment("Claim/1", 1001),
        payment("Claim/1", 1000, payee="party:west"),
        payment("Claim/1", 1000, payer="party:west"),
        payment("Claim/1", 1000, asset=EUR),
    ],
    ids=["amount", "payee", "payer", "currency"],
)
def test_the_same_document_cannot_ask_for_something_else(embedded: Clearing, other: PaymentInstruction) -> None:
    """The same key with another body is a conflict, and costs nobody anything."""
    embedded.instruct(payment("Claim/1", 1000))
    with pytest.raises(KeyConflictError):
        embedded.instruct(other)
    assert units(embedded, INSURER) == -1000


def test_a_confirmation_that_is_replayed_pays_nobody_twice(clearing: Clearing) -> None:
    """Booked three times over: one payout."""
    clearing.instruct(payment("Claim/1", 1000))
    batch = clearing.close(early=True)
    assert batch is not None
    for _ in range(3):
        assert clearing.confirm(said(batch.legs[0])).state is State.SETTLED
    assert units(clearing, "bank:cny") == 993


def test_many_who_instruct_close_and_confirm_at_once_do_it_once(
    clearing: Clearing, clock: FakeClock, database_url: str, tmp_path: Path
) -> None:
    """Six writers with ledgers of their own bring the same claim, close the same batch and say the same of it."""
    folder = tmp_path / "others"
    houses = [opened(Ledger(database_url, FakeClock(clock.now())), folder) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda house: house.instruct(payment("Claim/1", 1000)), houses))
        assert made == made[:1] * 6
        batches = [batch for batch in pool.map(lambda house: house.close(early=True), houses) if batch]
        assert {batch.digest for batch in batches} == {clearing.batch(1).digest}
        (leg,) = clearing.batch(1).legs
        outcomes = [said(leg), said(leg, Outcome.RETURNED, "AC04")] * 3
        list(pool.map(lambda house, outcome: house.confirm(outcome), houses, outcomes))
    # Booked then returned, or returned before anything was booked: either way the insurer has it back.
    assert clearing.leg_standing(leg).state is State.RETURNED
    assert (units(clearing, INSURER), units(clearing, "bank:cny"), units(clearing, "payfi:fees:cny")) == (0, 0, 0)
    assert list(clearing.batches()) == [clearing.batch(1)]
    assert_sound(clearing)
    for house in houses:
        house.ledger.close()


def test_credit_is_spent_once_whoever_is_quicker(
    clearing: Clearing, clock: FakeClock, database_url: str, tmp_path: Path
) -> None:
    """Six payments of half the credit line at once: two pass, four are refused."""
    folder = tmp_path / "others"
    houses = [opened(Ledger(database_url, FakeClock(clock.now())), folder) for _ in range(6)]

    def attempt(number: int) -> bool:
        try:
            houses[number].instruct(payment(f"Claim/{number}", CREDIT // 2))
        except OverdrawnError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(attempt, range(6))) == 2
    assert units(clearing, INSURER) == -CREDIT
    assert_sound(clearing)
    for house in houses:
        house.ledger.close()


# --- returned -------------------------------------------------------------------------------------------


def test_a_payout_that_never_left_gives_everything_back(clearing: Clearing, clock: FakeClock) -> None:
    """Refused by the bank before it was booked: payer, fees and liquidity are as if nothing had been."""
    clearing.instruct(payment("Claim/1", 10_000, payee="party:berlin"), quoted(clearing, clock))
    batch = clearing.close(early=True)
    assert batch is not None
    assert clearing.confirm(said(batch.legs[0], Outcome.RETURNED, "AC01")).state is State.RETURNED
    assert {b.account for b in clearing.ledger.balances() if b.units} == set()
    assert clearing.confirm(said(batch.legs[0])).state is State.RETURNED, "booked, said too late, changes nothing"
    assert {b.account for b in clearing.ledger.balances() if b.units} == set()
    assert_sound(clearing)


def test_a_payout_that_comes_back_days_later_is_undone_by_correcting_transfers(clearing: Clearing) -> None:
    """Settled and then returned, set-off and fees included; every transfer stands, and has its mirror."""
    clearing.instruct(payment("Claim/1", 1000))
    clearing.instruct(payment("Invoice/1", 300, "party:east", "party:west"))
    batch = clearing.close(early=True)
    assert batch is not None
    east, west = batch.legs
    clearing.confirm(said(east))
    clearing.confirm(said(west))
    before = len(clearing.ledger.latest(1000))
    for _ in range(2):
        assert clearing.confirm(said(east, Outcome.RETURNED, "AC04")).state is State.RETURNED
    # Bank, set-off, two shares of the fee; fee and payment: each once.
    assert len(clearing.ledger.latest(1000)) == before + 6
    assert clearing.confirm(said(east, Outcome.RETURNED, "AM09")).state is State.RETURNED, "another reason is a replay"
    assert (units(clearing, INSURER), units(clearing, EAST), units(clearing, "bank:cny")) == (0, -300, 298)
    assert clearing.standing(opaque("Claim/1")).state is State.RETURNED
    assert clearing.standing(opaque("Invoice/1")).state is State.SETTLED
    assert_sound(clearing)


def test_a_return_waits_where_somebody_has_spent_their_part(clearing: Clearing) -> None:
    """The development fund's share is gone: refused whole, and passed once it is made good."""
    clearing.instruct(payment("Claim/1", 10_000))
    batch = clearing.close(early=True)
    assert batch is not None
    clearing.confirm(said(batch.legs[0]))
    spend = [Move("fund:development:cny", "bank:cny", Amount(10, CNY), "spend")]
    clearing.ledger.post_all("test", "spend", spend)
    back = said(batch.legs[0], Outcome.RETURNED, "AC04")
    with pytest.raises(OverdrawnError):
        clearing.confirm(back)
    assert clearing.leg_standing(batch.legs[0]).state is State.SETTLED
    clearing.ledger.post_all("test", "good", [Move("bank:cny", "fund:development:cny", Amount(10, CNY), "good")])
    assert clearing.confirm(back).state is State.RETURNED
    assert units(clearing, INSURER) == 0
    assert_sound(clearing)


def test_what_was_returned_is_tried_again_only_when_asked(clearing: Clearing) -> None:
    """A replayed claim stays returned; `again` makes one new attempt, with an order of its own."""
    clearing.instruct(payment("Claim/1", 1000))
    first = clearing.close(early=True)
    assert first is not None
    clearing.confirm(said(first.legs[0], Outcome.RETURNED, "AC04"))
    assert clearing.instruct(payment("Claim/1", 1000)).posting == first.payments[0].posting
    assert clearing.standing(opaque("Claim/1")).state is State.RETURNED
    second = clearing.instruct(payment("Claim/1", 1000), again=True)
    assert clearing.instruct(payment("Claim/1", 1000), again=True) == second
    assert second.reference != first.payments[0].reference
    batch = clearing.close(early=True)
    assert batch is not None
    assert batch.legs[0].order != first.legs[0].order
    clearing.confirm(said(batch.legs[0]))
    assert clearing.standing(opaque("Claim/1")).state is State.SETTLED
    assert (units(clearing, INSURER), units(clearing, "bank:cny")) == (-1000, 993)
    assert_sound(clearing)


# --- refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"value": Decimal("9.94")}, InvalidAmountError),
        ({"value": Decimal("9.929")}, InvalidAmountError),
        ({"value": Decimal("NaN")}, InvalidAmountError),
        ({"value": Decimal("-9.93")}, InvalidAmountError),
        ({"value": Decimal("0")}, InvalidAmountError),
        ({"value": Decimal("1e99999")}, InvalidAmountError),
        ({"currency": "EUR"}, InvalidAmountError),
        ({"currency": ""}, InvalidAmountError),
        ({"order": "btt-1-0000000000000000"}, UnknownError),
        ({"order": "btt-2-0000000000000000"}, UnknownError),
        ({"order": "btt-\u0661-0000000000000000"}, UnknownError),
        ({"order": "btt-99999999999999999999-0"}, UnknownError),
        ({"order": "INV-2026-77"}, UnknownError),
    ],
    ids=str,
)
def test_a_confirmation_of_something_else_is_refused(embedded: Clearing, changes: dict[str, Any], error: type) -> None:
    """Another amount, another currency, another order: whatever the outcome that it speaks of."""
    embedded.instruct(payment("Claim/1", 1000))
    batch = embedded.close(early=True)
    assert batch is not None
    for outcome in Outcome:
        with pytest.raises(error):
            embedded.confirm(said(batch.legs[0], outcome, **changes))
    assert embedded.leg_standing(batch.legs[0]).state is State.NETTED


@pytest.mark.parametrize(
    ("instruction", "error"),
    [
        (payment("x", 1), InvalidAmountError),
        (payment("x", 500_000_001), HeldError),
        (payment("x", CREDIT + 1), OverdrawnError),
        (payment("x", 1000, payee="party:nobody"), UnknownError),
        (payment("x", 1000, payee=PATIENT), UnknownError),
        (payment("x", 1000, payer="party:nobody"), UnknownAccountError),
        (payment("x", 1000, payer=PATIENT), UnknownAccountError),
        (payment("x", 1000, payer="party:west", asset=JPY), RateUnavailableError),
    ],
    ids=["eaten by fees", "above the cap", "beyond credit", "no payee", "a person", "no payer", "no funds", "yen"],
)
def test_an_instruction_that_cannot_be_carried_out_moves_nothing(
    embedded: Clearing, instruction: PaymentInstruction, error: type
) -> None:
    """Each is refused for its own reason, before a row is written."""
    with pytest.raises(error):
        embedded.instruct(instruction)
    assert embedded.ledger.latest(1) == []
    with pytest.raises(UnknownError):
        embedded.standing(opaque("x"))


def test_no_instruction_exists_for_what_is_not_an_amount() -> None:
    """Zero, a float, a bool, nobody, oneself, and a document by its own name."""
    wrong: list[Any] = [0, -5, 1.5, float("nan"), True, "10", 10**38]
    for one in wrong:
        with pytest.raises(InvalidAmountError):
            payment("x", one)
    for change in ({"payer": "party:east"}, {"payee": "Patient/1"}, {"payer": "person:Jane"}):
        with pytest.raises(RefusedError):
            payment("x", 100, **change)
    with pytest.raises(RefusedError):
        PaymentInstruction("Claim/1", "party:insurer", "party:east", Amount(1, CNY))


def test_a_person_pays_from_what_they_paid_in_and_leaves_no_name(clearing: Clearing) -> None:
    """Known by a keyed digest alone; without credit, and once for each key."""
    for _ in range(2):
        clearing.fund(PATIENT, Amount(1000, CNY), "transfer-1")
    clearing.instruct(payment("Invoice/1", 1000, payer=PATIENT))
    with pytest.raises(OverdrawnError):
        clearing.instruct(payment("Invoice/2", 2, payer=PATIENT))
    assert units(clearing, f"payfi:{PATIENT}:cny") == 0
    assert_sound(clearing)


# --- batches --------------------------------------------------------------------------------------------


def test_a_batch_closes_when_its_oldest_payment_has_waited_an_hour(clearing: Clearing, clock: FakeClock) -> None:
    """Not a second earlier, whatever came in between; what comes after is the next batch's."""
    clearing.instruct(payment("Claim/1", 1000))
    clock.advance(1800)
    clearing.instruct(payment("Claim/2", 1000))
    clock.advance(1799)
    assert clearing.close() is None
    clock.advance(1)
    batch = clearing.close()
    assert batch is not None
    assert len(batch.payments) == 2
    clearing.instruct(payment("Claim/3", 1000))
    assert clearing.close() is None
    clock.advance(3600)
    following = clearing.close()
    assert following is not None
    assert (following.number, len(following.payments)) == (2, 1)
    assert clearing.batch(1) == batch
    assert [one.number for one in clearing.batches()] == [2, 1]
    with pytest.raises(UnknownError):
        clearing.batch(3)


def test_every_payment_is_found_in_its_batch_however_many_there_are(embedded: Clearing, clock: FakeClock) -> None:
    """Nine batches, each payment in the one it fell into; unpaid ones are found behind paid ones."""
    rail = MemoryRail()
    for number in range(1, 10):
        embedded.instruct(payment(f"Claim/{number}", 1000))
        batch = embedded.close(early=True)
        assert batch is not None
        if number != 3:
            embedded.confirm(said(batch.legs[0]))
    for number in range(1, 10):
        standing = embedded.standing(opaque(f"Claim/{number}"))
        assert standing.leg is not None
        assert standing.leg.batch == number
        assert standing.state is (State.NETTED if number == 3 else State.SETTLED)
    assert [batch.number for batch in embedded.unpaid()] == [3]
    assert embedded.submit(rail).payouts == 1
    assert set(rail.messages) == {"btt-3"}


def test_a_rail_that_is_down_is_asked_again(embedded: Clearing) -> None:
    """The batch stands, the message comes later, and only once."""
    embedded.instruct(payment("Claim/1", 1000))
    embedded.close(early=True)
    rail = MemoryRail(failures_left=1)
    assert embedded.submit(rail) == HandedOver(0, (("btt-1", "OSError"),))
    for _ in range(2):
        assert embedded.submit(rail).payouts == 1
    assert len(rail.messages) == 1
