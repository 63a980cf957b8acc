"""Which patients a fact was ever about, and what its newest version comes to: written before any points move.

The ledger knows each patient's points; this finds the patients of a fact again. A row here gives nobody anything, so
that a crash right after it costs nothing: whoever comes back to the fact reads it, and brings the ledger there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Boolean, Column, Connection, MetaData, String, Table, Text, delete, insert, select

from btt_bridge.database import open_database, reading, writing
from btt_bridge.errors import KeyConflictError

metadata = MetaData(info={"history": "claims"})

_claim_table = Table(
    "reward_claim",
    metadata,
    Column("fact", String(32), primary_key=True),
    Column("patient", String(64), primary_key=True),
    # Of the newest version that named this patient.
    Column("rank", String(96), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("retracted", Boolean, nullable=False),
    # The rules, as program/rule, that this version does not satisfy.
    Column("unmet", Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Claim:
    """What one version of a fact says: opaque keys of fact, patient and content, and what does not hold."""

    fact: str
    patient: str
    rank: str
    digest: str
    retracted: bool
    unmet: frozenset[str]


class Claims:
    """The newest claim for each fact and patient."""

    def __init__(self, url: str) -> None:
        self._engine = open_database(url, metadata)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def put(self, claim: Claim) -> None:
        """Remember a claim unless a newer version of it is known.

        Raises KeyConflictError where the same version was seen with another content.
        """
        with self._locked() as connection:
            known = _read(connection, claim.fact)
            check_content(claim, known)
            own = [other for other in known if other.patient == claim.patient]
            if own and own[0].rank > claim.rank:
                return
            if own:
                connection.execute(delete(_claim_table).filter_by(fact=claim.fact, patient=claim.patient))
            row = {name: getattr(claim, name) for name in ("fact", "patient", "rank", "digest", "retracted")}
            connection.execute(insert(_claim_table).values(**row, unmet=" ".join(sorted(claim.unmet))))

    def bind(self, fact: str, patient: str) -> None:
        """Give a fact that has no versions to one patient for ever; raise KeyConflictError where another has it."""
        with self._locked() as connection:
            known = _read(connection, fact)
            if not known:
                row = {"fact": fact, "patient": patient, "rank": "", "digest": "", "retracted": False, "unmet": ""}
                connection.execute(insert(_claim_table).values(**row))
            elif known[0].patient != patient:
                raise KeyConflictError("this order is somebody else's")

    def of(self, fact: str) -> list[Claim]:
        """Return the claims on a fact, the newest first; that one counts."""
        with reading(self._engine) as connection:
            return _read(connection, fact)

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        with writing(self._engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4277009104)")
            yield connection


def check_content(claim: Claim, known: Sequence[Claim]) -> None:
    """Raise KeyConflictError where the same version is known with another content."""
    if any(other.rank == claim.rank and other.digest != claim.digest for other in known):
        raise KeyConflictError("this version was seen before with another content")


def _read(connection: Connection, fact: str) -> list[Claim]:
    rows = connection.execute(
        select(_claim_table).where(_claim_table.c.fact == fact).order_by(_claim_table.c.rank.desc())
    )
    return [
        Claim(row.fact, row.patient, row.rank, row.digest, row.retracted, frozenset(row.unmet.split())) for row in rows
    ]
