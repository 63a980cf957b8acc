"""Offers: made, signed, kept with their keys under lock, brought to the exchange, judged, and their results fetched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from btt_bridge import log, parcel, priority
from btt_bridge.clock import Clock, SystemClock
from btt_bridge.config import NodeKey, Settings
from btt_bridge.dispatch.custody import Custody
from btt_bridge.errors import MalformedError, PeerRefusedError, PoolUnreachableError, SignatureError, UnknownError
from btt_bridge.money import Amount
from btt_bridge.parcel import Readable, Shelf, WrapKey
from btt_bridge.pool import Pool
from btt_bridge.records import Hardware, Lease, NodeCard, Offer, Parcel, Placement, Tier, Urgency, from_body, to_body
from btt_bridge.signing import Signer, verify

_log = log.logger("dispatch")


@dataclass(frozen=True, slots=True)
class Offering:
    """An offer with everything that is needed to see it through after a restart; its keys are under lock."""

    offer: Offer
    envelope: Mapping[str, Any]
    locked_parcel_key: str = field(repr=False)
    locked_reply_key: str = field(repr=False)

    def to_facts(self) -> dict[str, Any]:
        """Return it as JSON for the journal."""
        return {
            "offer": to_body(self.offer),
            "envelope": dict(self.envelope),
            "locked_parcel_key": self.locked_parcel_key,
            "locked_reply_key": self.locked_reply_key,
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Return what `to_facts` wrote."""
        return cls(
            from_body(Offer, facts["offer"]), facts["envelope"], facts["locked_parcel_key"], facts["locked_reply_key"]
        )


@dataclass(frozen=True, slots=True)
class Placed:
    """What an exchange made of an offer: its state, and how urgent it ranks it."""

    state: str
    urgency: Urgency
    #: The exchange's signed word on the urgency; empty where it said nothing that holds.
    envelope: Mapping[str, Any]

    def to_facts(self) -> dict[str, Any]:
        """Return its rank as JSON for the journal."""
        return {"urgency": self.urgency.value, "envelope": dict(self.envelope)}


