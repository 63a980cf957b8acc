"""The hospital's side against a served exchange: the whole way, what the hospital decides for itself, and what dies."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from btt_bridge import parcel
from btt_bridge.config import NodeKey, Settings
from btt_bridge.dispatch import Change, Custody, Dispatcher, Offering, Sealing, Watch
from btt_bridge.errors import (
    LeaseLostError,
    MalformedError,
    PeerRefusedError,
    PoolUnreachableError,
    SealBrokenError,
    SignatureError,
    UnknownError,
)
from btt_bridge.money import CNY, Amount
from btt_bridge.parcel import Shelf, WrapKey
from btt_bridge.pool import Pool
from btt_bridge.records import Hardware, Lease, NodeCard, Offer, Parcel, Receipt, Tier, Urgency, from_body, to_body
from btt_bridge.signing import Signer, verify
from btt_bridge.testing import FakeClock
from tests.exchange.pool_parts import START, FakeNode, new_signer, serving, settings_for
from tests.peers.server import wait_until

FILES = {f"{number:05}.dcm": os.urandom(50_000) for number in range(60)}


class Hospital:
    """One bridge: its keys, its journal of offerings, and the watch that it keeps."""

    def __init__(self, folder: Path, shelf: Shelf, nodes: list[FakeNode]) -> None:
        self.folder = folder
        self.shelf = shelf
        self.signer = Signer.load(folder / "bridge.key")
        self.custody = Custody(folder)
        self.nodes = [NodeKey(public_key=node.node_id, tier=node.tier) for node in nodes]
        #: What a journal would hold: offerings as JSON.
        self.journal: dict[str, dict[str, Any]] = {}
        self.told: queue.Queue[Change] = queue.Queue()
        self.url = ""

    def connect(self, url: str) -> None:
        self.url = url
        self.dispatcher = Dispatcher(
            Pool(url, self.signer, attempts_max=2, pause_seconds=0.05),
            self.shelf,
            self.custody,
            bridge_id="hospital",
            nodes=self.nodes,
        )

    def seal(self) -> tuple[Parcel, str]:
        with Sealing(self.shelf) as sealing:
            for name, content in FILES.items():
                sealing.add(name, content)
            digest, size_bytes, key = sealing.close()
        return Parcel(digest, digest, size_bytes, voxels=1000, instances=len(FILES)), self.dispatcher.keep(key)

    def prepare(
        self, tier: Tier = Tier.PUBLIC, hardware: Hardware = Hardware.CPU, urgency: Urgency = Urgency.ROUTINE
    ) -> Offering:
        sealed, kept_key = self.seal()
        offering = self.dispatcher.prepare(
            sealed,
            kept_key,
            offer_id=uuid.uuid4().hex,
            service="ct-lung",
            operations=10**9,
            urgency=urgency,
            tier=tier,
            price_max=Amount(1234, CNY),
            deadline=datetime.now(UTC) + timedelta(hours=1),
            hardware=hardware,
        )
        self.journal[offering.offer.offer_id] = offering.to_facts()
        return offering

    def offer(self, tier: Tier = Tier.PUBLIC) -> Offering:
        offering = self.prepare(tier)
        assert self.dispatcher.offer(offering).state == "open"
        return offering

    def find(self, offer_id: str) -> Offering | None:
        facts = self.journal.get(offer_id)
        return Offering.from_facts(facts) if facts else None

    @contextlib.contextmanager
    def watching(self, tell: Callable[[Change], None] | None = None) -> Iterator[None]:
        watch = Watch(
            self.dispatcher, self.find, tell or self.told.put, self.folder / "cursor" / "changes", wait_seconds=1
        )
        watch.start()
        try:
            yield
        finally:
            watch.stop(10)

    def hear(self, kind: str) -> Change:
        """Wait until the watch tells of a change of this kind; what came before is passed over."""
        while True:
            change = self.told.get(timeout=30)
            if change.kind == kind:
                return change

    def open_result(self, change: Change) -> dict[str, bytes]:
        offering = self.find(change.offer_id)
        assert offering is not None
        receipt = from_body(Receipt, verify(change.body["receipt"], "receipt", change.lease.node_sign_key))
        return self.open(offering, change.lease, receipt)

    def open(self, offering: Offering, lease: Lease, receipt: Receipt) -> dict[str, bytes]:
        info = parcel.result_info(offering.offer, lease, receipt.output_digest)
        key = self.dispatcher.reply_key(offering).unwrap(receipt.wrapped_key, info)
        with self.dispatcher.fetch(receipt.output_digest) as file:
            return {name: bytes(content) for name, content in parcel.members(file, key, receipt.output_digest)}


class Pit:
    """An exchange that can be stopped and started on its database, a hospital, and two nodes."""

    def __init__(self, folder: Path, database_url: str = "", *, shared: bool = False, **limits: Any) -> None:
        self.nodes = [FakeNode(Tier.CONTRACTED), FakeNode(Tier.PUBLIC)]
        self.shared = shared
        keys = {"hospital": Signer.load(folder / "bridge" / "bridge.key"), "other": new_signer()}
        self.settings = settings_for(folder / "exchange", keys, self.nodes, database_url=database_url, **limits)
        self.node_shelf = Shelf(self.settings.parcels_url if shared else str(folder / "node"))
        own = Shelf(self.settings.parcels_url if shared else str(folder / "bridge" / "shelf"))
        self.hospital = Hospital(folder / "bridge", own, self.nodes[:1])

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        with serving(self.settings) as url:
            self.hospital.connect(url)
            for node in self.nodes:
                node.pool = Pool(url, node.signer, attempts_max=2, pause_seconds=0.05)
                node.join()
            yield

    def take(self, node: FakeNode) -> tuple[Offer, Lease]:
        taken = node.take(wait=20)
        assert taken is not None
        return taken

    def compute(self, node: FakeNode, offer: Offer, lease: Lease) -> Receipt:
        return node.compute(offer, lease, self.node_shelf, shared=self.shared)


# --- how urgent it is placed ------------------------------------------------------------------------------


def test_an_exchange_signs_how_urgent_it_places_an_offer(tmp_path: Path) -> None:
    """Beyond the quota the bridge hears of it with the offer, and the node with the lease: the same word, and whose."""
    pit = Pit(tmp_path, stat_free=1, stat_percent=0)
    exchange_key = Signer.load(pit.settings.keys_dir / "exchange.key").public
    with pit.open():
        offerings = [pit.hospital.prepare(urgency=Urgency.STAT) for _ in range(2)]
        first, second = [pit.hospital.dispatcher.offer(one) for one in offerings]
        assert (first.urgency, second.urgency) == (Urgency.STAT, Urgency.URGENT)
        assert pit.hospital.dispatcher.offer(offerings[1]) == second
        assert verify(second.envelope, "placement", exchange_key)["asked"] == "stat"
        (node, _) = pit.nodes
        leases = [node.call("POST", "/leases", {"lease_id": uuid.uuid4().hex}) for _ in range(2)]
        assert [lease and lease["placement"] for lease in leases] == [first.envelope, second.envelope]


def test_a_word_on_the_urgency_that_does_not_hold_changes_nothing(tmp_path: Path) -> None:
    """Unsigned, altered, for another offer, more urgent than asked, or none at all: it counts as placed as it asked."""
    pit, exchange = Pit(tmp_path), new_signer()
    pit.hospital.connect("http://127.0.0.1:1")
    offering = pit.hospital.prepare(urgency=Urgency.URGENT)
    offer = offering.offer
    word = {"offer_id": offer.offer_id, "bridge_id": "hospital", "asked": "urgent", "at": START.isoformat()}
    lower = exchange.sign("placement", {**word, "urgency": "routine"})
    wrong: list[Any] = [
        *(None, "routine", {}, {**lower, "key": new_signer().public}, {**lower, "kind": "offer"}),
        exchange.sign("placement", {**word, "urgency": "routine", "offer_id": "another"}),
        exchange.sign("placement", {**word, "urgency": "routine", "asked": "stat"}),
        exchange.sign("placement", {**word, "urgency": "stat"}),
        exchange.sign("placement", {**word, "urgency": "never"}),
    ]
    for said, urgency in [*((one, Urgency.URGENT) for one in wrong), (lower, Urgency.ROUTINE)]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Pool, "call", lambda *_, said=said, **__: {"state": "open", "placement": said})
            assert pit.hospital.dispatcher.offer(offering).urgency is urgency


# --- the whole way --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True], ids=["over http", "on a shared shelf"])
def test_a_study_goes_to_a_node_and_comes_back(tmp_path: Path, database_url: str, shared: bool) -> None:
    """Sealed, offered, leased, opened by the one node that holds the lease, computed, collected, opened, accepted."""
    pit = Pit(tmp_path, database_url, shared=shared)
    with pit.open(), pit.hospital.watching():
        offering = pit.hospital.offer()
        assert pit.hospital.dispatcher.offer(offering).state == "open"
        node, other = pit.nodes
        offer, lease = pit.take(node)
        assert offer == offering.offer
        assert other.take() is None
        pit.compute(node, offer, lease)
        computed = pit.hospital.hear("computed")
        assert pit.hospital.open_result(computed) == {"result.json": b'{"files": %d}' % len(FILES)}
        assert pit.hospital.dispatcher.accept(offer.offer_id, computed.lease.fencing_token) == "accepted"
        assert pit.hospital.hear("accepted").offer_id == offer.offer_id
        assert pit.hospital.dispatcher.standing(offer.offer_id)["state"] == "accepted"
        pit.hospital.dispatcher.clear(offer.parcel_digest)
        assert pit.hospital.shelf.size(offer.parcel_digest) is None


def test_a_refused_result_is_made_again_elsewhere(tmp_path: Path) -> None:
    """Two nodes: the first one's result is refused, the second gets the same parcel under a key of its own."""
    pit = Pit(tmp_path)
    with pit.open(), pit.hospital.watching():
        pit.hospital.offer()
        first, second = pit.nodes
        offer, lease = pit.take(first)
        pit.compute(first, offer, lease)
        refused = pit.hospital.hear("computed")
        assert pit.hospital.dispatcher.refuse(offer.offer_id, lease.fencing_token, "implausible") == "open"
        same, again = pit.take(second)
        assert same == offer
        assert again.fencing_token > lease.fencing_token
        pit.compute(second, offer, again)
        computed = pit.hospital.hear("computed")
        assert computed.lease == again
        assert pit.hospital.open_result(computed)
        # The refused node's receipt does not open the accepted result, nor the other way round.
        offering = pit.hospital.find(offer.offer_id)
        assert offering is not None
        receipt = from_body(Receipt, verify(refused.body["receipt"], "receipt", lease.node_sign_key))
        with pytest.raises(SealBrokenError):
            pit.hospital.open(offering, again, receipt)
        assert pit.hospital.dispatcher.accept(offer.offer_id, again.fencing_token) == "accepted"


