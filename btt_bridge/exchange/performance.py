"""How each node worked in a period: what this exchange itself saw of leases and results, and nothing a node says."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine, select

from btt_bridge.database import reading
from btt_bridge.exchange.life import OfferState
from btt_bridge.exchange.tables import change_table, lease_table, node_table, offer_table
from btt_bridge.records import Performance, Tier

_ENDED: Final = ("accepted", "failed", "lapsed", "refused")


@dataclass(slots=True)
class _Sums:
    accepted: int = 0
    lost: int = 0
    operations: int = 0
    milliseconds: int = 0


def performance(engine: Engine, start: datetime, end: datetime) -> tuple[Performance, ...]:
    """Return how each node kept the leases that it was granted in a period, by node.

    A node's own benchmark and the times in its receipts are not looked at. What a hospital asks of its own node counts
    neither way: the two could agree on anything.
    """
    query = (
        select(lease_table, offer_table.c.envelope, offer_table.c.bridge_id, node_table.c.tier)
        .add_columns(node_table.c.bridge_id.label("owner"))
        .join(offer_table, offer_table.c.offer_id == lease_table.c.offer_id)
        .join(node_table, node_table.c.node_id == lease_table.c.node_id)
        .where(lease_table.c.granted_at >= start, lease_table.c.granted_at < end, lease_table.c.state.in_(_ENDED))
        .order_by(lease_table.c.fencing_token)
    )
    computed = (
        select(change_table.c.at, change_table.c.body)
        .where(change_table.c.kind == OfferState.COMPUTED.value, change_table.c.at >= start)
        .order_by(change_table.c.cursor)
    )
    sums: dict[str, _Sums] = defaultdict(_Sums)
    with reading(engine) as connection:
        ended = {row.body["lease"]["lease_id"]: row.at for row in connection.execute(computed)}
        for row in connection.execute(query):
            if row.tier == Tier.HOSPITAL and row.owner == row.bridge_id:
                continue
            node = sums[row.node_id]
            if row.state != "accepted":
                node.lost += 1
                continue
            node.accepted += 1
            if row.lease_id in ended:
                node.operations += _operations(row.envelope)
                node.milliseconds += round((ended[row.lease_id] - row.granted_at).total_seconds() * 1000)
    return tuple(
        Performance(name, one.accepted, one.lost, one.operations, one.milliseconds)
        for name, one in sorted(sums.items())
    )


def _operations(offer: Mapping[str, Any]) -> int:
    """Return what an offer said of its work; its signature was checked when it came."""
    return int(json.loads(base64.b64decode(offer["payload"]))["operations"])
