"""Attacks on money that no other test makes; docs/attacks.md lists them all, with the tests that make them."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btt_bridge.errors import (
    BridgeError,
    InvalidAmountError,
    KeyConflictError,
    MappingError,
    OverdrawnError,
    RefusedError,
    SignatureError,
    UnbalancedError,
    UnknownAccountError,
)
from btt_bridge.ledger import Instruction, Ledger, Move, audit
from btt_bridge.money import BTT, CNY, POINTS, Amount, Asset
from btt_bridge.records import Charge, Urgency
from btt_bridge.settle import Billing, Cause, Facts, State, drain, events, prices
from btt_bridge.settle.token import Choice, Institution, Spend, allocation, open_token
from btt_bridge.signing import Signer
from btt_bridge.testing import FakeClock, MemorySink
from tests.settle.books import SERVICE, deliver, facts, opened, study
from tests.settle.economy import Plug
from tests.test_ledger_guards import Raw, refused

ROOT: Final = Path(__file__).parents[2]
E18: Final = 10**18
DAY: Final = 86_400
PAYABLE: Final = "hospital:test:payable:cny"


@pytest.fixture
def billing(database_url: str, clock: FakeClock) -> Iterator[Billing]:
    """A hospital's bills; whatever is tried, the book holds and sums to zero in the end."""
    with opened(database_url, clock) as billing:
        yield billing
        found = audit.verify(billing.ledger)
        assert found.problem == ""
        assert set(found.trial_balance.values()) <= {0}


@pytest.fixture
def raw(database_url: str, billing: Billing) -> Iterator[Raw]:
    raw = Raw(database_url)
    yield raw
    raw.connection.close()


def owed(billing: Billing) -> int:
    return -billing.ledger.balance(PAYABLE).units


# --- paid twice -----------------------------------------------------------------------------------------


def test_no_crash_comes_between_a_posting_and_its_event(billing: Billing) -> None:
    """Wherever the plug is pulled, a charge and the word of it are both there or neither is."""
    plug, charge = Plug(billing.ledger.engine), billing.quote(facts())
    for nth in itertools.count(1):
        with plug.set(before=nth):
            billing.post(study(1), SERVICE, charge, "n1")
        postings, notices = billing.ledger.postings(0, 10), billing.ledger.notices(0, 10)
        assert [posting.id for posting in postings] == [notice.position for notice in notices]
        if not plug.pulled:
            break
    assert nth > 5
    assert [notice.type for notice in notices] == [events.CHARGED]


def test_charges_that_eight_refund_at_once_come_back_once_each(billing: Billing) -> None:
    """Each is refunded twice, for different causes, in any order: the hospital owes nothing, nobody keeps a unit."""
    numbers = range(1, 61)
    charges = [deliver(billing, number) for number in numbers]
    assert owed(billing) == sum(charge.amount.units for charge in charges)
    asked = [(number, cause) for number in numbers for cause in (Cause.DISPUTED, Cause.WITHDRAWN)]
    random.Random(1).shuffle(asked)
    with ThreadPoolExecutor(8) as pool:
        states = pool.map(lambda one: billing.refund(study(one[0]), SERVICE, one[1]).state, asked)
        assert set(states) == {State.REFUNDED}
    assert owed(billing) == 0
    assert sum(notice.type == events.REFUNDED for notice in billing.ledger.notices(0, 1000)) == len(numbers)
    left = {b.account: b.units for b in billing.ledger.balances() if b.asset == CNY and b.units}
    assert left == {}


def test_a_zombie_is_not_paid(billing: Billing) -> None:
    """The node whose result was accepted has the share; one that comes later for the same work gets nothing."""
    charge = deliver(billing, 1, node="winner")
    standing = billing.post(study(1), SERVICE, charge, "zombie")
    assert standing.posting is not None
    assert "node:winner:earnings:cny" in {transfer.credit for transfer in standing.posting.transfers}
    earned = {b.account: b.units for b in billing.ledger.balances() if b.account.startswith("node:")}
    assert earned["node:winner:earnings:cny"] == 375
    assert earned.get("node:zombie:earnings:cny", 0) == 0


# --- what is no amount ----------------------------------------------------------------------------------

_FLOAT: Any = 1.5
_NAN: Any = float("nan")
_TRUE: Any = True


def _moved(billing: Billing, units: Any, asset: Asset = CNY, credit: str = "bank:cny") -> Callable[[], object]:
    return lambda: billing.ledger.post_all("t", "k", [Move(PAYABLE, credit, Amount(units, asset), "attack")])