def test_a_dead_node_costs_an_attempt(tmp_path: Path) -> None:
    """A node that takes a lease and the key and is never heard of again: the other one does the work."""
    pit = Pit(tmp_path, lease_seconds=1, reap_seconds=0.1)
    with pit.open(), pit.hospital.watching():
        pit.hospital.offer()
        dead, alive = pit.nodes
        offer, stale = pit.take(dead)
        dead.key(offer, stale)
        _, lease = pit.take(alive)
        assert lease.attempt == 2
        with pytest.raises(LeaseLostError):
            dead.call("POST", f"/leases/{stale.lease_id}/heartbeat", {"fencing_token": stale.fencing_token})
        pit.compute(alive, offer, lease)
        assert pit.hospital.hear("computed").lease == lease


def test_an_exchange_that_dies_costs_nothing(tmp_path: Path, database_url: str) -> None:
    """Stopped and started on its database between all steps, with the watch running on, nothing is lost or doubled."""
    pit = Pit(tmp_path, database_url)
    node = pit.nodes[0]
    with pit.open():
        offering = pit.hospital.offer()
    with pytest.raises(PoolUnreachableError):
        pit.hospital.dispatcher.standing(offering.offer.offer_id)
    with pit.open():
        assert pit.hospital.dispatcher.offer(offering).state == "open"
        offer, lease = pit.take(node)
    with pit.open(), pit.hospital.watching():
        node.key(offer, lease)
    with pit.open():
        pit.compute(node, offer, lease)
    with pit.open(), pit.hospital.watching():
        computed = pit.hospital.hear("computed")
        assert pit.hospital.open_result(computed)
        assert pit.hospital.dispatcher.accept(offer.offer_id, lease.fencing_token) == "accepted"
        pit.hospital.hear("accepted")
    with pit.open():
        assert pit.hospital.dispatcher.accept(offer.offer_id, lease.fencing_token) == "accepted"
        answer = pit.hospital.dispatcher.pool.call("GET", "/changes?after=0")
        assert answer is not None
        kinds = [change["kind"] for change in answer["changes"]]
        assert kinds == ["opened", "leased", "keyed", "computed", "accepted"]


