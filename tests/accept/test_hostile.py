"""The listener against peers that are broken or mean: nothing they do costs anybody else anything."""

from __future__ import annotations

import contextlib
import itertools
import random
import struct
from collections.abc import Callable

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pynetdicom import evt

from btt_bridge.accept.listener import Door
from btt_bridge.config import Accept
from tests.accept.conftest import Listener, Start
from tests.accept.wire import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    CT,
    EXPLICIT,
    IMPLICIT,
    LAST,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    Wire,
    associate_rq,
    command,
    echo_rq,
    pdu,
    pdv,
    store_rq,
)

LARGEST_PDU = Accept().pdu_bytes_max


def _serves(listener: Listener, expected: int = 1) -> None:
    """Assert that an honest peer is served, and that what was stored is what should be, with nothing beside it."""
    with listener.wire() as wire:
        assert wire.associate() == ASSOCIATE_AC
        assert wire.store("1.2.999", b"honest") == 0
        assert wire.release() == RELEASE_RP
    assert len(listener.instances()) == expected
    listener.nothing_left_behind()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 13, 64])
def test_segments_may_break_anywhere(start: Start, way: str, size: int) -> None:
    """Two objects sent in pieces of a few bytes arrive whole."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        for number in range(2):
            message = pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq(f"1.2.{number}")))
            wire.trickle(message + pdu(P_DATA, pdv(1, LAST, bytes(range(200)))), size)
            assert wire.status() == 0
    assert [listener.data_set(instance) for instance in listener.instances()] == [bytes(range(200))] * 2


@pytest.mark.parametrize("seed", range(6))
def test_fragments_may_break_anywhere(start: Start, way: str, seed: int) -> None:
    """Command and data set split over any number of fragments, and these over any number of PDUs."""
    dice = random.Random(seed)
    data = dice.randbytes(5000)
    parts = _split(dice, store_rq("1.2.3"), COMMAND) + _split(dice, data, 0)
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        while parts:
            count = dice.randint(1, len(parts))
            wire.send(pdu(P_DATA, b"".join(parts[:count])))
            del parts[:count]
        assert wire.status() == 0
        assert wire.release() == RELEASE_RP
    (instance,) = listener.instances()
    assert listener.data_set(instance) == data


def _split(dice: random.Random, whole: bytes, control: int) -> list[bytes]:
    cuts = sorted({0, len(whole), *(dice.randrange(1, len(whole)) for _ in range(dice.randint(0, 9)))})
    pairs = list(itertools.pairwise(cuts))
    return [pdv(1, control | LAST * (end == len(whole)), whole[begin:end]) for begin, end in pairs]


def test_requests_may_come_before_their_turn(start: Start, way: str) -> None:
    """Five objects and the release in one write: five answers in order, then the release."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        message = b"".join(
            pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq(f"1.2.{number}", message_id=number)) + pdv(1, LAST, b"x"))
            for number in range(5)
        )
        wire.send(message)
        answered = [int.from_bytes(wire.response()[0x0120], "little") for _ in range(5)]
        assert answered == list(range(5))
        assert wire.release() == RELEASE_RP
    assert len(listener.instances()) == 5


