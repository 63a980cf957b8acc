"""The inbox on both engines: each version once, durable, in order, with what became of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from btt_bridge.errors import KeyConflictError
from btt_bridge.fhir import Identity
from btt_bridge.inbox import Inbox, State, Told
from btt_bridge.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def inbox(database_url: str, clock: FakeClock) -> Iterator[Inbox]:
    with closing(Inbox(database_url, clock)) as inbox:
        yield inbox


def told(content: bytes, version: str = "", kind: str = "Appointment", identifier: str = "1") -> Told:
    return Told("ehr", Identity(kind, identifier, version), "Patient/1", content, content.decode())


def gone(kind: str, identifier: str) -> Told:
    return Told("ehr", Identity(kind, identifier), "", b"", deleted=True)


def test_what_comes_twice_is_kept_once(inbox: Inbox) -> None:
    """The same version with the same bytes is the same row; so are the same bytes where nobody names a version."""
    first, second = inbox.put([told(b"a", "1")])[0], inbox.put([told(b"a", "1")])[0]
    assert (first.id, first.first, second.id, second.first) == (second.id, True, first.id, False)
    unnamed = [inbox.put([told(content, identifier="2")])[0] for content in (b"a", b"a", b"b", b"a")]
    assert [one.version for one in unnamed] == ["1", "1", "2", "3"]


def test_a_version_does_not_change(inbox: Inbox) -> None:
    """The same version with other bytes is a conflict, and a transaction with it keeps nothing."""
    inbox.put([told(b"a", "1")])
    with pytest.raises(KeyConflictError):
        inbox.put([told(b"x", "1", identifier="9"), told(b"b", "1")])
    assert [one.told.content for one in inbox.newest(10)] == [b"a"]


def test_a_deletion_is_a_version(inbox: Inbox) -> None:
    """It follows what was there, is about the same patient, and comes once; what comes after it is new again."""
    inbox.put([told(b"a", "4")])
    kept = inbox.put([gone("Appointment", "1")])[0]
    assert (kept.version, kept.told.patient, kept.told.deleted) == ("5", "Patient/1", True)
    assert inbox.put([gone("Appointment", "1")])[0].id == kept.id
    assert inbox.put([told(b"a")])[0].version == "6"


def test_what_waits_is_looked_at_in_order_until_somebody_says_what_it_came_to(inbox: Inbox, clock: FakeClock) -> None:
    """Put off is later, recorded is done, asked for again is due again."""
    one, other = inbox.put([told(b"a", identifier="1"), told(b"b", identifier="2")])
    assert [kept.id for kept in inbox.waiting(10)] == [one.id, other.id]
    inbox.put_off(one.id, clock.now() + timedelta(seconds=60), "no rate")
    inbox.record(other.id, State.REFUSED, "no total")
    assert inbox.waiting(10) == []
    clock.advance(60)
    (due,) = inbox.waiting(10)
    assert (due.id, due.attempts, due.outcome) == (one.id, 1, "no rate")
    inbox.again(other.id)
    assert [kept.id for kept in inbox.waiting(10)] == [one.id, other.id]
    assert inbox.counts() == {"waiting": 2}


def test_a_consent_brings_back_what_it_was_missing_for(inbox: Inbox) -> None:
    """Only this patient's acts, only those that lacked consent; and only the newest consents count."""
    acts = inbox.put([told(b"a", identifier="1"), told(b"b", identifier="2")])
    inbox.record(acts[0].id, State.UNCONSENTED, "checkup: no-consent")
    inbox.record(acts[1].id, State.COUNTED, "checkup: granted 50")
    assert inbox.look_again("Patient/2") == 0
    assert inbox.look_again("Patient/1") == 1
    assert [kept.id for kept in inbox.waiting(10)] == [acts[0].id]


def consent(version: str, minute: int, patient: str = "Patient/1", source: str = "ehr") -> Told:
    updated = datetime(2026, 1, 5, 8, minute, tzinfo=UTC)
    return Told(source, Identity("Consent", "c", version, updated), patient, version.encode(), version)


def test_of_a_consent_the_newest_version_counts_whatever_order_it_came_in(inbox: Inbox) -> None:
    """An older one that comes late does not bring back what was withdrawn; one given to another patient is theirs."""
    inbox.put([consent("2", 2), consent("1", 1)])
    assert [kept.version for kept in inbox.consents("Patient/1")] == ["2"]
    inbox.put([consent("3", 3, "Patient/2", "pharmacy")])
    assert inbox.consents("Patient/1") == []
    assert [kept.version for kept in inbox.consents("Patient/2")] == ["3"]
    inbox.put([gone("Consent", "c")])
    assert inbox.consents("Patient/1") == []


def test_what_a_sender_dates_ahead_is_followed_by_what_it_does_not_date(inbox: Inbox, clock: FakeClock) -> None:
    """A deletion comes after the version that it deletes, also where the sender's clock is ahead of ours."""
    ahead = Identity("Appointment", "1", "1", clock.now() + timedelta(minutes=5))
    first = inbox.put([Told("ehr", ahead, "Patient/1", b"a", "a")])[0]
    last = inbox.put([gone("Appointment", "1")])[0]
    assert last.updated_at > first.updated_at
    assert (inbox.is_newest(first), inbox.is_newest(last)) == (False, True)


def test_versions_that_come_at_once_get_numbers_of_their_own(inbox: Inbox) -> None:
    """Eight senders of different bytes for one resource: eight versions, none lost, none twice."""
    threads = [threading.Thread(target=inbox.put, args=([told(b"%d" % number)],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(kept.version) for kept in inbox.newest(20)) == list(range(1, 9))
