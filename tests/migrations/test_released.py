"""The databases that earlier versions left, as they left them: this version opens each and loses nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import IntegrityError

from btt_bridge import inbox, journal, vault
from btt_bridge.database import open_database, revision, writing
from btt_bridge.exchange import tables
from btt_bridge.journal import Journal
from btt_bridge.journey import Event, State
from btt_bridge.ledger import Ledger, Move, audit, guards
from btt_bridge.migrations import newest, revisions, stamp_table
from btt_bridge.money import CNY, Amount
from btt_bridge.settle.rewards import claims
from btt_bridge.testing import FakeClock
from tests.migrations.freeze import RELEASED
from tests.migrations.reflected import rows, schema
from tests.peers.postgres import PostgreSQL
from tests.peers.server import program

DATABASES = {
    "bridge": [journal.metadata, inbox.metadata, vault.metadata],
    "exchange": [tables.metadata],
    "ledger": [guards.metadata, claims.metadata],
}
VERSIONS = sorted(folder.name for folder in RELEASED.iterdir())


def _load(url: str, version: str, name: str) -> None:
    """Put a released database where `url` says."""
    engine = create_engine(url)
    script = RELEASED / version / f"{name}.{engine.name}.sql"
    if engine.name == "sqlite":
        with closing(engine.raw_connection()) as connection:
            connection.driver_connection.executescript(script.read_text(encoding="utf-8"))  # type: ignore[union-attr]
    else:
        parsed = make_url(url)
        command = [program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(parsed.host), "-p", str(parsed.port)]
        where = ["-U", str(parsed.username), "-d", str(parsed.database), "-f", str(script)]
        subprocess.run([*command, *where], check=True, capture_output=True, timeout=60)
    engine.dispose()


@pytest.fixture
def fresh_url(database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Another empty database on the same engine."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'fresh.db'}"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql_server")
    with server.database() as url:
        yield url


@pytest.mark.parametrize("name", DATABASES)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_version_left_becomes_what_this_one_makes(
    database_url: str, fresh_url: str, version: str, name: str
) -> None:
    """Tables, constraints, indexes and triggers end as those of a new database, and every row is as it was.

    Where this fails because a table was changed: write a revision (docs/contributing.md), and leave `released/` alone.
    """
    _load(database_url, version, name)
    with ExitStack() as stack:
        frozen = create_engine(database_url)
        stack.callback(frozen.dispose)
        kept = set(inspect(frozen).get_table_names()) - {stamp_table.name}
        before = rows(frozen, kept)
        for metadata in DATABASES[name]:
            old, new = open_database(database_url, metadata), open_database(fresh_url, metadata)
            stack.callback(old.dispose)
            stack.callback(new.dispose)
            assert revision(database_url, metadata) == newest(metadata)
        made = set(inspect(new).get_table_names())
        assert schema(old, made) == schema(new, made)
        after = rows(old, kept)
        assert all(before.values()), "a released database has rows in each of its tables"
        for table, was in before.items():
            assert [{key: now[key] for key in row} for row, now in zip(was, after[table], strict=True)] == was


@pytest.mark.parametrize("version", VERSIONS)
def test_a_book_that_a_version_left_is_sound_and_goes_on(database_url: str, version: str) -> None:
    """The chain of hashes holds, the next posting joins it, and the guards stand where they stood."""
    _load(database_url, version, "ledger")
    with closing(Ledger(database_url, FakeClock())) as ledger:
        assert audit.verify(ledger).problem == ""
        ledger.post_all("t", "after", [Move("world:cny", "a:cny", Amount(1, CNY), "fund")])
        assert audit.verify(ledger).problem == ""
        for statement in ("UPDATE transfer SET reason = 'x'", "DELETE FROM posting", "UPDATE account SET name = 'x'"):
            with pytest.raises(IntegrityError), writing(ledger.engine) as connection:
                connection.execute(text(statement))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_journey_that_a_version_left_goes_on(database_url: str, version: str) -> None:
    """A study that was on its way when the bridge was updated is found where it was, and takes its next step."""
    _load(database_url, version, "bridge")
    kept = Journal(database_url, FakeClock())
    (journey,) = kept.find("1.2")
    assert (len(kept.study(journey.id).instances), len(kept.steps(journey.id))) == (3, 3)
    assert kept.advance(journey, Event.OFFERED).state is State.OFFERED
    kept.engine.dispose()


def test_every_history_is_here() -> None:
    """No table of the bridge is left out above."""
    named = [metadata.info["history"] for of_one in DATABASES.values() for metadata in of_one]
    assert sorted(named) == sorted({one.rpartition("_")[0] for one in revisions()})
