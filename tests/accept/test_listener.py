"""The listener with well-behaved peers, by both ways: the fast lane, and pynetdicom's own."""

from __future__ import annotations

import io
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import generate_uid
from pynetdicom import AE

from btt_bridge.accept import lane
from tests.accept.conftest import Start
from tests.accept.wire import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    CT,
    EXPLICIT,
    IMPLICIT,
    JPEG_LOSSLESS,
    LAST,
    P_DATA,
    RELEASE_RP,
    Wire,
    associate_rq,
    echo_rq,
    pdu,
    pdv,
    store_rq,
)
from tests.peers import dcmtk
from tests.peers.server import wait_until

UNKNOWN_SYNTAX = "1.2.840.10008.1.2.8.1"
PRIVATE_CLASS = "1.2.276.0.48.5.1.4.1.1.7"


def test_pynetdicom_is_as_the_lane_knows_it() -> None:
    """The code that the lane stands on is, to the letter, that of the version it was written against.

    If this fails after an upgrade, read what changed in pynetdicom before giving `INTERNALS` its new value.
    """
    assert lane.internals_digest() == lane.INTERNALS


def test_an_echo_is_answered(start: Start, way: str) -> None:
    """DCMTK's echoscu gets success."""
    assert dcmtk.echoscu(start().port).returncode == 0


def test_stored_bytes_are_the_sent_bytes(start: Start, way: str) -> None:
    """Data sets of many sizes, across fragment and buffer limits, come out of the spool as they went in."""
    listener = start()
    sizes = [*([0] if way == "lane" else []), 1, 2, 255, 4096, 16378, 65536, 131066, 300_001, 1_000_000]
    with listener.wire() as wire:
        wire.associate()
        for number, size in enumerate(sizes):
            data = bytes(index * 31 % 251 for index in range(size))
            wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq(f"1.2.{number}"))))
            step = wire.max_pdu - 6
            for begin in range(0, max(size, 1), step):
                last = LAST if begin + step >= size else 0
                wire.send(pdu(P_DATA, pdv(1, last, data[begin : begin + step])))
            assert wire.status() == 0
        assert wire.release() == RELEASE_RP
    instances = listener.instances()
    assert [len(listener.data_set(instance)) for instance in instances] == sizes
    for instance in instances:
        stored = listener.data_set(instance)
        assert stored == bytes(index * 31 % 251 for index in range(len(stored)))


def test_every_answer_names_what_it_answers(start: Start, way: str) -> None:
    """The response carries the message ID and both UIDs of the request."""
    with start().wire() as wire:
        wire.associate()
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.3", message_id=777)) + pdv(1, LAST, b"x")))
        response = wire.response()
    assert int.from_bytes(response[0x0120], "little") == 777
    assert response[0x0002].rstrip(b"\0") == CT.encode()
    assert response[0x1000].rstrip(b"\0") == b"1.2.3"


def test_the_first_proposed_transfer_syntax_is_taken_whatever_it_is(start: Start, way: str) -> None:
    """Compressed, unknown, or the same class proposed twice in different orders: each gets its own first."""
    listener = start()
    with listener.wire() as wire:
        proposals = [
            (1, CT, (JPEG_LOSSLESS, EXPLICIT)),
            (3, CT, (EXPLICIT, JPEG_LOSSLESS)),
            (5, PRIVATE_CLASS, (UNKNOWN_SYNTAX, IMPLICIT)),
            (7, "1.2.840.10008.5.1.4.31", (IMPLICIT,)),
            (9, "1.2.840.10008.1.1", (IMPLICIT,)),
        ]
        assert wire.associate(proposals) == ASSOCIATE_AC
        assert {number: result for number, (result, _) in wire.contexts.items()} == {1: 0, 3: 0, 5: 0, 7: 3, 9: 0}
        assert [wire.contexts[number][1] for number in (1, 3, 5)] == [JPEG_LOSSLESS, EXPLICIT, UNKNOWN_SYNTAX]
        assert wire.store("1.2.1", b"jpeg", 1) == 0
        assert wire.store("1.2.2", b"private", 5, PRIVATE_CLASS) == 0
    first, second = listener.instances()
    assert (first.arrival.transfer_syntax_uid, second.arrival.transfer_syntax_uid) == (JPEG_LOSSLESS, UNKNOWN_SYNTAX)
    assert second.arrival.sop_class_uid == PRIVATE_CLASS
    meta = pydicom.filereader.read_file_meta_info(listener.file(second.arrival.path))
    assert (meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID) == (UNKNOWN_SYNTAX, "1.2.2")


