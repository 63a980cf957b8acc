"""The journal: what is indexed, how revisions come about, who may work on a journey, and the outbox."""

from datetime import timedelta
from pathlib import Path

import pytest

from btt_bridge.journal import Journal, StaleError
from btt_bridge.journey import Event, ImpossibleError, State
from btt_bridge.records import Arrival, Document, Header
from btt_bridge.testing import FakeClock

_TO_REPORTED = (
    Event.COMPLETED, Event.MATCHED, Event.STRIPPED, Event.OFFERED, Event.COMPUTED, Event.ACCEPTED, Event.RESTORED,
    Event.REPORTED,
)  # fmt: skip


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def journal(tmp_path: Path, clock: FakeClock) -> Journal:
    return Journal(f"sqlite:///{tmp_path / 'journal.db'}", clock)


def arrive(journal: Journal, clock: FakeClock, number: int, study: str = "1.2", series: str = "1.2.3") -> int:
    """One object arrives and is read; return the journey it belongs to."""
    arrival = Arrival(f"1.2.3.{number}", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "CT1", "BTT_BRIDGE",
                      "127.0.0.1", f"{number}.dcm", 100, clock.now())  # fmt: skip
    assert journal.record_arrivals([arrival]) == [None]
    (instance,) = journal.unread(10)
    header = Header(instance.id, study, series, arrival.sop_instance_uid, {"AccessionNumber": "A1", "Modality": "CT"})
    (journey,) = journal.record_headers([header], clock.now())
    return journey


def walk(journal: Journal, journey_id: int, *events: Event) -> None:
    for event in events:
        journal.advance(journal.journey(journey_id), event)


def test_one_copy_is_in_use_and_the_holder_is_named(journal: Journal, clock: FakeClock) -> None:
    """A second object with the same SOP Instance UID is not indexed; the caller learns where the first lies."""
    arrive(journal, clock, 1)
    again = Arrival("1.2.3.1", "1.2", "1.2", "CT2", "B", "::1", "other.dcm", 9, clock.now())
    (holder,) = journal.record_arrivals([again])
    assert holder is not None
    assert holder.path == "1.dcm"
    journal.record_conflict(again)
    assert [instance.flag for instance in journal.flagged()] == ["conflict"]
    assert journal.unread(10) == []


def test_objects_before_completion_share_a_revision(journal: Journal, clock: FakeClock) -> None:
    """Everything that came before completion is revision 1, and the study shows it all."""
    first = arrive(journal, clock, 1)
    assert arrive(journal, clock, 2, series="1.2.4") == first
    assert {len(series.instances) for series in journal.study(first).series} == {1}
    walk(journal, first, Event.COMPLETED)
    assert len(journal.study(first).instances) == 2


def test_a_late_object_opens_a_revision_that_supersedes(journal: Journal, clock: FakeClock) -> None:
    """The running job ends as superseded, its outbox is withdrawn, and revision 2 has old and new objects."""
    first = arrive(journal, clock, 1)
    walk(journal, first, Event.COMPLETED, Event.MATCHED)
    journal.enqueue(first, ["pacs"], [("k", Document("1.9", "1.2", "SR", b"x"))])
    second = arrive(journal, clock, 2)
    assert second != first
    assert journal.journey(first).state is State.SUPERSEDED
    assert journal.journey(first).facts["superseded_from"] == "assigned"
    assert [delivery.state for delivery in journal.deliveries(first)] == ["withdrawn"]
    assert journal.journey(second).revision == 2
    assert len(journal.study(second).instances) == 2
    assert len(journal.study(first).instances) == 1, "the first revision is still what it was"


def test_a_delivered_revision_stays_delivered(journal: Journal, clock: FakeClock) -> None:
    """After delivery a late object opens the next revision without touching the one that was delivered."""
    first = arrive(journal, clock, 1)
    walk(journal, first, Event.COMPLETED, Event.MATCHED, Event.STRIPPED, Event.OFFERED, Event.COMPUTED,
         Event.ACCEPTED, Event.RESTORED, Event.REPORTED, Event.DELIVERED)  # fmt: skip
    arrive(journal, clock, 2)
    assert journal.journey(first).state is State.DELIVERED


