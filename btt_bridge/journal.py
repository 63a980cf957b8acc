"""The hospital's memory in SQL: instances, studies, journeys with every step, and the outbox of deliveries."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    UniqueConstraint,
    and_,
    event,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from btt_bridge.clock import Clock, SystemClock
from btt_bridge.database import Moment, moment_text, open_database, reading, turn, writing
from btt_bridge.errors import UnknownError
from btt_bridge.journey import ACTIVE, Event, State, following
from btt_bridge.records import Arrival, Document, Evidence, Header, Instance, Series, Study

metadata = MetaData(info={"history": "journal"})

instance_table = Table(
    "instance",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("peer_address", String(64), nullable=False),
    Column("path", String(255), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("flag", String(16), nullable=False, default=""),
    # Empty until assemble has read the object.
    Column("study_instance_uid", String(64), nullable=False, default=""),
    Column("series_instance_uid", String(64), nullable=False, default=""),
    # The revision in which it was first part of its study; 0 until that study was called complete with it.
    Column("revision", Integer, nullable=False, default=0),
    Index("instance_in_study", "study_instance_uid", "id"),
    Index("instance_path", "path", unique=True),
)
_in_use = instance_table.c.flag.notin_(["conflict", "unreadable"])
# One copy of a SOP Instance is in use; others with its UID are kept beside it, flagged. A broken one holds no place:
# a good one may still come.
Index(
    "instance_in_use",
    instance_table.c.sop_instance_uid,
    unique=True,
    sqlite_where=_in_use,
    postgresql_where=_in_use,
)
_conflict = instance_table.c.flag == "conflict"
Index("instance_conflict", instance_table.c.sop_instance_uid, sqlite_where=_conflict, postgresql_where=_conflict)
_unread = and_(instance_table.c.flag == "", instance_table.c.study_instance_uid == "")
Index("instance_unread", instance_table.c.id, sqlite_where=_unread, postgresql_where=_unread)

series_table = Table(
    "series",
    metadata,
    Column("series_instance_uid", String(64), primary_key=True),
    Column("study_instance_uid", String(64), primary_key=True),
    Column("keywords", JSON, nullable=False),
    Index("series_of_study", "study_instance_uid"),
)

journey_table = Table(
    "journey",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_instance_uid", String(64), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("accession_number", String(64), nullable=False, default=""),
    Column("calling_ae_title", String(16), nullable=False, default=""),
    Column("state", String(16), nullable=False),
    Column("reason", String(255), nullable=False, default=""),
    # What the stages found out, by stage name; each is written once, with the step that produced it.
    Column("facts", JSON, nullable=False, default=dict),
    # The offer that is out for it, "" while there is none: the pool knows a journey by nothing else.
    Column("offer_id", String(64), nullable=False, default=""),
    Column("opened_at", Moment, nullable=False),
    Column("changed_at", Moment, nullable=False),
    # When the reaper should ring for it next; null where only a person can help.
    Column("due_at", Moment, nullable=True),
    Column("attempts", Integer, nullable=False, default=0),
    Column("claim", String(32), nullable=False, default=""),
    Column("claimed_until", Moment, nullable=True),
    UniqueConstraint("study_instance_uid", "revision"),
    Index("journey_due", "due_at"),
    Index("journey_accession", "accession_number"),
    Index("journey_offer", "offer_id"),
)

step_table = Table(
    "step",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("journey_id", Integer, ForeignKey("journey.id"), nullable=False, index=True),
    Column("at", Moment, nullable=False),
    Column("event", String(16), nullable=False),
    Column("from_state", String(16), nullable=False),
    Column("to_state", String(16), nullable=False),
    Column("reason", String(255), nullable=False, default=""),
    Column("seconds", Float, nullable=False, default=0.0),
)

delivery_table = Table(
    "delivery",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("journey_id", Integer, ForeignKey("journey.id"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False),
    # Where the object lies in the store.
    Column("key", String(255), nullable=False),
    Column("state", String(16), nullable=False, default="waiting"),  # waiting, delivered, dead, withdrawn
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Moment, nullable=True),
    Column("delivered_at", Moment, nullable=True),
    Column("error", String(255), nullable=False, default=""),
    Column("advice", String(255), nullable=False, default=""),
    UniqueConstraint("journey_id", "destination", "sop_instance_uid"),
    Index("delivery_due", "state", "due_at"),
)

expectation_table = Table(
    "expectation",
    metadata,
    Column("accession_number", String(64), primary_key=True),
    Column("instances", Integer, nullable=False),
    Column("at", Moment, nullable=False),
)


swept_table = Table(
    "swept",
    metadata,
    # A folder of the spool whose process is gone, and which nobody need look at again.
    Column("folder", String(32), primary_key=True),
    Column("at", Moment, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Journey:
    """One revision of one study on its way."""

    id: int
    study_instance_uid: str
    revision: int
    accession_number: str
    calling_ae_title: str
    state: State
    reason: str
    facts: Mapping[str, Any]
    opened_at: datetime
    changed_at: datetime
    due_at: datetime | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a journey, as it happened."""

    at: datetime
    event: str
    from_state: str
    to_state: str
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """One object on its way to one destination."""

    id: int
    journey_id: int
    destination: str
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    key: str
    state: str
    attempts: int
    due_at: datetime | None
    delivered_at: datetime | None
    error: str
    advice: str