GARBAGE: dict[str, bytes] = {
    "an unknown type of PDU": pdu(9, b"xxxx"),
    "a PDU that says it is huge": struct.pack(">BxL", P_DATA, 0xFFFFFFF0) + b"x" * 100,
    "a PDU one byte over the limit": struct.pack(">BxL", P_DATA, LARGEST_PDU + 1) + bytes(LARGEST_PDU + 1),
    "a huge release": struct.pack(">BxL", RELEASE_RQ, 0x7FFFFFFF) + b"x" * 100,
    "a second A-ASSOCIATE-RQ": associate_rq([(1, CT, (EXPLICIT,))], "A", "B"),
    "a fragment of no length": pdu(P_DATA, struct.pack(">LBB", 0, 1, 3)),
    "a fragment longer than its PDU": pdu(P_DATA, struct.pack(">LBB", 500, 1, 3) + b"x" * 10),
    "a PDU that ends within a fragment's head": pdu(P_DATA, pdv(1, COMMAND, b"xx") + b"\0\0\0"),
    "a command that is none": pdu(P_DATA, pdv(1, COMMAND | LAST, b"\xff" * 50)),
    "data without a command": pdu(P_DATA, pdv(1, LAST, b"data")),
    "a context that was not accepted": pdu(P_DATA, pdv(99, COMMAND | LAST, store_rq("1.2.3")) + pdv(99, LAST, b"x")),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_ends_the_association_and_nothing_else(start: Start, garbage: bytes) -> None:
    """The association is aborted, what it had stored before stays, and others are served."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        assert wire.store("1.2.1", b"before") == 0
        _send_to_the_closing(wire, garbage)
        assert wire.ending() in (ABORT, 0)
    _serves(listener, 2)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_in_the_middle_of_an_object_drops_the_object(start: Start, garbage: bytes) -> None:
    """Half an object and then garbage: no file, no row, no answer."""
    if garbage == GARBAGE["data without a command"]:
        garbage = pdu(P_DATA, pdv(3, LAST, b"data of another presentation context"))
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.3")) + pdv(1, 0, b"half of it")))
        _send_to_the_closing(wire, garbage)
        assert wire.ending() in (ABORT, 0)
    _serves(listener)


def _send_to_the_closing(wire: Wire, data: bytes) -> None:
    """Send what may make the other side close the connection before all of it is out."""
    with contextlib.suppress(ConnectionError):
        wire.send(data)


@pytest.mark.parametrize("length", [LARGEST_PDU + 1, 0xFFFFFFFF])
def test_no_pdu_is_longer_than_was_agreed(start: Start, way: str, length: int) -> None:
    """A P-DATA-TF PDU over the limit ends the association by its header alone, before anything is held of it."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        assert wire.max_pdu == LARGEST_PDU
        wire.send(struct.pack(">BxL", P_DATA, length))
        assert wire.ending() in (ABORT, 0)
    _serves(listener)


def test_a_pdu_of_exactly_the_limit_is_taken(start: Start, way: str) -> None:
    """The limit is what the standard says it is: the length in the PDU's own header."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.3"))))
        wire.send(pdu(P_DATA, pdv(1, LAST, bytes(LARGEST_PDU - 6))))
        assert wire.status() == 0


BEFORE: dict[str, bytes] = {
    "nothing": b"",
    "another protocol": b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n",
    "a huge A-ASSOCIATE-RQ": struct.pack(">BxL", 1, 0xFFFFFFFF) + bytes(1000),
    "an A-ASSOCIATE-RQ that ends early": pdu(1, bytes(20)),
    "an A-ASSOCIATE-RQ of noise": pdu(1, random.Random(1).randbytes(2000)),
    "AE titles that are no text": pdu(1, struct.pack(">HH", 1, 0) + b"\xff" * 32 + bytes(32)),
    "data first": pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.3"))),
    "a release first": pdu(RELEASE_RQ, bytes(4)),
    "an abort first": pdu(ABORT, bytes(4)),
}


@pytest.mark.parametrize("garbage", BEFORE.values(), ids=BEFORE.keys())
def test_garbage_instead_of_an_association(start: Start, way: str, garbage: bytes) -> None:
    """Whatever comes first and is no request for an association ends with the connection closed."""
    listener = start(idle_seconds_max=1)
    with listener.wire() as wire:
        _send_to_the_closing(wire, garbage)
        assert wire.ending() in (ABORT, ASSOCIATE_RJ, 0)
    _serves(listener)


def test_a_context_without_a_transfer_syntax_is_refused(start: Start, way: str) -> None:
    """Such a request breaks the standard, and gets a refusal instead of breaking the listener."""
    listener = start()
    with listener.wire() as wire:
        assert wire.associate([(1, CT, ())]) in (ASSOCIATE_RJ, ABORT)
    _serves(listener)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_syntaxes_that_are_no_uids_are_refused(start: Start, way: str) -> None:
    """Neither a path nor a word can become a SOP class or a transfer syntax of a stored object."""
    listener = start()
    with listener.wire() as wire:
        wire.associate([(1, "../../etc/passwd", (EXPLICIT,)), (3, CT, ("x/../../y",)), (5, CT, ("evil", IMPLICIT))])
        assert {number for number, (result, _) in wire.contexts.items() if result == 0} == {5}
        assert wire.contexts[5] == (0, IMPLICIT)


@pytest.mark.parametrize(
    ("request_set", "status"),
    [
        (command((0x0002, CT), (0x0100, 1), (0x0110, 7), (0x0800, 1)), 0x0117),
        (command((0x0002, CT), (0x0100, 1), (0x0110, 7), (0x0800, 1), (0x1000, "../../../x")), 0x0117),
        (command((0x0002, CT), (0x0100, 1), (0x0110, 7), (0x0800, 1), (0x1000, "1." * 32 + "1")), 0x0117),
        (command((0x0100, 1), (0x0110, 7), (0x0800, 1), (0x1000, "1.2.3")), 0x0122),
        (command((0x0002, "/etc/passwd"), (0x0100, 1), (0x0110, 7), (0x0800, 1), (0x1000, "1.2.3")), 0x0122),
    ],
)
def test_a_request_that_names_nothing_is_refused_and_its_data_drained(
    start: Start, request_set: bytes, status: int
) -> None:
    """Missing or impossible UIDs cost that object and no more: the association goes on with the next."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, request_set)))
        for last in (0, 0, LAST):
            wire.send(pdu(P_DATA, pdv(1, last, bytes(9999))))
        assert wire.status() == status
        assert wire.store("1.2.4", b"next") == 0
    _serves(listener, 2)


def test_a_uid_never_becomes_a_path(start: Start, way: str) -> None:
    """Whatever the command calls the instance, files lie where the spool says."""
    listener = start()
    before = set(listener.settings.data_dir.parent.iterdir())
    for uid in ("../../../evil", "/tmp/evil", "..", "evil\0.1"):
        with listener.wire(seconds=2) as wire:
            wire.associate()
            wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq(uid)) + pdv(1, LAST, b"x")))
            wire.send(pdu(RELEASE_RQ, bytes(4)))
            wire.ending()
    assert set(listener.settings.data_dir.parent.iterdir()) == before
    assert not list(listener.settings.data_dir.rglob("*evil*"))
    _serves(listener)


