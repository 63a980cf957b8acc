"""The exchange over a real socket: what it takes, what it refuses, and that waiting is woken."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from btt_bridge import parcel
from btt_bridge.config import Settings
from btt_bridge.errors import (
    LeaseLostError,
    MalformedError,
    PeerRefusedError,
    PoolUnreachableError,
    SealBrokenError,
    SignatureError,
    TooLargeError,
    UnknownError,
)
from btt_bridge.parcel import Shelf
from btt_bridge.pool import Pool
from btt_bridge.records import Offer, to_body
from btt_bridge.signing import Signer, sign_request
from tests.exchange.pool_parts import FakeNode, new_signer, offer_for, put, serving, settings_for

NOTHING = hashlib.sha256().hexdigest()


class Pit:
    """A served exchange, a bridge and a node that are known to it, and shelves of their own."""

    def __init__(self, url: str, settings: Settings, bridge: Signer, node: FakeNode, folder: Path) -> None:
        self.url = url
        self.settings = settings
        self.bridge = Pool(url, bridge)
        self.node = node
        self.node.pool = Pool(url, node.signer)
        self.own_shelf = Shelf(str(folder / "bridge"))
        self.node_shelf = Shelf(str(folder / "node"))
        self.exchange_shelf = Shelf(settings.parcels_url)

    def offer(self, size: int = 3_000_000) -> tuple[Offer, bytes]:
        """Upload a parcel and offer it; return the offer and the parcel's key."""
        key = parcel.new_key()
        digest, size_bytes = put(self.own_shelf, {"a": bytes(size)}, key)
        with self.own_shelf.open(digest) as file:
            self.bridge.upload(f"/parcels/{digest}", file, digest)
        offer = offer_for(digest, size_bytes, deadline=datetime.now(UTC) + timedelta(hours=1))
        self.bridge.call("POST", "/offers", self.bridge.signer.sign("offer", to_body(offer)))
        return offer, key

    def raw(self, method: str, target: str, **options: Any) -> requests.Response:
        """Send a request as it is, signed for what it claims to be unless the test signs it."""
        headers = options.pop("headers", {})
        if "Authorization" not in headers:
            digest = hashlib.sha256(options.get("data", b"")).hexdigest()
            headers["Authorization"] = sign_request(self.bridge.signer, method, target, digest, datetime.now(UTC))
        return requests.request(method, self.url + target, headers=headers, timeout=30, **options)


@pytest.fixture(scope="module")
def pit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pit]:
    folder = tmp_path_factory.mktemp("pool")
    bridge, node = new_signer(), FakeNode()
    settings = settings_for(
        folder / "data", {"hospital": bridge}, [node], parcel_bytes_max=2**22, result_bytes_max=2**21
    )
    with serving(settings) as url:
        pit = Pit(url, settings, bridge, node, folder)
        node.join()
        yield pit


@pytest.fixture(autouse=True)
def clean(pit: Pit) -> Iterator[None]:
    """Leave no offer behind for the next test."""
    yield
    changes = pit.bridge.call("GET", "/changes?after=0")
    for offer_id in {change["offer_id"] for change in (changes or {"changes": []})["changes"]}:
        pit.bridge.call("DELETE", f"/offers/{offer_id}")


def test_joining_says_what_a_node_must_know(pit: Pit) -> None:
    """The tier it counts as, how long a lease runs, where it is rung for, and by whom."""
    answer = pit.node.join()
    assert answer["tier"] == "public"
    assert answer["lease_seconds"] == pit.settings.exchange.lease_seconds
    assert answer["queue"] == f"node-{pit.node.node_id[:16]}"
    assert answer["exchange_key"] == Signer.load(pit.settings.keys_dir / "exchange.key").public


