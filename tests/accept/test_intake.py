"""Durable before yes: group commit, duplicates, conflicts, the bell."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete

from btt_bridge.accept.admission import Sender
from btt_bridge.accept.intake import Intake, Ringer
from btt_bridge.accept.part10 import Description
from btt_bridge.accept.spool import Incoming, Spool, Swept
from btt_bridge.database import writing
from btt_bridge.errors import CapacityError
from btt_bridge.journal import Journal, instance_table
from btt_bridge.records import Arrival, Instance
from btt_bridge.testing import RecordingBell
from tests.accept.wire import CT, EXPLICIT, IMPLICIT
from tests.peers.server import wait_until

SENDER = Sender("MODALITY", "BTT_BRIDGE", "127.0.0.1")


class Door:
    """An intake with its spool and index, and one verb."""

    def __init__(self, root: Path, database_url: str, bell: RecordingBell | None = None) -> None:
        self.root = root
        self.journal = Journal(database_url)
        self.bell = bell or RecordingBell()
        self.ringer = Ringer(self.bell)
        self.spool = Spool(root, 0, 1 << 30)
        self.intake = Intake(self.spool, self.journal, self.ringer, 64)

    def put(self, uid: str, data: bytes, *, transfer_syntax: str = EXPLICIT, sender: Sender = SENDER) -> Incoming:
        incoming = self.intake.begin(Description(CT, uid, transfer_syntax, sender))
        incoming.write(data)
        self.intake.admit(incoming)
        return incoming

    def kept(self) -> list[str]:
        """Return the spool's files that hold anything."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*.dcm") if path.stat().st_size)

    def close(self) -> None:
        self.ringer.close()
        self.spool.close()
        self.journal.engine.dispose()


@pytest.fixture
def door(tmp_path: Path, database_url: str) -> Iterator[Door]:
    with contextlib.closing(Door(tmp_path / "spool", database_url)) as door:
        yield door


def test_the_index_says_what_the_protocol_said(door: Door) -> None:
    """The row carries UIDs, both AE titles, the address, the size of the file and where it lies."""
    incoming = door.put("1.2.3", b"pixels")
    (instance,) = door.journal.unread(10)
    arrival = instance.arrival
    assert (arrival.sop_instance_uid, arrival.sop_class_uid) == ("1.2.3", CT)
    assert (arrival.transfer_syntax_uid, arrival.peer_address) == (EXPLICIT, "127.0.0.1")
    assert (arrival.calling_ae_title, arrival.called_ae_title) == ("MODALITY", "BTT_BRIDGE")
    assert (arrival.path, arrival.size_bytes) == (incoming.path, (door.root / incoming.path).stat().st_size)


def test_the_same_object_again_is_kept_once(door: Door) -> None:
    """The second copy goes away, whoever sent it: the head differs, the object does not."""
    first = door.put("1.2.3", b"pixels")
    door.put("1.2.3", b"pixels", sender=Sender("OTHER", "BTT_BRIDGE", "127.0.0.1"))
    assert door.kept() == [first.path]
    assert len(door.journal.unread(10)) == 1
    assert door.journal.flagged() == []


@pytest.mark.parametrize(("data", "transfer_syntax"), [(b"others", EXPLICIT), (b"pixels", IMPLICIT), (b"", EXPLICIT)])
def test_other_content_is_kept_beside_and_flagged(door: Door, data: bytes, transfer_syntax: str) -> None:
    """Other bytes, or the same in another transfer syntax: the first stays in use, the second stays too."""
    first = door.put("1.2.3", b"pixels")
    second = door.put("1.2.3", data, transfer_syntax=transfer_syntax)
    assert door.kept() == sorted([first.path, second.path])
    assert [instance.arrival.path for instance in door.journal.unread(10)] == [first.path]
    assert [(instance.flag, instance.arrival.path) for instance in door.journal.flagged()] == [
        ("conflict", second.path)
    ]


def test_a_conflict_that_comes_again_is_kept_once(door: Door) -> None:
    """A sender that repeats the conflicting copy fills no disk."""
    for data in (b"pixels", b"others", b"others", b"pixels", b"others"):
        door.put("1.2.3", data)
    assert len(door.kept()) == 2
    assert len(door.journal.flagged()) == 1


def test_a_holder_whose_file_is_gone_is_not_taken_for_the_same(door: Door) -> None:
    """What cannot be compared is kept, never thrown away on trust."""
    (door.root / door.put("1.2.3", b"pixels").path).unlink()
    second = door.put("1.2.3", b"pixels")
    assert door.kept() == [second.path]


def test_many_at_once_of_the_same_leave_one(door: Door) -> None:
    """Eight threads store the same twenty objects: twenty files, twenty rows, no error, nobody waits for ever."""
    uids = [f"1.2.{number}" for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(lambda: [door.put(uid, uid.encode()) for uid in uids]) for _ in range(8)]:
            done.result(60)
    assert sorted(instance.arrival.sop_instance_uid for instance in door.journal.unread(999)) == sorted(uids)
    assert len(door.kept()) == 20
    assert door.journal.flagged() == []


def test_duplicates_within_one_commit_leave_one(door: Door) -> None:
    """Two arrivals of one SOP Instance in the same call: the first is indexed, the second is told who holds it."""
    first, second = (_arrival(f"a/b/{number}.dcm") for number in (1, 2))
    assert door.journal.record_arrivals([first, second]) == [None, first]
    assert door.journal.record_arrivals([]) == []


def _arrival_of(instance: Instance) -> Arrival:
    return instance.arrival


