"""A study is complete on evidence: an order's count, a settled count by the PACS, or silence; no peer holds it up."""

from __future__ import annotations

import gc
import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from btt_bridge.assemble import complete, query
from btt_bridge.config import Accept, Assemble, Destination, Peer, Settings
from btt_bridge.journal import Journal
from btt_bridge.journey import Event
from btt_bridge.records import Arrival, Document, Evidence, EvidenceKind, Header
from btt_bridge.testing import FakeClock
from tests.peers.pacs import Orthanc

SAMPLE = Path(__file__).parents[2] / "sample_data" / "chest_ct"
UID = "1.2.3"


@dataclass
class Desk:
    """A journal in which objects of one study arrive when the test says so."""

    folder: Path
    settings: Settings
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.journal = Journal(f"sqlite:///{self.folder / 'bridge.db'}", self.clock)
        self.numbers = itertools.count(1)

    def arrive(self, count: int = 1, *, modality: str = "CT", accession: str = "A1", read: bool = True) -> int:
        """Receive and read `count` objects now; return the journey."""
        journeys: list[int] = []
        for _ in range(count):
            number = next(self.numbers)
            instance = f"{UID}.{number}"
            arrival = Arrival(
                instance, "1.2", "1.2", "PACS", "BRIDGE", "127.0.0.1", f"{number}.dcm", 1, self.clock.now()
            )
            self.journal.record_arrivals([arrival])
            if read:
                keywords = {"Modality": modality, "AccessionNumber": accession}
                (unread,) = self.journal.unread(1)
                found = Header(unread.id, UID, f"{UID}.{modality}", instance, keywords)
                journeys = self.journal.record_headers([found], self.clock.now())
        return journeys[0] if journeys else 0

    def look(self, journey_id: int) -> Evidence | datetime:
        journey = self.journal.journey(journey_id)
        return complete(journey, self.journal.study(journey_id), self.journal, self.settings, self.clock)

    def wait(self, journey_id: int) -> float:
        """Return for how many seconds the answer says to wait."""
        answer = self.look(journey_id)
        assert isinstance(answer, datetime), answer
        return (answer - self.clock.now()).total_seconds()

    def evidence(self, journey_id: int) -> tuple[EvidenceKind, int, int | None]:
        answer = self.look(journey_id)
        assert isinstance(answer, Evidence), answer
        assert answer.at == self.clock.now()
        return answer.kind, answer.received, answer.expected


Furnish = Callable[..., Desk]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Furnish]:
    """Make a desk with these settings of assemble, and a peer."""
    desks = []

    def furnish(peer: Peer | None = None, destinations: tuple[Destination, ...] = (), **assemble: Any) -> Desk:
        settings = Settings(
            data_dir=tmp_path,
            accept=Accept(peers=(peer,) if peer else ()),
            assemble=Assemble(**{"quiet_seconds": 30, "wait_seconds_max": 600, **assemble}),
            destinations=destinations,
        )
        desks.append(Desk(tmp_path, settings))
        return desks[-1]

    yield furnish
    for made in desks:
        made.journal.engine.dispose()


# --- an order -------------------------------------------------------------------------------------------


def test_an_order_decides_as_soon_as_its_count_is_reached(desk: Furnish) -> None:
    """No waiting once everything that was announced is there."""
    made = desk()
    made.journal.expect("A1", 3)
    journey = made.arrive(2)
    assert made.wait(journey) == 600
    made.arrive()
    assert made.evidence(journey) == (EvidenceKind.ORDER, 3, 3)


def test_fewer_than_ordered_wait_and_then_go_on(desk: Furnish) -> None:
    """Silence long enough ends the wait, and the evidence keeps what was expected; each arrival starts it anew."""
    made = desk()
    made.journal.expect("A1", 9)
    journey = made.arrive(2)
    made.clock.advance(599)
    assert made.wait(journey) == 1
    made.arrive()
    assert made.wait(journey) == 600
    made.clock.advance(600)
    assert made.evidence(journey) == (EvidenceKind.QUIET_TIME, 3, 9)


