"""What tests of the pool put together: keys, cards, offers and receipts, and a node that does as it is told."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btt_bridge import exchange, parcel
from btt_bridge.config import BridgeKey, Dispatch, Exchange, NodeKey, Settings
from btt_bridge.parcel import ParcelWriter, Shelf, WrapKey
from btt_bridge.pool import Pool
from btt_bridge.records import Hardware, Lease, NodeCard, Offer, Receipt, Tier, Urgency, from_body, to_body
from btt_bridge.signing import Signer, verify

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


def new_signer() -> Signer:
    """Return somebody new."""
    return Signer(Ed25519PrivateKey.generate())


def put(shelf: Shelf, files: dict[str, bytes], key: bytes) -> tuple[str, int]:
    """Seal files onto a shelf; return digest and size."""
    with shelf.create() as draft:
        writer = ParcelWriter(draft, key)
        for name, content in files.items():
            writer.add(name, content)
        draft.commit(writer.close())
    return writer.digest, writer.size_bytes


@dataclass
class FakeNode:
    """A node's keys and wire, without a model."""

    tier: Tier = Tier.PUBLIC
    services: tuple[str, ...] = ("ct-lung",)
    benchmark: int = 1
    hardware: Hardware = Hardware.CPU
    signer: Signer = field(default_factory=new_signer)
    wrap_key: WrapKey = field(default_factory=WrapKey.new)
    pool: Pool | None = None

    @property
    def node_id(self) -> str:
        return self.signer.public

    @property
    def card(self) -> NodeCard:
        return NodeCard(
            self.node_id, self.wrap_key.public, self.tier, self.services, "cpu", self.benchmark,
            parcel_bytes_max=2**33, hardware=self.hardware,
        )  # fmt: skip

    @property
    def signed_card(self) -> dict[str, str]:
        return self.signer.sign("node", to_body(self.card))

    def receipt(self, offer: Offer, lease: Lease, output_digest: str, wrapped_key: str = "00") -> Receipt:
        """Return the receipt of an honest node."""
        return Receipt(
            offer_id=offer.offer_id, lease_id=lease.lease_id, fencing_token=lease.fencing_token, node_id=self.node_id,
            service=offer.service, service_version="1", model_digest="0" * 64, input_digest=offer.parcel_digest,
            output_digest=output_digest, wrapped_key=wrapped_key, device="cpu",
            started_at=START, finished_at=START, timings={"run": 0.1},
        )  # fmt: skip

    def sign_receipt(self, receipt: Receipt) -> dict[str, str]:
        return self.signer.sign("receipt", to_body(receipt))

    # --- over the wire ----------------------------------------------------------------------------------

    def call(
        self, method: str, target: str, body: dict[str, Any] | None = None, wait: int = 0
    ) -> dict[str, Any] | None:
        assert self.pool is not None
        return self.pool.call(method, target, body, wait_seconds=wait)

    def join(self) -> dict[str, Any]:
        answer = self.call("POST", "/nodes", self.signed_card)
        assert answer is not None
        return answer

    def take(self, lease_id: str = "", wait: int = 0) -> tuple[Offer, Lease] | None:
        """Take a lease as the page for node authors says."""
        body = {"lease_id": lease_id or uuid.uuid4().hex, "wait_seconds": wait}
        answer = self.call("POST", "/leases", body, wait)
        if answer is None:
            return None
        return (
            from_body(Offer, verify(answer["offer"], "offer", answer["offer"]["key"])),
            from_body(Lease, answer["lease"]),
        )

    def key(self, offer: Offer, lease: Lease, wait: int = 20) -> bytes:
        """Wait for the parcel's key and unwrap it."""
        answer = self.call("GET", f"/leases/{lease.lease_id}/key?wait={wait}", wait=wait)
        assert answer is not None, "no key came"
        return self.wrap_key.unwrap(answer["wrapped_key"], parcel.parcel_info(offer, lease))

    def compute(self, offer: Offer, lease: Lease, shelf: Shelf, *, shared: bool = False) -> Receipt:
        """Do a whole job: the result says how many files the parcel held."""
        key = self.key(offer, lease)
        assert self.pool is not None
        if not shared:
            with shelf.create() as draft:
                self.pool.download(f"/parcels/{offer.parcel_digest}", offer.parcel_digest, draft, bytes_max=2**33)
                draft.commit(offer.parcel_digest)
        with shelf.open(offer.parcel_digest) as file:
            count = len(list(parcel.members(file, key, offer.parcel_digest)))
        result_key = parcel.new_key()
        digest, _ = put(shelf, {"result.json": b'{"files": %d}' % count}, result_key)
        if not shared:
            with shelf.open(digest) as file:
                target = f"/leases/{lease.lease_id}/result?fencing_token={lease.fencing_token}"
                self.pool.upload(target, file, digest)
        wrapped = parcel.wrap(result_key, offer.reply_key, parcel.result_info(offer, lease, digest))
        receipt = self.receipt(offer, lease, digest, wrapped)
        self.call("POST", f"/leases/{lease.lease_id}/receipt", self.sign_receipt(receipt))
        return receipt


def offer_for(digest: str, size_bytes: int, **changed: Any) -> Offer:
    """Return an ordinary offer for a parcel, with what the test changes."""
    offer = Offer(
        offer_id=uuid.uuid4().hex, bridge_id="hospital", service="ct-lung", parcel_digest=digest,
        parcel_size_bytes=size_bytes, voxels=1000, operations=10**9, urgency=Urgency.ROUTINE, tier=Tier.PUBLIC,
        price_max_units=100, price_asset="CNY/2", deadline=START + timedelta(hours=1), reply_key="0" * 64,
    )  # fmt: skip
    return replace(offer, **changed)


def settings_for(
    data_dir: Path, bridges: dict[str, Signer], nodes: list[FakeNode], *, database_url: str = "", **limits: Any
) -> Settings:
    """Return settings of an exchange on a free port that knows these bridges and nodes."""
    return Settings(
        data_dir=data_dir,
        exchange=Exchange(
            port=0,
            database_url=database_url,
            bridges=tuple(BridgeKey(bridge_id=name, public_key=signer.public) for name, signer in bridges.items()),
            nodes=tuple(
                NodeKey(
                    public_key=node.node_id,
                    tier=node.tier,
                    bridge_id="hospital" if node.tier is Tier.HOSPITAL else "",
                )
                for node in nodes
            ),
            **limits,
        ),
        dispatch=Dispatch(nodes=tuple(NodeKey(public_key=node.node_id, tier=node.tier) for node in nodes)),
    )


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Serve an exchange over a real socket; give its URL."""
    stop, ready, ports = threading.Event(), threading.Event(), []

    def started(port: int) -> None:
        ports.append(port)
        ready.set()

    thread = threading.Thread(target=exchange.serve, args=(settings, stop, started))
    thread.start()
    try:
        assert ready.wait(20), "the exchange did not start"
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive(), "the exchange did not stop"