def test_only_one_claims_a_journey_and_a_claim_runs_out(journal: Journal, clock: FakeClock) -> None:
    """Two workers never have the same journey; a worker that died is waited for no longer than its claim."""
    journey = arrive(journal, clock, 1)
    token = journal.claim(journey, 30)
    assert token
    assert journal.claim(journey, 30) is None
    assert journal.due(10) == []
    clock.advance(31)
    assert journal.due(10) == [journey]
    newer = journal.claim(journey, 30)
    assert newer
    with pytest.raises(StaleError):
        journal.advance(journal.journey(journey), Event.COMPLETED, token=token)
    journal.advance(journal.journey(journey), Event.COMPLETED, token=newer)


def test_a_step_is_taken_once(journal: Journal, clock: FakeClock) -> None:
    """Whoever acts on an old state is told so, and the history holds each step once with its reason."""
    stale = journal.journey(arrive(journal, clock, 1))
    journal.advance(stale, Event.COMPLETED, reason="quiet", facts={"complete": 1}, seconds=0.5)
    with pytest.raises(StaleError):
        journal.advance(stale, Event.COMPLETED)
    (step,) = journal.steps(stale.id)
    assert (step.event, step.to_state, step.reason, step.seconds) == ("completed", "complete", "quiet", 0.5)
    assert journal.journey(stale.id).facts == {"complete": 1}


def test_a_journey_at_rest_is_not_due(journal: Journal, clock: FakeClock) -> None:
    """Nobody rings for what only a person can move, but a superseded journey is due once, to be wound up."""
    held = arrive(journal, clock, 1)
    walk(journal, held, Event.WITHHELD)
    assert journal.due(10) == []
    running = arrive(journal, clock, 2, study="1.3", series="1.3.1")
    walk(journal, running, Event.COMPLETED)
    arrive(journal, clock, 3, study="1.3", series="1.3.1")
    assert running in journal.due(10)


def test_the_outbox_counts_tries_and_keeps_dead_letters(journal: Journal, clock: FakeClock) -> None:
    """A transient failure waits, a permanent one is a dead letter with advice, and both can be resent."""
    journey = arrive(journal, clock, 1)
    walk(journal, journey, *_TO_REPORTED)
    documents = [("a", Document("1.9", "1.2", "SR", b"x")), ("b", Document("1.8", "1.2", "SC", b"x"))]
    journal.enqueue(journey, ["pacs"], documents)
    journal.enqueue(journey, ["pacs"], documents)
    first, second = journal.deliveries(journey)
    journal.record_undelivered(first.id, "refused", "add the AE title", None)
    journal.record_undelivered(second.id, "no answer", "", clock.now() + timedelta(seconds=5))
    assert [(d.state, d.attempts, d.advice) for d in journal.deliveries(journey)] == [
        ("dead", 1, "add the AE title"),
        ("waiting", 1, ""),
    ]
    assert journal.resend(journey) == 2
    assert {(d.state, d.attempts, d.due_at) for d in journal.deliveries(journey)} == {("waiting", 0, clock.now())}
    journal.record_delivered(first.id)
    assert journal.counts()["delivery"] == {"delivered": 1, "waiting": 1}


@pytest.mark.parametrize(
    ("events", "delivered", "everything"),
    [((Event.UNDELIVERABLE,), False, False), ((Event.DELIVERED, Event.SETTLED), True, True)],
)
def test_what_is_resent_takes_its_journey_along(
    journal: Journal, clock: FakeClock, events: tuple[Event, ...], delivered: bool, everything: bool
) -> None:
    """A study at rest goes on in the same commit, also while it is being wound up, and is due at once."""
    journey = arrive(journal, clock, 1)
    walk(journal, journey, *_TO_REPORTED)
    journal.enqueue(journey, ["pacs"], [("a", Document("1.9", "1.2", "SR", b"x"))])
    (delivery,) = journal.deliveries(journey)
    if delivered:
        journal.record_delivered(delivery.id)
        assert journal.resend(journey) == 0, "what was delivered is resent only where that is asked for"
    else:
        journal.record_undelivered(delivery.id, "refused", "", None)
    walk(journal, journey, *events)
    winding_up = journal.claim(journey, 15)
    assert winding_up
    assert journal.resend(journey, include_delivered=everything) == 1
    journal.release(journey, winding_up, due_at=None)
    after = journal.journey(journey)
    assert (after.state, after.due_at) == (State.REPORTED, clock.now())
    assert journal.steps(journey)[-1].event == Event.RESENT