# --- silence --------------------------------------------------------------------------------------------


def test_quiet_time_counts_from_the_last_object(desk: Furnish) -> None:
    """The default, when nobody knows better."""
    made = desk()
    journey = made.arrive(2)
    assert made.wait(journey) == 30
    made.clock.advance(20)
    made.arrive()
    assert made.wait(journey) == 30
    made.clock.advance(30)
    assert made.evidence(journey) == (EvidenceKind.QUIET_TIME, 3, None)


def test_the_longest_quiet_time_of_the_modalities_counts(desk: Furnish) -> None:
    """One without a setting of its own has the default."""
    made = desk(quiet_seconds_by_modality={"CT": 10, "MR": 90})
    journey = made.arrive(modality="CT")
    assert made.wait(journey) == 10
    made.arrive(modality="SR")
    assert made.wait(journey) == 30
    made.arrive(modality="MR")
    assert made.wait(journey) == 90


@pytest.mark.parametrize(("title", "seconds"), [("PACS", 7), ("*", 7), ("OTHER", 10)])
def test_the_senders_quiet_time_counts_before_the_modalitys(desk: Furnish, title: str, seconds: int) -> None:
    """By its AE title, or by the row for everybody."""
    made = desk(Peer(ae_title=title, address="127.0.0.1", quiet_seconds=7), quiet_seconds_by_modality={"CT": 10})
    assert made.wait(made.arrive()) == seconds


def test_objects_nobody_has_read_yet_are_no_silence(desk: Furnish) -> None:
    """What came before the quiet time ended may belong to the study; what came after cannot hold it up."""
    made = desk()
    journey = made.arrive()
    made.clock.advance(29)
    made.arrive(read=False)
    made.clock.advance(60)
    assert made.wait(journey) == made.settings.reap_seconds
    (unread,) = made.journal.unread(1)
    made.journal.record_flag(unread.id, "unreadable")
    made.arrive(read=False)
    assert made.evidence(journey) == (EvidenceKind.QUIET_TIME, 1, None)


# --- the PACS's own count -------------------------------------------------------------------------------


@dataclass
class QuerySCP:
    """A PACS that answers C-FIND as the test wants."""

    count: int | None = 0
    status: int = 0x0000
    #: Answered besides the true one: studies that nobody asked for.
    others: int = 0
    asked: list[Dataset] = field(default_factory=list)
    before_answer: Callable[[], object] = lambda: None
    port: int = 0

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        self.asked.append(event.identifier)
        self.before_answer()
        for number in range(self.others):
            yield 0xFF00, self._answer(f"9.9.{number}", 1)
        if self.count is not None:
            yield 0xFF00, self._answer(event.identifier.StudyInstanceUID, self.count)
        if self.status:
            yield self.status, None

    def _answer(self, uid: str, count: int) -> Dataset:
        answer = Dataset()
        answer.QueryRetrieveLevel = "STUDY"
        answer.StudyInstanceUID = uid
        if count:
            answer.NumberOfStudyRelatedInstances = count
        return answer

    @contextmanager
    def running(self) -> Iterator[Peer]:
        entity = AE(ae_title="PACS")
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, self.find)])
        try:
            yield Peer(
                ae_title="PACS",
                address="127.0.0.1",
                query_host="127.0.0.1",
                query_port=server.server_address[1],
                query_ae_title="PACS",
            )
        finally:
            server.shutdown()


def test_a_count_is_asked_for_only_once_nothing_comes_and_then_believed(desk: Furnish) -> None:
    """A PACS that forwards as it receives always has what it has sent: no look before the study has settled."""
    scp = QuerySCP(count=2)
    with scp.running() as peer:
        made = desk(peer, settle_seconds=4)
        journey = made.arrive(2)
        assert made.wait(journey) == 4
        assert not scp.asked
        made.clock.advance(4)
        assert made.evidence(journey) == (EvidenceKind.C_FIND, 2, 2)
    (identifier,) = scp.asked
    assert identifier.QueryRetrieveLevel == "STUDY"
    assert identifier.StudyInstanceUID == UID


