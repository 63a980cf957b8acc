"""The rail on a chain: each order paid once and confirmed once, whatever is repeated, lost, killed or reordered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from btt_bridge import plugins
from btt_bridge.errors import (
    BridgeError,
    DeliveryRefusedError,
    DeliveryUnreachableError,
    InvalidAmountError,
    KeyConflictError,
    RefusedError,
    UnknownError,
)
from btt_bridge.ledger import Ledger
from btt_bridge.money import BTT, CNY, Amount
from btt_bridge.records import BankAccount, Confirmation, Outcome, PaymentOrder
from btt_bridge.settle.payfi import Clearing, State, policy, run
from btt_bridge.settle.token.allocation import Table
from btt_bridge.testing import FakeClock
from btt_evm import deploy
from btt_evm import rail as rails
from btt_evm.node import Node
from btt_evm.payouts import batches
from btt_evm.place import Settlement, save
from btt_evm.rail import EvmRail
from btt_evm.tester import InProcess
from tests.plugins.evm.chains import Place, Served, payee, served
from tests.settle.payfi import house as payfi

AT: Final = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
OURS: Final = BankAccount("Operator", "1001")


def order(number: int, units: int) -> PaymentOrder:
    return PaymentOrder(f"btt-1-{number}", Amount(units, BTT), OURS, BankAccount("Clinic", payee(number)))


ORDERS: Final = [order(1, 10), order(2, 20), order(3, 5)]
BOOKED: Final = [
    Confirmation("btt-1-1", Outcome.BOOKED, Decimal("0.000000000000000010"), "BTT"),
    Confirmation("btt-1-2", Outcome.BOOKED, Decimal("0.000000000000000020"), "BTT"),
    Confirmation("btt-1-3", Outcome.BOOKED, Decimal("0.000000000000000005"), "BTT"),
]


@pytest.fixture
def rail(place: Place) -> EvmRail:
    place.fund(1000)
    return EvmRail(place.folder)


def said(rail: EvmRail) -> list[Confirmation]:
    return [confirmation for statement in rail.statements() for confirmation in statement.confirmations]


def paid(place: Place) -> list[int]:
    return [place.balance(payee(number)) for number in (1, 2, 3)]


def test_orders_are_posted_then_claimed_then_confirmed(place: Place, rail: EvmRail) -> None:
    """The life of a message: nothing is said while it can be disputed, nor before its claims are deep enough."""
    rail.submit("btt-1", ORDERS, AT)
    place.mine(5)
    assert (paid(place), said(rail)) == ([0, 0, 0], [])
    place.wait()
    rail.submit("btt-1", ORDERS, AT)
    assert paid(place) == [10, 20, 5]
    assert said(rail) == BOOKED[:1]  # the other two lie in the two blocks that are not believed yet
    place.mine(place.confirmations)
    assert said(rail) == BOOKED
    assert place.balance(place.node.address) == 965


def test_a_statement_comes_again_until_it_is_acknowledged(place: Place, rail: EvmRail) -> None:
    """Each order has a statement of its own; once all are acknowledged, the message is only kept to be known again."""
    rail.submit("btt-1", ORDERS, AT)
    place.wait()
    rail.submit("btt-1", ORDERS, AT)
    place.mine(2)
    names = [statement.name for statement in rail.statements()]
    rail.acknowledge(names[1])
    assert said(rail) == said(EvmRail(place.folder)) == [BOOKED[0], BOOKED[2]]
    for name in (*names, names[0], "btt-1.7", "btt-9.0"):
        rail.acknowledge(name)
    assert said(rail) == []
    rail.submit("btt-1", ORDERS, AT)
    assert (paid(place), said(rail)) == ([10, 20, 5], [])
    with pytest.raises(KeyConflictError):
        rail.submit("btt-1", ORDERS[:2], AT)
    for wrong in ("btt-1", "../x.1", "btt-1.x"):
        with pytest.raises(RefusedError):
            rail.acknowledge(wrong)


def test_a_message_again_changes_nothing(place: Place, rail: EvmRail) -> None:
    """Submitted over and over, before and after it stands, by this process and others: one post, one claim each."""
    for _ in range(3):
        rail.submit("btt-1", ORDERS, AT)
        EvmRail(place.folder).submit("btt-1", ORDERS, AT)
    place.wait()
    for _ in range(3):
        rail.submit("btt-1", ORDERS, AT)
        EvmRail(place.folder).submit("btt-1", ORDERS, AT)
    assert paid(place) == [10, 20, 5]
    assert place.balance(place.node.address) == 965


def test_a_message_with_other_orders_is_refused(place: Place, rail: EvmRail) -> None:
    """By the folder; and where the folder was lost, by the chain."""
    rail.submit("btt-1", ORDERS, AT)
    with pytest.raises(KeyConflictError):
        rail.submit("btt-1", [*ORDERS[:2], order(3, 6)], AT)
    (place.folder / "messages" / "btt-1.json").unlink()
    with pytest.raises(KeyConflictError):
        EvmRail(place.folder).submit("btt-1", [*ORDERS[:2], order(3, 6)], AT)


def test_a_folder_that_was_lost_costs_nothing(place: Place, rail: EvmRail) -> None:
    """What was sent and what was handed over are forgotten: the chain knows the message by its name."""
    rail.submit("btt-1", ORDERS, AT)
    for name in ("messages", "sent"):
        for path in (place.folder / name).glob("*.json"):
            path.unlink()
    again = EvmRail(place.folder)
    again.submit("btt-1", ORDERS, AT)
    place.wait()
    again.submit("btt-1", ORDERS, AT)
    place.mine(2)
    assert (paid(place), said(again)) == ([10, 20, 5], BOOKED)
    assert place.balance(place.node.address) == 965


def test_a_voided_message_is_returned(place: Place, rail: EvmRail) -> None:
    """Within the window the guardian undoes it: every order comes back, once that is deep enough, and stays so."""
    rail.submit("btt-1", ORDERS, AT)
    (batch,) = rail.batches("btt-1")
    place.void(batch.name)
    assert said(rail) == []
    place.mine(2)
    assert said(rail) == [replace(one, outcome=Outcome.RETURNED) for one in BOOKED]
    place.wait()
    rail.submit("btt-1", ORDERS, AT)
    assert (paid(place), place.balance(place.node.address)) == ([0, 0, 0], 1000)


def test_a_payee_may_claim_without_us(place: Place, rail: EvmRail) -> None:
    """Somebody else brings the proof: the order is booked all the same, and the rest is claimed as ever."""
    rail.submit("btt-1", ORDERS, AT)
    place.wait()
    (batch,) = rail.batches("btt-1")
    contract = place.guardian.contract("Settlement", place.chain.settlement())
    one = batch.payouts[1]
    call = contract.functions.claim(batch.name, one.index, one.account, one.units, batch.siblings(one))
    place.guardian.transact("claim", call)
    place.mine(2)
    assert said(rail) == [BOOKED[1]]
    rail.submit("btt-1", ORDERS, AT)
    assert paid(place) == [10, 20, 5]


def test_without_tokens_nothing_is_posted_and_it_is_said_why(place: Place) -> None:
    """A poster that cannot pay: refused with the contract's reason, and posted once there are tokens."""
    rail = EvmRail(place.folder)
    with pytest.raises(DeliveryRefusedError, match="more than there is"):
        rail.submit("btt-1", ORDERS, AT)
    place.fund(35)
    rail.submit("btt-1", ORDERS, AT)
    assert place.balance(place.node.address) == 0


