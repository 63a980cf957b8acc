"""Writes down the databases of this version, with rows, for the tests of every later one: a new release runs it once.

python -m tests.migrations.freeze VERSION
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import insert, make_url

from btt_bridge.database import writing
from btt_bridge.exchange.tables import nonce_table
from btt_bridge.fhir import Identity
from btt_bridge.inbox import Inbox, Told
from btt_bridge.journal import Journal
from btt_bridge.journey import Event
from btt_bridge.ledger import Ledger, anchors, batches
from btt_bridge.records import Anchored, Arrival, Document, Header, RootStanding
from btt_bridge.settle.rewards.claims import Claim, Claims
from btt_bridge.testing import FakeClock
from btt_bridge.vault import Identity as Known
from btt_bridge.vault import Vault
from tests.exchange.pool_parts import new_signer
from tests.exchange.test_market import Pit
from tests.peers import postgres
from tests.peers.server import program
from tests.test_ledger_audit import fill

RELEASED = Path(__file__).parent / "released"
_CT, _EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def _fill_bridge(url: str, folder: Path) -> None:
    clock = FakeClock()
    journal = Journal(url, clock)
    for number in range(3):
        arrival = Arrival(
            f"1.2.3.{number}", _CT, _EXPLICIT, "CT1", "BTT_BRIDGE", "127.0.0.1", f"{number}.dcm", 100, clock.now()
        )
        journal.record_arrivals([arrival])
    for instance in journal.unread(3):
        uid = instance.arrival.sop_instance_uid
        (journey,) = journal.record_headers([Header(instance.id, "1.2", "1.2.3", uid, {"Modality": "CT"})], clock.now())
    journal.record_conflict(Arrival("1.2.3.0", _CT, _EXPLICIT, "CT2", "B", "::1", "other.dcm", 9, clock.now()))
    journal.expect("A1", 3)
    journal.record_swept("0123456789ab")
    for event in (Event.COMPLETED, Event.MATCHED, Event.STRIPPED):
        journal.advance(journal.journey(journey), event, facts={str(event): {"seconds": 1.5}})
    journal.note(journey, {"offer": {"units": 100}}, offer_id="0ffe2")
    journal.enqueue(journey, ["pacs"], [("key", Document("1.9", "1.2", "SR", b"x"))])
    journal.engine.dispose()
    with closing(Inbox(url, clock)) as inbox:
        inbox.put([Told("ehr", Identity("Appointment", "1", "1"), "Patient/1", b"\x00content", "d1")])
        inbox.put([Told("ehr", Identity("Appointment", "1", "2"), "", b"", deleted=True)])
        inbox.note_request("payment", "Claim/c1")
    vault = Vault(url, folder / "keys")
    vault.remember(journey, Known({"1.2.3": "2.25.9"}, vault.pseudonym("MRN-1", "HOSPITAL", 3650), {"PatientID": "1"}))
    vault.engine.dispose()


def _fill_ledger(url: str, folder: Path) -> None:
    with closing(Ledger(url, FakeClock())) as ledger:
        fill(ledger)
        batches.close(ledger, new_signer())
        anchors.note(ledger, "place", 1, Anchored(RootStanding.POSTED, "0x1"))
        ledger.set_position("file", 3)
        ledger.hinder("webhook", "no answer", "look at it", stopped=True)
    with closing(Claims(url)) as claims:
        claims.put(Claim("fact", "patient", "rank", "digest", False, frozenset({"p/r"})))


def _fill_exchange(url: str, folder: Path) -> None:
    pit = Pit(url, folder)
    node, offer = pit.join(), pit.offer()
    pit.computed(node, offer)
    pit.offer()
    with writing(pit.market.engine) as connection:
        connection.execute(insert(nonce_table).values(public="a" * 64, nonce="b" * 64, at=pit.clock.now()))
    pit.market.close()


DATABASES: dict[str, Callable[[str, Path], None]] = {
    "bridge": _fill_bridge,
    "exchange": _fill_exchange,
    "ledger": _fill_ledger,
}


def _of_sqlite(url: str) -> str:
    with closing(sqlite3.connect(str(make_url(url).database))) as connection:
        return "\n".join(connection.iterdump()) + "\n"


def _of_postgresql(url: str) -> str:
    parsed = make_url(url)
    command = [program("pg_dump"), "-h", str(parsed.host), "-p", str(parsed.port), "-U", str(parsed.username)]
    options = ["--no-owner", "--inserts", str(parsed.database)]
    dumped = subprocess.run([*command, *options], check=True, capture_output=True, text=True, timeout=60).stdout
    # What a psql or a server of another version would not understand, and nobody needs.
    kept = [line for line in dumped.splitlines() if line and not line.startswith(("--", "SET ", "\\"))]
    return "\n".join(kept) + "\n"


def main(version: str) -> None:
    folder = RELEASED / version
    folder.mkdir(exist_ok=True)
    for name, fill_one in DATABASES.items():
        with tempfile.TemporaryDirectory() as scratch, postgres.postgresql() as server, server.database() as url:
            fill_one(url, Path(scratch))
            (folder / f"{name}.postgresql.sql").write_text(_of_postgresql(url), encoding="utf-8")
            url = f"sqlite:///{scratch}/{name}.db"
            fill_one(url, Path(scratch))
            (folder / f"{name}.sqlite.sql").write_text(_of_sqlite(url), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