def test_a_request_without_a_message_id_ends_the_association(start: Start) -> None:
    """Nothing can be answered without it, so the peer must not wait for an answer."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        no_id = command((0x0002, CT), (0x0100, 1), (0x0800, 1), (0x1000, "1.2.3"))
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, no_id) + pdv(1, LAST, b"x")))
        assert wire.ending() == ABORT
    _serves(listener)


def test_a_store_without_a_data_set_is_refused(start: Start, way: str) -> None:
    """0xC000, and the association lives on."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.3", data_set_type=0x0101))))
        assert wire.status() == 0xC000
        assert wire.store("1.2.4", b"next") == 0
    _serves(listener, 2)


def test_a_store_in_the_context_of_verification_is_refused(start: Start) -> None:
    """A context that was accepted for C-ECHO takes no objects."""
    listener = start()
    with listener.wire() as wire:
        wire.associate([(1, "1.2.840.10008.1.1", (IMPLICIT,))])
        assert wire.store("1.2.3", b"x") == 0x0122
    _serves(listener)


def test_an_object_over_the_limit_is_refused_while_it_comes(start: Start, way: str) -> None:
    """0xA700 after the rest was drained, nothing on disk; the next object, just below the limit, is taken."""
    listener = start(object_bytes_max=2**20)
    with listener.wire() as wire:
        wire.associate()
        for number in range(2):
            wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq(f"1.2.3.{number}"))))
            for fragment in range(30):
                wire.send(pdu(P_DATA, pdv(1, LAST * (fragment == 29), bytes(100_000))))
            assert wire.status() == 0xA700
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.4"))))
        for fragment in range(10):
            wire.send(pdu(P_DATA, pdv(1, LAST * (fragment == 9), bytes(100_000))))
        assert wire.status() == 0
    _serves(listener, 2)