def test_what_cannot_be_paid_is_not_sent(place: Place, rail: EvmRail) -> None:
    """Names, amounts, assets and accounts that no contract would take, and more than all the tokens there are."""
    first = ORDERS[0]
    refused: list[tuple[str, list[PaymentOrder], type[BridgeError]]] = [
        ("btt 1", ORDERS, RefusedError),
        ("../btt-1", ORDERS, RefusedError),
        ("b" * 65, ORDERS, RefusedError),
        ("btt-1", [], RefusedError),
        ("btt-1", [first, first], RefusedError),
        ("btt-1", [order(1, 0)], InvalidAmountError),
        ("btt-1", [replace(first, amount=Amount(5, CNY))], UnknownError),
        ("btt-1", [replace(first, creditor=BankAccount("Clinic", "3001"))], UnknownError),
        ("btt-1", [replace(first, creditor=BankAccount("Clinic", "0x" + "00" * 20))], UnknownError),
        ("btt-1", [replace(first, creditor=BankAccount("Clinic", "0x" + payee(1)[2:].swapcase()))], UnknownError),
        ("btt-1", [order(1, 10**37)], DeliveryRefusedError),
    ]
    for message, orders, error in refused:
        with pytest.raises(error):
            rail.submit(message, orders, AT)
    assert place.balance(place.node.address) == 1000


