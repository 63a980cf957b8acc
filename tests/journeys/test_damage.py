"""Damaged and late objects through a whole bridge: each costs itself, and the study is charged once."""

from __future__ import annotations

import struct

from btt_bridge.journey import State
from btt_bridge.records import Destination
from btt_bridge.send.association import Association
from tests.journeys.bridge import Bridge
from tests.journeys.studies import Make, data_set, uid

_CT, _EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def _sent(bridge: Bridge, objects: list[tuple[str, bytes]]) -> None:
    """C-STORE data sets as they are; each must be answered with 0x0000."""
    context = (_CT, _EXPLICIT)
    association = Association(Destination("bridge", "BTT_BRIDGE", "127.0.0.1", bridge.port), "SENDER", [context], 30)
    try:
        statuses = [association.store(context, name, content) for name, content in objects]
    finally:
        association.release()
    assert set(statuses) == {0x0000}


def test_damaged_objects_cost_only_themselves(shared: Bridge, study: Make) -> None:
    """Among the slices of a good study come a cut one, one nested 2,000 deep, one of noise and an empty one: all are
    acknowledged and kept, flagged, and the study is delivered with the good ones."""
    sample = study("damaged")
    good = [data_set(path) for path in sample.files]
    opening = struct.pack("<HH2sHL", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    damaged = {
        uid("damaged", "cut"): good[0][: len(good[0]) // 2],
        uid("damaged", "deep"): opening * 2000,
        uid("damaged", "noise"): bytes(index * 37 % 251 for index in range(5000)),
        uid("damaged", "header alone"): good[1][:300],
    }
    objects = list(zip(sample.sop_uids, good, strict=True))
    _sent(shared, [*objects[:10], *damaged.items(), *objects[10:]])
    journey = shared.until(sample.study_uid, State.SETTLED)
    assert len(shared.journal.study(journey.id).instances) == len(good)
    flags = {one.arrival.sop_instance_uid: one.flag for one in shared.journal.flagged()}
    assert {name: flags.get(name) for name in damaged} == dict.fromkeys(damaged, "unreadable")
    for one in shared.journal.flagged():
        assert (shared.settings.spool_dir / one.arrival.path).exists(), "what was acknowledged is kept"


def test_a_late_object_makes_a_revision_and_no_second_charge(shared: Bridge, study: Make) -> None:
    """After delivery one more slice comes: revision 2 is delivered with all of them, and the hospital pays once."""
    sample = study("late")
    objects = [(name, data_set(path)) for name, path in zip(sample.sop_uids, sample.files, strict=True)]
    _sent(shared, objects[:-1])
    first = shared.until(sample.study_uid, State.SETTLED)
    _sent(shared, objects[-1:])
    second = shared.until(sample.study_uid, State.SETTLED, revision=2)
    assert len(shared.journal.study(first.id).instances) == len(objects) - 1
    assert len(shared.journal.study(second.id).instances) == len(objects)
    assert len(shared.charges(second)) == 1
    shared.books_balance()
