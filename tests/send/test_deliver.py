"""Delivered means that the destination said so; everything else is told apart into later and never."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE

from btt_bridge import send
from btt_bridge.config import Send
from btt_bridge.errors import DeliveryRefusedError, DeliveryUnreachableError
from btt_bridge.records import Destination
from tests.peers.dcmtk import StoreSCP
from tests.peers.pacs import Orthanc
from tests.peers.server import free_port
from tests.send import peers
from tests.send.conftest import Make

SETTINGS = Send(timeout_seconds=10)
IMPATIENT = Send(timeout_seconds=0.3)


# --- real peers -----------------------------------------------------------------------------------------


@pytest.mark.peer("storescp")
def test_storescp_holds_byte_for_byte_what_was_delivered(storescp: StoreSCP, make: Make) -> None:
    """Three objects of one report, the largest in many PDUs, arrive as they were written."""
    sent = [
        make(kind, size=size, number=n)
        for n, (kind, size) in enumerate([("SR", 999), ("SEG", 4_000_000), ("SC", 50_000)], 1)
    ]
    with send.Sender(Destination("pacs", "STORESCP", "127.0.0.1", storescp.port), SETTINGS) as sender:
        assert [sender.deliver(*document) for document in sent] == ["", "", ""]
    received = {dcmread(path).SOPInstanceUID: path for path in storescp.received()}
    for delivery, content in sent:
        arrived = dcmread(received[delivery.sop_instance_uid])
        assert arrived == dcmread(BytesIO(content))
        assert str(arrived.PatientName) == "Wang^XiaoDong=王^小东"
        # What follows the file meta is untouched.
        data_set = content[144 + int.from_bytes(content[140:144], "little") :]
        assert received[delivery.sop_instance_uid].read_bytes().endswith(data_set)


@pytest.mark.peer("Orthanc")
def test_orthanc_has_what_was_delivered(orthanc: Orthanc, make: Make) -> None:
    """Orthanc's own REST API finds the object, and finds it once where it was delivered twice."""
    document = make("SC", size=20_000)
    destination = Destination("pacs", "ORTHANC", "127.0.0.1", orthanc.dicom_port)
    assert send.deliver(*document, destination, SETTINGS) == ""
    send.deliver(*document, destination, SETTINGS)
    (found,) = orthanc.find("Instance", SOPInstanceUID=document[0].sop_instance_uid)
    assert dcmread(BytesIO(orthanc.file(found["ID"]))) == dcmread(BytesIO(document[1]))


# --- what is proposed and what is taken -----------------------------------------------------------------


def test_one_association_serves_a_whole_report(make: Make) -> None:
    """SR, SEG and SC go over one association, in the order given."""
    with peers.archive() as archive, send.Sender(archive.destination, SETTINGS) as sender:
        for number, kind in enumerate(("SR", "SEG", "SC"), 1):
            sender.deliver(*make(kind, number=number))
    assert archive.associations == 1
    assert [ds.Modality for _, ds in archive.stored] == ["SR", "SEG", "SC"]


def test_a_kind_that_was_not_foreseen_gets_an_association_of_its_own(make: Make) -> None:
    """A document of another SOP class is proposed when it comes up."""
    enhanced = "1.2.840.10008.5.1.4.1.1.88.22"
    with (
        peers.archive(sop_classes=(peers.SR, enhanced)) as archive,
        send.Sender(archive.destination, SETTINGS) as sender,
    ):
        sender.deliver(*make("SR"))
        sender.deliver(*make("SR", number=2, sop_class_uid=enhanced))
    assert archive.associations == 2
    assert [ds.SOPClassUID for _, ds in archive.stored] == [peers.SR, enhanced]


def test_an_archive_of_the_old_school_gets_implicit_vr(make: Make) -> None:
    """Where only the default transfer syntax is taken (PS3.5 10.1), the object is encoded anew, content unchanged."""
    delivery, content = make("SEG", size=40_000)
    with peers.archive(syntaxes=[peers.IMPLICIT]) as archive:
        assert send.deliver(delivery, content, archive.destination, SETTINGS) == ""
    ((syntax, ds),) = archive.stored
    assert syntax == peers.IMPLICIT
    assert {element.keyword: element.value for element in ds} == {
        element.keyword: element.value for element in dcmread(BytesIO(content))
    }


def test_small_pdus_are_respected(make: Make) -> None:
    """A destination that takes 4 kB at a time gets no more in one PDU, and all of it."""

    def small(ae: AE) -> None:
        ae.maximum_pdu_size = 4096

    with peers.archive(prepare=small) as archive:
        assert send.deliver(*make("SEG", size=100_000), archive.destination, SETTINGS) == ""
    assert len(archive.stored[0][1].PixelData) == 100_000


# --- answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "remark"), [(0xB000, "0xB000"), (0xB006, "0xB006"), (0xB007, "0xB007"), (0x0111, "already")]
)
def test_a_warning_is_a_delivery_with_a_remark(make: Make, status: int, remark: str) -> None:
    """The destination has the object and says what it did to it, or that it had it before."""
    with peers.archive(status) as archive:
        assert remark in send.deliver(*make(), archive.destination, SETTINGS)