# --- the same over a wire -------------------------------------------------------------------------------


@pytest.fixture
def wired(place: Place, rail: EvmRail) -> Iterator[Served]:
    """The chain of `place` behind a port; `chain.yaml` names it by its URL."""
    with served(place.provider) as (url, chain):
        save(place.folder, replace(place.chain, url=url))
        yield chain


def test_any_node_by_url(place: Place, wired: Served) -> None:
    """The whole life of a message over JSON-RPC, and nothing asked of the node that needs keys of its own."""
    rail = EvmRail(place.folder)
    rail.submit("btt-1", ORDERS, AT)
    place.wait()
    rail.submit("btt-1", ORDERS, AT)
    place.mine(2)
    assert said(rail) == BOOKED
    assert {"eth_sendRawTransaction", "eth_call", "eth_chainId"} <= set(wired.asked)
    assert not {"eth_sendTransaction", "eth_accounts", "eth_sign", "eth_signTransaction"} & set(wired.asked)
    rail.node.close()


def test_an_answer_that_is_lost_after_sending_pays_once(place: Place, wired: Served) -> None:
    """The node took the transaction and the line broke: the same call again finds it done."""
    rail = EvmRail(place.folder)
    wired.swallowed.add("eth_sendRawTransaction")
    with pytest.raises(DeliveryUnreachableError):
        rail.submit("btt-1", ORDERS, AT)
    wired.swallowed.clear()
    rail.submit("btt-1", ORDERS, AT)
    place.wait()
    wired.swallowed.add("eth_sendRawTransaction")
    for _ in ORDERS:
        with pytest.raises(DeliveryUnreachableError):
            rail.submit("btt-1", ORDERS, AT)
    wired.swallowed.clear()
    rail.submit("btt-1", ORDERS, AT)
    assert paid(place) == [10, 20, 5]
    assert place.balance(place.node.address) == 965
    rail.node.close()


class KilledError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", ["sign", "write", "broadcast", "after"])
@pytest.mark.parametrize("phase", ["post", "claim"])
def test_killed_between_any_two_steps_it_pays_once(
    place: Place, rail: EvmRail, monkeypatch: pytest.MonkeyPatch, step: str, phase: str
) -> None:
    """Before signing, between signing and record, between record and sending, after sending: a new process goes on."""
    if phase == "claim":
        rail.submit("btt-1", ORDERS, AT)
        place.wait()

    def die(*_: Any, **__: Any) -> None:
        raise KilledError

    sent = Node._broadcast

    def die_after(node: Node, raw: str) -> None:
        sent(node, raw)
        raise KilledError

    with monkeypatch.context() as patched:
        if step == "sign":
            patched.setattr(Node, "_sign_and_send", die)
        elif step == "write":
            patched.setattr("btt_evm.node.durable.write_body", die)
            (place.folder / "messages" / "btt-1.json").exists() or patched.setattr(rails.durable, "write_body", die)
        else:
            patched.setattr(Node, "_broadcast", die if step == "broadcast" else die_after)
        with pytest.raises(KilledError):
            EvmRail(place.folder).submit("btt-1", ORDERS, AT)
    again = EvmRail(place.folder)
    again.submit("btt-1", ORDERS, AT)
    place.wait()
    again.submit("btt-1", ORDERS, AT)
    again.submit("btt-1", ORDERS, AT)
    place.mine(2)
    assert (paid(place), said(again)) == ([10, 20, 5], BOOKED)
    assert place.balance(place.node.address) == 965


