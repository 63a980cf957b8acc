"""Where the roots of sealed batches were anchored, and how each stands there, as far as we were told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, and_, delete, func, insert, or_, select

from btt_bridge.database import reading
from btt_bridge.ledger import batches
from btt_bridge.ledger.batches import Batch
from btt_bridge.ledger.book import Ledger
from btt_bridge.ledger.schema import anchor_table, batch_table
from btt_bridge.records import Anchored, RootStanding

_columns = anchor_table.c


@dataclass(frozen=True, slots=True)
class Anchor:
    """One batch in one place."""

    place: str
    batch: int
    standing: RootStanding
    transaction: str
    #: Since when we know it.
    at: datetime


def unsettled(ledger: Ledger, place: str, limit: int) -> list[Batch]:
    """Return batches of which it is open how they will stand in a place: first those that nobody knows there."""
    here = and_(_columns.batch == batch_table.c.id, _columns.place == place)
    query = (
        select(batch_table)
        .outerjoin(anchor_table, here)
        .where(or_(_columns.standing.is_(None), _columns.standing == RootStanding.POSTED))
        .order_by(_columns.standing.is_not(None), batch_table.c.id)
        .limit(limit)
    )
    with reading(ledger.engine) as connection:
        return [batches.batch(row) for row in connection.execute(query)]


def note(ledger: Ledger, place: str, batch: int, found: Anchored) -> None:
    """Write down how a batch stands in a place, in the stead of what was known before."""
    told = {"standing": found.standing, "transaction": found.transaction}
    with reading(ledger.engine) as connection:
        if connection.execute(select(_columns.at).filter_by(place=place, batch=batch, **told)).first():
            return
    with ledger.extending() as connection:
        connection.execute(delete(anchor_table).where(_columns.place == place, _columns.batch == batch))
        connection.execute(insert(anchor_table).values(place=place, batch=batch, at=ledger.clock.now(), **told))


def of(ledger: Ledger, numbers: Sequence[int]) -> dict[int, list[Anchor]]:
    """Return where these batches are anchored, by their numbers."""
    query = select(anchor_table).where(_columns.batch.in_(numbers)).order_by(_columns.place)
    found: dict[int, list[Anchor]] = {number: [] for number in numbers}
    with reading(ledger.engine) as connection:
        for row in connection.execute(query):
            found[row.batch].append(_anchor(row))
    return found


def counts(ledger: Ledger) -> dict[tuple[str, RootStanding], int]:
    """Return how many batches stand how in each place."""
    by = (_columns.place, _columns.standing)
    query = select(*by, func.count()).group_by(*by).order_by(*by)
    with reading(ledger.engine) as connection:
        return {(place, RootStanding(standing)): count for place, standing, count in connection.execute(query)}


def standing(ledger: Ledger, which: RootStanding, limit: int) -> list[Anchor]:
    """Return the batches that stand so, the newest first."""
    query = select(anchor_table).filter_by(standing=which).order_by(_columns.batch.desc(), _columns.place).limit(limit)
    with reading(ledger.engine) as connection:
        return [_anchor(row) for row in connection.execute(query)]


def _anchor(row: Row[tuple[str, int, str, str, datetime]]) -> Anchor:
    return Anchor(row.place, row.batch, RootStanding(row.standing), row.transaction, row.at)