@pytest.mark.parametrize("status", [0xA700, 0xA701, 0x0110, 0x0213])
def test_a_full_or_busy_archive_is_tried_again(make: Make, status: int) -> None:
    """Out of resources is no refusal; the association goes on for the next object."""
    with peers.archive(status) as archive, send.Sender(archive.destination, SETTINGS) as sender:
        for number in (1, 2):
            with pytest.raises(DeliveryUnreachableError, match=f"0x{status:04X}"):
                sender.deliver(*make(number=number))
    assert archive.associations == 1


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0x0122, 0x0124, 0x0117, 0x0211])
def test_a_refusal_is_for_good_and_comes_with_advice(make: Make, status: int) -> None:
    """What no second try can change goes to a person, in words, once."""
    with peers.archive(status) as archive, pytest.raises(DeliveryRefusedError, match=f"0x{status:04X}") as refused:
        send.deliver(*make(), archive.destination, SETTINGS)
    assert "ARCHIVE" in refused.value.advice
    assert not refused.value.transient


def test_the_words_of_the_destination_are_not_repeated(make: Make) -> None:
    """An Error Comment may quote the patient; neither message nor advice holds it."""
    status = Dataset()
    status.Status, status.ErrorComment = 0xC000, "bad name Wang^XiaoDong"
    with peers.archive(status) as archive, pytest.raises(DeliveryRefusedError) as refused:
        send.deliver(*make(), archive.destination, SETTINGS)
    assert "Wang" not in f"{refused.value} {refused.value.advice} {refused.value!r}"


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({"calling": ["SOMEBODY_ELSE"]}, "Add AE title BTT_BRIDGE"),
        ({"require_called": True, "called": "WRONG_NAME"}, "It is not called WRONG_NAME"),
        ({"sop_classes": [peers.SC]}, f"accept SOP class {peers.SR} from BTT_BRIDGE"),
        ({"syntaxes": ["1.2.840.10008.1.2.4.50"]}, f"in transfer syntax {peers.EXPLICIT}"),
    ],
)
def test_a_destination_that_is_not_set_up_says_what_to_do(
    make: Make, arguments: dict[str, object], advice: str
) -> None:
    """Unknown AE titles and SOP classes that are not enabled are named, with the setting that cures them."""
    with peers.archive(**arguments) as archive, pytest.raises(DeliveryRefusedError) as refused:  # type: ignore[arg-type]
        send.deliver(*make(), archive.destination, SETTINGS)
    assert advice in refused.value.advice
    assert len(refused.value.advice) <= 255
    assert archive.stored == []


def test_what_is_not_in_the_default_syntaxes_is_not_sent_as_something_else(make: Make) -> None:
    """A compressed document is not decoded on the way out: it is refused where it is not taken."""
    delivery, content = make("SC")
    compressed = content.replace(peers.EXPLICIT.encode() + b"\0", b"1.2.840.10008.1.2.5\0")
    with peers.archive() as archive, pytest.raises(DeliveryRefusedError):
        send.deliver(delivery, compressed, archive.destination, SETTINGS)
    assert archive.stored == []


@pytest.mark.parametrize(
    ("result", "source", "reason", "expected"),
    [
        (1, 1, 1, DeliveryRefusedError),
        (1, 1, 2, DeliveryRefusedError),
        (1, 2, 2, DeliveryRefusedError),
        (2, 1, 1, DeliveryUnreachableError),
        (1, 3, 1, DeliveryUnreachableError),
        (2, 3, 2, DeliveryUnreachableError),
        (2, 1, 3, DeliveryRefusedError),
    ],
)
def test_rejections_are_told_apart(
    make: Make, result: int, source: int, reason: int, expected: type[Exception]
) -> None:
    """Transient results and congestion are for later; an unknown AE title is for a person, however it is flagged."""

    def reject(connection: socket.socket) -> None:
        peers.read_pdu(connection)
        connection.sendall(struct.pack(">BxIxBBB", 3, 4, result, source, reason))

    with peers.rude(reject) as destination, pytest.raises(expected):
        send.deliver(*make(), destination, SETTINGS)


def test_a_document_that_is_not_the_queued_one_is_not_sent(make: Make) -> None:
    """What the store holds must be what was queued."""
    delivery, content = make()
    with peers.archive() as archive, pytest.raises(DeliveryRefusedError):
        send.deliver(replace(delivery, sop_instance_uid="2.25.999"), content, archive.destination, SETTINGS)
    assert archive.associations == 0


# --- no answer ------------------------------------------------------------------------------------------


def test_nobody_there(make: Make) -> None:
    """A closed port is a destination that is down."""
    with pytest.raises(DeliveryUnreachableError, match="nobody answers"):
        send.deliver(*make(), Destination("pacs", "GONE", "127.0.0.1", free_port()), SETTINGS)


def _silent(connection: socket.socket) -> None:
    connection.recv(1 << 20)
    connection.settimeout(5)
    while connection.recv(1 << 20):
        pass


def _silent_after_association(connection: socket.socket) -> None:
    peers.accept_association(connection)
    _silent(connection)


