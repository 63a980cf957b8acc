"""What the EHR has told: each version of a resource as it came, durable before the answer, and what it came to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    UniqueConstraint,
    func,
    insert,
    select,
    update,
)

from btt_bridge.clock import Clock, SystemClock
from btt_bridge.database import Moment, open_database, reading, writing
from btt_bridge.errors import KeyConflictError
from btt_bridge.fhir import Identity

_metadata = MetaData()

_told_table = Table(
    "told",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("source", String(40), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("resource_id", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("patient", String(300), nullable=False),
    Column("deleted", Boolean, nullable=False),
    # As it came: what is made of it may be made again, and better.
    Column("content", LargeBinary, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("state", String(16), nullable=False),
    Column("outcome", String(1000), nullable=False, default=""),
    Column("attempts", Integer, nullable=False, default=0),
    # When to look at it next; null once nothing more is to be done.
    Column("due_at", Moment, nullable=True),
    UniqueConstraint("source", "kind", "resource_id", "version"),
    Index("told_due", "due_at"),
    Index("told_patient", "source", "patient", "kind"),
)
_columns = _told_table.c


class State(StrEnum):
    """What became of a version."""

    WAITING = "waiting"
    COUNTED = "counted"
    UNCONSENTED = "unconsented"  # it would count if the patient had agreed, and will once that is known
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Told:
    """One version of a resource on its way in; a deleted one has no content."""

    source: str
    identity: Identity
    patient: str
    content: bytes
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """One version of a resource as it is kept."""

    id: int
    told: Told
    version: str
    updated_at: datetime
    received_at: datetime
    state: State
    outcome: str
    attempts: int
    #: Whether nothing was known of the resource before this version.
    first: bool = False


class Inbox:
    """The versions that came, in the hospital's own database."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self._engine = open_database(url, _metadata)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def put(self, told: Sequence[Told]) -> list[Kept]:
        """Keep these versions in one durable commit; what came before, byte for byte, is kept once.

        A sender that names no version gets the next one. Raises KeyConflictError where a version that is kept comes
        again with another content; then none of them is kept.
        """
        with self._extending() as connection:
            return [self._put(connection, one) for one in told]

    def waiting(self, limit: int) -> list[Kept]:
        """Return what is due to be looked at, oldest first."""
        query = select(_told_table).where(_columns.due_at <= self.clock.now()).order_by(_columns.id).limit(limit)
        with reading(self._engine) as connection:
            return [_kept(row) for row in connection.execute(query)]

    def consents(self, source: str, patient: str) -> list[Kept]:
        """Return the newest version of each Consent of a patient, those that were deleted left out."""
        newest = (
            select(func.max(_columns.id)).filter_by(source=source, patient=patient, kind="Consent")
        ).group_by(_columns.resource_id)  # fmt: skip
        query = select(_told_table).where(_columns.id.in_(newest), ~_columns.deleted).order_by(_columns.id)
        with reading(self._engine) as connection:
            return [_kept(row) for row in connection.execute(query)]

    def record(self, kept_id: int, state: State, outcome: str) -> None:
        """Write down what a version came to; nobody looks at it again by itself."""
        self._change(kept_id, state=state, outcome=outcome[:1000], due_at=None)

    def put_off(self, kept_id: int, due_at: datetime, reason: str) -> None:
        """Look at a version again later."""
        self._change(kept_id, outcome=reason[:1000], due_at=due_at, attempts=_columns.attempts + 1)

    def look_again(self, source: str, patient: str) -> int:
        """Look again at what a patient had not agreed to; return how many versions that are."""
        due = {"state": State.WAITING, "due_at": self.clock.now(), "attempts": 0}
        with writing(self._engine) as connection:
            return connection.execute(
                update(_told_table).filter_by(source=source, patient=patient, state=State.UNCONSENTED).values(due)
            ).rowcount

    def again(self, kept_id: int) -> None:
        """Look at a version again because a person says so."""
        self._change(kept_id, state=State.WAITING, due_at=self.clock.now(), attempts=0)

    def newest(self, limit: int, state: State | None = None) -> list[Kept]:
        """Return the versions that came last, newest first."""
        query = select(_told_table).order_by(_columns.id.desc()).limit(limit)
        if state is not None:
            query = query.where(_columns.state == state)
        with reading(self._engine) as connection:
            return [_kept(row) for row in connection.execute(query)]

    def counts(self) -> dict[str, int]:
        """Return how many versions there are by state."""
        query = select(_columns.state, func.count()).group_by(_columns.state)
        with reading(self._engine) as connection:
            return dict(connection.execute(query).tuples().all())

    # --- how it is written ------------------------------------------------------------------------------

    def _put(self, connection: Connection, told: Told) -> Kept:
        identity, digest = told.identity, hashlib.sha256(told.content).hexdigest()
        rows = connection.execute(
            select(_told_table)
            .filter_by(source=told.source, kind=identity.kind, resource_id=identity.id)
            .order_by(_columns.id)
        ).all()
        same = [row for row in rows if row.version == identity.version] if identity.version else rows[-1:]
        if same and (same[0].digest, same[0].deleted) == (digest, told.deleted):
            return _kept(same[0])
        if same and identity.version:
            raise KeyConflictError("this version was told before with another content")
        now = self.clock.now()
        row = connection.execute(
            insert(_told_table)
            .values(
                source=told.source, kind=identity.kind, resource_id=identity.id,
                version=identity.version or _next_version(rows), updated_at=identity.updated or now,
                patient=told.patient or (rows[-1].patient if rows else ""), deleted=told.deleted,
                content=told.content, digest=digest, received_at=now, state=State.WAITING, outcome="", attempts=0,
                due_at=now,
            )
            .returning(*_told_table.c)
        ).one()  # fmt: skip
        return _kept(row, first=not rows)

    def _change(self, kept_id: int, **values: Any) -> None:
        with writing(self._engine) as connection:
            connection.execute(update(_told_table).where(_columns.id == kept_id).values(**values))

    @contextmanager
    def _extending(self) -> Iterator[Connection]:
        """Let one at a time add versions: which is the next one is read before it is written."""
        with writing(self._engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4277009105)")
            yield connection


def _next_version(rows: Sequence[Row[Any]]) -> str:
    """Return a number behind all that were given before, whoever gave them."""
    numbers = [int(row.version) for row in rows if row.version.isascii() and row.version.isdecimal()]
    return str(max([len(rows), *numbers]) + 1)


def _kept(row: Row[Any], *, first: bool = False) -> Kept:
    told = Told(
        row.source,
        Identity(row.kind, row.resource_id, row.version, row.updated_at),
        row.patient,
        row.content,
        row.deleted,
    )
    return Kept(
        row.id, told, row.version, row.updated_at, row.received_at, State(row.state), row.outcome, row.attempts, first
    )