# --- what the hospital decides for itself ---------------------------------------------------------------


def _leased(pit: Pit, offering: Offering, node: FakeNode, **changed: Any) -> tuple[Lease, dict[str, str]]:
    """Return a lease as an exchange might tell of it."""
    values: dict[str, Any] = {
        "lease_id": "0" * 32, "offer_id": offering.offer.offer_id, "node_id": node.node_id, "attempt": 1,
        "fencing_token": 1, "expires_at": START, "node_wrap_key": node.wrap_key.public, "node_sign_key": node.node_id,
    }  # fmt: skip
    return Lease(**(values | changed)), node.signed_card


@pytest.mark.parametrize("tier", [Tier.HOSPITAL, Tier.CONTRACTED])
def test_no_key_for_a_node_the_hospital_does_not_trust(tmp_path: Path, tier: Tier) -> None:
    """Whatever the exchange says of a node, the key goes no farther than the hospital's own list allows."""
    pit = Pit(tmp_path)
    pit.hospital.connect("http://127.0.0.1:1")
    offering = pit.hospital.prepare(tier)
    liar = FakeNode(Tier.HOSPITAL)
    with pytest.raises(PeerRefusedError):
        pit.hospital.dispatcher.place_key(offering, *_leased(pit, offering, liar))


@pytest.mark.parametrize("wanted", list(Hardware))
@pytest.mark.parametrize("had", list(Hardware))
def test_no_key_for_a_node_without_the_hardware(tmp_path: Path, wanted: Hardware, had: Hardware) -> None:
    """Whatever the exchange placed: no GPU is replaced by a CPU, and nobody has confidential memory by saying so."""
    pit = Pit(tmp_path)
    pit.hospital.connect("http://127.0.0.1:1")
    offering = pit.hospital.prepare(hardware=wanted)
    enough = wanted is Hardware.CPU or (wanted is Hardware.GPU and had is not Hardware.CPU)
    leased = _leased(pit, offering, FakeNode(hardware=had))
    if enough:
        pit.hospital.dispatcher.check_node(offering, *leased)
    else:
        with pytest.raises(PeerRefusedError, match=f"hardware {wanted}$"):
            pit.hospital.dispatcher.check_node(offering, *leased)