def test_wrong_input_is_refused_by_the_code_with_its_reason(billing: Billing) -> None:
    """A float, below zero, zero, no number, too much, another body, asset, scale, no account, what is not there."""
    billing.ledger.post_all("t", "k", [Move(PAYABLE, "bank:cny", Amount(1, CNY), "first")])
    wrong: list[tuple[Callable[[], object], type[BridgeError], str]] = [
        (_moved(billing, _FLOAT), InvalidAmountError, "whole"),
        (_moved(billing, _NAN), InvalidAmountError, "whole"),
        (_moved(billing, _TRUE), InvalidAmountError, "whole"),
        (_moved(billing, -5), InvalidAmountError, "whole"),
        (_moved(billing, 0), InvalidAmountError, "whole"),
        (_moved(billing, 10**38), InvalidAmountError, "38 digits"),
        (_moved(billing, 7), KeyConflictError, "key"),
        (
            lambda: billing.ledger.post_all("t", "2", [Move(PAYABLE, "bank:cny", Amount(5, POINTS), "x")]),
            UnbalancedError,
            "holds CNY",
        ),
        (
            lambda: billing.ledger.post_all("t", "3", [Move(PAYABLE, "bank:cny", Amount(5, Asset("CNY", 3)), "x")]),
            UnbalancedError,
            "CNY/3",
        ),
        (lambda: billing.ledger.open_account("x:cny", Asset("CNY", 3)), InvalidAmountError, "2 decimal places"),
        (
            lambda: billing.ledger.post_all("t", "4", [Move(PAYABLE, "nobody:cny", Amount(5, CNY), "x")]),
            UnknownAccountError,
            "nobody",
        ),
        (
            lambda: billing.ledger.post_all("t", "5", [Move("compute:clearing:cny", "bank:cny", Amount(1, CNY), "x")]),
            OverdrawnError,
            "clearing",
        ),
    ]
    before = billing.ledger.balances()
    for act, error, reason in wrong:
        with pytest.raises(error, match=reason):
            act()
    assert billing.ledger.balances() == before


def test_wrong_input_is_refused_by_the_database_with_its_reason(billing: Billing, raw: Raw) -> None:
    """The same past all of our code: each is stopped by a rule of the database that says which."""
    billing.ledger.post_all("t", "k", [Move("bank:cny", PAYABLE, Amount(4, CNY), "first")])
    with billing.ledger.engine.connect() as connection:
        ids = dict(connection.exec_driver_sql("SELECT name, id FROM account").all())
    sides = {"debit": ids[PAYABLE], "credit": ids["bank:cny"], "asset": "CNY", "id": 2, "posting": 2}
    sound = {
        "id": 2,
        "issuer": "raw",
        "digest": b"d" * 32,
        "event": b"",
        "transfers": 1,
        "at": "2026-01-05T08:00:00.000000Z",
    }
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"amount": 1.5}, "amount|numeric"),
        ({"amount": -5}, "amount"),
        ({"amount": 0}, "amount"),
        ({"amount": "NaN"}, "amount|numeric"),
        ({"amount": 10**38}, "amount|numeric"),
        ({"debit": ids["compute:clearing:cny"], "amount": 1}, "account_is_covered"),
        ({"asset": "POINTS", "amount": 1}, "both accounts|foreign key"),
        ({"credit": 9999, "amount": 1}, "both accounts|foreign key"),
    ]
    for changes, reason in wrong:
        refused(lambda changes=changes: _inserted(raw, sound | {"key": "k"}, sides | changes), reason)  # type: ignore[misc]
    refused(lambda: raw.insert("posting", sound | {"key": "k", "issuer": "t"}), "never replaced|duplicate key")
    refused(lambda: raw.insert("asset", {"code": "CNY", "scale": 3}), "never replaced|duplicate key")
    refused(lambda: raw.run("UPDATE asset SET scale = 3 WHERE code = 'CNY'"), "never changed")


def _inserted(raw: Raw, posting: dict[str, Any], transfer: dict[str, Any]) -> None:
    row = {
        "kind": "move",
        "hold": None,
        "expires_at": None,
        "reason": "raw",
        "hash": b"h" * 32,
        "at": posting["at"],
    } | transfer
    if isinstance(row["amount"], int) and row["amount"] >= 0:
        row["amount"] = raw.units(row["amount"])
    raw.run("BEGIN")
    try:
        raw.insert("posting", posting)
        raw.insert("transfer", row)
    finally:
        raw.run("ROLLBACK")