@pytest.mark.parametrize("between", [b"", pdv(1, COMMAND | LAST, store_rq("1.2.3"))], ids=["plain", "commands-between"])
def test_an_object_over_the_limit_is_never_held_in_memory_without_the_lane(
    start: Start, monkeypatch: pytest.MonkeyPatch, between: bytes
) -> None:
    """pynetdicom collects an object in memory: one fragment past the limit, and nothing of what follows."""
    collected: list[int] = []
    store = Door._on_c_store

    def measured(door: Door, event: evt.Event) -> int:
        collected.append(len(event.request.DataSet.getbuffer()))
        return store(door, event)

    monkeypatch.setattr(Door, "_on_c_store", measured)
    monkeypatch.setattr("btt_bridge.accept.listener.INTERNALS", "another version")
    listener = start(object_bytes_max=2**20)
    with listener.wire() as wire:
        wire.associate()
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.3"))))
        for number in range(30):
            wire.send(pdu(P_DATA, between + pdv(1, LAST * (number == 29), bytes(100_000))))
        assert wire.status() == 0xA700
    assert collected == [1_100_000]
    _serves(listener)


def test_a_cancel_changes_nothing(start: Start) -> None:
    """A C-CANCEL-RQ before, within and after an object: the object is stored and answered."""
    cancel = pdv(1, COMMAND | LAST, command((0x0100, 0x0FFF), (0x0120, 7), (0x0800, 0x0101)))
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        wire.send(pdu(P_DATA, cancel))
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.3")) + pdv(1, 0, b"one")))
        wire.send(pdu(P_DATA, cancel))
        wire.send(pdu(P_DATA, cancel + pdv(1, LAST, b"two")))
        assert wire.status() == 0
        wire.send(pdu(P_DATA, cancel))
        assert wire.release() == RELEASE_RP
    (instance,) = listener.instances()
    assert listener.data_set(instance) == b"onetwo"


@pytest.mark.parametrize("another", [store_rq("1.2.5"), echo_rq()])
def test_a_message_within_another_ends_the_association(start: Start, another: bytes) -> None:
    """A second request before the first one's data set is complete cannot be told apart from it."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.3")) + pdv(1, 0, b"half")))
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, another)))
        assert wire.ending() == ABORT
    _serves(listener)


def test_a_command_without_end_is_stopped(start: Start) -> None:
    """Fragments of a command set that never ends are not collected for ever."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        for _ in range(20):
            _send_to_the_closing(wire, pdu(P_DATA, pdv(1, COMMAND, bytes(4096))))
        assert wire.ending() in (ABORT, 0)
    _serves(listener)