def test_a_pynetdicom_sender_is_served(start: Start, way: str) -> None:
    """pynetdicom as SCU stores, echoes in between, and releases."""
    listener = start()
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientName = CT, generate_uid(), "Test^Only"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = EXPLICIT
    entity = AE("MODALITY")
    entity.add_requested_context(CT, EXPLICIT)
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", listener.port, ae_title="BTT_BRIDGE")
    assert association.is_established
    assert [association.send_c_store(ds).Status, association.send_c_echo().Status] == [0, 0]
    assert association.send_c_store(ds).Status == 0
    association.release()
    assert association.is_released
    (instance,) = listener.instances()
    assert pydicom.dcmread(listener.file(instance.arrival.path)).PatientName == "Test^Only"


def test_echo_and_store_share_an_association_without_waiting(start: Start, way: str) -> None:
    """C-ECHO requests between C-STOREs, and one sent together with a C-STORE, each get their answer."""
    listener = start()
    with listener.wire() as wire:
        wire.associate([(1, CT, (EXPLICIT,)), (3, "1.2.840.10008.1.1", (IMPLICIT,))])
        for number in range(3):
            assert wire.store(f"1.2.{number}", b"x") == 0
            wire.send(pdu(P_DATA, pdv(3, COMMAND | LAST, echo_rq())))
            assert wire.status() == 0
        wire.send(pdu(P_DATA, pdv(3, COMMAND | LAST, echo_rq())))
        assert wire.status() == 0
        assert wire.release() == RELEASE_RP
    assert len(listener.instances()) == 3


@pytest.mark.parametrize(
    ("calling", "called", "settings", "reason"),
    [
        ("MODALITY", "OTHER", {}, (1, 1, 7)),
        ("MODALITY", "OTHER", {"require_called_ae_title": False}, None),
    ],
)
def test_the_called_ae_title_is_checked(
    start: Start, way: str, calling: str, called: str, settings: dict[str, bool], reason: tuple[int, ...] | None
) -> None:
    """A wrong called AE title is refused with its own reason."""
    with start(**settings).wire(calling=calling, called=called) as wire:
        wire.send(associate_rq([(1, CT, (EXPLICIT,))], calling, called))
        kind, body = wire.receive()
        assert (tuple(body[1:4]) if kind == ASSOCIATE_RJ else None) == reason
        assert kind in (ASSOCIATE_RJ, ASSOCIATE_AC)


