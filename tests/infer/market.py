"""A real exchange on a port of its own, and a bridge's side of it by hand, for a node to work with."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btt_bridge import config, exchange, judge
from btt_bridge.infer.node import sign_key
from btt_bridge.parcel import ParcelWriter, Shelf, WrapKey, new_key, parcel_info, wrap
from btt_bridge.pool import Pool
from btt_bridge.records import Lease, Offer, Slice, Tier, Urgency, from_body, to_body
from btt_bridge.signing import Signer


@dataclass
class Market:
    """The exchange, and a bridge that knows how to offer, give keys and judge."""

    settings: config.Settings
    signer: Signer
    pool: Pool
    cursor: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)

    def offer(
        self, instances: Sequence[bytes], service: str = "ct-lung", seconds: float = 120
    ) -> tuple[Offer, bytes, WrapKey]:
        """Seal instances, put them on the exchange's shelf and offer them."""
        shelf, key, reply = Shelf(self.settings.parcels_url), new_key(), WrapKey.new()
        with shelf.create() as draft:
            writer = ParcelWriter(draft, key)
            for number, content in enumerate(instances):
                writer.add(f"{number:05}.dcm", content)
            digest = writer.close()
            draft.commit(digest)
        offer = Offer(
            uuid.uuid4().hex, "hospital", service, digest, writer.size_bytes, 1000, 10**6, Urgency.ROUTINE, Tier.PUBLIC,
            1000, "CNY", datetime.now(UTC) + timedelta(seconds=seconds), reply.public,
        )  # fmt: skip
        self.pool.call("POST", "/offers", self.signer.sign("offer", to_body(offer)))
        return offer, key, reply

    def until(self, kind: str, seconds: float = 60) -> dict[str, Any]:
        """Return the next change of this kind."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = self.pool.call("GET", f"/changes?after={self.cursor}&wait=1", wait_seconds=1)
            for change in (answer or {"changes": []})["changes"]:
                self.cursor = change["cursor"]
                self.seen.append(change)
                if change["kind"] == kind:
                    return change
        raise AssertionError(f"no {kind} came, but {[one['kind'] for one in self.seen]}")

    def give_key(self, offer: Offer, key: bytes) -> Lease:
        """Wait until a node holds the lease, and wrap the key for it."""
        lease = from_body(Lease, self.until("leased")["body"]["lease"])
        body = {
            "lease_id": lease.lease_id,
            "fencing_token": lease.fencing_token,
            "wrapped_key": wrap(key, lease.node_wrap_key, parcel_info(offer, lease)),
        }
        self.pool.call("POST", f"/offers/{offer.offer_id}/key", body)
        return lease

    def judged(self, offer: Offer, lease: Lease, reply: WrapKey, slices: Sequence[Slice]) -> judge.Judged:
        """Wait for the result and hold it against everything we know."""
        envelope = self.until("computed")["body"]["receipt"]
        return judge.verify(envelope, offer, lease, Shelf(self.settings.parcels_url).open, reply, slices)


@contextmanager
def running_market(folder: Path, lease_seconds: float = 30, broker_url: str = "") -> Iterator[Market]:
    """Run an exchange that knows one bridge, and a node with its data in `folder / "node"`."""
    signer = Signer(Ed25519PrivateKey.generate())
    node = config.Node(data_dir=folder / "node")
    settings = config.Settings(
        data_dir=folder,
        exchange=config.Exchange(
            port=0,
            lease_seconds=lease_seconds,
            reap_seconds=0.2,
            ban_seconds=0,
            broker_url=broker_url,
            bridges=(config.BridgeKey(bridge_id="hospital", public_key=signer.public),),
            nodes=(config.NodeKey(public_key=sign_key(node).public),),
        ),
    )
    stop, ready, ports = threading.Event(), threading.Event(), list[int]()

    def answer(port: int) -> None:
        ports.append(port)
        ready.set()

    thread = threading.Thread(target=exchange.serve, args=(settings, stop, answer))
    thread.start()
    try:
        assert ready.wait(30)
        yield Market(settings, signer, Pool(f"http://127.0.0.1:{ports[0]}", signer))
    finally:
        stop.set()
        thread.join(30)