def test_a_superseded_study_is_not_resent(journal: Journal, clock: FakeClock) -> None:
    """Its successor has taken its place; what it once delivered stays as it is."""
    journey = arrive(journal, clock, 1)
    walk(journal, journey, *_TO_REPORTED)
    journal.enqueue(journey, ["pacs"], [("a", Document("1.9", "1.2", "SR", b"x"))])
    journal.record_delivered(journal.deliveries(journey)[0].id)
    arrive(journal, clock, 2)
    with pytest.raises(ImpossibleError):
        journal.resend(journey, include_delivered=True)
    assert [one.state for one in journal.deliveries(journey)] == ["delivered"]


def test_an_order_says_what_to_expect(journal: Journal) -> None:
    """The last word of an order counts, and no order means no expectation."""
    assert journal.expected("A1") is None
    journal.expect("A1", 100)
    journal.expect("A1", 248)
    assert journal.expected("A1") == 248


def copy_of(journal: Journal, clock: FakeClock, path: str) -> Arrival | None:
    """Another object arrives with the SOP Instance UID of number 1; return what holds that UID, if anything does."""
    again = Arrival("1.2.3.1", "1.2", "1.2", "CT2", "B", "::1", path, 9, clock.now())
    (holder,) = journal.record_arrivals([again])
    if holder is not None:
        journal.record_conflict(again)
    return holder


def test_a_good_copy_takes_the_place_of_an_unreadable_one(journal: Journal, clock: FakeClock) -> None:
    """What cannot be read holds its SOP Instance UID no longer: the sender may send it again, and that one is used."""
    journey = arrive(journal, clock, 1)
    (broken,) = journal.study(journey).instances
    journal.record_flag(broken.id, "unreadable")
    assert journal.study(journey).instances == ()
    assert copy_of(journal, clock, "good.dcm") is None
    assert [instance.arrival.path for instance in journal.unread(10)] == ["good.dcm"]
    third = copy_of(journal, clock, "third.dcm")
    assert third is not None
    assert third.path == "good.dcm", "the good one is in use now"


def test_a_copy_that_came_meanwhile_takes_the_place_too(journal: Journal, clock: FakeClock) -> None:
    """A good copy that came before the first was found unreadable was flagged as a conflict; it is then read."""
    journey = arrive(journal, clock, 1)
    (broken,) = journal.study(journey).instances
    for path in ("second.dcm", "third.dcm"):
        assert copy_of(journal, clock, path) is not None
    journal.record_flag(broken.id, "unreadable")
    assert [instance.arrival.path for instance in journal.unread(10)] == ["second.dcm"]
    assert sorted(instance.flag for instance in journal.flagged()) == ["conflict", "unreadable"]


def test_a_claim_is_held_as_long_as_it_is_renewed(journal: Journal, clock: FakeClock) -> None:
    """Renewed in time nobody else gets the journey; not renewed, somebody does, and the first cannot take it back."""
    journey = arrive(journal, clock, 1)
    token = journal.claim(journey, 10)
    assert token is not None
    for _ in range(3):
        clock.advance(9)
        journal.renew([token], 10)
        assert journal.claim(journey, 10) is None
        assert journal.due(10) == []
    clock.advance(11)
    other = journal.claim(journey, 10)
    assert other is not None
    journal.renew([token], 60)
    clock.advance(11)
    assert journal.due(10) == [journey], "the lost claim was not renewed"