def test_an_unknown_peer_is_refused(start: Start, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is not on loopback (here: by pretense) and not on the list gets "calling AE title not recognized"."""
    monkeypatch.setattr("btt_bridge.accept.listener.sender_of", _from_afar)
    with start().wire() as wire:
        wire.send(associate_rq([(1, CT, (EXPLICIT,))], "MODALITY", "BTT_BRIDGE"))
        kind, body = wire.receive()
        assert (kind, tuple(body[1:4])) == (ASSOCIATE_RJ, (1, 1, 3))
        assert wire.ending() == 0


def _from_afar(assoc: object) -> object:
    from btt_bridge.accept.admission import Sender

    return Sender("MODALITY", "BTT_BRIDGE", "192.0.2.1")


def test_the_limit_of_associations_is_held_and_given_back(start: Start, way: str) -> None:
    """The third of two is told "local limit exceeded"; when one ends, there is room again."""
    listener = start(associations_max=2)
    with listener.wire() as first, listener.wire() as second:
        assert [first.associate(), second.associate()] == [ASSOCIATE_AC, ASSOCIATE_AC]
        with listener.wire() as third:
            third.send(associate_rq([(1, CT, (EXPLICIT,))], "MODALITY", "BTT_BRIDGE"))
            kind, body = third.receive()
            assert (kind, tuple(body[1:4])) == (ASSOCIATE_RJ, (2, 3, 2))
        assert first.release() == RELEASE_RP

        def again() -> bool:
            with listener.wire() as fourth:
                return fourth.associate() == ASSOCIATE_AC

        wait_until(again, "room for another association")


def test_connections_that_say_nothing_are_limited_too(start: Start, way: str) -> None:
    """Far more silent connections than associations are allowed neither pile up nor keep an honest peer out."""
    listener = start(associations_max=1, idle_seconds_max=1)
    silent = [socket.create_connection(("127.0.0.1", listener.port), timeout=10) for _ in range(40)]
    try:
        closed_at_once = 0
        for connection in silent[-5:]:
            closed_at_once += connection.recv(1) == b""
        assert closed_at_once == 5
        wait_until(lambda: dcmtk.echoscu(listener.port).returncode == 0, "an honest peer to get in")
    finally:
        for connection in silent:
            connection.close()


def test_connections_that_close_without_a_word_hold_no_place(start: Start, way: str) -> None:
    """A monitor that only sees whether the port answers, often, keeps nobody out and does not delay a stop."""
    listener = start(associations_max=1, idle_seconds_max=3600, stop_seconds=300)
    for _ in range(100):
        socket.create_connection(("127.0.0.1", listener.port), timeout=10).close()
    wait_until(lambda: dcmtk.echoscu(listener.port).returncode == 0, "an honest peer to get in")
    socket.create_connection(("127.0.0.1", listener.port), timeout=10).close()
    listener.stop()


def test_the_same_object_again_is_success_and_one_copy(start: Start, way: str) -> None:
    """Same bytes: 0x0000 and one file. Other bytes: 0x0000, kept, flagged, the first still in use."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        assert [wire.store("1.2.3", b"one"), wire.store("1.2.3", b"one"), wire.store("1.2.3", b"two")] == [0, 0, 0]
    (instance,) = listener.instances()
    (conflict,) = listener.journal.flagged()
    assert (listener.data_set(instance), listener.data_set(conflict)) == (b"one", b"two")
    assert len(listener.used_files()) == 2


def test_two_processes_share_one_port_one_spool_and_one_index(start: Start) -> None:
    """Both listeners get connections, and the same objects sent to both are kept once."""
    one = start()
    two = start(port=one.port)
    assert one.port == two.port

    def send(name: int) -> list[int]:
        with one.wire(calling=f"CT{name}") as wire:
            wire.associate()
            return [wire.store(f"1.2.{number}", b"%d" % number) for number in range(20)]

    with ThreadPoolExecutor(4) as threads:
        statuses = [done.result(60) for done in [threads.submit(send, name) for name in range(8)]]
    assert statuses == [[0] * 20] * 8
    assert len(one.instances()) == 20
    assert one.journal.flagged() == []
    one.nothing_left_behind()
    assert len(one.used_files()) == 20


def test_low_disk_is_told_and_passes_by_itself(start: Start, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the reserve every C-STORE gets 0xA700 on a living association; above it, 0x0000 again."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        assert wire.store("1.2.1", b"x") == 0
        spool = "btt_bridge.accept.spool.Spool"
        with monkeypatch.context() as patch:
            patch.setattr(f"{spool}.look", _no_room)
            assert [wire.store("1.2.2", b"x"), wire.store("1.2.3", b"x" * 9999)] == [0xA700, 0xA700]
        assert wire.store("1.2.2", b"x") == 0
        assert wire.release() == RELEASE_RP
    assert [instance.arrival.sop_instance_uid for instance in listener.instances()] == ["1.2.1", "1.2.2"]
    listener.nothing_left_behind()


def _no_room(spool: object) -> None:
    from btt_bridge.errors import StorageFullError

    raise StorageFullError


def test_the_reserve_is_a_setting(start: Start, way: str) -> None:
    """A reserve larger than any disk refuses every object."""
    with start(free_bytes_min=1 << 62).wire() as wire:
        wire.associate()
        assert wire.store("1.2.1", b"x") == 0xA700


def test_an_index_that_cannot_be_written_is_told(start: Start, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the row there is no yes: 0xA700, and the association lives on."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        with monkeypatch.context() as patch:
            patch.setattr("btt_bridge.journal.Journal.record_arrivals", _no_index)
            assert wire.store("1.2.1", b"x") == 0xA700
        assert wire.store("1.2.1", b"x") == 0


def _no_index(journal: object, arrivals: object) -> None:
    raise OSError("the disk of the database is gone")


def test_silence_ends_an_association(start: Start, way: str) -> None:
    """A peer that says nothing for longer than the limit is aborted, between objects and within one."""
    listener = start(idle_seconds_max=0.3)
    with listener.wire() as idle, listener.wire() as midway:
        idle.associate()
        midway.associate()
        midway.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.3")) + pdv(1, 0, b"half of it")))
        assert [idle.ending(), midway.ending()] == [ABORT, ABORT]
    assert listener.instances() == []
    listener.nothing_left_behind()


def test_a_stop_aborts_what_waits_and_keeps_what_was_answered(start: Start, way: str) -> None:
    """After the grace, an idle association and one in mid-object are aborted; nothing new is let in."""
    listener = start()
    with listener.wire() as idle, listener.wire() as midway:
        idle.associate()
        midway.associate()
        assert idle.store("1.2.1", b"x") == 0
        midway.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.3")) + pdv(1, 0, b"half of it")))
        listener.ask_to_stop()
        assert [idle.ending(), midway.ending()] == [ABORT, ABORT]
        wait_until(lambda: _refused(listener.port), "the port to be closed")
    assert [instance.arrival.sop_instance_uid for instance in listener.instances()] == ["1.2.1"]
    listener.nothing_left_behind()


def _refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_an_object_in_hand_at_a_stop_is_answered_only_if_it_is_kept(
    start: Start, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop comes while the index commit runs: the object is in the index, whether or not the answer got out."""
    listener = start()
    committing, go_on = threading.Event(), threading.Event()
    real = listener.journal.__class__.record_arrivals

    def slow(journal: object, arrivals: object) -> object:
        committing.set()
        assert go_on.wait(30)
        return real(journal, arrivals)  # type: ignore[arg-type]

    monkeypatch.setattr("btt_bridge.journal.Journal.record_arrivals", slow)
    with listener.wire() as wire:
        wire.associate()
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.3")) + pdv(1, LAST, b"x")))
        assert committing.wait(30)
        listener.ask_to_stop()
        wait_until(lambda: _refused(listener.port), "the port to be closed")
        go_on.set()
        kind, body = wire.receive()
        assert kind in (P_DATA, ABORT, 0)
        if kind == P_DATA:
            assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00" in body, "the status is success"
    wait_until(lambda: len(listener.instances()) == 1, "the row that was being written")


def test_real_objects_are_stored_byte_for_byte(start: Start, way: str, test_data: Path) -> None:
    """The data sets of a real CT (JPEG Lossless), MR and ultrasound are in the spool exactly as they were sent."""
    files = [next(iter(sorted((test_data / name).rglob("*.dcm")))) for name in ("ct_chest", "mr_head", "us")]
    listener = start()
    sent = {}
    for file in files:
        meta = pydicom.filereader.read_file_meta_info(file)
        content = file.read_bytes()
        uid, sop_class = str(meta.MediaStorageSOPInstanceUID), str(meta.MediaStorageSOPClassUID)
        sent[uid] = content[144 + int.from_bytes(content[140:144], "little") :]
        with listener.wire() as wire:
            wire.associate([(1, sop_class, (str(meta.TransferSyntaxUID),))])
            wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq(uid, sop_class))))
            for begin in range(0, len(sent[uid]), 60_000):
                piece = sent[uid][begin : begin + 60_000]
                wire.send(pdu(P_DATA, pdv(1, LAST * (begin + 60_000 >= len(sent[uid])), piece)))
            assert wire.status() == 0
    assert {instance.arrival.sop_instance_uid: listener.data_set(instance) for instance in listener.instances()} == sent


@pytest.mark.parametrize("nagle", [False, True])
@pytest.mark.peer("dcmsend")
def test_a_real_study_arrives_whole(start: Start, way: str, test_data: Path, nagle: bool) -> None:
    """DCMTK's dcmsend sends slices of a real CT, compressed as they are; every element and pixel is there."""
    files = sorted((test_data / "ct_chest").glob("*.dcm"))[:6]
    listener = start()
    sent = dcmtk.dcmsend(listener.port, files, nagle=nagle)
    assert sent.returncode == 0, sent.stderr
    stored = [pydicom.dcmread(listener.file(instance.arrival.path)) for instance in listener.instances()]
    assert len(stored) == len(files)
    for file in files:
        original = pydicom.dcmread(file)
        (copy,) = [ds for ds in stored if ds.SOPInstanceUID == original.SOPInstanceUID]
        assert copy.file_meta.TransferSyntaxUID == JPEG_LOSSLESS
        assert copy == original


@pytest.mark.peer("storescu")
def test_storescu_of_four_modalities_at_once(start: Start, way: str, tmp_path: Path) -> None:
    """Four DCMTK senders at once, Nagle's algorithm on: all objects are there, none twice."""
    folders = []
    for modality in range(4):
        folders.append(tmp_path / f"modality-{modality}")
        folders[-1].mkdir()
        for number in range(10):
            _ct_file(folders[-1] / f"{number}.dcm")
    listener = start()
    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(dcmtk.storescu, listener.port, [folder], "+sd", nagle=True) for folder in folders]
        assert [run.result(120).returncode for run in runs] == [0] * 4
    assert len(listener.instances()) == 40
    assert len(listener.used_files()) == 40


@pytest.mark.peer("storescu")
def test_storescu_goes_on_after_an_object_over_the_limit(start: Start, way: str, tmp_path: Path) -> None:
    """DCMTK sends three objects over one association: the large one gets 0xA700, those around it are kept."""
    for number, size_bytes in enumerate((2048, 2**21, 2048)):
        _ct_file(tmp_path / f"{number}.dcm", size_bytes)
    listener = start(object_bytes_max=2**20)
    run = dcmtk.storescu(listener.port, sorted(tmp_path.glob("*.dcm")), "-nh", "-v")
    assert run.stderr.count("Requesting Association") == 1
    assert re.findall(r"Received Store Response \((.*)\)", run.stderr) == [
        "Success",
        "Refused: OutOfResources",
        "Success",
    ]
    assert len(listener.instances()) == 2
    listener.nothing_left_behind()


def _ct_file(path: Path, size_bytes: int = 2048) -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PixelData = CT, generate_uid(), bytes(size_bytes)
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = EXPLICIT
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())


def test_where_pynetdicom_differs_the_listener_says_so(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With another digest the listener logs that it serves the slow way, and serves."""
    monkeypatch.setattr("btt_bridge.accept.listener.internals_digest", lambda: "something else")
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        assert wire.store("1.2.3", b"x") == 0
    out, err = capsys.readouterr()
    assert "pynetdicom is not as the fast lane knows it" in out + err


def test_no_value_of_the_data_reaches_the_log(start: Start, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """After a success, a conflict and a refusal, neither the data set nor a SOP Instance UID is in any line."""
    listener = start()
    with listener.wire() as wire:
        wire.associate()
        for data in (b"Doe^John one", b"Doe^John two"):
            wire.store("1.2.840.4242.1", data)
        wire.send(pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.840.4242.2")) + pdv(1, 0, b"Doe^John")))
    wait_until(lambda: listener.nothing_left_behind() or True, "the cut object to be gone")
    logged = "".join(capsys.readouterr())
    assert "conflict" in logged
    assert "Doe" not in logged
    assert "4242" not in logged


def test_a_wire_can_be_closed_at_any_byte(start: Start, way: str) -> None:
    """Cutting the connection at every stage of one object leaves nothing, and the listener serves on."""
    listener = start()
    message = pdu(P_DATA, pdv(1, COMMAND | LAST, store_rq("1.2.3"))) + pdu(P_DATA, pdv(1, LAST, b"x" * 500))
    for cut in (1, 5, 6, 7, 11, 12, 60, len(message) - 501, len(message) - 500, len(message) - 1):
        with Wire(listener.port) as wire:
            wire.associate()
            wire.send(message[:cut])
    with listener.wire() as wire:
        wire.associate()
        assert wire.store("1.2.4", b"y") == 0
    assert [instance.arrival.sop_instance_uid for instance in listener.instances()] == ["1.2.4"]
    listener.nothing_left_behind()
