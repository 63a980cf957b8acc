"""What the EHR has told: each version of a resource as it came, durable before the answer, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
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
    Text,
    UniqueConstraint,
    func,
    insert,
    select,
    update,
)

from btt_bridge.clock import Clock, SystemClock
from btt_bridge.database import Moment, open_database, reading, upserting, writing
from btt_bridge.errors import KeyConflictError
from btt_bridge.fhir import Identity

metadata = MetaData(info={"history": "inbox"})

_told_table = Table(
    "told",
    metadata,
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
    Index("told_patient", "patient", "kind"),
)
# Which document asked for a payment: the book itself knows it by a keyed digest alone.
_asked_table = Table(
    "asked",
    metadata,
    Column("payment", String(64), primary_key=True),
    Column("request", Text, nullable=False),
)
_columns = _told_table.c
_CONSENT = "Consent"
#: Of a sender that tells no instant, a version is later than all before it, whatever its or our clock says.
_TICK = timedelta(microseconds=1)


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
    #: SHA-256 (hex) of what it says, whatever its bytes; "" of one that was deleted.
    digest: str = ""
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
        self._engine = open_database(url, metadata)

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

    def consents(self, patient: str) -> list[Kept]:
        """Return each Consent whose newest version is this patient's, whoever told it, but those deleted since."""
        named = select(_columns.resource_id).filter_by(patient=patient, kind=_CONSENT)
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(_told_table).where(_columns.kind == _CONSENT, _columns.resource_id.in_(named))
            ).all()
        newest = {row.resource_id: row for row in sorted(rows, key=_rank)}.values()
        return [_kept(row) for row in newest if row.patient == patient and not row.deleted]

    def is_newest(self, kept: Kept) -> bool:
        """Say whether nothing newer is known of a resource, a deletion included."""
        identity = kept.told.identity
        query = select(_columns.id, _columns.updated_at, _columns.version).filter_by(
            source=kept.told.source, kind=identity.kind, resource_id=identity.id
        )
        with reading(self._engine) as connection:
            return bool(max(connection.execute(query), key=_rank).id == kept.id)

    def record(self, kept_id: int, state: State, outcome: str) -> None:
        """Write down what a version came to; nobody looks at it again by itself."""
        self._change(kept_id, state=state, outcome=outcome[:1000], due_at=None)

    def put_off(self, kept_id: int, due_at: datetime, reason: str) -> None:
        """Look at a version again later."""
        self._change(kept_id, outcome=reason[:1000], due_at=due_at, attempts=_columns.attempts + 1)

    def look_again(self, patient: str) -> int:
        """Look again at what a patient had not agreed to; return how many versions that are."""
        due = {"state": State.WAITING, "due_at": self.clock.now(), "attempts": 0}
        with writing(self._engine) as connection:
            return connection.execute(
                update(_told_table).filter_by(patient=patient, state=State.UNCONSENTED).values(due)
            ).rowcount

    def again(self, kept_id: int) -> None:
        """Look at a version again because a person says so."""
        self._change(kept_id, state=State.WAITING, due_at=self.clock.now(), attempts=0)

    def note_request(self, payment: str, request: str) -> None:
        """Keep which document asked for a payment, as FHIR refers to it; what was kept first stays."""
        with writing(self._engine) as connection:
            row = upserting(self._engine, _asked_table).values(payment=payment, request=request)
            connection.execute(row.on_conflict_do_nothing())

    def request(self, payment: str) -> str:
        """Return the reference to the document that asked for a payment, "" where nobody noted it."""
        query = select(_asked_table.c.request).filter_by(payment=payment)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar() or ""

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
        identity = told.identity
        named = {"source": told.source, "kind": identity.kind, "resource_id": identity.id}
        # Without their content, which nobody need read to tell versions apart.
        known = connection.execute(
            select(*(_columns[name] for name in ("id", "version", "digest", "deleted", "patient", "updated_at")))
            .filter_by(**named)
            .order_by(_columns.id)
        ).all()
        same = [row for row in known if row.version == identity.version] if identity.version else known[-1:]
        if same and (same[0].digest, same[0].deleted) == (told.digest, told.deleted):
            return _kept(connection.execute(select(_told_table).filter_by(id=same[0].id)).one())
        if same and identity.version:
            raise KeyConflictError("this version was told before with another content")
        now = self.clock.now()
        row = connection.execute(
            insert(_told_table)
            .values(
                **named, version=identity.version or _next_version(known),
                updated_at=identity.updated or max([now, *(row.updated_at + _TICK for row in known)]),
                patient=told.patient or (known[-1].patient if known else ""), deleted=told.deleted,
                content=told.content, digest=told.digest, received_at=now, state=State.WAITING, outcome="", attempts=0,
                due_at=now,
            )
            .returning(*_told_table.c)
        ).one()  # fmt: skip
        return _kept(row, first=not known)

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


def _rank(row: Row[Any]) -> tuple[datetime, str]:
    """Sort versions of a resource as they follow each other, whatever order they came in."""
    return row.updated_at, row.version.rjust(64, "0")


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
        row.digest,
        row.deleted,
    )
    return Kept(
        row.id, told, row.version, row.updated_at, row.received_at, State(row.state), row.outcome, row.attempts, first
    )
