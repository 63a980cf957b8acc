"""The quota on urgent work: what a bridge asks beyond it is taken all the same, and ranked as less urgent."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, case, func, select

from btt_bridge.config import Exchange as Limits
from btt_bridge.exchange.life import ALIVE, OfferState
from btt_bridge.exchange.tables import lease_table, node_table, offer_table
from btt_bridge.records import Offer, Tier, Urgency

#: Those that have a quota, the most urgent first.
_RATIONED = (Urgency.STAT, Urgency.URGENT)

_leased = node_table.c.node_id.is_not(None)
_by_own_node = and_(node_table.c.tier == Tier.HOSPITAL, node_table.c.bridge_id == offer_table.c.bridge_id)
# What nobody has leased takes something from the pool for as long as somebody may lease it.
_waits_for_pool = and_(offer_table.c.tier != Tier.HOSPITAL, offer_table.c.state.in_(ALIVE))
_at_the_pool = case((_leased, ~_by_own_node), else_=_waits_for_pool)


def urgency_within(connection: Connection, limits: Limits, offer: Offer, now: datetime) -> Urgency:
    """Return how urgent a new offer is placed: as it asks, or as the next urgency that its bridge has room for.

    To be called in the transaction that writes the offer. A bridge has room for so many offers of an urgency within the
    window, and for a share of its results that were accepted there: opening routine offers and withdrawing them gains
    nothing. What the hospital's own node does counts neither way, and a bridge that is alone has no quota.
    """
    alone = len({row.bridge_id for row in limits.bridges}) < 2
    if alone or offer.urgency not in _RATIONED or offer.tier is Tier.HOSPITAL:
        return offer.urgency
    if connection.dialect.name == "postgresql":
        # Two offers of one bridge at once would both find the last place free. SQLite has one writer at a time anyway.
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(offer.bridge_id, 4277009104))))
    accepted, *placed = _counted(connection, offer.bridge_id, now - timedelta(seconds=limits.quota_seconds))
    for urgency, taken, most in zip(_RATIONED, placed, _room(limits, offer.bridge_id, accepted), strict=True):
        if urgency.rank >= offer.urgency.rank and taken < most:
            return urgency
    return Urgency.ROUTINE


def _room(limits: Limits, bridge_id: str, accepted: int) -> tuple[int, int]:
    """Return how many offers of a bridge may be placed as stat and as urgent within the window."""
    percent = max((row.quota_percent for row in limits.bridges if row.bridge_id == bridge_id), default=100)
    stat = limits.stat_free * 100 + accepted * limits.stat_percent
    urgent = limits.urgent_free * 100 + accepted * limits.urgent_percent
    return stat * percent // 10_000, urgent * percent // 10_000


def _counted(connection: Connection, bridge_id: str, since: datetime) -> tuple[int, ...]:
    """Return how many of a bridge's offers at the pool were accepted, and how many placed as each rationed urgency."""
    ranks = [func.count().filter(offer_table.c.urgency_rank == urgency.rank) for urgency in _RATIONED]
    last_lease = lease_table.c.fencing_token == offer_table.c.fencing_token
    query = (
        select(func.count().filter(offer_table.c.state == OfferState.ACCEPTED), *ranks)
        .select_from(offer_table)
        .outerjoin(lease_table, last_lease)
        .outerjoin(node_table, node_table.c.node_id == lease_table.c.node_id)
        .where(offer_table.c.bridge_id == bridge_id, offer_table.c.opened_at > since, _at_the_pool)
    )
    return tuple(connection.execute(query).one())
