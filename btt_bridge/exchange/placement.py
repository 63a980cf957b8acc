"""Which offer a node may have next, and which nodes an offer may go to. What is not plainly allowed is not placed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, exists, or_, select

from btt_bridge.exchange.life import OfferState
from btt_bridge.exchange.tables import lease_table, node_table, offer_table
from btt_bridge.records import Hardware, Tier

#: Offers looked through for one node in one turn.
_OFFERS_MAX = 100

_failed_here = exists().where(
    lease_table.c.offer_id == offer_table.c.offer_id,
    lease_table.c.node_id == node_table.c.node_id,
    lease_table.c.state.in_(["failed", "lapsed", "refused"]),
)


def best_offer(connection: Connection, node: Row[Any], now: datetime, alive_since: datetime) -> Row[Any] | None:
    """Return the offer this node should have next: urgency first, then age and stake; one it failed before comes last.

    A node counts as there while it was seen after `alive_since`.
    """
    offers = (
        select(offer_table)
        .join(node_table, node_table.c.node_id == node.node_id)
        .where(
            offer_table.c.state == OfferState.OPEN,
            offer_table.c.deadline > now,
            offer_table.c.service.in_(node.services),
            offer_table.c.parcel_size_bytes <= node.parcel_bytes_max,
            offer_table.c.hardware.in_(Hardware(node.hardware).serves),
            _tier_allows(node, now),
        )
        .order_by(_rank(node), offer_table.c.ranked_at)
        .limit(_OFFERS_MAX)
    )
    # Where rows can be locked, two nodes that ask at once get two offers.
    unlocked = offers.where(~_failed_here).limit(1).with_for_update(skip_locked=True, of=offer_table)
    fresh = connection.execute(unlocked).one_or_none()
    if fresh is not None:
        return fresh
    for offer in connection.execute(offers.where(_failed_here)):
        others = suitable_nodes(connection, offer, now, alive_since, fresh_only=True)
        if all(other.node_id == node.node_id for other in others):
            return offer
    return None


def suitable_nodes(
    connection: Connection, offer: Row[Any], now: datetime, alive_since: datetime, *, fresh_only: bool = False
) -> list[Row[Any]]:
    """Return the nodes that are there and may have this offer, the fastest first."""
    query = (
        select(node_table)
        .join(offer_table, offer_table.c.offer_id == offer.offer_id)
        .where(
            node_table.c.seen_at >= alive_since,
            node_table.c.parcel_bytes_max >= offer.parcel_size_bytes,
        )
        .order_by(node_table.c.benchmark.desc(), node_table.c.joined_at)
    )
    if fresh_only:
        query = query.where(~_failed_here)
    return [
        node
        for node in connection.execute(query)
        if offer.service in node.services
        and offer.hardware in Hardware(node.hardware).serves
        and Tier(offer.tier).admits(tier_for(node, offer.bridge_id))
        and (not _banned(node, now) or _is_own(node, offer.bridge_id))
    ]


def tier_for(node: Row[Any], bridge_id: str) -> Tier:
    """Return what a node is to one bridge: another hospital's own node is anybody's."""
    tier = Tier(node.tier)
    return Tier.PUBLIC if tier is Tier.HOSPITAL and not _is_own(node, bridge_id) else tier


def _is_own(node: Row[Any], bridge_id: str) -> bool:
    return bool(node.tier == Tier.HOSPITAL and node.bridge_id == bridge_id)


def _banned(node: Row[Any], now: datetime) -> bool:
    return node.banned_until is not None and node.banned_until > now


def _rank(node: Row[Any]) -> ColumnElement[int]:
    """A hospital's own node takes its hospital's offers as they were asked: a quota is between hospitals."""
    placed = offer_table.c.urgency_rank
    if node.tier != Tier.HOSPITAL:
        return placed
    return case((offer_table.c.bridge_id == node.bridge_id, offer_table.c.asked_rank), else_=placed)


def _tier_allows(node: Row[Any], now: datetime) -> ColumnElement[bool]:
    """Own offers always; those of others as far as their tier reaches, and not during a ban."""
    own = and_(offer_table.c.bridge_id == node.bridge_id, node.tier == Tier.HOSPITAL)
    if _banned(node, now):
        return own
    to_others = tier_for(node, "")
    return or_(own, offer_table.c.tier.in_([tier.value for tier in Tier if tier.admits(to_others)]))