def _arrival(path: str) -> Arrival:
    return Arrival("1.2.3", CT, EXPLICIT, "A", "B", "127.0.0.1", path, 1, datetime.now(UTC))


def test_commits_are_shared(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one commit runs, those that come meanwhile wait for the next one together."""
    sizes: list[int] = []
    first_is_in, go_on = threading.Event(), threading.Event()
    real = door.journal.record_arrivals

    def slow(arrivals: Sequence[Arrival]) -> list[Arrival | None]:
        sizes.append(len(arrivals))
        first_is_in.set()
        assert go_on.wait(30)
        return real(arrivals)

    monkeypatch.setattr(door.journal, "record_arrivals", slow)
    commits = door.intake._commits
    with ThreadPoolExecutor(10) as threads:
        first = threads.submit(door.put, "1.2.0", b"x")
        assert first_is_in.wait(30)
        rest = [threads.submit(door.put, f"1.2.{number}", b"x") for number in range(1, 10)]
        wait_until(lambda: len(commits._waiting) == 9, "nine to wait")
        go_on.set()
        for done in [first, *rest]:
            done.result(30)
    assert sizes == [1, 9]


def test_a_broken_index_refuses_and_keeps_the_file(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows whether the row was written, so nobody may remove the file. Until the index answers again the next
    object is refused before it is sent, and fills no disk; then the first is indexed, once, without a restart."""

    def broken(arrivals: Sequence[Arrival]) -> list[Arrival | None]:
        raise RuntimeError("the database is gone")

    with monkeypatch.context() as patch:
        patch.setattr(door.journal, "record_arrivals", broken)
        with pytest.raises(CapacityError) as refused:
            door.put("1.2.3", b"x")
        for _ in range(3):
            with pytest.raises(CapacityError):
                door.intake.begin(Description(CT, "1.2.4", EXPLICIT, SENDER))
    assert refused.value.dicom_status == 0xA700
    assert len(door.kept()) == 1
    door.put("1.2.4", b"x")
    door.put("1.2.3", b"x")
    assert [instance.arrival.sop_instance_uid for instance in door.journal.unread(10)] == ["1.2.3", "1.2.4"]
    assert (len(door.kept()), door.journal.flagged()) == (2, [])


def test_a_row_that_was_written_after_all_is_written_once(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit succeeded and its answer was lost: what is told again is the same row."""
    real = door.journal.record_arrivals

    def lost(arrivals: Sequence[Arrival]) -> list[Arrival | None]:
        real(arrivals)
        raise RuntimeError("the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(door.journal, "record_arrivals", lost)
        with pytest.raises(CapacityError):
            door.put("1.2.3", b"x")
    door.put("1.2.4", b"x")
    assert len(door.journal.unread(10)) == 2
    assert (len(door.kept()), door.journal.flagged()) == (2, [])


def forget_all(journal: Journal) -> None:
    """Do to the index what the worst power cut does: every row that nobody flushed is gone."""
    with writing(journal.engine) as connection:
        connection.execute(delete(instance_table))


def test_a_power_cut_that_takes_the_index_takes_no_object(tmp_path: Path, database_url: str) -> None:
    """Every row is lost, a file is torn and another half written: what was acknowledged comes back, once, as it was."""
    with contextlib.closing(Door(tmp_path / "spool", database_url)) as before:
        kept = [before.put(f"1.2.{number}", bytes([number]) * 50_000) for number in range(40)]
        before.put("1.2.7", b"other content")
        torn, half_done = before.put("1.2.99", b"torn" * 999), before.intake.begin(kept[0].described)
        half_done.write(b"x" * 999)
        was = {instance.arrival for instance in before.journal.unread(99)} - {
            arrival for arrival in map(_arrival_of, before.journal.unread(99)) if arrival.path == torn.path
        }
        (before.root / torn.path).write_bytes((before.root / torn.path).read_bytes()[:-100])
        forget_all(before.journal)
        # A process that is gone holds no lock.
        os.close(before.spool._lock)
        with contextlib.closing(Door(tmp_path / "spool", database_url)) as after:
            swept = after.intake.recover()
            assert swept.rescued == 41
            assert {_arrival_of(instance) for instance in after.journal.unread(99)} == was
            assert [instance.flag for instance in after.journal.flagged()] == ["conflict"]
            assert not (after.root / torn.path).exists()
            assert after.intake.recover() == Swept(0, 0)
        before.spool._lock = os.open(os.devnull, os.O_RDONLY)


def test_the_bell_is_rung_for_arrivals_and_not_for_each(door: Door) -> None:
    """A hundred objects ring at least once and far less than a hundred times; the last one is never left unrung."""
    for number in range(100):
        door.put(f"1.2.{number}", b"x")
    door.ringer.close()
    assert 1 <= len(door.bell.rings) < 50
    assert set(door.bell.rings) == {("arrived", "")}


def test_a_broken_bell_hurts_nobody(tmp_path: Path) -> None:
    """A bell that raises at every ring costs no object, and is tried again."""

    class Broken(RecordingBell):
        def ring(self, kind: str, subject: str) -> None:
            super().ring(kind, subject)
            raise RuntimeError("no broker")

    url = f"sqlite:///{tmp_path / 'index.db'}"
    with contextlib.closing(Door(tmp_path / "spool", url, Broken())) as door:
        door.put("1.2.1", b"x")
        wait_until(lambda: len(door.bell.rings) == 1, "the first ring")
        door.put("1.2.2", b"x")
        wait_until(lambda: len(door.bell.rings) == 2, "the second ring")
        assert len(door.journal.unread(10)) == 2
