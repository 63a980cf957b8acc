"""The market over SQL: offers are placed with nodes by tier, urgency and age, under leases with fencing tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from btt_bridge import priority
from btt_bridge.clock import Clock, SystemClock
from btt_bridge.config import Exchange as Limits
from btt_bridge.database import open_database, reading, upserting, writing
from btt_bridge.errors import (
    CapacityError,
    KeyConflictError,
    LeaseLostError,
    MalformedError,
    OfferExpiredError,
    PeerRefusedError,
    TooLargeError,
    UnknownError,
)
from btt_bridge.exchange.life import ALIVE, HELD, OVER, OfferEvent, OfferState, following
from btt_bridge.exchange.placement import best_offer, suitable_nodes
from btt_bridge.exchange.quota import urgency_within
from btt_bridge.exchange.tables import change_table, lease_table, metadata, node_table, offer_table
from btt_bridge.parcel import Shelf
from btt_bridge.records import Lease, NodeCard, Offer, Placement, Receipt, Tier, Urgency, to_body

Envelope = Mapping[str, Any]

#: Nodes rung for one offer; whoever is not rung finds it at its next look.
_RINGS_MAX = 16
_STRIKES_MAX = 10
_CHANGES_MAX = 500
# Two months and more: how nodes worked is asked for once a month is over.
_CHANGES_KEPT = timedelta(days=70)


def _nobody(_node_id: str, _offer_id: str) -> None:
    """Ring for nobody."""


class Market:
    """All reads and writes of an exchange, each one transaction."""

    def __init__(
        self,
        database_url: str,
        shelf: Shelf,
        limits: Limits,
        *,
        ring: Callable[[str, str], None] = _nobody,
        clock: Clock | None = None,
    ) -> None:
        self.engine = open_database(database_url, metadata)
        self.shelf = shelf
        self.limits = limits
        self.clock: Clock = clock or SystemClock()
        #: Called with node and offer after an offer opened and that node might take it.
        self._ring = ring

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    # --- nodes ------------------------------------------------------------------------------------------

    def join(self, card: NodeCard, envelope: Envelope, admitted: Tier, bridge_id: str) -> Tier:
        """Write down what a node says of itself; return the tier it counts as, never nearer than it is admitted."""
        tier, now = card.tier.farther(admitted), self.clock.now()
        told = {
            "wrap_key": card.wrap_key,
            "tier": tier.value,
            "bridge_id": bridge_id if tier is Tier.HOSPITAL else "",
            "services": list(card.services),
            "device": card.device[:64],
            "hardware": card.hardware.value,
            "benchmark": card.benchmark,
            "parcel_bytes_max": card.parcel_bytes_max,
            "envelope": dict(envelope),
            "seen_at": now,
        }
        with writing(self.engine) as connection:
            connection.execute(
                upserting(self.engine, node_table)
                .values(node_id=card.node_id, joined_at=now, **told)
                .on_conflict_do_update(index_elements=["node_id"], set_=told)
            )
        return tier

    def take(self, node_id: str, lease_id: str) -> dict[str, Any] | None:
        """Lease the best offer this node may have under the name `lease_id`; None where there is none.

        Asked again with the same `lease_id`, it returns the same lease.
        """
        now = self.clock.now()
        with writing(self.engine) as connection:
            node = self._node(connection, node_id)
            connection.execute(update(node_table).where(node_table.c.node_id == node_id).values(seen_at=now))
            held = connection.execute(select(lease_table).where(lease_table.c.lease_id == lease_id)).one_or_none()
            if held is not None:
                return self._granted(connection, self._active(held, node_id, held.fencing_token))
            if self._leases_held(connection, node_id) >= self.limits.leases_per_node_max:
                return None
            offer = best_offer(connection, node, now, self._alive_since)
            if offer is None:
                return None
            return self._granted(connection, self._lease(connection, offer, node, lease_id))

    def beat(self, node_id: str, lease_id: str, fencing_token: int) -> datetime:
        """Extend a lease by its time, at most to the offer's deadline; return when it now runs out."""
        with writing(self.engine) as connection:
            lease, offer = self._locked(connection, lease_id)
            self._active(lease, node_id, fencing_token)
            expires_at = self._expiry(offer)
            connection.execute(
                update(lease_table).where(lease_table.c.lease_id == lease_id).values(expires_at=expires_at)
            )
            connection.execute(
                update(node_table).where(node_table.c.node_id == node_id).values(seen_at=self.clock.now())
            )
        return expires_at

    def key(self, node_id: str, lease_id: str) -> str | None:
        """Return the wrapped key for this lease, or None while the bridge has not wrapped it."""
        with reading(self.engine) as connection:
            lease = self._lease_row(connection, lease_id)
            return self._active(lease, node_id, lease.fencing_token).wrapped_key or None

    def may_read(self, node_id: str, digest: str) -> None:
        """Raise PeerRefusedError unless this node holds a lease on that parcel."""
        with reading(self.engine) as connection:
            holds = connection.execute(
                select(lease_table.c.lease_id)
                .join(offer_table, offer_table.c.offer_id == lease_table.c.offer_id)
                .where(
                    lease_table.c.node_id == node_id,
                    lease_table.c.state == "active",
                    lease_table.c.expires_at > self.clock.now(),
                    offer_table.c.parcel_digest == digest,
                )
            ).first()
        if holds is None:
            raise PeerRefusedError("only who holds a lease on a parcel may read it")

    def may_write(self, node_id: str, lease_id: str, fencing_token: int) -> None:
        """Raise LeaseLostError unless this node holds this lease, and holds the parcel's key."""
        with reading(self.engine) as connection:
            lease = self._active(self._lease_row(connection, lease_id), node_id, fencing_token)
            if not lease.wrapped_key:
                raise LeaseLostError("there is no result before there is a key")

    def compute(self, receipt: Receipt, envelope: Envelope) -> OfferState:
        """Take a receipt, its signature checked: its lease must be the offer's last, and its result must be here."""
        with writing(self.engine) as connection:
            lease, offer = self._locked(connection, receipt.lease_id)
            if lease.state in ("computed", "accepted") and lease.receipt == dict(envelope):
                return OfferState(offer.state)
            self._active(lease, receipt.node_id, receipt.fencing_token)
            self._check_receipt(receipt, offer)
            size_bytes = self.shelf.size(receipt.output_digest)
            if size_bytes is None:
                raise UnknownError("the result is not here yet")
            if size_bytes > self.limits.result_bytes_max:
                raise TooLargeError("the result is larger than the configured limit")
            connection.execute(
                update(lease_table)
                .where(lease_table.c.lease_id == lease.lease_id)
                .values(state="computed", receipt=dict(envelope), result_digest=receipt.output_digest)
            )
            node = self._node(connection, receipt.node_id)
            body = {
                "lease": to_body(_lease(lease, node)),
                "node": node.envelope,
                "receipt": dict(envelope),
                "size_bytes": size_bytes,
            }
            return self._advance(connection, offer, OfferEvent.COMPUTED, body=body)

    def fail(self, node_id: str, lease_id: str, fencing_token: int, reason: str) -> OfferState:
        """Take a lease back from a node that says it cannot do the work."""
        with writing(self.engine) as connection:
            lease, offer = self._locked(connection, lease_id)
            if (lease.node_id, lease.state) == (node_id, "failed"):
                return OfferState(offer.state)
            self._active(lease, node_id, fencing_token)
            state = self._end(connection, offer, lease, "failed", reason)
        self._ring_for(lease.offer_id)
        return state

    # --- bridges ----------------------------------------------------------------------------------------

    def offer(self, bridge_id: str, offer: Offer, envelope: Envelope) -> OfferState:
        """Open an offer; offering the same again changes nothing. Raises UnknownError while its parcel is not here."""
        if offer.bridge_id != bridge_id:
            raise PeerRefusedError("a bridge offers in its own name")
        now = self.clock.now()
        with writing(self.engine) as connection:
            known = connection.execute(
                select(offer_table).where(offer_table.c.offer_id == offer.offer_id)
            ).one_or_none()
            if known is not None:
                if known.envelope["payload"] != envelope["payload"] or known.bridge_id != bridge_id:
                    raise KeyConflictError("this offer was made before with other content")
                return OfferState(known.state)
            self._check_offer(connection, offer)
            connection.execute(
                insert(offer_table).values(
                    offer_id=offer.offer_id,
                    bridge_id=bridge_id,
                    envelope=dict(envelope),
                    service=offer.service,
                    tier=offer.tier.value,
                    hardware=offer.hardware.value,
                    urgency_rank=urgency_within(connection, self.limits, offer, now).rank,
                    asked_rank=offer.urgency.rank,
                    parcel_digest=offer.parcel_digest,
                    parcel_size_bytes=offer.parcel_size_bytes,
                    deadline=offer.deadline,
                    state=OfferState.OPEN,
                    opened_at=now,
                    ranked_at=now - self._head_start(connection, offer),
                    changed_at=now,
                )
            )
            self._tell(connection, bridge_id, offer.offer_id, "opened", {})
        self._ring_for(offer.offer_id)
        return OfferState.OPEN

    def placement(self, bridge_id: str, offer_id: str) -> Placement:
        """Return how urgent one's own offer is placed; that never changes."""
        with reading(self.engine) as connection:
            return _placement(self._own(connection, bridge_id, offer_id))

    def standing(self, bridge_id: str, offer_id: str) -> dict[str, Any]:
        """Return how one's own offer stands."""
        with reading(self.engine) as connection:
            offer = self._own(connection, bridge_id, offer_id)
            return {
                "state": offer.state,
                "attempts": offer.attempts,
                "reason": offer.reason,
                "fencing_token": offer.fencing_token,
            }

    def narrow(self, bridge_id: str, offer_id: str, tier: Tier) -> OfferState:
        """Let only nearer nodes have an offer from now on; it never becomes wider again."""
        with writing(self.engine) as connection:
            offer = self._own(connection, bridge_id, offer_id)
            if not Tier(offer.tier).admits(tier):
                raise MalformedError("an offer's tier only ever comes nearer to the hospital")
            connection.execute(update(offer_table).where(offer_table.c.offer_id == offer_id).values(tier=tier.value))
            return OfferState(offer.state)

    def withdraw(self, bridge_id: str, offer_id: str) -> OfferState:
        """Take an offer back; one that is over stays as it is."""
        with writing(self.engine) as connection:
            offer = self._own(connection, bridge_id, offer_id)
            if offer.state in OVER:
                return OfferState(offer.state)
            self._end_lease(connection, offer, "ended", "the offer was withdrawn")
            return self._advance(connection, offer, OfferEvent.WITHDRAWN)

    def place_key(self, bridge_id: str, offer_id: str, fencing_token: int, wrapped_key: str) -> OfferState:
        """Hand the parcel's key, wrapped for one node, to the lease that it was wrapped for."""
        if not 0 < len(wrapped_key) <= 512:
            raise MalformedError("that is not a wrapped key")
        with writing(self.engine) as connection:
            offer = self._own(connection, bridge_id, offer_id)
            lease = self._of_offer(connection, offer, fencing_token)
            if lease.wrapped_key:
                # The bridge asked twice. The first key stands: the node may have it already.
                return OfferState(offer.state)
            self._active(lease, lease.node_id, fencing_token)
            connection.execute(
                update(lease_table).where(lease_table.c.lease_id == lease.lease_id).values(wrapped_key=wrapped_key)
            )
            return self._advance(connection, offer, OfferEvent.KEYED)

    def judge(self, bridge_id: str, offer_id: str, fencing_token: int, verdict: str, reason: str) -> OfferState:
        """Take the bridge's verdict on one lease: accepted ends the offer, refused opens it for another node."""
        if verdict not in ("accepted", "refused"):
            raise MalformedError("a verdict is accepted or refused")
        with writing(self.engine) as connection:
            offer = self._own(connection, bridge_id, offer_id)
            lease = self._of_offer(connection, offer, fencing_token)
            if lease.state == verdict:
                return OfferState(offer.state)
            if lease.state in ("accepted", "refused"):
                raise KeyConflictError("this lease was judged before, and otherwise")
            if lease.state not in ("active", "computed") or (verdict == "accepted" and lease.state == "active"):
                raise LeaseLostError(f"a lease that is {lease.state} cannot be {verdict}")
            if verdict == "refused":
                state = self._end(connection, offer, lease, "refused", reason)
            else:
                self._close(connection, lease, "accepted", "")
                state = self._advance(connection, offer, OfferEvent.ACCEPTED)
        if verdict == "refused":
            self._ring_for(offer_id)
        return state

    def may_collect(self, bridge_id: str, digest: str) -> None:
        """Raise UnknownError unless that is the result of one of this bridge's own offers."""
        with reading(self.engine) as connection:
            mine = connection.execute(
                select(lease_table.c.lease_id)
                .join(offer_table, offer_table.c.offer_id == lease_table.c.offer_id)
                .where(lease_table.c.result_digest == digest, offer_table.c.bridge_id == bridge_id)
            ).first()
        if mine is None:
            raise UnknownError("there is no such result of an offer of yours")

    def changes(self, bridge_id: str, after: int) -> list[dict[str, Any]]:
        """Return what happened to this bridge's offers since a cursor, in order.

        Raises UnknownError for a cursor this exchange never gave: its memory is not the one the bridge knew.
        """
        if after > self.pulse():
            raise UnknownError("that cursor is not of this exchange")
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(change_table)
                .where(change_table.c.bridge_id == bridge_id, change_table.c.cursor > after)
                .order_by(change_table.c.cursor)
                .limit(_CHANGES_MAX)
            )
            return [
                {
                    "cursor": row.cursor,
                    "kind": row.kind,
                    "offer_id": row.offer_id,
                    "at": row.at.isoformat(),
                    "body": row.body,
                }
                for row in rows
            ]

    # --- by itself --------------------------------------------------------------------------------------

    def pulse(self) -> int:
        """Return the last cursor of all: as long as it is the same, nothing has happened."""
        with reading(self.engine) as connection:
            return connection.execute(select(func.max(change_table.c.cursor))).scalar() or 0

    def reap(self) -> int:
        """End the leases and offers whose time is over; return how many."""
        now = self.clock.now()
        # A bridge that never judges does not keep a result here for ever.
        unjudged = now - timedelta(seconds=self.limits.keep_seconds)
        with reading(self.engine) as connection:
            leases = connection.execute(
                select(lease_table.c.lease_id).where(lease_table.c.state == "active", lease_table.c.expires_at <= now)
            ).scalars()
            lapsed = list(leases)
            offers = connection.execute(
                select(offer_table.c.offer_id).where(
                    offer_table.c.state.in_(ALIVE),
                    offer_table.c.deadline <= now,
                    or_(offer_table.c.state != OfferState.COMPUTED, offer_table.c.deadline <= unjudged),
                )
            ).scalars()
            late = list(offers)
        return sum(map(self._lapse, lapsed)) + sum(map(self._expire, late))

    def _lapse(self, lease_id: str) -> bool:
        with writing(self.engine) as connection:
            lease, offer = self._locked(connection, lease_id)
            if lease.state != "active" or lease.expires_at > self.clock.now():
                return False
            self._end(connection, offer, lease, "lapsed", "the node was not heard of in time")
        self._ring_for(offer.offer_id)
        return True

    def _expire(self, offer_id: str) -> bool:
        with writing(self.engine) as connection:
            offer = self._offer(connection, offer_id)
            if offer.state not in ALIVE:
                return False
            self._end_lease(connection, offer, "ended", "the deadline has passed")
            reason = "the deadline has passed"
            if offer.attempts == 0:
                reason += f", and no node with hardware {offer.hardware} took the offer"
            self._advance(connection, offer, OfferEvent.EXPIRED, reason=reason, body={"reason": reason})
        return True

    def clear(self) -> int:
        """Take the files of offers long over off the shelf, and forget old changes; return how many offers."""
        before = self.clock.now() - timedelta(seconds=self.limits.keep_seconds)
        with writing(self.engine) as connection:
            over = connection.execute(
                select(offer_table)
                .where(
                    offer_table.c.state.in_(OVER), offer_table.c.changed_at < before, offer_table.c.cleared_at.is_(None)
                )
                .limit(_CHANGES_MAX)
            ).all()
            digests = {offer.parcel_digest for offer in over}
            for offer in over:
                digests |= set(
                    connection.execute(
                        select(lease_table.c.result_digest).where(
                            lease_table.c.offer_id == offer.offer_id, lease_table.c.result_digest != ""
                        )
                    ).scalars()
                )
            connection.execute(
                update(offer_table)
                .where(offer_table.c.offer_id.in_([offer.offer_id for offer in over]))
                .values(cleared_at=self.clock.now())
            )
            digests -= set(
                connection.execute(
                    select(offer_table.c.parcel_digest).where(
                        offer_table.c.parcel_digest.in_(digests), offer_table.c.cleared_at.is_(None)
                    )
                ).scalars()
            )
            connection.execute(delete(change_table).where(change_table.c.at < before - _CHANGES_KEPT))
        for digest in digests:
            self.shelf.delete(digest)
        self.shelf.sweep(before)
        return len(over)

    # --- within a transaction ---------------------------------------------------------------------------

    def _lease(self, connection: Connection, offer: Row[Any], node: Row[Any], lease_id: str) -> Row[Any]:
        """Give an open offer to a node."""
        expires_at = self._expiry(offer)
        fencing_token = connection.execute(
            insert(lease_table)
            .values(
                lease_id=lease_id,
                offer_id=offer.offer_id,
                node_id=node.node_id,
                attempt=offer.attempts + 1,
                state="active",
                granted_at=self.clock.now(),
                granted_until=expires_at,
                expires_at=expires_at,
            )
            .returning(lease_table.c.fencing_token)
        ).scalar_one()
        lease = self._lease_row(connection, lease_id)
        self._advance(
            connection,
            offer,
            OfferEvent.LEASED,
            body={"lease": to_body(_lease(lease, node)), "node": node.envelope},
            attempts=offer.attempts + 1,
            fencing_token=fencing_token,
        )
        return lease

    def _end(self, connection: Connection, offer: Row[Any], lease: Row[Any], how: str, reason: str) -> OfferState:
        """End the offer's last lease badly, and open the offer again where that may help."""
        self._close(connection, lease, how, reason)
        self._strike(connection, lease.node_id, how)
        if offer.attempts >= self.limits.attempts_max:
            event = OfferEvent.SPENT
        else:
            event = OfferEvent.REOPENED if offer.deadline > self.clock.now() else OfferEvent.EXPIRED
        return self._advance(connection, offer, event, reason=reason, body={"reason": reason[:255]})

    def _end_lease(self, connection: Connection, offer: Row[Any], how: str, reason: str) -> None:
        """End the lease of an offer that is over, without blame."""
        if offer.state in HELD:
            lease = self._of_offer(connection, offer, offer.fencing_token)
            self._close(connection, lease, how, reason)

    def _close(self, connection: Connection, lease: Row[Any], state: str, reason: str) -> None:
        connection.execute(
            update(lease_table)
            .where(lease_table.c.lease_id == lease.lease_id)
            .values(state=state, reason=reason[:255], wrapped_key="")
        )
        if state == "accepted":
            connection.execute(
                update(node_table)
                .where(node_table.c.node_id == lease.node_id)
                .values(accepted=node_table.c.accepted + 1, strikes=0, banned_until=None)
            )

    def _strike(self, connection: Connection, node_id: str, how: str) -> None:
        """Count a lease that ended badly; from the second running on the node gets no work for a while."""
        node = self._node(connection, node_id)
        strikes = min(node.strikes + 1, _STRIKES_MAX)
        pause = timedelta(seconds=self.limits.ban_seconds * 2 ** (strikes - 2))
        connection.execute(
            update(node_table)
            .where(node_table.c.node_id == node_id)
            .values(
                {
                    how: node_table.c[how] + 1,
                    "strikes": strikes,
                    "banned_until": self.clock.now() + pause if strikes > 1 else None,
                }
            )
        )

    def _advance(
        self,
        connection: Connection,
        offer: Row[Any],
        event: OfferEvent,
        *,
        reason: str = "",
        body: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> OfferState:
        """Take one step of the table and tell the bridge of it; somebody who was faster makes it a LeaseLostError."""
        state = following(OfferState(offer.state), event)
        done = connection.execute(
            update(offer_table)
            .where(offer_table.c.offer_id == offer.offer_id, offer_table.c.state == offer.state)
            .values(state=state, reason=reason[:255], changed_at=self.clock.now(), **values)
        )
        if done.rowcount != 1:
            raise LeaseLostError("somebody else was faster")
        kind = "opened" if event is OfferEvent.REOPENED else state.value
        self._tell(connection, offer.bridge_id, offer.offer_id, kind, body or {})
        return state

    def _tell(self, connection: Connection, bridge_id: str, offer_id: str, kind: str, body: Mapping[str, Any]) -> None:
        if connection.dialect.name == "postgresql":
            # Cursors must become visible in their order, or a reader would step over one that commits late.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4277009103)")
        connection.execute(
            insert(change_table).values(
                bridge_id=bridge_id, offer_id=offer_id, kind=kind, at=self.clock.now(), body=dict(body)
            )
        )

    def _granted(self, connection: Connection, lease: Row[Any]) -> dict[str, Any]:
        offer, node = self._offer(connection, lease.offer_id), self._node(connection, lease.node_id)
        return {
            "offer": offer.envelope,
            "lease": to_body(_lease(lease, node)),
            "placement": to_body(_placement(offer)),
        }

    def _check_offer(self, connection: Connection, offer: Offer) -> None:
        if offer.deadline <= self.clock.now():
            raise OfferExpiredError
        if offer.parcel_size_bytes > self.limits.parcel_bytes_max:
            raise TooLargeError("the parcel is larger than the configured limit")
        open_offers = connection.execute(
            select(func.count()).where(offer_table.c.bridge_id == offer.bridge_id, offer_table.c.state.in_(ALIVE))
        ).scalar_one()
        if open_offers >= self.limits.offers_per_bridge_max:
            raise CapacityError("this bridge has as many offers open as it may")
        if self.shelf.size(offer.parcel_digest) != offer.parcel_size_bytes:
            raise UnknownError("the parcel is not here yet")

    def _head_start(self, connection: Connection, offer: Offer) -> timedelta:
        """Return by how much an offer's stake lets it overtake others of the same urgency: so much and no more.

        No offer is overtaken by one that came later than the longest head start, so that none starves; and one bridge
        has a head start for a few open offers at a time, however much it has staked.
        """
        limits = self.limits
        found = priority.read(offer.attestation, limits.priority_keys, offer.bridge_id, self.clock.now())
        if not found:
            return timedelta(0)
        ahead = connection.execute(
            select(func.count()).where(
                offer_table.c.bridge_id == offer.bridge_id,
                offer_table.c.state.in_(ALIVE),
                offer_table.c.ranked_at < offer_table.c.opened_at,
            )
        ).scalar_one()
        if ahead >= limits.priority_offers_max:
            return timedelta(0)
        return min(found, limits.priority_max) * timedelta(seconds=limits.priority_seconds)

    def _check_receipt(self, receipt: Receipt, offer: Row[Any]) -> None:
        if (receipt.offer_id, receipt.input_digest, receipt.service) != (
            offer.offer_id,
            offer.parcel_digest,
            offer.service,
        ):
            raise MalformedError("the receipt is for another offer, parcel or service")
        if offer.state != OfferState.KEYED:
            raise LeaseLostError("there is no receipt before there is a key")

    def _active(self, lease: Row[Any], node_id: str, fencing_token: int) -> Row[Any]:
        """Return a lease that this node holds now; its time counts, whether or not anybody has reaped it."""
        if lease.node_id != node_id:
            raise PeerRefusedError("this is another node's lease")
        if lease.state != "active" or lease.fencing_token != fencing_token or lease.expires_at <= self.clock.now():
            raise LeaseLostError
        return lease

    @property
    def _alive_since(self) -> datetime:
        """A node that was not heard of for three leases' time is not there."""
        return self.clock.now() - timedelta(seconds=3 * self.limits.lease_seconds + self.limits.wait_seconds_max)

    def _expiry(self, offer: Row[Any]) -> datetime:
        deadline: datetime = offer.deadline
        return min(self.clock.now() + timedelta(seconds=self.limits.lease_seconds), deadline)

    def _leases_held(self, connection: Connection, node_id: str) -> int:
        return connection.execute(
            select(func.count()).where(lease_table.c.node_id == node_id, lease_table.c.state == "active")
        ).scalar_one()

    def _node(self, connection: Connection, node_id: str) -> Row[Any]:
        row = connection.execute(select(node_table).where(node_table.c.node_id == node_id)).one_or_none()
        if row is None:
            raise UnknownError("this node has not joined")
        return row

    def _offer(self, connection: Connection, offer_id: str) -> Row[Any]:
        return connection.execute(select(offer_table).where(offer_table.c.offer_id == offer_id).with_for_update()).one()

    def _locked(self, connection: Connection, lease_id: str) -> tuple[Row[Any], Row[Any]]:
        """Return a lease and its offer as they are once nobody else can change them: whoever writes locks the offer."""
        offer = self._offer(connection, self._lease_row(connection, lease_id).offer_id)
        return self._lease_row(connection, lease_id), offer

    def _own(self, connection: Connection, bridge_id: str, offer_id: str) -> Row[Any]:
        row = connection.execute(
            select(offer_table)
            .where(offer_table.c.offer_id == offer_id, offer_table.c.bridge_id == bridge_id)
            .with_for_update()
        ).one_or_none()
        if row is None:
            raise UnknownError("there is no such offer of yours")
        return row

    def _of_offer(self, connection: Connection, offer: Row[Any], fencing_token: int) -> Row[Any]:
        row = connection.execute(
            select(lease_table).where(
                lease_table.c.offer_id == offer.offer_id, lease_table.c.fencing_token == fencing_token
            )
        ).one_or_none()
        if row is None:
            raise LeaseLostError("this offer never had such a lease")
        return row

    def _lease_row(self, connection: Connection, lease_id: str) -> Row[Any]:
        row = connection.execute(select(lease_table).where(lease_table.c.lease_id == lease_id)).one_or_none()
        if row is None:
            raise UnknownError("there is no such lease")
        return row

    def _ring_for(self, offer_id: str) -> None:
        """Ring for nodes that may have this offer, if it is open."""
        with reading(self.engine) as connection:
            offer = connection.execute(select(offer_table).where(offer_table.c.offer_id == offer_id)).one()
            if offer.state != OfferState.OPEN:
                return
            nodes = suitable_nodes(connection, offer, self.clock.now(), self._alive_since)
        for node in nodes[:_RINGS_MAX]:
            self._ring(node.node_id, offer_id)


def _lease(row: Row[Any], node: Row[Any]) -> Lease:
    """Return a lease as it was granted."""
    return Lease(
        lease_id=row.lease_id,
        offer_id=row.offer_id,
        node_id=row.node_id,
        attempt=row.attempt,
        fencing_token=row.fencing_token,
        expires_at=row.granted_until,
        node_wrap_key=node.wrap_key,
        node_sign_key=node.node_id,
    )


def _placement(offer: Row[Any]) -> Placement:
    """Return how urgent an offer is placed."""
    asked, urgency = (list(Urgency)[rank] for rank in (offer.asked_rank, offer.urgency_rank))
    return Placement(offer.offer_id, offer.bridge_id, asked, urgency, offer.opened_at)