def test_while_the_pacs_has_more_the_study_waits_and_asks_again(desk: Furnish) -> None:
    """At the configured pace, and until the missing ones are there."""
    scp = QuerySCP(count=3)
    with scp.running() as peer:
        made = desk(peer, settle_seconds=4, query_every_seconds=6)
        journey = made.arrive(2)
        made.clock.advance(4)
        assert made.wait(journey) == 6
        made.clock.advance(5)
        assert made.wait(journey) == 1
        assert len(scp.asked) == 1
        made.clock.advance(100)
        assert made.wait(journey) == 6
        made.arrive()
        assert made.wait(journey) == 6
        made.clock.advance(6)
        assert made.evidence(journey) == (EvidenceKind.C_FIND, 3, 3)


def test_a_count_never_reached_is_kept_with_the_evidence(desk: Furnish) -> None:
    """The study goes on by silence, and says what the PACS had."""
    with QuerySCP(count=5).running() as peer:
        made = desk(peer)
        journey = made.arrive(2)
        made.clock.advance(599)
        assert made.wait(journey) == 1
        made.clock.advance(1)
        assert made.evidence(journey) == (EvidenceKind.QUIET_TIME, 2, 5)


def test_a_count_is_stale_once_more_has_come(desk: Furnish) -> None:
    """What arrives while we ask sends the study back to settle, however well the count fits."""
    scp = QuerySCP(count=2)
    with scp.running() as peer:
        made = desk(peer, settle_seconds=4)
        journey = made.arrive(2)
        made.clock.advance(4)
        scp.before_answer = made.arrive
        assert made.wait(journey) == 0
        scp.before_answer, scp.count = (lambda: None), 3
        assert made.wait(journey) == 5
        made.clock.advance(5)
        assert made.evidence(journey) == (EvidenceKind.C_FIND, 3, 3)


def test_objects_nobody_has_read_yet_put_the_question_off(desk: Furnish) -> None:
    """The study is larger than it looks, so its count means nothing yet."""
    scp = QuerySCP(count=1)
    with scp.running() as peer:
        made = desk(peer, settle_seconds=4)
        journey = made.arrive()
        made.arrive(read=False)
        made.clock.advance(4)
        assert made.wait(journey) == made.settings.reap_seconds
        assert not scp.asked


def test_a_failed_query_leaves_quiet_time_and_is_tried_again(desk: Furnish) -> None:
    """The PACS is down at first, and answers before the quiet time is over."""
    scp = QuerySCP(count=2, status=0xA700)
    with scp.running() as peer:
        made = desk(peer, settle_seconds=4, query_every_seconds=6)
        journey = made.arrive(2)
        made.clock.advance(4)
        assert made.wait(journey) == 6
        scp.status = 0x0000
        made.clock.advance(6)
        assert made.evidence(journey) == (EvidenceKind.C_FIND, 2, 2)