class StaleError(UnknownError):
    """The journey has moved on; whoever acted on its old state must look again."""


class Journal:
    """All reads and writes of the hospital's database, each one transaction."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self.engine: Engine = open_database(url, metadata)
        self.clock: Clock = clock or SystemClock()
        self._url = url
        self._insert_arrivals_sql = self._compiled(self._insert_new(instance_table), _new_row_names)

    @cached_property
    def _arrivals_engine(self) -> Engine:
        """The same database for the index of what arrives, whose rows are durable in the objects' own files."""
        if self.engine.dialect.name != "sqlite":
            return self.engine  # it is flushed in any case, and needs no second pool of connections
        engine = open_database(self._url, metadata, flushed=False)
        event.listen(self.engine, "engine_disposed", lambda _: engine.dispose())
        return engine

    # --- instances --------------------------------------------------------------------------------------

    def record_arrivals(self, arrivals: Sequence[Arrival]) -> list[Arrival | None]:
        """Index new objects in one commit that everybody sees; what makes it durable is that the objects are.

        Returns, for each arrival in order, None where it was indexed, or the arrival that already holds its
        SOP Instance UID; the caller compares the two and may call `record_conflict`.
        """
        if not arrivals:
            return []
        rows = [{**_new_row(arrival), "received_at": moment_text(arrival.received_at)} for arrival in arrivals]
        if self._insert_arrivals(rows) == len(arrivals):
            return [None] * len(arrivals)
        with reading(self.engine) as connection:
            holders = [self._holder(connection, arrival) for arrival in arrivals]
        # No two arrivals share a path: a row with our own is the one that was just written.
        return [
            None if holder.path == arrival.path else holder for arrival, holder in zip(arrivals, holders, strict=True)
        ]

    def record_conflict(self, arrival: Arrival) -> None:
        """Index an object whose SOP Instance UID is held by other content: kept, flagged, never in use."""
        row = {
            **asdict(arrival),
            "flag": "conflict",
            "study_instance_uid": "",
            "series_instance_uid": "",
            "revision": 0,
        }
        with writing(self.engine) as connection:
            connection.execute(self._insert_new(instance_table).values(row))

    def conflicts(self, sop_instance_uid: str) -> list[Arrival]:
        """Return the copies of a SOP Instance that are kept beside the one in use."""
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(instance_table).where(instance_table.c.sop_instance_uid == sop_instance_uid, _conflict)
            )
            return [_instance(row).arrival for row in rows]

    def indexed(self, paths: Collection[str]) -> set[str]:
        """Return those of these paths that an instance in the index has."""
        with reading(self.engine) as connection:
            return set(
                connection.execute(
                    select(instance_table.c.path).where(instance_table.c.path.in_(list(paths)))
                ).scalars()
            )

    def record_swept(self, folder: str) -> None:
        """Note that a folder of the spool was swept; with this flushed row, every earlier one is on the disk too."""
        with writing(self.engine) as connection:
            connection.execute(self._insert_new(swept_table).values(folder=folder, at=self.clock.now()))

    def unread(self, limit: int) -> list[Instance]:
        """Return up to `limit` instances that nobody has read yet, oldest first."""
        with reading(self.engine) as connection:
            rows = connection.execute(select(instance_table).where(_unread).order_by(instance_table.c.id).limit(limit))
            return [_instance(row) for row in rows]

    def record_flag(self, instance_id: int, flag: str) -> None:
        """Take an object out of use ("unreadable", "own"); its bytes stay.

        An unreadable one gives its place to the oldest other copy with its UID, which is then unread.
        """
        mine = instance_table.c.id == instance_id
        with writing(self.engine) as connection:
            connection.execute(update(instance_table).where(mine).values(flag=flag))
            if flag == "unreadable":
                uid = select(instance_table.c.sop_instance_uid).where(mine).scalar_subquery()
                others = instance_table.c.sop_instance_uid == uid
                taken = connection.execute(select(instance_table.c.id).where(others, _in_use)).first()
                next_best = select(func.min(instance_table.c.id)).where(others, _conflict).scalar_subquery()
                if taken is None:
                    promoted = instance_table.c.id == next_best
                    connection.execute(update(instance_table).where(promoted).values(flag=""))

    def record_headers(self, headers: Sequence[Header], due_at: datetime) -> list[int]:
        """Place read instances in their series and studies; return the journeys they belong to.

        A study that has no journey still receiving gets a new revision, and every earlier one that has not
        been delivered is superseded by it. `due_at` is when its completeness should be judged.
        """
        journeys: dict[str, int] = {}
        with writing(self.engine) as connection:
            for header in headers:
                connection.execute(
                    update(instance_table)
                    .where(instance_table.c.id == header.instance_id)
                    .values(
                        study_instance_uid=header.study_instance_uid,
                        series_instance_uid=header.series_instance_uid,
                    )
                )
                connection.execute(
                    self._insert_new(series_table).values(
                        series_instance_uid=header.series_instance_uid,
                        study_instance_uid=header.study_instance_uid,
                        keywords=dict(header.keywords),
                    )
                )
                if header.study_instance_uid not in journeys:
                    journeys[header.study_instance_uid] = self._receiving(connection, header, due_at)
        return list(journeys.values())

    def flagged(self, limit: int = 200) -> list[Instance]:
        """Return the newest instances that are kept but not in use, with their flags."""
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(instance_table)
                .where(instance_table.c.flag != "")
                .order_by(instance_table.c.id.desc())
                .limit(limit)
            )
            return [_instance(row) for row in rows]

    def study(self, journey_id: int) -> Study:
        """Return the study as this journey sees it: up to and including its own revision."""
        with reading(self.engine) as connection:
            journey = self._journey_row(connection, journey_id)
            rows = connection.execute(
                select(instance_table)
                .where(
                    instance_table.c.study_instance_uid == journey.study_instance_uid,
                    instance_table.c.flag == "",
                    instance_table.c.revision <= journey.revision,
                )
                .order_by(instance_table.c.id)
            ).all()
            if journey.state != State.RECEIVING:
                rows = [row for row in rows if row.revision > 0]
            keywords = {
                row.series_instance_uid: row.keywords
                for row in connection.execute(
                    select(series_table).where(series_table.c.study_instance_uid == journey.study_instance_uid)
                )
            }
        by_series: dict[str, list[Instance]] = {}
        for row in rows:
            by_series.setdefault(row.series_instance_uid, []).append(_instance(row))
        return Study(
            study_instance_uid=journey.study_instance_uid,
            revision=journey.revision,
            calling_ae_title=journey.calling_ae_title,
            series=tuple(Series(uid, keywords[uid], tuple(found)) for uid, found in by_series.items()),
            first_received_at=min((row.received_at for row in rows), default=journey.opened_at),
            last_received_at=max((row.received_at for row in rows), default=journey.opened_at),
        )

    def keywords(self, study_instance_uids: Iterable[str]) -> dict[str, list[Mapping[str, Any]]]:
        """Return the keywords of each series of these studies; what a list of studies shows, without its instances."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        with reading(self.engine) as connection:
            for row in connection.execute(
                select(series_table)
                .where(series_table.c.study_instance_uid.in_(list(study_instance_uids)))
                .order_by(series_table.c.series_instance_uid)
            ):
                found.setdefault(row.study_instance_uid, []).append(row.keywords)
        return found

    def expect(self, accession_number: str, instances: int) -> None:
        """Remember how many instances an order announced."""
        with writing(self.engine) as connection:
            values = {"accession_number": accession_number, "instances": instances, "at": self.clock.now()}
            done = connection.execute(
                update(expectation_table).where(expectation_table.c.accession_number == accession_number).values(values)
            )
            if done.rowcount == 0:
                connection.execute(insert(expectation_table).values(values))

    def expected(self, accession_number: str) -> int | None:
        """Return how many instances an order announced, or None."""
        with reading(self.engine) as connection:
            return connection.execute(
                select(expectation_table.c.instances).where(expectation_table.c.accession_number == accession_number)
            ).scalar_one_or_none()

    # --- journeys ---------------------------------------------------------------------------------------

    def journey(self, journey_id: int) -> Journey:
        """Return one journey; raise UnknownError where there is none."""
        with reading(self.engine) as connection:
            return _journey(self._journey_row(connection, journey_id))

    def journeys(self, *, states: Iterable[State] = (), limit: int = 200) -> list[Journey]:
        """Return journeys, the last changed first."""
        query = select(journey_table).order_by(journey_table.c.changed_at.desc()).limit(limit)
        if wanted := list(states):
            query = query.where(journey_table.c.state.in_(wanted))
        with reading(self.engine) as connection:
            return [_journey(row) for row in connection.execute(query)]

    def find(self, accession_or_uid: str) -> list[Journey]:
        """Return the journeys of the study with this Accession Number or Study Instance UID, oldest revision first."""
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(journey_table)
                .where(
                    or_(
                        journey_table.c.accession_number == accession_or_uid,
                        journey_table.c.study_instance_uid == accession_or_uid,
                    )
                )
                .order_by(journey_table.c.id)
            )
            return [_journey(row) for row in rows]

    def due(self, limit: int) -> list[int]:
        """Return journeys that should be rung for now and that nobody is working on."""
        now = self.clock.now()
        with reading(self.engine) as connection:
            return list(
                connection.execute(
                    select(journey_table.c.id)
                    .where(
                        journey_table.c.due_at <= now,
                        or_(journey_table.c.claim == "", journey_table.c.claimed_until <= now),
                    )
                    .order_by(journey_table.c.due_at)
                    .limit(limit)
                ).scalars()
            )

    def claim(self, journey_id: int, seconds: int) -> str | None:
        """Take the right to work on a journey for `seconds`; return a token, or None while somebody else has it."""
        now, token = self.clock.now(), uuid.uuid4().hex
        with writing(self.engine) as connection:
            done = connection.execute(
                update(journey_table)
                .where(
                    journey_table.c.id == journey_id,
                    or_(journey_table.c.claim == "", journey_table.c.claimed_until <= now),
                )
                .values(claim=token, claimed_until=now + timedelta(seconds=seconds))
            )
        return token if done.rowcount == 1 else None

    def renew(self, tokens: Collection[str], seconds: int) -> None:
        """Hold claims for `seconds` more; one that was lost meanwhile stays lost."""
        until = self.clock.now() + timedelta(seconds=seconds)
        with writing(self.engine) as connection:
            connection.execute(
                update(journey_table).where(journey_table.c.claim.in_(list(tokens))).values(claimed_until=until)
            )

    def release(self, journey_id: int, token: str, *, due_at: datetime | None) -> None:
        """Give the right back, and say when to look again."""
        with writing(self.engine) as connection:
            connection.execute(
                update(journey_table)
                .where(journey_table.c.id == journey_id, journey_table.c.claim == token)
                .values(claim="", claimed_until=None, due_at=due_at)
            )

    def advance(
        self,
        journey: Journey,
        event: Event,
        *,
        token: str = "",
        reason: str = "",
        facts: Mapping[str, Any] | None = None,
        seconds: float = 0.0,
    ) -> Journey:
        """Take one step of the table and record it; return the journey as it is then.

        Raises ImpossibleError for a step the table does not hold, and StaleError when the journey is no longer
        in the state it was read in or, where a token is given, no longer claimed with it.
        """
        state, now = following(journey.state, event), self.clock.now()
        due_at = now if state in ACTIVE else None
        changed = {"state": state, "reason": reason[:255], "changed_at": now, "due_at": due_at, "attempts": 0}
        with writing(self.engine) as connection:
            mine = [journey_table.c.id == journey.id, journey_table.c.state == journey.state]
            if token:
                mine.append(journey_table.c.claim == token)
            if facts:
                # Others note what they hear while this step is worked on; nothing of that may be lost.
                changed["facts"] = {**self._journey_row(connection, journey.id).facts, **facts}
            if connection.execute(update(journey_table).where(*mine).values(changed)).rowcount != 1:
                raise StaleError
            self._step(connection, journey.id, event, journey.state, state, reason, seconds)
            if event is Event.COMPLETED:
                connection.execute(
                    update(instance_table)
                    .where(
                        instance_table.c.study_instance_uid == journey.study_instance_uid,
                        instance_table.c.revision == 0,
                        instance_table.c.flag == "",
                    )
                    .values(revision=journey.revision)
                )
            return _journey(self._journey_row(connection, journey.id))

    def note(self, journey_id: int, facts: Mapping[str, Any], *, offer_id: str | None = None) -> Journey:
        """Add facts to a journey without a step, and say by which offer it is known; return it as it is then."""
        with writing(self.engine) as connection:
            row = self._journey_row(connection, journey_id)
            changed = {"facts": {**row.facts, **facts}, "offer_id": row.offer_id if offer_id is None else offer_id}
            connection.execute(update(journey_table).where(journey_table.c.id == journey_id).values(changed))
            return _journey(self._journey_row(connection, journey_id))

    def offered(self, offer_id: str) -> Journey | None:
        """Return the journey that this offer is out for, or None."""
        with reading(self.engine) as connection:
            row = connection.execute(select(journey_table).where(journey_table.c.offer_id == offer_id)).one_or_none()
            return _journey(row) if row is not None else None

    def count_attempt(self, journey_id: int) -> int:
        """Count one more failed try at the present step; return how many there were."""
        with writing(self.engine) as connection:
            connection.execute(
                update(journey_table)
                .where(journey_table.c.id == journey_id)
                .values(attempts=journey_table.c.attempts + 1)
            )
            return int(self._journey_row(connection, journey_id).attempts)

    def steps(self, journey_id: int) -> list[Step]:
        """Return everything that happened to a journey, in order."""
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(step_table).where(step_table.c.journey_id == journey_id).order_by(step_table.c.id)
            )
            return [Step(row.at, row.event, row.from_state, row.to_state, row.reason, row.seconds) for row in rows]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many journeys, deliveries and instances there are by state, for metrics and pages."""
        with reading(self.engine) as connection:
            return {
                table.name: {
                    str(key): int(count)
                    for key, count in connection.execute(select(column, func.count()).group_by(column)).tuples()
                }
                for table, column in (
                    (journey_table, journey_table.c.state),
                    (delivery_table, delivery_table.c.state),
                    (instance_table, instance_table.c.flag),
                )
            }

    def happened(self, event: Event) -> int:
        """Return how often something has happened to a study."""
        with reading(self.engine) as connection:
            return connection.execute(select(func.count()).where(step_table.c.event == event)).scalar_one()

    # --- outbox -----------------------------------------------------------------------------------------

    def enqueue(self, journey_id: int, destinations: Sequence[str], documents: Sequence[tuple[str, Document]]) -> None:
        """Put each document (with its store key) in the outbox for each destination; asking twice changes nothing."""
        now = self.clock.now()
        with writing(self.engine) as connection:
            for destination in destinations:
                for key, document in documents:
                    connection.execute(
                        self._insert_new(delivery_table).values(
                            journey_id=journey_id,
                            destination=destination,
                            kind=document.kind,
                            sop_class_uid=document.sop_class_uid,
                            sop_instance_uid=document.sop_instance_uid,
                            key=key,
                            state="waiting",
                            attempts=0,
                            due_at=now,
                            error="",
                            advice="",
                        )
                    )

    def deliveries(self, journey_id: int | None = None, *, state: str = "", limit: int = 500) -> list[Delivery]:
        """Return deliveries, of one journey or of all, in the order they were queued."""
        query = select(delivery_table).order_by(delivery_table.c.id).limit(limit)
        if journey_id is not None:
            query = query.where(delivery_table.c.journey_id == journey_id)
        if state:
            query = query.where(delivery_table.c.state == state)
        with reading(self.engine) as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def record_delivered(self, delivery_id: int) -> None:
        """The destination proved that it has the object."""
        now = self.clock.now()
        with writing(self.engine) as connection:
            connection.execute(
                update(delivery_table)
                .where(delivery_table.c.id == delivery_id)
                .values(
                    state="delivered",
                    delivered_at=now,
                    attempts=delivery_table.c.attempts + 1,
                    due_at=None,
                    error="",
                    advice="",
                )
            )

    def record_undelivered(self, delivery_id: int, error: str, advice: str, due_at: datetime | None) -> None:
        """A try failed: look again at `due_at`, or never (None), which makes it a dead letter."""
        with writing(self.engine) as connection:
            connection.execute(
                update(delivery_table)
                .where(delivery_table.c.id == delivery_id)
                .values(
                    state="waiting" if due_at else "dead",
                    attempts=delivery_table.c.attempts + 1,
                    due_at=due_at,
                    error=error[:255],
                    advice=advice[:255],
                )
            )

    def resend(self, journey_id: int, *, include_delivered: bool = False) -> int:
        """Let what a journey has not delivered (or all its deliveries) be tried now; return how many that are.

        A journey that had come to rest goes on in the same transaction: its deliveries would wait for ever otherwise.
        Raises ImpossibleError where the journey has nothing to send any more, or not yet.
        """
        states = ["dead", "waiting", *(["delivered"] if include_delivered else [])]
        now = self.clock.now()
        with writing(self.engine) as connection:
            count = connection.execute(
                update(delivery_table)
                .where(delivery_table.c.journey_id == journey_id, delivery_table.c.state.in_(states))
                .values(state="waiting", attempts=0, due_at=now, error="", advice="")
            ).rowcount
            before = State(self._journey_row(connection, journey_id).state)
            changed: dict[str, Any] = {"due_at": now}
            if count and before is not State.REPORTED:
                reason = "resent by hand"
                after = following(before, Event.RESENT)
                # Whoever winds it up just now must not put it to rest again.
                changed |= {"state": after, "reason": reason, "changed_at": now, "attempts": 0, "claim": ""}
                self._step(connection, journey_id, Event.RESENT, before, after, reason, 0.0)
            if count:
                connection.execute(update(journey_table).where(journey_table.c.id == journey_id).values(changed))
        return count

    # --- within a transaction ---------------------------------------------------------------------------

    def _insert_new(self, table: Table) -> Any:
        """An insert that does nothing where a unique key is taken."""
        dialect = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(table).on_conflict_do_nothing()

    def _compiled(self, statement: Any, names: Sequence[str]) -> str:
        """Return a statement as the driver's own SQL with named parameters."""
        dialect: Any = type(self.engine.dialect)
        dialect = dialect(paramstyle="named" if dialect.name == "sqlite" else "pyformat")
        return str(statement.compile(dialect=dialect, column_keys=list(names)))

    def _insert_arrivals(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert what is new, by the driver alone, and commit; return how many rows that were.

        Each object that comes in waits for this: SQLAlchemy's share would be half of the time that it takes.
        """
        engine = self._arrivals_engine
        with closing(engine.raw_connection()) as connection, turn(engine):
            cursor = connection.cursor()
            if self.engine.dialect.name == "sqlite":
                cursor.execute("BEGIN IMMEDIATE")
            cursor.executemany(self._insert_arrivals_sql, rows)
            connection.commit()
            return int(cursor.rowcount)

    def _holder(self, connection: Connection, arrival: Arrival) -> Arrival:
        row = connection.execute(
            select(instance_table).where(
                instance_table.c.sop_instance_uid == arrival.sop_instance_uid,
                _in_use,
            )
        ).one()
        return _instance(row).arrival

    def _receiving(self, connection: Connection, header: Header, due_at: datetime) -> int:
        """Return the journey that is receiving this study, opening the next revision where there is none."""
        rows = connection.execute(
            select(journey_table)
            .where(journey_table.c.study_instance_uid == header.study_instance_uid)
            .order_by(journey_table.c.revision)
        ).all()
        if rows and rows[-1].state == State.RECEIVING:
            connection.execute(update(journey_table).where(journey_table.c.id == rows[-1].id).values(due_at=due_at))
            return int(rows[-1].id)
        now = self.clock.now()
        for row in rows:
            self._supersede(connection, row, now)
        sent_by = connection.execute(
            select(instance_table.c.calling_ae_title).where(instance_table.c.id == header.instance_id)
        ).scalar_one()
        opened = connection.execute(
            insert(journey_table)
            .values(
                study_instance_uid=header.study_instance_uid,
                revision=len(rows) + 1,
                accession_number=str(header.keywords.get("AccessionNumber", ""))[:64],
                calling_ae_title=sent_by,
                state=State.RECEIVING,
                reason="",
                facts={},
                opened_at=now,
                changed_at=now,
                due_at=due_at,
                attempts=0,
                claim="",
                offer_id="",
            )
            .returning(journey_table.c.id)
        ).scalar_one()
        return int(opened)

    def _supersede(self, connection: Connection, row: Row[Any], now: datetime) -> None:
        """End an undelivered revision; `facts["superseded_from"]` tells the pipeline what is left to undo."""
        if row.state in (State.DELIVERED, State.SETTLED, State.SUPERSEDED):
            return
        state = following(State(row.state), Event.SUPERSEDED)
        connection.execute(
            update(journey_table)
            .where(journey_table.c.id == row.id)
            .values(
                state=state, changed_at=now, due_at=now, claim="", reason="more objects arrived",
                facts={**row.facts, "superseded_from": row.state},
            )
        )  # fmt: skip
        connection.execute(
            update(delivery_table)
            .where(delivery_table.c.journey_id == row.id, delivery_table.c.state.in_(["waiting", "dead"]))
            .values(state="withdrawn", due_at=None)
        )
        self._step(connection, row.id, Event.SUPERSEDED, row.state, state, "more objects arrived", 0.0)

    def _step(
        self,
        connection: Connection,
        journey_id: int,
        event: Event,
        before: str,
        after: str,
        reason: str,
        seconds: float,
    ) -> None:
        connection.execute(
            insert(step_table).values(
                journey_id=journey_id,
                at=self.clock.now(),
                event=event,
                from_state=before,
                to_state=after,
                reason=reason[:255],
                seconds=seconds,
            )
        )

    def _journey_row(self, connection: Connection, journey_id: int) -> Row[Any]:
        row = connection.execute(select(journey_table).where(journey_table.c.id == journey_id)).one_or_none()
        if row is None:
            raise UnknownError("no such journey")
        return row


def evidence_facts(evidence: Evidence) -> dict[str, Any]:
    """Return evidence as it is kept among a journey's facts."""
    return json.loads(json.dumps(asdict(evidence), default=str))  # type: ignore[no-any-return]


_arrival_names = tuple(field.name for field in fields(Arrival))
_new_row_names = (*_arrival_names, "flag", "study_instance_uid", "series_instance_uid", "revision")


def _new_row(arrival: Arrival) -> dict[str, Any]:
    row = {name: getattr(arrival, name) for name in _arrival_names}
    return {**row, "flag": "", "study_instance_uid": "", "series_instance_uid": "", "revision": 0}


def _instance(row: Row[Any]) -> Instance:
    arrival = Arrival(
        row.sop_instance_uid, row.sop_class_uid, row.transfer_syntax_uid, row.calling_ae_title,
        row.called_ae_title, row.peer_address, row.path, row.size_bytes, row.received_at,
    )  # fmt: skip
    return Instance(row.id, arrival, row.flag, row.study_instance_uid, row.series_instance_uid)


def _journey(row: Row[Any]) -> Journey:
    return Journey(
        row.id, row.study_instance_uid, row.revision, row.accession_number, row.calling_ae_title, State(row.state),
        row.reason, row.facts, row.opened_at, row.changed_at, row.due_at, row.attempts,
    )  # fmt: skip


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        row.id, row.journey_id, row.destination, row.kind, row.sop_class_uid, row.sop_instance_uid, row.key,
        row.state, row.attempts, row.due_at, row.delivered_at, row.error, row.advice,
    )  # fmt: skip
