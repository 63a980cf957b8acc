"""Pulling the plug: processes of the bridge are killed at random, and nothing acknowledged is lost or doubled."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from btt_bridge.journey import State
from sample_data.generate import make_chest_ct
from tests.accept.wire import Wire
from tests.journeys import studies
from tests.journeys.bridge import Bridge, destination, running
from tests.journeys.studies import Sample, data_set
from tests.peers.dcmtk import StoreSCP, storescp
from tests.peers.server import free_port, wait_until

_SEED = 20_260_105
_SLICES = 248
_ROUNDS = 3
_DOORS, _WORKERS = ("listen-0", "listen-1"), ("work", "node", "exchange")


class _Sender:
    """A modality that keeps a record of what was acknowledged, and repeats the rest until it is."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.acknowledged: set[str] = set()

    def send(self, sample: Sample, after_each: Callable[[int], None]) -> None:
        """Send until every object is acknowledged; tell `after_each` how many are."""
        waiting = dict(zip(sample.sop_uids, sample.files, strict=True))
        wait_until(lambda: self._over_one_association(waiting, after_each), "all objects to be acknowledged", 120)

    def _over_one_association(self, waiting: dict[str, Path], after_each: Callable[[int], None]) -> bool:
        try:
            with Wire(self._port) as wire:
                wire.associate()
                for sop_uid in list(waiting):
                    if wire.store(sop_uid, data_set(waiting[sop_uid])) == 0x0000:
                        del waiting[sop_uid]
                        self.acknowledged.add(sop_uid)
                        after_each(len(self.acknowledged))
                wire.release()
        except (OSError, AssertionError):
            return False  # the other end was killed
        return not waiting


@pytest.fixture
def thorax(tmp_path: Path) -> Path:
    make_chest_ct(tmp_path / "thorax", slices=_SLICES, size=192, spacing_mm=0.4)
    return tmp_path / "thorax"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_at_random_moments_loses_and_doubles_nothing(tmp_path: Path, thorax: Path) -> None:
    """In each round 248 slices are sent while listeners, worker, node and exchange are killed, and killed again while
    the study is worked on; in the last, everything at once. Each object that was answered with 0x0000 is a file and a
    row; each study is one revision, at the PACS once, was charged once, and the books balance."""
    dice = random.Random(_SEED)
    print(f"seed {_SEED}")
    with storescp() as pacs:
        changes = {
            "accept": {"port": free_port()},
            "exchange": {"lease_seconds": 3},
            "destinations": [destination(pacs.ae_title, pacs.port)],
        }
        with running(tmp_path, **changes) as bridge:
            for number in range(_ROUNDS):
                sample = studies.copy(thorax, tmp_path / f"round-{number}", f"round{number}")
                # An order says how many there are: a sender that waits for a dead listener has not sent all.
                bridge.journal.expect(sample.accession_number, _SLICES)
                sender = _Sender(bridge.port)
                _transfer(bridge, sender, sample, dice)
                _all_there(bridge, sender, sample)
                _process(bridge, sample, dice, everything=number == _ROUNDS - 1)
                _delivered_once(bridge, sample, pacs)
            bridge.books_balance()


def _transfer(bridge: Bridge, sender: _Sender, sample: Sample, dice: random.Random) -> None:
    """Send the study; at random counts of acknowledged objects, kill one process after the other."""
    plan = {dice.randrange(10, _SLICES - 10): name for name in (*_DOORS, *_WORKERS, dice.choice(_DOORS))}

    def pull(acknowledged: int) -> None:
        if name := plan.pop(acknowledged, ""):
            print(f"{name} killed after {acknowledged} objects")
            bridge.kill(name)

    sender.send(sample, pull)
    assert not plan
    assert sender.acknowledged == set(sample.sop_uids)


def _all_there(bridge: Bridge, sender: _Sender, sample: Sample) -> None:
    """Assert that each acknowledged object is one row of the index and a file with the sender's own data set."""
    sent = dict(zip(sample.sop_uids, sample.files, strict=True))
    wait_until(lambda: not bridge.journal.unread(1), "everything to be read", 60)
    found = {
        instance.arrival.sop_instance_uid: instance
        for instance in bridge.journal.study(bridge.journeys(sample.study_uid)[0].id).instances
    }
    assert found.keys() == sender.acknowledged
    for sop_uid, instance in found.items():
        kept = dcmread(bridge.settings.spool_dir / instance.arrival.path)
        assert kept == dcmread(sent[sop_uid])
    mine = [one for one in bridge.journal.flagged(1000) if one.arrival.sop_instance_uid in sent]
    assert mine == [], "an object repeated after a crash is the same object"


def _process(bridge: Bridge, sample: Sample, dice: random.Random, *, everything: bool) -> None:
    """Kill what works on the study at random moments, and wait until it is settled all the same."""
    pause = threading.Event()
    for name in dice.sample(_WORKERS * 2, 4):
        # Not to wait for something to happen, but to vary in the middle of what the plug is pulled.
        pause.wait(dice.uniform(0.2, 4))
        state = bridge.journeys(sample.study_uid)[0].state
        print(f"{name} killed while the study was {state}")
        bridge.kill(name)
    if everything:
        print("everything killed")
        bridge.server.kill()
        bridge.start()
    bridge.until(sample.study_uid, State.SETTLED, seconds=240)


def _delivered_once(bridge: Bridge, sample: Sample, pacs: StoreSCP) -> None:
    """Assert that the study is one revision, delivered once and charged once."""
    (journey,) = bridge.journeys(sample.study_uid)
    deliveries = bridge.journal.deliveries(journey.id)
    assert {one.state for one in deliveries} == {"delivered"}
    kinds = Counter(one.kind for one in deliveries)
    assert (kinds["SR"], kinds["SEG"]) == (1, 1)
    at_pacs = [dcmread(path, stop_before_pixels=True) for path in pacs.received()]
    mine = Counter(str(one.SOPInstanceUID) for one in at_pacs if one.StudyInstanceUID == sample.study_uid)
    assert mine == Counter(one.sop_instance_uid for one in deliveries)
    assert len(bridge.charges(journey)) == 1