# pynetdicom leaves the socket of a refused connection to the garbage collector.
leaves_a_socket = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@leaves_a_socket
def test_a_pacs_that_never_answers_costs_nothing_but_quiet_time(desk: Furnish) -> None:
    """Nobody listens at its port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    made = desk(Peer(ae_title="PACS", address="127.0.0.1", query_host="127.0.0.1", query_port=port))
    journey = made.arrive(2)
    made.clock.advance(29)
    assert made.wait(journey) == 1
    made.clock.advance(1)
    assert made.evidence(journey) == (EvidenceKind.QUIET_TIME, 2, None)
    gc.collect()


def test_an_order_makes_the_query_needless(desk: Furnish) -> None:
    """The stronger evidence decides alone."""
    scp = QuerySCP(count=2)
    with scp.running() as peer:
        made = desk(peer)
        made.journal.expect("A1", 3)
        journey = made.arrive(2)
        made.clock.advance(10)
        assert made.wait(journey) == 590
    assert not scp.asked


def test_our_own_results_at_the_pacs_are_not_missing_objects(desk: Furnish) -> None:
    """The second revision: the PACS counts the report that we delivered for the first."""
    scp = QuerySCP(count=2)
    destination = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
    with scp.running() as peer:
        made = desk(peer, (destination,), settle_seconds=4)
        first = made.arrive(2)
        journey = made.journal.journey(first)
        for event in (Event.COMPLETED, Event.MATCHED, Event.STRIPPED, Event.OFFERED, Event.COMPUTED, Event.ACCEPTED,
                      Event.RESTORED, Event.REPORTED):  # fmt: skip
            journey = made.journal.advance(journey, event)
        made.journal.enqueue(first, ["pacs"], [("key", Document("2.25.1", "1.2", "SR", b""))])
        made.journal.record_delivered(made.journal.deliveries(first)[0].id)
        made.journal.advance(journey, Event.DELIVERED)
        made.clock.advance(1000)
        second = made.arrive()
        assert second != first
        scp.count = 4
        made.clock.advance(4)
        assert made.evidence(second) == (EvidenceKind.C_FIND, 3, 3)


def test_orthanc_counts_what_it_holds(desk: Furnish, orthanc: Orthanc) -> None:
    """A real PACS answers with its count, and says nothing of a study that it has not."""
    paths = sorted(SAMPLE.glob("*.dcm"))[:3]
    orthanc.upload_all(paths)
    orthanc.know("bridge", "BTT_BRIDGE", 11112)
    peer = Peer(
        ae_title="PACS", address="127.0.0.1", query_host="127.0.0.1", query_port=orthanc.dicom_port,
        query_ae_title=orthanc.ae_title,
    )  # fmt: skip
    uid = str(dcmread(paths[0], specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
    assert query.instances_at(peer, uid, calling_ae_title="BTT_BRIDGE", seconds_max=20) == 3
    assert query.instances_at(peer, "1.2.3.4.5", calling_ae_title="BTT_BRIDGE", seconds_max=20) is None


# --- one query ------------------------------------------------------------------------------------------


def ask(peer: Peer, seconds_max: float = 20) -> int | None:
    return query.instances_at(peer, UID, calling_ae_title="BTT_BRIDGE", seconds_max=seconds_max)


@pytest.mark.parametrize(
    ("scp", "expected"),
    [
        (QuerySCP(count=17), 17),
        (QuerySCP(count=17, others=5), 17),
        (QuerySCP(count=17, others=500), None),
        (QuerySCP(count=0), None),
        (QuerySCP(count=None), None),
        (QuerySCP(count=17, status=0xA900), None),
        (QuerySCP(count=None, status=0xC001), None),
    ],
)
def test_an_answer_is_a_count_or_nothing(scp: QuerySCP, expected: int | None) -> None:
    """Other studies, no count, no match, a failure at the end, and a flood: never a wrong number."""
    with scp.running() as peer:
        assert ask(peer) == expected


def test_a_pacs_that_says_nothing_is_left_after_the_time_limit() -> None:
    """It takes the connection and is silent."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        peer = Peer(ae_title="PACS", address="127.0.0.1", query_host="127.0.0.1", query_port=listener.getsockname()[1])
        assert ask(peer, seconds_max=0.3) is None


def test_a_pacs_that_refuses_us_is_no_evidence() -> None:
    """It supports no query, or wants another AE title."""
    entity = AE(ae_title="PACS")
    entity.require_called_aet = True
    entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(("127.0.0.1", 0), block=False)
    try:
        for title in ("PACS", "NOBODY"):
            peer = Peer(
                ae_title=title, address="127.0.0.1", query_host="127.0.0.1", query_port=server.server_address[1]
            )
            assert ask(peer) is None
    finally:
        server.shutdown()


@leaves_a_socket
def test_a_host_name_nobody_can_have_is_no_evidence() -> None:
    """A typing error in the settings shows in the log, not as an exception."""
    peer = Peer(ae_title="PACS", address="127.0.0.1", query_host="host name with blanks", query_port=104)
    assert ask(peer) is None
    gc.collect()