# --- with the clearing house ----------------------------------------------------------------------------


def test_payments_of_the_clearing_house_are_settled_on_a_chain(tmp_path: Path, place: Place, table: Table) -> None:
    """A token that stands for CNY: instructed, netted, posted, claimed, confirmed, and the book agrees."""
    asset_token = place.chain.token  # an ERC-20 of 18 decimal places; CNY has two
    poster = Node(place.chain, place.folder)
    chain = deploy.settle_in(poster, CNY, asset_token, place.holders(), 1800, place.folder)
    save(place.folder, replace(chain, accounts={"3001": payee(1), "4001": payee(2)}))
    place.fund(10**24)
    clock = FakeClock()
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", clock)
    clearing = Clearing(ledger, policy.load(payfi.MAPPINGS), payfi.directory(tmp_path / "participants"))
    clearing.open()
    clearing.instruct(payfi.payment("one", 10_000))
    clearing.instruct(payfi.payment("two", 5_000, payee="party:west"))
    clock.advance(3600)
    rail = plugins.rail("evm", str(place.folder))
    assert run(clearing, rail).standings == ()
    place.wait()
    assert run(clearing, rail).refused == ()
    place.mine(3)
    standings = run(clearing, rail).standings
    assert [standing.state for standing in standings] == [State.SETTLED, State.SETTLED]
    payouts = {standing.leg.payee: standing.leg.payout.units * 10**16 for standing in standings}
    assert payouts == {"party:east": place.balance(payee(1)), "party:west": place.balance(payee(2))}
    assert (run(clearing, rail).standings, clearing.submit(rail).payouts) == ((), 0)
    payfi.assert_sound(clearing)
    ledger.close()


def test_assets_of_one_message_are_batches_of_their_own(place: Place) -> None:
    """Each asset has its contract; names, roots and units do not mix."""
    both = {**place.chain.settlements, CNY: Settlement(payee(9), 6)}
    mixed = [ORDERS[0], replace(ORDERS[1], amount=Amount(7, CNY)), ORDERS[2]]
    one, two = batches(replace(place.chain, settlements=both), "btt-1", mixed)
    assert (one.asset, one.units, [payout.position for payout in one.payouts]) == (BTT, 15, [0, 2])
    assert (two.asset, two.units, [payout.index for payout in two.payouts]) == (CNY, 70_000, [0])
    assert one.name != two.name
    assert json.dumps([one.root.hex(), two.root.hex()]).count(one.root.hex()) == 1


def test_a_chain_that_goes_back_takes_back_what_was_not_deep(place: Place, rail: EvmRail) -> None:
    """A reorganization drops blocks that were not believed yet: nothing was said of them, and they are made again."""
    rail.submit("btt-1", ORDERS, AT)
    place.wait()
    tester: InProcess = place.provider
    before = tester.ethereum_tester.take_snapshot()
    rail.submit("btt-1", ORDERS, AT)
    assert paid(place) == [10, 20, 5]
    shallow = said(rail)
    tester.ethereum_tester.revert_to_snapshot(before)
    assert paid(place) == [0, 0, 0]
    place.mine(5)
    assert said(rail) == []
    rail.submit("btt-1", ORDERS, AT)
    place.mine(2)
    assert (paid(place), said(rail)) == ([10, 20, 5], BOOKED)
    assert shallow == BOOKED[:1]