def test_a_parcel_goes_up_and_comes_down(pit: Pit) -> None:
    """Uploaded by the bridge, downloaded by the lease holder, whole and in parts, and by nobody else."""
    offer, _ = pit.offer()
    target = f"/parcels/{offer.parcel_digest}"
    with pytest.raises(PeerRefusedError):
        pit.node.call("GET", target)
    taken = pit.node.take()
    assert taken is not None
    assert pit.node.pool is not None
    with pit.node_shelf.create() as draft:
        assert pit.node.pool.download(target, offer.parcel_digest, draft, bytes_max=2**30) == offer.parcel_size_bytes
    with pit.own_shelf.open(offer.parcel_digest) as file:
        whole = file.read()
    for asked, first, last in (("bytes=0-", 0, None), ("bytes=5-9", 5, 10), ("bytes=1000000-", 1_000_000, None)):
        headers = {
            "Authorization": sign_request(pit.node.signer, "GET", target, NOTHING, datetime.now(UTC)),
            "Range": asked,
        }
        response = pit.raw("GET", target, headers=headers)
        assert response.status_code == 206
        assert response.content == whole[first:last]
        assert response.headers["Content-Range"] == f"bytes {first}-{(last or len(whole)) - 1}/{len(whole)}"
    with pytest.raises(PeerRefusedError):
        pit.bridge.call("GET", target)


@pytest.mark.parametrize("asked", ["bytes=-5", "bytes=1-2,4-5", "bytes=9999999999-", "lines=1-2", "bytes=5-1"])
def test_ranges_we_do_not_speak_are_refused(pit: Pit, asked: str) -> None:
    """A range that cannot be met as asked is an error, and not some other bytes."""
    offer, _ = pit.offer()
    assert pit.node.take() is not None
    target = f"/parcels/{offer.parcel_digest}"
    authorization = sign_request(pit.node.signer, "GET", target, NOTHING, datetime.now(UTC))
    response = pit.raw("GET", target, headers={"Authorization": authorization, "Range": asked})
    assert response.status_code == 422


def test_an_upload_is_what_was_signed_or_nothing(pit: Pit) -> None:
    """Other bytes than were signed, too many of them, or under another name, leave nothing on the shelf."""
    content = b"ciphertext" * 1000
    digest = hashlib.sha256(content).hexdigest()
    signed = sign_request(pit.bridge.signer, "PUT", f"/parcels/{digest}", digest, datetime.now(UTC))
    response = pit.raw("PUT", f"/parcels/{digest}", data=content[:-1] + b"!", headers={"Authorization": signed})
    assert response.json()["error"] == "SealBrokenError"
    other = "f" * 64
    assert pit.raw("PUT", f"/parcels/{other}", data=content).json()["error"] == "MalformedError"
    large = bytes(2**22 + 1)
    assert pit.raw("PUT", f"/parcels/{hashlib.sha256(large).hexdigest()}", data=large).status_code == 413
    for name in (digest, other, hashlib.sha256(large).hexdigest()):
        assert pit.exchange_shelf.size(name) is None
    assert pit.exchange_shelf.sweep(datetime.now(UTC) + timedelta(hours=1)) == 0


def test_a_result_needs_a_lease_and_a_key(pit: Pit) -> None:
    """A node uploads for its own lease, once it has the key, and no more than the cap."""
    offer, _ = pit.offer()
    taken = pit.node.take()
    assert taken is not None
    lease = taken[1]
    assert pit.node.pool is not None
    digest, _ = put(pit.node_shelf, {"result.json": b"{}"}, parcel.new_key())
    large, _ = put(pit.node_shelf, {"result.json": bytes(2**21)}, parcel.new_key())
    target = f"/leases/{lease.lease_id}/result?fencing_token="

    def upload(token: int, name: str) -> dict[str, Any]:
        assert pit.node.pool is not None
        with pit.node_shelf.open(name) as file:
            return pit.node.pool.upload(f"{target}{token}", file, name)

    with pytest.raises(LeaseLostError):
        upload(lease.fencing_token, digest)
    body = {"fencing_token": lease.fencing_token, "wrapped_key": "00"}
    pit.bridge.call("POST", f"/offers/{offer.offer_id}/key", body)
    with pytest.raises(LeaseLostError):
        upload(lease.fencing_token + 1, digest)
    with pytest.raises(TooLargeError):
        upload(lease.fencing_token, large)
    assert upload(lease.fencing_token, digest)["digest"] == digest
    receipt = pit.node.receipt(offer, lease, digest)
    pit.node.call("POST", f"/leases/{lease.lease_id}/receipt", pit.node.sign_receipt(receipt))
    with pit.own_shelf.create() as draft:
        pit.bridge.download(f"/results/{digest}", digest, draft, bytes_max=2**20)
    with pytest.raises(UnknownError):
        pit.bridge.call("GET", f"/results/{offer.parcel_digest}")