def test_a_card_must_be_the_nodes_own(tmp_path: Path) -> None:
    """An exchange that puts its own wrapping key into a lease, or another node's card, gets nothing."""
    pit = Pit(tmp_path)
    pit.hospital.connect("http://127.0.0.1:1")
    offering = pit.hospital.prepare()
    node, spy = pit.nodes
    lease, card = _leased(pit, offering, node)
    forged = node.signer.sign("node", to_body(spy.card))
    for told, shown in (
        (_leased(pit, offering, node, node_wrap_key=WrapKey.new().public)[0], card),
        (_leased(pit, offering, node, node_sign_key=spy.node_id)[0], card),
        (_leased(pit, offering, node, node_id=spy.node_id)[0], card),
        (_leased(pit, offering, node, offer_id="another")[0], card),
        (lease, spy.signed_card),
        (lease, forged),
        (lease, card | {"payload": "e30="}),
        (lease, {}),
    ):
        with pytest.raises(SignatureError):
            pit.hospital.dispatcher.place_key(offering, told, shown)
    with pytest.raises(PoolUnreachableError):
        pit.hospital.dispatcher.place_key(offering, lease, card)


def test_trust_in_a_node_ends_with_its_window(tmp_path: Path) -> None:
    """A contracted node whose time is over is anybody's."""
    pit = Pit(tmp_path)
    clock, node = FakeClock(START), pit.nodes[0]
    hospital = pit.hospital
    hospital.nodes = [
        NodeKey(public_key=node.node_id, tier=Tier.CONTRACTED, valid_until=START + timedelta(hours=1)),
    ]
    hospital.connect("http://127.0.0.1:1")
    hospital.dispatcher._clock = clock
    offering = hospital.prepare(Tier.CONTRACTED)
    with pytest.raises(PoolUnreachableError):
        hospital.dispatcher.place_key(offering, *_leased(pit, offering, node))
    clock.advance(3600)
    with pytest.raises(PeerRefusedError):
        hospital.dispatcher.place_key(offering, *_leased(pit, offering, node))


