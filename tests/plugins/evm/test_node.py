"""A node and what we send through it: each name one transaction, each failure known for whether to try again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode

from btt_bridge.errors import (
    BridgeError,
    ConfigurationError,
    DeliveryRefusedError,
    DeliveryUnreachableError,
    RefusedError,
    SignatureError,
)
from btt_evm.node import Node
from tests.plugins.evm.chains import CHAIN_ID, Place, Served, payee, served


@pytest.fixture
def wired(place: Place) -> Iterator[tuple[Node, Served]]:
    """A node behind a port, and what it can be told."""
    with served(place.provider) as (url, chain):
        node = Node(replace(place.chain, url=url), place.folder)
        yield node, chain
        node.close()


def coin(node: Node) -> Any:
    return node.contract("Token", node.chain.token)


def kept(place: Place, name: str) -> dict[str, Any]:
    return dict(json.loads((place.folder / "sent" / f"{name}.json").read_text()))


def test_a_name_is_one_transaction(place: Place) -> None:
    """The same name again returns the same hash and sends nothing; another name is another transaction."""
    place.fund(100)
    token = coin(place.node)
    hashes = [place.node.transact("pay", token.functions.transfer(payee(1), 7)) for _ in range(3)]
    assert (len(set(hashes)), place.balance(payee(1))) == (1, 7)
    assert place.node.transact("pay-2", token.functions.transfer(payee(1), 7)) not in hashes
    assert place.balance(payee(1)) == 14
    for wrong in ("", "Pay", "../pay", "p" * 121):
        with pytest.raises(RefusedError):
            place.node.transact(wrong, token.functions.transfer(payee(1), 7))


def test_what_a_contract_would_refuse_is_not_sent(place: Place) -> None:
    """The reason is the contract's own; no fee is paid, no nonce used, nothing kept."""
    before = place.node.web3.eth.get_transaction_count(place.node.address)
    with pytest.raises(DeliveryRefusedError, match="more than there is"):
        place.node.transact("burn", coin(place.node).functions.burn(1))
    assert place.node.web3.eth.get_transaction_count(place.node.address) == before
    assert not (place.folder / "sent" / "burn.json").exists()


def test_what_was_signed_and_never_sent_is_sent_as_it_is(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash before sending: the same bytes go out, under the same nonce."""
    place.fund(100)
    call = coin(place.node).functions.transfer(payee(1), 7)
    with monkeypatch.context() as patched:
        patched.setattr(Node, "_broadcast", lambda *_: None)
        first = place.node.transact("pay", call)
    assert place.balance(payee(1)) == 0
    again = Node(place.chain, place.folder)
    assert again.transact("pay", call) == first
    assert place.balance(payee(1)) == 7


def test_one_that_was_overtaken_is_signed_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another transaction took its nonce, so it can never count: it is made again, and still counts once."""
    place.fund(100)
    token = coin(place.node)
    with monkeypatch.context() as patched:
        patched.setattr(Node, "_broadcast", lambda *_: None)
        lost = place.node.transact("pay", token.functions.transfer(payee(1), 7))
    place.node.transact("other", token.functions.transfer(payee(2), 1))
    found = place.node.transact("pay", token.functions.transfer(payee(1), 7))
    assert found != lost
    assert kept(place, "pay")["nonce"] == kept(place, "other")["nonce"] + 1
    assert (place.balance(payee(1)), place.balance(payee(2))) == (7, 1)


def test_one_that_fees_left_behind_is_replaced_under_its_nonce(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base fee rose above what was offered: it pays an eighth more, and only one of the two can count."""
    place.fund(100)
    call = coin(place.node).functions.transfer(payee(1), 7)
    with monkeypatch.context() as patched:
        patched.setattr(Node, "_broadcast", lambda *_: None)
        patched.setattr(Node, "_fees", lambda _: {"maxFeePerGas": 1, "maxPriorityFeePerGas": 1})
        first = place.node.transact("pay", call)
        before = kept(place, "pay")
    second = place.node.transact("pay", call)
    after = kept(place, "pay")
    assert (after["nonce"], after["replaced"]) == (before["nonce"], [first])
    assert after["transaction"]["maxFeePerGas"] * 8 > before["transaction"]["maxFeePerGas"] * 9
    assert second not in (first, "")
    assert (place.balance(payee(1)), place.node.transact("pay", call)) == (7, second)
    # Had the first one been counted after all, it is the first one that is told of.
    (place.folder / "sent" / "pay.json").write_text(json.dumps({**after, "hash": first, "replaced": [second]}))
    assert (place.node.transact("pay", call), place.balance(payee(1))) == (second, 7)


def test_a_transaction_that_failed_is_not_taken_for_done(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was estimated to hold and then did not is looked at anew, and its reason comes out."""
    place.fund(10)
    call = coin(place.node).functions.burn(10)
    with monkeypatch.context() as patched:
        patched.setattr(Node, "_broadcast", lambda *_: None)
        place.node.transact("burn", call)
    raw, nonce = kept(place, "burn")["raw"], kept(place, "burn")["nonce"]
    place.node.transact("away", coin(place.node).functions.transfer(payee(1), 10))
    assert kept(place, "away")["nonce"] == nonce
    assert raw != kept(place, "away")["raw"]
    with pytest.raises(DeliveryRefusedError, match="more than there is"):
        place.node.transact("burn", call)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (500, DeliveryUnreachableError),
        (503, DeliveryUnreachableError),
        (429, DeliveryUnreachableError),
        (408, DeliveryUnreachableError),
        (401, DeliveryRefusedError),
        (404, DeliveryRefusedError),
    ],
)
def test_every_http_status_knows_whether_to_try_again(
    wired: tuple[Node, Served], status: int, error: type[BridgeError]
) -> None:
    """Overload and faults pass; a wrong key or address does not, and no address stands in the message."""
    node, chain = wired
    node.deep()
    chain.status = status
    with pytest.raises(error) as caught:
        node.deep()
    assert caught.value.transient is (error is DeliveryUnreachableError)
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (
            {"error": {"code": -32000, "message": "insufficient funds for gas * price + value"}},
            DeliveryRefusedError,
            "fu",
        ),
        ({"error": {"code": -32000, "message": "exceeds block gas limit"}}, DeliveryRefusedError, "gas limit"),
        ({"error": {"code": -32005, "message": "limit exceeded"}}, DeliveryUnreachableError, "now"),
        ({"error": {"code": -32000, "message": "header not found"}}, DeliveryUnreachableError, "now"),
        (
            {"error": {"code": -32000, "message": "replacement transaction underpriced"}},
            DeliveryUnreachableError,
            "now",
        ),
        ({"error": "broken"}, DeliveryRefusedError, "speak"),
        ({}, DeliveryRefusedError, "speak"),
    ],
    ids=range(7),
)
def test_every_answer_knows_whether_to_try_again(
    wired: tuple[Node, Served], place: Place, answer: dict[str, Any], error: type[BridgeError], said: str
) -> None:
    """What nodes say when they take nothing: what money or limits forbid stays, what a busy node says passes."""
    node, chain = wired
    place.fund(100)
    chain.answers["eth_sendRawTransaction"] = answer
    with pytest.raises(error, match=said):
        node.transact("pay", coin(node).functions.transfer(payee(1), 7))
    chain.answers.clear()
    node.transact("pay", coin(node).functions.transfer(payee(1), 7))
    assert place.balance(payee(1)) == 7


