"""A hospital with studies in every state, made through the journal, the ledger and the report's own writer."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from starlette.testclient import TestClient

from btt_bridge import ledger as book
from btt_bridge import report, web
from btt_bridge.config import Settings
from btt_bridge.journal import Journal, Journey, evidence_facts
from btt_bridge.journey import Event
from btt_bridge.ledger import Hold, Ledger, Move, Post
from btt_bridge.money import CNY, Amount
from btt_bridge.records import (
    Arrival,
    Code,
    Evidence,
    EvidenceKind,
    Finding,
    Header,
    Measurement,
    Receipt,
    Result,
)
from btt_bridge.store import Store
from btt_bridge.testing import FakeClock

SAMPLE = Path(__file__).parents[2] / "sample_data" / "chest_ct"
NODULE = Code("27925004", "SCT", "Nodule")

PRICE_MAX = {"units": 4000, "asset": {"code": "CNY", "scale": 2}}
CHARGED = {"units": 1840, "asset": {"code": "CNY", "scale": 2}}
#: What the study of these facts is called in the ledger.
BILL = "5e" * 32
#: What each stage leaves among a journey's facts.
FACTS: dict[Event, dict[str, Any]] = {
    Event.MATCHED: {
        "assign": {
            "name": "chest-ct",
            "service": "ct-lung",
            "reason": "Modality is CT and Body Part Examined is CHEST",
            "tier": "contracted",
            "price_max": PRICE_MAX,
            "deadline_seconds": 1800,
            "mapping_version": "9f" * 32,
        }
    },
    Event.STRIPPED: {
        "parcel": {"digest": "ab" * 32, "size_bytes": 4_812_331, "voxels": 4_194_304, "instances": 64},
    },
    Event.OFFERED: {
        "offering": {"offer": {"offer_id": "o-4711", "urgency": "routine", "operations": 91_268_055_040}},
        "bill": BILL,
    },
    Event.COMPUTED: {
        "lease": {"lease_id": "l-1", "node_id": "cd" * 32, "attempt": 1, "fencing_token": 17},
        "receipt": {
            "device": "cuda:0",
            "started_at": "2026-01-05T08:00:01+00:00",
            "finished_at": "2026-01-05T08:00:03.9+00:00",
            "timings": {"open": 0.08, "decode": 0.61, "run": 1.9, "seal": 0.04},
        },
    },
    Event.ACCEPTED: {"judge": {"checks": ["signature", "lease", "digests", "schema", "geometry"], "findings": 2}},
    Event.REPORTED: {
        "report": {"documents": [{"kind": "SR", "size_bytes": 18_230}, {"kind": "SC", "size_bytes": 220_112}]},
    },
    Event.SETTLED: {"charge": {"amount": CHARGED, "price_list": "2026-01", "hardware": "gpu-small"}},
}
#: The events after completeness, in order, and what each took in seconds.
STEPS = {
    Event.MATCHED: 0.004,
    Event.STRIPPED: 0.061,
    Event.OFFERED: 0.012,
    Event.COMPUTED: 3.4,
    Event.ACCEPTED: 0.019,
    Event.RESTORED: 0.008,
    Event.REPORTED: 0.14,
    Event.DELIVERED: 0.22,
    Event.SETTLED: 0.006,
}


@dataclass
class House:
    """Everything the pages read, and a client that reads the pages."""

    settings: Settings
    journal: Journal
    ledger: Ledger
    store: Store
    clock: FakeClock
    client: TestClient

    def receive(self, keywords: dict[str, Any], files: Sequence[Path] = (), *, uid: str = "") -> Journey:
        """Take in a study: real files, or one object that there is no file of."""
        uid = uid or f"2.25.{zlib.crc32(json.dumps(keywords).encode())}"
        known = [(path.name, path.stat().st_size, *_uids(path)) for path in files]
        uids = {}
        for name, size_bytes, series, sop in known or [("one.dcm", 526_000, f"{uid}.1", f"{uid}.1.1")]:
            arrival = Arrival(
                *(sop, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "PACS", "BTT_BRIDGE", "127.0.0.1"),
                path=name if files else f"{uid}/{name}",
                size_bytes=size_bytes,
                received_at=self.clock.now(),
            )
            assert self.journal.record_arrivals([arrival]) == [None]
            self.clock.advance(0.002)
            uids[sop] = (uid, series, sop)
        headers = [
            Header(found.id, *uids[found.arrival.sop_instance_uid], keywords) for found in self.journal.unread(1000)
        ]
        (journey,) = self.journal.record_headers(headers, self.clock.now())
        return self.journal.journey(journey)

    def complete(self, journey: Journey) -> Journey:
        """Call a study complete, half a second after its last object."""
        self.clock.advance(0.5)
        received = len(self.journal.study(journey.id).instances)
        evidence = Evidence(EvidenceKind.C_FIND, received, received, self.clock.now())
        return self.journal.advance(
            journey, Event.COMPLETED, facts={"complete": evidence_facts(evidence)}, seconds=0.01
        )

    def go(self, journey: Journey, until: Event | None = None) -> Journey:
        """Take a complete study along the path, up to and including an event."""
        for event, seconds in STEPS.items():
            self.clock.advance(seconds + 0.003)
            journey = self.journal.advance(journey, event, facts=FACTS.get(event), seconds=seconds)
            if event is until:
                break
        return journey

    def write_report(self, journey: Journey) -> None:
        """Write SR and pictures of the sample's own nodules, and put them in the outbox."""
        study = self.journal.study(journey.id)
        result, receipt = found_in_sample()
        sources = report.prepare(study, result.series_instance_uid, SAMPLE)
        written = report.write(result, receipt, sources, revision=1, now=self.clock.now())
        keyed = [
            (f"documents/{journey.id}/{number}-{document.kind}.dcm", document)
            for number, document in enumerate(chain.from_iterable(written))
        ]
        for key, document in keyed:
            self.store.put(key, document.content)
        self.journal.enqueue(journey.id, ["pacs"], keyed)

    def charge(self) -> None:
        """Hold what the study of FACTS may cost, and post less than that, under its bill."""
        payable, hospital, bill = "hospital:payable:cny", self.settings.settle.hospital, f"charge:{BILL}:ct-lung"
        for name, limit in ((payable, 10_000_00), ("node:one", 0), ("platform", 0)):
            self.ledger.open_account(name, CNY, credit_limit=limit)
        hold = Hold(payable, "node:one", Amount(4000, CNY), "compute hold", self.clock.now() + timedelta(hours=1))
        held = self.ledger.post_all(hospital, f"{bill}:hold:1", [hold]).transfers[0].id
        self.clock.advance(0.1)
        move = Move(payable, "platform", Amount(160, CNY), "compute share")
        event = book.Event("compute.charged", payable, {"units": 1840})
        self.ledger.post_all(hospital, bill, [Post(held, "compute charge", Amount(1680, CNY)), move], event)