def test_no_token_is_made_beyond_the_supply(billing: Billing, raw: Raw, tmp_path: Path) -> None:
    """A table above 100 % does not load; and the account that the supply came from gives no more, by the database."""
    shipped = (ROOT / "mappings" / "token" / "allocation" / "btt-2025.yaml").read_text()
    (tmp_path / "btt-2025.yaml").write_text(shipped.replace("basis_points: 1700", "basis_points: 2801"))
    with pytest.raises(MappingError, match="above 10000"):
        allocation.load(tmp_path)
    open_token(ROOT / "mappings", billing.ledger)
    gift = Amount(1, BTT)
    billing.ledger.open_account("wallet:hospital:x:btt", BTT)
    with pytest.raises(OverdrawnError, match="genesis"):
        billing.ledger.post_all("t", "more", [Move("token:genesis:btt", "wallet:hospital:x:btt", gift, "mint")])
    with billing.ledger.engine.connect() as connection:
        ids = dict(connection.exec_driver_sql("SELECT name, id FROM account").all())
    last = billing.ledger.latest(1)[0].id
    posting = {
        "id": last + 1,
        "issuer": "raw",
        "key": "k",
        "digest": b"d" * 32,
        "event": b"",
        "transfers": 1,
        "at": "2026-01-05T08:00:00.000000Z",
    }
    more = {"debit": ids["token:genesis:btt"], "credit": ids["wallet:hospital:x:btt"], "asset": "BTT", "amount": 1}
    refused(lambda: _inserted(raw, posting, more | {"id": last + 1, "posting": last + 1}), "account_is_covered")


# --- prices ---------------------------------------------------------------------------------------------


def test_a_price_knows_nothing_that_a_node_could_inflate(billing: Billing) -> None:
    """There is no clock in it; whoever does the work, and however long it says it took, the charge is the same."""
    fields = set(Facts.__slots__) | set(Charge.__slots__)
    assert not [
        name for name in fields if any(word in name for word in ("second", "time", "started", "finished", "node"))
    ]
    assert deliver(billing, 1, node="quick").amount == deliver(billing, 2, node="slow").amount


def test_declared_volume_moves_a_price_only_up_to_the_cap(billing: Billing) -> None:
    """A terabyte that nobody sent costs what the cap says; nothing costs less than the floor; nothing is negative."""
    huge = billing.quote(replace(facts(), operations=10**30, voxels=10**30, size_bytes=10**40))
    nothing = billing.quote(Facts(0, 0, 0, Urgency.ROUTINE, "cpu"))
    assert (huge.amount.units, nothing.amount.units) == (5000, 100)
    with pytest.raises(InvalidAmountError):
        Facts(-1, 0, 0, Urgency.ROUTINE, "cpu")


def test_hurry_is_never_cheaper_whatever_the_work(billing: Billing) -> None:
    """Whoever calls everything urgent pays for it each time: stat is never below urgent, nor urgent below routine."""
    dice = random.Random(2)
    for _ in range(200):
        work = [dice.randrange(10 ** dice.randrange(1, 14)) for _ in range(3)]
        stat, urgent, routine = (billing.quote(Facts(*work, urgency, "gpu")).amount.units for urgency in Urgency)
        assert routine <= urgent <= stat
        assert stat > routine or routine in (100, 5000)


def test_less_hurry_than_was_asked_for_is_what_is_held_and_charged(billing: Billing, clock: FakeClock) -> None:
    """Stat on offer, placed as urgent: one hold is left, of the urgent price, and nothing else is ever taken; and where
    a list makes less hurry dearer, or is gone, it is what was held before."""
    asked, deadline = billing.quote(facts(Urgency.STAT)), clock.now() + timedelta(minutes=30)
    billing.hold(study(1), SERVICE, asked, deadline)
    placed = billing.requote(asked, Urgency.URGENT)
    assert placed == billing.quote(facts(Urgency.URGENT))
    billing.hold(study(1), SERVICE, placed, deadline)
    assert billing.ledger.balance(PAYABLE).debits_pending == placed.amount.units < asked.amount.units
    billing.post(study(1), SERVICE, placed, "n1")
    assert (owed(billing), billing.ledger.balance(PAYABLE).debits_pending) == (placed.amount.units, 0)
    dear = replace(billing.prices[0], urgency_percent={"stat": 180, "urgent": 200, "routine": 100})
    for lists in ((dear,), ()):
        found = replace(billing, prices=lists).requote(asked, Urgency.URGENT)
        assert found == replace(asked, urgency=Urgency.URGENT)


def test_a_price_that_was_quoted_is_not_changed_by_a_later_list(billing: Billing, clock: FakeClock) -> None:
    """A dearer list that comes into force between offer and delivery does not reach what was already quoted."""
    dearer = replace(billing.prices[0], name="later", effective_from=date(2026, 1, 6), base_micro=10**9)
    changed = replace(billing, prices=(*billing.prices, dearer))
    charge = changed.quote(facts())
    changed.hold(study(1), SERVICE, charge, clock.now() + timedelta(days=2))
    clock.advance(DAY)
    assert changed.quote(facts()).amount.units > charge.amount.units
    changed.post(study(1), SERVICE, charge, "n1")
    assert owed(changed) == charge.amount.units
    assert prices.quote(changed.prices, facts(), date(2026, 1, 5)) == charge


