"""The path a hospital sees: its PACS forwards a study by its own C-STORE and finds the results beside it."""

from __future__ import annotations

from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from btt_bridge.journey import State
from btt_bridge.settle import events
from btt_bridge.signing import Signer
from tests.journeys.bridge import CNY, Bridge
from tests.journeys.studies import Make, Sample
from tests.peers.pacs import Orthanc
from tests.peers.server import wait_until

_IDENTITY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyInstanceUID",
)  # fmt: skip


def _forward(orthanc: Orthanc, sample: Sample) -> str:
    """Put a study into Orthanc and have it forwarded; return Orthanc's id of the study."""
    (study,) = orthanc.upload_all(sample.files)
    answer = orthanc.store_to("bridge", [study])
    assert (answer["InstancesCount"], answer["FailedInstancesCount"]) == (len(sample.files), 0)
    return study


def test_orthanc_gets_its_results_back(shared: Bridge, shared_pacs: Orthanc, study: Make) -> None:
    """SR, SEG and pictures lie under the same study with the patient's own identity, the accounts are right, and
    nothing outside the hospital's own database and spool ever held anything of the patient."""
    sample = study("orthanca")
    _forward(shared_pacs, sample)
    journey = shared.until(sample.study_uid, State.SETTLED)

    series = shared_pacs.find("Series", StudyInstanceUID=sample.study_uid)
    by_modality = {one["MainDicomTags"]["Modality"]: one["Instances"] for one in series}
    assert by_modality.keys() == {"CT", "SR", "SEG", "OT"}
    original = sample.first()
    for modality, instances in by_modality.items():
        for instance in instances:
            written = dcmread(DicomBytesIO(shared_pacs.file(instance)))
            assert {name: str(written.get(name)) for name in _IDENTITY} == {
                name: str(original.get(name)) for name in _IDENTITY
            }, modality
    report = dcmread(DicomBytesIO(shared_pacs.file(by_modality["SR"][0])))
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"
    referenced = {
        str(item.ReferencedSOPInstanceUID)
        for evidence in report.CurrentRequestedProcedureEvidenceSequence
        for inner in evidence.ReferencedSeriesSequence
        for item in inner.ReferencedSOPSequence
    }
    assert referenced & set(sample.sop_uids), "the report names the images it was made from"

    _charged_once(shared, journey.facts)
    (charge,) = shared.charges(journey)
    events.verify(charge, Signer.load(shared.settings.keys_dir / "bridge.key").public)
    _nothing_told(shared, sample)


def _charged_once(bridge: Bridge, facts: dict[str, object]) -> None:
    """Assert that one posting moved the price from the hospital to node and funds, split 70/15/10/5."""
    posting = bridge.ledger.find(bridge.settings.settle.hospital, f"charge:{facts['bill']}:ct-lung")
    assert posting is not None
    price = facts["charge"]["amount"]["units"]
    got = {
        name.split(":")[1] if name.startswith("fund") else "node": sum(
            one.amount.units for one in posting.transfers if one.credit == name
        )
        for name in {one.credit for one in posting.transfers if one.credit.startswith(("fund:", "node:"))}
    }
    shares = {"node": 70, "development": 15, "foundation": 10, "operational-reserve": 5}
    assert got == {name: price * share // 100 for name, share in shares.items()}
    assert price % 20 == 0, "this price divides without remainders"
    payable = f"hospital:hospital:payable:{CNY.code.lower()}"
    assert sum(one.amount.units for one in posting.transfers if one.debit == payable) == price
    bridge.books_balance()


def _nothing_told(bridge: Bridge, sample: Sample) -> None:
    """Assert that log, metrics, events, exchange, node, parcels and doorbells hold no word of the patient."""
    words = [sample.patient_id, sample.accession_number, sample.study_uid, sample.series_uid, *sample.sop_uids[:3]]
    words += sample.patient_name.split("^")
    metrics = bridge.page("/metrics").text
    assert 'btt_studies{state="settled"}' in metrics
    places = {"metrics": metrics.encode(), "log": bridge.log.read_bytes()}
    for name in ("events.jsonl", "exchange.db*", "ledger.db*", "parcels/**/*", "doorbells/**/*", "node/**/*"):
        for path in bridge.data_dir.glob(name):
            if path.is_file():
                places[str(path.relative_to(bridge.data_dir))] = path.read_bytes()
    assert {"exchange.db", "events.jsonl", "log", "metrics"} <= places.keys()
    found = [(place, word) for place, content in places.items() for word in words if word.encode() in content]
    assert not found
    in_hospital = (bridge.data_dir / "bridge.db").read_bytes() + (bridge.data_dir / "bridge.db-wal").read_bytes()
    assert sample.study_uid.encode() in in_hospital, "the search would find what is there"


def test_own_results_coming_round_start_nothing(shared: Bridge, shared_pacs: Orthanc, study: Make) -> None:
    """A PACS that forwards the whole study again, results included, gets success for each object, and nothing comes
    of it: no new revision, no new object, no second charge."""
    sample = study("roundabout")
    study_id = _forward(shared_pacs, sample)
    journey = shared.until(sample.study_uid, State.SETTLED)
    held = set(shared_pacs.instances())

    answer = shared_pacs.store_to("bridge", [study_id])
    assert answer["FailedInstancesCount"] == 0
    assert answer["InstancesCount"] > len(sample.files), "the results went round as well"
    wait_until(lambda: not shared.journal.unread(1), "everything to be read")
    own = [one for one in shared.journal.flagged() if one.flag == "own"]
    assert len(own) >= answer["InstancesCount"] - len(sample.files)
    # A further study that is through afterwards shows that there was time for something to come of it.
    other = study("bystander")
    _forward(shared_pacs, other)
    shared.until(other.study_uid, State.SETTLED)
    assert [one.id for one in shared.journeys(sample.study_uid)] == [journey.id]
    assert len(shared.charges(journey)) == 1
    mine = {
        one for series in shared_pacs.find("Series", StudyInstanceUID=sample.study_uid) for one in series["Instances"]
    }
    assert mine <= held, "nothing was sent to the PACS a second time under another UID"