class Dispatcher:
    """What a bridge says to its exchange. Every verb may be repeated, and none gives a key away before a lease."""

    def __init__(
        self,
        pool: Pool,
        shelf: Shelf,
        custody: Custody,
        *,
        bridge_id: str,
        nodes: Iterable[NodeKey] = (),
        result_bytes_max: int = 2**30,
        attestation_path: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.pool = pool
        self._shelf = shelf
        self._custody = custody
        self._bridge_id = bridge_id
        self._nodes = {node.public_key: node for node in nodes}
        self._result_bytes_max = result_bytes_max
        self._attestation_path = attestation_path
        self._clock: Clock = clock or SystemClock()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the dispatch of these settings; the bridge signs with `bridge.key` of its keys folder."""
        signer = Signer.load(settings.keys_dir / "bridge.key")
        return cls(
            Pool(settings.dispatch.exchange_url, signer, timeout_seconds=settings.dispatch.timeout_seconds),
            Shelf(settings.parcels_url),
            Custody(settings.keys_dir),
            bridge_id=settings.dispatch.bridge_id,
            nodes=settings.dispatch.nodes,
            result_bytes_max=settings.exchange.result_bytes_max,
            attestation_path=settings.dispatch.attestation_path
            or settings.attestations_dir / f"{settings.dispatch.bridge_id}.json",
        )

    def keep(self, key: bytes) -> str:
        """Return a parcel's key locked away, as text for the journal."""
        return self._custody.lock(key)

    def prepare(
        self,
        sealed: Parcel,
        kept_key: str,
        *,
        offer_id: str,
        service: str,
        operations: int,
        urgency: Urgency,
        tier: Tier,
        price_max: Amount,
        deadline: datetime,
        hardware: Hardware = Hardware.CPU,
    ) -> Offering:
        """Make and sign an offer for a sealed parcel; its key stays as `keep` locked it away.

        Nothing leaves yet: put the offering in the journal first, and then `offer` it.
        `offer_id` must tell nothing of the patient; a random one is best.
        """
        reply = WrapKey.new()
        offer = Offer(
            offer_id=offer_id,
            bridge_id=self._bridge_id,
            service=service,
            parcel_digest=sealed.digest,
            parcel_size_bytes=sealed.size_bytes,
            voxels=sealed.voxels,
            operations=operations,
            urgency=urgency,
            tier=tier,
            price_max_units=price_max.units,
            price_asset=str(price_max.asset),
            deadline=deadline,
            reply_key=reply.public,
            attestation=self._attestation(),
            hardware=hardware,
        )
        return Offering(
            offer,
            self.pool.signer.sign("offer", to_body(offer)),
            kept_key,
            self._custody.lock(reply.key.private_bytes_raw()),
        )

    def offer(self, offering: Offering) -> Placed:
        """Bring an offer to the exchange, with its parcel where the exchange does not share our shelf."""
        try:
            answer = self.pool.call("POST", "/offers", offering.envelope)
        except UnknownError:
            digest = offering.offer.parcel_digest
            with self._shelf.open(digest) as file:
                self.pool.upload(f"/parcels/{digest}", file, digest)
            answer = self.pool.call("POST", "/offers", offering.envelope)
        return _placed(offering.offer, _said(answer))

    def standing(self, offer_id: str) -> dict[str, Any]:
        """Return state, attempts, reason and fencing token; raise UnknownError where the exchange does not know it."""
        return _said(self.pool.call("GET", f"/offers/{offer_id}"))

    def withdraw(self, offer_id: str) -> str:
        """Take an offer back; return its state, which is another where it was over already."""
        return self._state("DELETE", f"/offers/{offer_id}")

    def keep_local(self, offer_id: str) -> str:
        """Let only the hospital's own node have the offer from now on."""
        return self._state("POST", f"/offers/{offer_id}/tier", {"tier": Tier.HOSPITAL.value})

    def accept(self, offer_id: str, fencing_token: int) -> str:
        """Say that the result of this lease holds; the offer is over, and the node is owed its pay."""
        return self._verdict(offer_id, fencing_token, "accepted", "")

    def refuse(self, offer_id: str, fencing_token: int, reason: str) -> str:
        """Say that this lease's result, or its node, will not do; the offer opens again for another node."""
        return self._verdict(offer_id, fencing_token, "refused", reason)

    def check_node(self, offering: Offering, lease: Lease, node: Mapping[str, Any]) -> None:
        """Prove that a lease's node signed its card, has the hardware, and that we trust it as far as the tier demands.

        Whatever the exchange may believe: raises SignatureError where `node`, the signed card, does not fit the lease,
        and PeerRefusedError where this node may not have the parcel.
        """
        card = from_body(NodeCard, verify(node, "node", lease.node_sign_key))
        if lease.offer_id != offering.offer.offer_id or (card.node_id, card.node_id, card.wrap_key) != (
            lease.node_id,
            lease.node_sign_key,
            lease.node_wrap_key,
        ):
            raise SignatureError("the lease names another node than the one that signed")
        if not offering.offer.tier.admits(self._tier_of(lease.node_id)):
            raise PeerRefusedError("this node may not have the parcel")
        if offering.offer.hardware not in card.hardware.serves:
            raise PeerRefusedError(f"this node does not have the hardware {offering.offer.hardware}")

    def place_key(self, offering: Offering, lease: Lease, node: Mapping[str, Any]) -> str:
        """Wrap the parcel's key for the node that holds the lease, once it is checked; return the offer's state."""
        self.check_node(offering, lease, node)
        offer = offering.offer
        key = self._custody.unlock(offering.locked_parcel_key)
        wrapped = parcel.wrap(key, lease.node_wrap_key, parcel.parcel_info(offer, lease))
        body = {"fencing_token": lease.fencing_token, "wrapped_key": wrapped}
        return self._state("POST", f"/offers/{offer.offer_id}/key", body)

    def fetch(self, digest: str) -> Readable:
        """Open a sealed result; it is fetched from the exchange where it does not lie on our shelf."""
        if self._shelf.size(digest) is None:
            with self._shelf.create() as draft:
                self.pool.download(f"/results/{digest}", digest, draft, bytes_max=self._result_bytes_max)
                draft.commit(digest)
        return self._shelf.open(digest)

    def reply_key(self, offering: Offering) -> WrapKey:
        """Return the private half of the key to which a node wraps the key of its result for this offer."""
        secret = self._custody.unlock(offering.locked_reply_key)
        return WrapKey(X25519PrivateKey.from_private_bytes(secret))

    def clear(self, *digests: str) -> None:
        """Take parcels and results off our shelf, once the study is over."""
        for digest in digests:
            self._shelf.delete(digest)

    def _attestation(self) -> str:
        """Return what the token's ledger last said of our stake; without it an offer is as good, and waits its turn."""
        if self._attestation_path is None:
            return ""
        try:
            text = self._attestation_path.read_text(encoding="utf-8").strip()
        except OSError:
            return ""
        return text if len(text) <= priority.TEXT_MAX else ""

    def _tier_of(self, node_id: str) -> Tier:
        """Return how far we trust a node ourselves; whom we do not know is anybody."""
        node = self._nodes.get(node_id)
        if node is None or (node.valid_until is not None and node.valid_until <= self._clock.now()):
            return Tier.PUBLIC
        return node.tier

    def _verdict(self, offer_id: str, fencing_token: int, verdict: str, reason: str) -> str:
        body = {"fencing_token": fencing_token, "verdict": verdict, "reason": reason[:255]}
        return self._state("POST", f"/offers/{offer_id}/verdict", body)

    def _state(self, method: str, target: str, body: Mapping[str, Any] | None = None) -> str:
        return str(_said(self.pool.call(method, target, body)).get("state"))


def _placed(offer: Offer, said: Mapping[str, Any]) -> Placed:
    """Read what the exchange answers to an offer; without a word that holds, it counts as placed as it asked."""
    state, envelope = str(said.get("state")), said.get("placement")
    if envelope is None:
        return Placed(state, offer.urgency, {})
    with suppress(SignatureError, MalformedError, KeyError, TypeError):
        found = from_body(Placement, verify(envelope, "placement", envelope["key"]))
        if (found.offer_id, found.bridge_id, found.asked) == (offer.offer_id, offer.bridge_id, offer.urgency):
            return Placed(state, found.urgency, envelope)
    _log.warning("the exchange's word on an urgency does not hold", offer=offer.offer_id)
    return Placed(state, offer.urgency, {})


def _said(answer: dict[str, Any] | None) -> dict[str, Any]:
    if answer is None:
        raise PoolUnreachableError("the exchange had nothing to say")
    return answer