@pytest.mark.parametrize(
    ("message", "data", "said"),
    [
        ("VM Exception: reverted with reason string 'no'", "0x08c379a0" + encode(["string"], ["no"]).hex(), "^no$"),
        ("execution reverted: no", "0x08c379a0ff", "^no$"),
        ("VM Exception: no", {"message": "", "data": "0x08c379a0" + encode(["string"], ["no"]).hex()}, "^no$"),
        ("execution reverted", "0x", "does not say why"),
    ],
    ids=range(4),
)
def test_the_reason_of_a_contract_is_found_however_a_node_wraps_it(
    wired: tuple[Node, Served], message: str, data: object, said: str
) -> None:
    """Nodes differ in their words around a revert; the contract's own are in the data."""
    node, chain = wired
    token = coin(node)
    chain.answers["eth_estimateGas"] = {"error": {"code": 3, "message": message, "data": data}}
    with pytest.raises(DeliveryRefusedError, match=said):
        node.transact("pay", token.functions.transfer(payee(1), 7))


@pytest.mark.parametrize(
    "message",
    ["already known", "AlreadyKnown", "known transaction: 0x1", "nonce too low", "transaction already imported"],
)
def test_a_transaction_that_is_known_is_no_failure(wired: tuple[Node, Served], place: Place, message: str) -> None:
    """Nodes say in their own words that they have it; whether it counts is asked next time."""
    node, chain = wired
    place.fund(100)
    chain.answers["eth_sendRawTransaction"] = {"error": {"code": -32000, "message": message}}
    sent = node.transact("pay", coin(node).functions.transfer(payee(1), 7))
    chain.answers.clear()
    assert node.transact("pay", coin(node).functions.transfer(payee(1), 7)) == sent
    assert place.balance(payee(1)) == 7


def test_nobody_at_the_other_end(place: Place, tmp_path: Path) -> None:
    """A port where nobody listens: try again later."""
    with served(place.provider) as (url, _):
        pass
    node = Node(replace(place.chain, url=url), place.folder)
    with pytest.raises(DeliveryUnreachableError):
        node.deep()
    node.close()


def test_another_chain_is_refused(place: Place) -> None:
    """A node of another chain than was configured is asked nothing and told nothing."""
    node = Node(replace(place.chain, chain_id=1), place.folder)
    with pytest.raises(ConfigurationError, match=str(CHAIN_ID)):
        node.deep()


def test_a_contract_that_is_not_deep_yet_is_not_there_yet(place: Place) -> None:
    """Asked of a block before it: come back later, not an answer of zero."""
    with pytest.raises(DeliveryUnreachableError, match="not deep enough"):
        place.node.read(coin(place.node).functions.totalSupply(), 0)


def test_a_key_is_made_once_and_is_its_owner_s_alone(place: Place) -> None:
    """Made with mode 0600; one that others can read, or that is no key, is refused."""
    key = place.folder / "poster.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert Node(place.chain, place.folder).address == place.node.address
    os.chmod(key, 0o640)
    with pytest.raises(ConfigurationError, match="others can read"):
        Node(place.chain, place.folder)
    os.chmod(key, 0o600)
    key.write_bytes(b"short")
    with pytest.raises(SignatureError):
        Node(place.chain, place.folder)


def test_one_that_must_be_alone_waits_for_what_is_under_way(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A nonce that is pending but not on the chain keeps it back."""
    place.fund(100)
    call = coin(place.node).functions.burn(1)
    real = place.node.web3.eth.get_transaction_count
    with monkeypatch.context() as patched:
        patched.setattr(
            type(place.node.web3.eth),
            "get_transaction_count",
            lambda _, who, at: real(who, "latest") + (at == "pending"),
        )
        with pytest.raises(DeliveryUnreachableError, match="under way"):
            place.node.transact_alone(lambda: ("burn", call))
    assert place.node.transact_alone(lambda: None) == ""
    assert place.node.transact_alone(lambda: ("burn", call))
    assert place.balance(place.node.address) == 99