def test_a_node_that_is_not_trusted_loses_its_lease(tmp_path: Path) -> None:
    """An exchange too generous with tiers: the watch refuses the node, and the offer goes to one that is trusted."""
    pit = Pit(tmp_path)
    trusted, generous = FakeNode(Tier.CONTRACTED), FakeNode(Tier.CONTRACTED)
    pit.nodes = [generous, trusted]
    pit.settings = settings_for(tmp_path / "exchange", {"hospital": pit.hospital.signer}, pit.nodes)
    pit.hospital.nodes = [NodeKey(public_key=trusted.node_id, tier=Tier.CONTRACTED)]
    with pit.open(), pit.hospital.watching():
        pit.hospital.offer(Tier.CONTRACTED)
        offer, lease = pit.take(generous)
        with pytest.raises(LeaseLostError):
            generous.key(offer, lease)
        _, again = pit.take(trusted)
        pit.compute(trusted, offer, again)
        assert pit.hospital.hear("computed").lease == again


def test_a_result_of_a_node_that_had_no_key_is_refused(tmp_path: Path) -> None:
    """An exchange that makes a result of its own, under a lease of its own, is not believed: the watch refuses it."""
    pit, refused = Pit(tmp_path), []
    pit.hospital.connect("http://127.0.0.1:1")
    offering = pit.hospital.prepare(Tier.CONTRACTED)
    trusted, spy = pit.nodes
    dispatcher, told = pit.hospital.dispatcher, pit.hospital.told
    dispatcher.refuse = lambda offer_id, token, reason: refused.append((offer_id, token)) or "open"  # type: ignore[func-returns-value, method-assign]
    watch = Watch(dispatcher, pit.hospital.find, told.put, tmp_path / "cursor")
    for node in (spy, trusted):
        lease, card = _leased(pit, offering, node)
        watch._deal_with(Change(1, "computed", offering.offer.offer_id, {"lease": to_body(lease), "node": card}))
    assert refused == [(offering.offer.offer_id, 1)]
    assert told.get_nowait().lease.node_id == trusted.node_id
    assert told.empty()


def test_keep_local_keeps_strangers_out(tmp_path: Path) -> None:
    """From the moment the hospital says so, only its own node may have the offer."""
    pit = Pit(tmp_path)
    own = FakeNode(Tier.HOSPITAL)
    pit.nodes.append(own)
    pit.settings = settings_for(tmp_path / "exchange", {"hospital": pit.hospital.signer}, pit.nodes)
    with pit.open():
        offering = pit.hospital.offer()
        assert pit.hospital.dispatcher.keep_local(offering.offer.offer_id) == "open"
        assert [node.take() for node in pit.nodes[:2]] == [None, None]
        assert pit.take(own)[0].offer_id == offering.offer.offer_id