def test_a_download_that_lies_is_noticed(pit: Pit) -> None:
    """Where the exchange, or whoever sits before it, sends other bytes, the digest tells; too many are not taken."""
    offer, _ = pit.offer()
    assert pit.node.take() is not None
    assert pit.node.pool is not None
    with pit.exchange_shelf.create() as draft:
        draft.write(bytes(offer.parcel_size_bytes))
        draft.commit(offer.parcel_digest)
    target = f"/parcels/{offer.parcel_digest}"
    with pit.node_shelf.create() as draft, pytest.raises(SealBrokenError):
        pit.node.pool.download(target, offer.parcel_digest, draft, bytes_max=2**30)
    with pit.node_shelf.create() as draft, pytest.raises(TooLargeError):
        pit.node.pool.download(target, offer.parcel_digest, draft, bytes_max=1000)


def test_receipts_and_cards_are_signed_by_their_node(pit: Pit) -> None:
    """Neither a receipt nor a card nor an offer in somebody else's name is taken, nor one kind for another."""
    other = FakeNode()
    with pytest.raises(SignatureError):
        pit.node.call("POST", "/nodes", other.signed_card)
    with pytest.raises(SignatureError):
        pit.node.call("POST", "/nodes", pit.node.signer.sign("node", to_body(other.card)))
    with pytest.raises(SignatureError):
        pit.node.call("POST", "/nodes", pit.node.signer.sign("offer", to_body(pit.node.card)))
    offer, _ = pit.offer()
    taken = pit.node.take()
    assert taken is not None
    lease = taken[1]
    receipt = pit.node.receipt(offer, lease, "0" * 64)
    target = f"/leases/{lease.lease_id}/receipt"
    for envelope in (
        other.sign_receipt(receipt),
        pit.node.sign_receipt(pit.node.receipt(offer, lease, "0" * 64)) | {"payload": "e30="},
        pit.node.sign_receipt(other.receipt(offer, lease, "0" * 64)),
    ):
        with pytest.raises(SignatureError):
            pit.node.call("POST", target, envelope)
    stolen = offer_for(offer.parcel_digest, offer.parcel_size_bytes, bridge_id="other")
    with pytest.raises(PeerRefusedError):
        pit.bridge.call("POST", "/offers", pit.bridge.signer.sign("offer", to_body(stolen)))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"{", b"\xff", b'{"lease_id": 1}', b'{"lease_id": "short"}', b"[" * 60_000,
        b'{"lease_id": "../../../etc/passwd"}', b'{"lease_id": "' + b"0" * 32 + b'", "wait_seconds": "long"}',
        b'{"lease_id": "' + b"0" * 32 + b'", "wait_seconds": NaN}',
    ],
)  # fmt: skip
def test_malformed_bodies_are_refused(pit: Pit, body: bytes) -> None:
    """Whatever is not the object that was asked for gets 422, and the exchange lives on."""
    signed = sign_request(pit.node.signer, "POST", "/leases", hashlib.sha256(body).hexdigest(), datetime.now(UTC))
    response = pit.raw("POST", "/leases", data=body, headers={"Authorization": signed})
    assert (response.status_code, response.json()["error"]) == (422, "MalformedError")
    assert requests.get(pit.url + "/health", timeout=10).status_code == 200


def test_a_body_has_a_limit(pit: Pit) -> None:
    """Nobody fills the exchange's memory with JSON."""
    assert pit.raw("POST", "/offers", data=b" " * 70_000).status_code == 413


@pytest.mark.parametrize(
    "target", ["/changes?after=x", "/changes?after=-1", "/changes?wait=1e9", f"/changes?after={10**20}"]
)
def test_malformed_queries_are_refused(pit: Pit, target: str) -> None:
    """A number in a query is a number of reasonable length."""
    with pytest.raises(MalformedError):
        pit.bridge.call("GET", target)