def _trickling(connection: socket.socket) -> None:
    peers.read_pdu(connection)
    connection.settimeout(0.05)
    for byte in b"\2\0\0\0\1\0" + bytes(256):
        connection.sendall(bytes([byte]))
        try:
            if not connection.recv(1):
                return
        except TimeoutError:
            continue


def _deaf(connection: socket.socket) -> None:
    """Stop reading in mid-transfer, without closing, until the other side gives up."""
    peers.accept_association(connection)
    peers.read_pdu(connection)
    hung_up = select.poll()
    hung_up.register(connection, select.POLLRDHUP)
    hung_up.poll(5000)


@pytest.mark.parametrize("behavior", [_silent, _silent_after_association, _trickling, _deaf])
def test_waiting_has_an_end(make: Make, behavior: Callable[[socket.socket], None]) -> None:
    """A destination that takes the connection and never answers, or answers byte by byte, costs the time limit."""
    with peers.rude(behavior) as destination, pytest.raises(DeliveryUnreachableError):
        send.deliver(*make(size=20_000_000), destination, IMPATIENT)


def _dies_at_once(connection: socket.socket) -> None:
    peers.read_pdu(connection)


def _dies_in_mid_transfer(connection: socket.socket) -> None:
    peers.accept_association(connection)
    peers.read_pdu(connection)
    peers.read_pdu(connection)


def _dies_before_its_answer(connection: socket.socket) -> None:
    peers.accept_association(connection)
    while peers.read_pdu(connection)[11] != 2:
        pass


def _aborts(connection: socket.socket) -> None:
    peers.accept_association(connection)
    peers.read_pdu(connection)
    connection.sendall(struct.pack(">BxI4x", 7, 4))


def _talks_http(connection: socket.socket) -> None:
    peers.read_pdu(connection)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def _accepts_with_nonsense(connection: socket.socket) -> None:
    peers.read_pdu(connection)
    connection.sendall(b"\2\0\0\0\0\x50" + b"\xff" * 80)


def _answers_with_nonsense(connection: socket.socket) -> None:
    peers.accept_association(connection)
    while peers.read_pdu(connection)[11] != 2:
        pass
    connection.sendall(b"\4\0\0\0\0\x0a\0\0\0\6\1\3\xff\xff\xff\xff")


def _babbles(connection: socket.socket) -> None:
    """Answer with a command set that never ends."""
    peers.accept_association(connection)
    while peers.read_pdu(connection)[11] != 2:
        pass
    for _ in range(1000):
        connection.sendall(b"\4\0" + (1006).to_bytes(4, "big") + (1002).to_bytes(4, "big") + b"\1\1" + bytes(1000))


def _rejects_with_nonsense(connection: socket.socket) -> None:
    peers.read_pdu(connection)
    connection.sendall(b"\3\0\0\0\0\1\0")


@pytest.mark.parametrize(
    "behavior",
    [
        _babbles,
        _rejects_with_nonsense,
        _dies_at_once,
        _dies_in_mid_transfer,
        _dies_before_its_answer,
        _aborts,
        _talks_http,
        _accepts_with_nonsense,
        _answers_with_nonsense,
    ],
)
def test_no_clear_answer_is_no_delivery(make: Make, behavior: Callable[[socket.socket], None]) -> None:
    """Whatever goes wrong on the wire leaves the document undelivered and to be tried again."""
    with peers.rude(behavior) as destination, pytest.raises(DeliveryUnreachableError) as problem:
        send.deliver(*make(size=300_000), destination, SETTINGS)
    assert str(problem.value).startswith("pacs: ")
    assert problem.value.transient


def test_after_a_broken_association_the_next_delivery_opens_another(make: Make) -> None:
    """One lost connection does not cost the other documents of the report."""
    connections = []

    def dies(connection: socket.socket) -> None:
        connections.append(connection)
        _dies_in_mid_transfer(connection)

    with peers.rude(dies) as destination, send.Sender(destination, SETTINGS) as sender:
        for number in (1, 2):
            with pytest.raises(DeliveryUnreachableError):
                sender.deliver(*make(size=300_000, number=number))
    assert len(connections) == 2


def test_a_destination_that_rejects_is_asked_once(make: Make) -> None:
    """What keeps out the first document of a report keeps out the rest, without six waits for the same answer."""
    connections = []

    def hang_up(connection: socket.socket) -> None:
        connections.append(connection)
        peers.read_pdu(connection)

    with peers.rude(hang_up) as destination, send.Sender(destination, SETTINGS) as sender:
        for number in (1, 2, 3):
            with pytest.raises(DeliveryUnreachableError, match="closed the connection"):
                sender.deliver(*make(number=number))
    assert len(connections) == 1


def test_an_error_is_words_for_a_person(make: Make) -> None:
    """The outbox shows what is wrong and at which destination, without a class name in it."""
    with peers.archive(calling=["SOMEBODY_ELSE"]) as archive, pytest.raises(DeliveryRefusedError) as refused:
        send.deliver(*make(), archive.destination, SETTINGS)
    assert str(refused.value) == "pacs rejects the association: calling AE title not recognized"