def test_the_key_never_reaches_the_exchange(tmp_path: Path) -> None:
    """Neither its database nor its shelf holds the parcel's key or any of the parcel's plain text, at any time."""
    pit = Pit(tmp_path)
    with pit.open(), pit.hospital.watching():
        offering = pit.hospital.offer()
        offer, lease = pit.take(pit.nodes[0])
        pit.compute(pit.nodes[0], offer, lease)
        pit.hospital.hear("computed")
    key = pit.hospital.custody.unlock(offering.locked_parcel_key)
    stored = b"".join(path.read_bytes() for path in pit.settings.data_dir.rglob("*") if path.is_file())
    assert offer.offer_id.encode() in stored
    for secret in (key, key.hex().encode(), FILES["00000.dcm"][:64], offering.locked_parcel_key.encode()):
        assert secret not in stored


# --- the watch ------------------------------------------------------------------------------------------


def test_an_offer_nobody_wants_is_withdrawn(tmp_path: Path) -> None:
    """A lease on an offer that the journal no longer holds gets no key, and the offer ends."""
    pit = Pit(tmp_path)
    with pit.open():
        offering = pit.hospital.offer()
        pit.hospital.journal.clear()
        with pit.hospital.watching():
            pit.take(pit.nodes[0])
            assert pit.hospital.hear("withdrawn").offer_id == offering.offer.offer_id


def test_the_watch_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A second watch tells only of what the first has not dealt with."""
    pit = Pit(tmp_path)
    with pit.open():
        with pit.hospital.watching():
            first = pit.hospital.offer().offer.offer_id
            assert pit.hospital.hear("opened").offer_id == first
            wait_until(lambda: (tmp_path / "bridge/cursor/changes").exists(), "the cursor to be kept")
        with pit.hospital.watching():
            second = pit.hospital.offer().offer.offer_id
            assert pit.hospital.told.get(timeout=30).offer_id == second


def test_the_watch_starts_anew_at_a_new_exchange(tmp_path: Path) -> None:
    """An exchange that has lost its memory does not leave the bridge deaf: it offers again, and hears of it."""
    pit = Pit(tmp_path)
    cursor = tmp_path / "bridge" / "cursor" / "changes"
    cursor.parent.mkdir(parents=True)
    cursor.write_text("1000000")
    with pit.open(), pit.hospital.watching():
        with pytest.raises(UnknownError):
            pit.hospital.dispatcher.standing("0" * 32)
        offering = pit.hospital.offer()
        assert pit.hospital.hear("opened").offer_id == offering.offer.offer_id


def test_what_the_pipeline_raises_is_tried_again_and_then_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that cannot be dealt with is told a few times and does not stand in the way of the next."""
    monkeypatch.setattr("btt_bridge.dispatch.watch._PAUSE_SECONDS", 0.01)
    pit, told = Pit(tmp_path), []
    done = threading.Event()

    def tell(change: Change) -> None:
        told.append(change.offer_id)
        if change.offer_id == bad:
            raise RuntimeError
        done.set()

    with pit.open():
        bad = pit.hospital.offer().offer.offer_id
        good = pit.hospital.offer().offer.offer_id
        with pit.hospital.watching(tell):
            assert done.wait(30)
    assert told == [bad] * 5 + [good]


def test_the_watch_outlives_an_exchange(tmp_path: Path) -> None:
    """While the exchange is away the watch keeps asking, and hears what happened as soon as it is back."""
    pit = Pit(tmp_path)
    with pit.open():
        port = int(pit.hospital.url.rsplit(":", 1)[1])
        offering = pit.hospital.offer()
        watching = pit.hospital.watching()
        watching.__enter__()
        pit.hospital.hear("opened")
    try:
        pit.settings = pit.settings.model_copy(
            update={"exchange": pit.settings.exchange.model_copy(update={"port": port})}
        )
        with pit.open():
            pit.hospital.dispatcher.withdraw(offering.offer.offer_id)
            assert pit.hospital.hear("withdrawn").offer_id == offering.offer.offer_id
    finally:
        watching.__exit__(None, None, None)