@pytest.mark.parametrize("ending", [pdu(ABORT, bytes(4)), pdu(RELEASE_RQ, bytes(4))])
def test_an_end_in_the_middle_of_an_object_drops_it(start: Start, way: str, ending: bytes) -> None:
    """A-ABORT or A-RELEASE-RQ before the last fragment: no file, no row."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        assert wire.store("1.2.1", b"before") == 0
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.3")) + pdv(1, 0, b"half of it")))
        wire.send(ending)
        assert wire.ending() in (RELEASE_RP, 0)
    _serves(listener, 2)


def test_a_service_that_is_not_offered_hurts_nobody(start: Start, way: str) -> None:
    """A C-FIND-RQ with its identifier in a storage context ends that association at most."""
    find = command((0x0002, CT), (0x0100, 0x20), (0x0110, 1), (0x0700, 0), (0x0800, 1))
    listener = start()
    with listener.wire(seconds=5) as wire:
        wire.associate()
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, find) + pdv(1, LAST, b"\x08\x00\x05\x00CS\x00\x00")))
        wire.send(pdu(RELEASE_RQ, bytes(4)))
        wire.ending()
    _serves(listener)


def _nested(depth: int) -> bytes:
    """Encode sequences within sequences, two thousand deep, without recursion."""
    inner = b""
    for _ in range(depth):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        inner = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + item
        inner += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return inner


def _plain() -> bytes:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientName = CT, "1.2.3", "<script>alert(1)</script>"
    ds.Rows, ds.Columns, ds.OtherPatientIDsSequence = 65535, 65535, Sequence([Dataset()])
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return buffer.getvalue()


MALFORMED: dict[str, Callable[[], bytes]] = {
    "nested two thousand deep": lambda: _nested(2000),
    "truncated": lambda: _plain()[:-7],
    "a wrong length": lambda: _plain().replace(b"PN", b"PN\xff\xff", 1),
    "a VR that is none": lambda: _plain().replace(b"PN", b"??", 1),
    "no element at all": lambda: b"this is not DICOM",
    "a Part 10 file within": lambda: bytes(128) + b"DICM" + _plain(),
    "noise": lambda: random.Random(7).randbytes(70_001),
    "odd": lambda: b"x",
}


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_object_is_stored_as_it_came_and_loses_nothing_else(
    start: Start, way: str, malformed: Callable[[], bytes]
) -> None:
    """The door reads no data set: 0x0000, the same bytes on disk, and the objects before and after it too."""
    listener, data = start(), malformed()
    with listener.wire() as wire:
        wire.associate()
        assert wire.store("1.2.1", b"before") == 0
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.2"))))
        for begin in range(0, max(len(data), 1), 16_000):
            wire.send(pdu(P_DATA, pdv(1, LAST * (begin + 16_000 >= len(data)), data[begin : begin + 16_000])))
        assert wire.status() == 0
        assert wire.store("1.2.3", b"after") == 0
        assert wire.release() == RELEASE_RP
    stored = [listener.data_set(instance) for instance in listener.instances()]
    assert stored == [b"before", data, b"after"]


def test_an_empty_data_set_is_a_data_set(start: Start) -> None:
    """The command says that one follows, and one does, of no bytes; pynetdicom alone could not tell it from none."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        assert wire.store("1.2.3", b"") == 0
    (instance,) = listener.instances()
    assert listener.data_set(instance) == b""


@pytest.mark.parametrize("seed", range(12))
def test_mutated_traffic_never_stops_the_listener(start: Start, seed: int) -> None:
    """A good conversation with some of its bytes changed: whatever comes of it, the next peer is served."""
    dice = random.Random(seed)
    listener = start(idle_seconds_max=0.5)
    for number in range(8):
        conversation = bytearray(
            pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq(f"1.2.{number}")))
            + pdu(P_DATA, pdv(1, 0, bytes(300)) + pdv(1, LAST, bytes(300)))
            + pdu(P_DATA, pdv(1, COMMAND | LAST, echo_rq()))
            + pdu(RELEASE_RQ, bytes(4))
        )
        for _ in range(dice.randint(1, 4)):
            conversation[dice.randrange(len(conversation))] = dice.randrange(256)
        with listener.wire() as wire:
            assert wire.associate() == ASSOCIATE_AC
            _send_to_the_closing(wire, bytes(conversation))
            wire.ending()
    with listener.wire() as wire:
        wire.associate()
        assert wire.store("1.2.999", b"honest") == 0
    listener.nothing_left_behind()