def _uids(path: Path) -> tuple[str, str]:
    dataset = dcmread(path, stop_before_pixels=True)
    return str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID)


def found_in_sample() -> tuple[Result, Receipt]:
    """What a service would say of the sample: two of its nodules, where its generator put them."""
    truth = json.loads((SAMPLE / "truth.json").read_text())
    slices = sorted(
        (dcmread(path, stop_before_pixels=True) for path in SAMPLE.glob("*.dcm")),
        key=lambda dataset: float(dataset.ImagePositionPatient[2]),
    )
    result = Result(
        service="ct-lung",
        service_version="1.0.0",
        series_instance_uid=truth["series_instance_uid"],
        slices=tuple(str(dataset.SOPInstanceUID) for dataset in slices),
        rows=int(slices[0].Rows),
        columns=int(slices[0].Columns),
        measurements=(Measurement(Code("118565006", "SCT", "Volume"), truth["lung_volume_ml"], "ml"),),
        findings=tuple(_finding(number, found, slices) for number, found in enumerate(truth["nodules"][:2], 1)),
        masks=(),
    )
    digests = ["01" * 32, "02" * 32, "03" * 32, "04" * 32]
    now = datetime(2026, 1, 5, 8, tzinfo=UTC)
    return result, Receipt("o", "l", 1, "cd" * 32, "ct-lung", "1.0.0", *digests, "cpu", now, now)


def _finding(number: int, nodule: dict[str, Any], slices: Sequence[Dataset]) -> Finding:
    x, y, z = nodule["center_mm"]
    best = min(slices, key=lambda dataset: abs(dataset.ImagePositionPatient[2] - z))
    left, top, _ = best.ImagePositionPatient
    return Finding(
        name=f"nodule-{number}",
        kind=NODULE,
        sop_instance_uid=str(best.SOPInstanceUID),
        center_mm=(x, y, z),
        center_px=((y - top) / best.PixelSpacing[0], (x - left) / best.PixelSpacing[1]),
        diameter_mm=nodule["diameter_mm"],
        volume_mm3=4.19 * (nodule["diameter_mm"] / 2) ** 3,
        score=0.97 - 0.2 * number,
    )


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """An empty hospital at eight in the morning."""
    clock = FakeClock()
    settings = Settings(
        data_dir=tmp_path / "data", institution="St. Elsewhere", accept={"port": 1, "free_bytes_min": 0}
    )
    settings.data_dir.mkdir()
    journal, ledger = Journal(settings.journal_url, clock), Ledger(settings.ledger_url, clock)
    store = Store(settings.documents_url)
    with TestClient(
        web.app(settings, journal, ledger, store, clock), base_url="http://127.0.0.1", follow_redirects=False
    ) as client:
        yield House(settings, journal, ledger, store, clock, client)
    journal.engine.dispose()
    ledger.engine.dispose()