# --- sealing and custody --------------------------------------------------------------------------------


def test_a_sealing_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    """A study that is withheld half way leaves no parcel, and one that is closed stays."""
    shelf = Shelf(str(tmp_path))
    with Sealing(shelf) as sealing:
        sealing.add("a", b"content")
    sealing.discard()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with Sealing(shelf) as sealing:
        sealing.add("a", b"content")
        digest, size_bytes, key = sealed = sealing.close()
    assert shelf.size(digest) == size_bytes
    with shelf.open(digest) as file:
        assert dict(parcel.members(file, key, digest)) == {"a": b"content"}
    assert key.hex() not in repr(sealed)
    assert str(key) not in repr(sealed)


def test_keys_in_the_journal_are_locked(tmp_path: Path) -> None:
    """What the journal holds is of no use without the key file, and an altered text is noticed."""
    custody, key = Custody(tmp_path), parcel.new_key()
    locked = custody.lock(key)
    assert key.hex() not in locked
    assert custody.lock(key) != locked
    assert Custody(tmp_path).unlock(locked) == key
    with pytest.raises(SealBrokenError):
        Custody(tmp_path / "elsewhere").unlock(locked)
    for text in ("", "zz", locked[:-2], locked[:-2] + ("00" if locked[-2:] != "00" else "01")):
        with pytest.raises(SealBrokenError):
            custody.unlock(text)


def test_an_offering_survives_the_journal(tmp_path: Path) -> None:
    """As facts and back it is the same, signed by the bridge, and prints no key."""
    pit = Pit(tmp_path)
    pit.hospital.connect("http://127.0.0.1:1")
    offering = pit.hospital.prepare()
    assert Offering.from_facts(offering.to_facts()) == offering
    assert from_body(Offer, verify(offering.envelope, "offer", pit.hospital.signer.public)) == offering.offer
    assert (offering.offer.price_max_units, offering.offer.price_asset) == (1234, "CNY/2")
    assert offering.locked_parcel_key not in repr(offering)


def test_what_was_written_before_hardware_was_named_is_read(tmp_path: Path) -> None:
    """An old offer and an old card mean cpu; any other missing field, or an unknown class, is refused."""
    pit = Pit(tmp_path)
    pit.hospital.connect("http://127.0.0.1:1")
    offering = pit.hospital.prepare(hardware=Hardware.GPU)
    body = to_body(offering.offer)
    assert from_body(Offer, body) == offering.offer
    assert body.pop("hardware") == "gpu"
    assert from_body(Offer, body) == replace(offering.offer, hardware=Hardware.CPU)
    card = to_body(pit.nodes[0].card)
    del card["hardware"]
    assert from_body(NodeCard, card) == pit.nodes[0].card
    for wrong in (body | {"hardware": "tpu"}, body | {"more": 1}, {**body, "tier": None}, dict(list(body.items())[1:])):
        with pytest.raises(MalformedError):
            from_body(Offer, wrong)


def test_a_dispatcher_of_settings(tmp_path: Path) -> None:
    """From the settings alone it signs with the bridge's key and in the bridge's name."""
    settings = Settings(data_dir=tmp_path)
    dispatcher = Dispatcher.of(settings)
    assert dispatcher.pool.signer.public == Signer.load(settings.keys_dir / "bridge.key").public
    sealed = Parcel("d" * 64, "d" * 64, 1, 1, 1)
    offering = dispatcher.prepare(
        sealed, dispatcher.keep(parcel.new_key()), offer_id="1", service="s", operations=1, urgency=Urgency.STAT,
        tier=Tier.PUBLIC, price_max=Amount(1, CNY), deadline=START,
    )  # fmt: skip
    assert offering.offer.bridge_id == settings.dispatch.bridge_id
    assert new_signer().public != dispatcher.pool.signer.public