def test_unsigned_requests_learn_nothing(pit: Pit) -> None:
    """Every path but health answers 401 to who has no known key, whether or not there is something."""
    pit.offer()
    for method, target in (("GET", "/changes"), ("POST", "/offers"), ("POST", "/leases"), ("GET", "/parcels/x")):
        response = pit.raw(method, target, headers={"Authorization": "none"})
        assert (response.status_code, response.json()["error"]) == (401, "SignatureError")


def test_a_replayed_request_is_refused(pit: Pit) -> None:
    """What was overheard on the wire does not work a second time."""
    target = "/changes?after=0"
    header = {"Authorization": sign_request(pit.bridge.signer, "GET", target, NOTHING, datetime.now(UTC))}
    assert pit.raw("GET", target, headers=header).ok
    assert pit.raw("GET", target, headers=header).status_code == 401


def test_who_waits_is_woken(pit: Pit) -> None:
    """A node that waits for work, a bridge for changes, and a node for its key, each get it when it is there."""
    cursor = (pit.bridge.call("GET", "/changes?after=0") or {"changes": [{"cursor": 0}]})["changes"][-1]["cursor"]
    taken, changes, keys = [], [], []

    def work() -> None:
        found = pit.node.take(wait=20)
        assert found is not None
        taken.append(found)
        keys.append(pit.node.key(*found))

    def watch() -> None:
        after = cursor
        while not any(change["kind"] == "keyed" for change in changes):
            answer = pit.bridge.call("GET", f"/changes?after={after}&wait=20", wait_seconds=20)
            assert answer is not None
            changes.extend(answer["changes"])
            after = changes[-1]["cursor"]

    threads = [threading.Thread(target=work), threading.Thread(target=watch)]
    for thread in threads:
        thread.start()
    offer, key = pit.offer(1000)
    threads_done = threading.Event()

    def give() -> None:
        while not taken:
            threads_done.wait(0.01)
        lease = taken[0][1]
        wrapped = parcel.wrap(key, lease.node_wrap_key, parcel.parcel_info(offer, lease))
        body = {"fencing_token": lease.fencing_token, "wrapped_key": wrapped}
        pit.bridge.call("POST", f"/offers/{offer.offer_id}/key", body)

    give()
    for thread in threads:
        thread.join(30)
    assert keys == [key]
    assert [change["kind"] for change in changes] == ["opened", "leased", "keyed"]


def test_who_waits_is_let_go_at_the_end(tmp_path: Path) -> None:
    """A held-open request does not hold up the end of the exchange: it is answered with nothing yet."""
    bridge = new_signer()
    answers: list[Any] = []
    with serving(settings_for(tmp_path, {"hospital": bridge}, [])) as url:
        pool = Pool(url, bridge)
        waiting = threading.Thread(target=lambda: answers.append(pool.call("GET", "/changes?wait=30", wait_seconds=30)))
        waiting.start()
        while not waiting.is_alive():
            pass
        requests.get(url + "/health", timeout=10)
    waiting.join(10)
    assert not waiting.is_alive()
    assert answers in ([None], [])


def test_an_exchange_that_is_not_there(tmp_path: Path) -> None:
    """Nobody listening, or somebody else, is PoolUnreachableError, which is transient."""
    pool = Pool("http://127.0.0.1:1", new_signer(), attempts_max=2, pause_seconds=0.01)
    with pytest.raises(PoolUnreachableError) as caught:
        pool.call("GET", "/changes")
    assert caught.value.transient


def test_errors_of_the_exchange_are_ours(pit: Pit) -> None:
    """The error that the exchange names is the one that its client raises, with its message."""
    with pytest.raises(UnknownError, match="no such offer of yours"):
        pit.bridge.call("GET", f"/offers/{uuid.uuid4().hex}")
    response = pit.raw("GET", "/nowhere")
    assert response.status_code == 404
    with pytest.raises(json.JSONDecodeError):
        json.loads(response.text)