# --- votes, referrals -----------------------------------------------------------------------------------


def test_a_flash_stake_wins_nothing_even_with_all_tokens(database_url: str, clock: FakeClock) -> None:
    """All there is, staked for a day: no vote, discount or priority. What stands a week votes once, for that week."""
    ledger = Ledger(database_url, clock)
    token = open_token(ROOT / "mappings", ledger)
    token.supply.release()
    whale = "investor:bithive"
    units = ledger.balance(f"wallet:{whale}:btt").units - 100 * E18
    token.stakes.stake(whale, "flash", units, "none")
    clock.advance(DAY)
    assert (token.stakes.priority(whale), token.stakes.discount_percent(whale)) == (0, 0)
    with pytest.raises(RefusedError, match="nobody who could vote"):
        token.governance.propose(whale, "mine", Spend("ecosystem-development-fund", whale, E18))
    clock.advance(6 * DAY)
    proposal = token.governance.propose(whale, "mine", Spend("ecosystem-development-fund", whale, E18))
    token.stakes.end(whale, 1)
    assert token.governance.vote(proposal.id, whale, Choice.YES).transfers[0].amount.units == units * 7
    with pytest.raises(RefusedError, match="otherwise"):
        token.governance.vote(proposal.id, whale, Choice.NO)
    ledger.close()


def test_a_ring_of_institutions_earns_nothing_from_itself(database_url: str, clock: FakeClock) -> None:
    """One owner behind many names, and many names in a circle: no referral is noted, so none is paid."""
    ledger = Ledger(database_url, clock)
    token = open_token(ROOT / "mappings", ledger)
    token.supply.release()
    names = [f"hospital:ring{n}" for n in range(6)]
    for one, other in itertools.pairwise(names):
        token.referrals.refer(Institution(one, one), Institution(other, other), 0)
    for one, other in itertools.combinations(names, 2):
        with pytest.raises(RefusedError):
            token.referrals.refer(Institution(other, other), Institution(one, one), 0)
        with pytest.raises(RefusedError):
            token.referrals.refer(Institution("hospital:z", "same"), Institution("hospital:y", "same"), 0)
    assert sum(notice.type == "btt.token.referred.v1" for notice in ledger.notices(0, 1000)) == len(names) - 1
    ledger.close()


# --- what the world is told -----------------------------------------------------------------------------


def _emitted(billing: Billing, signer: Signer) -> list[dict[str, Any]]:
    sink = MemorySink()
    billing.ledger.set_position("attack", 0)
    drain(billing.ledger, sink, signer, name="attack", source="urn:btt:bridge:test", limit=1000)
    return [dict(event) for event in sink.events]


def test_a_stolen_key_is_replaced_and_old_events_keep_their_proof(billing: Billing) -> None:
    """Each signature holds under its own key alone; a replay after the change is the same event, signed anew."""
    old, new = (Signer(Ed25519PrivateKey.generate()) for _ in range(2))
    deliver(billing, 1)
    before = _emitted(billing, old)
    after = _emitted(billing, new)
    for first, second in zip(before, after, strict=True):
        events.verify(first, old.public)
        events.verify(second, new.public)
        for event, key in ((first, new), (second, old)):
            with pytest.raises(SignatureError):
                events.verify(event, key.public)
        assert {**first, "signature": ""} == {**second, "signature": ""}


def test_nothing_public_counts_or_sizes_a_patient_or_a_study(billing: Billing) -> None:
    """Of each charge there is a price and who got what; no event names, counts or measures a study."""
    for number in range(1, 12):
        deliver(billing, number)
    told = _emitted(billing, Signer(Ed25519PrivateKey.generate()))
    text = json.dumps(told)
    for number in range(1, 12):
        assert study(number) not in text
    names = {name for event in told for name in event["data"]}
    allowed = {
        "amount",
        "bill",
        "cause",
        "expires_at",
        "hardware",
        "node",
        "payment",
        "price_list",
        "shares",
        "split",
        "urgency",
    }
    assert names <= allowed


def test_an_instruction_is_bound_to_all_of_its_body() -> None:
    """Any change of a party, an amount, an asset or a reason is another body, and so a conflict under the same key."""
    base = Move("a:cny", "b:cny", Amount(5, CNY), "x")
    changed = [
        replace(base, debit="c:cny"),
        replace(base, credit="c:cny"),
        replace(base, amount=Amount(6, CNY)),
        replace(base, amount=Amount(5, Asset("CNY", 3))),
        replace(base, reason="y"),
    ]
    digests = {Instruction("t", "k", (step,)).digest for step in [base, *changed]}
    assert len(digests) == len(changed) + 1
