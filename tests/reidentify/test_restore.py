"""What came back gets its own names again, at every depth, and nothing comes back that never left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from btt_bridge.errors import UnmappedIdentityError
from btt_bridge.records import Code, Finding, Mask, Measurement, Pseudonym, Result
from btt_bridge.reidentify import restore, restore_object
from btt_bridge.vault import Identity

PSEUDONYM = Pseudonym("BTT-ABCDEFGHIJKLMNOPQRSTUVWX", "BTT^ABCDEFGHIJKLMNOPQRSTUVWX", -1000)
STUDY, SERIES, FIRST, SECOND = (f"1.2.826.0.1.3680043.9.7777.{number}" for number in range(4))
OUT = {uid: f"2.25.{10**37 + number}" for number, uid in enumerate((STUDY, SERIES, FIRST, SECOND))}
PATIENT = {"PatientName": "Müller^Änne", "PatientID": "MRN-1", "PatientSex": "F"}
IDENTITY = Identity(OUT, PSEUDONYM, {**PATIENT, "AccessionNumber": "A1", "StudyDate": "20240517"})
NODULE = Code("27925004", "SCT", "Nodule")


def result() -> Result:
    finding = Finding("nodule-1", NODULE, OUT[SECOND], (1.0, 2.0, 3.0), (4.0, 5.0), 6.0, 113.1, 0.9, "nodules", 1)
    return Result(
        "ct-lung", "1.0.0.1", OUT[SERIES], (OUT[FIRST], OUT[SECOND]), 8, 8,
        (Measurement(NODULE, 1.0, "1"),), (finding,),
        (Mask("nodules", NODULE, NODULE, np.zeros((2, 8, 1), np.uint8)),),
    )  # fmt: skip


def test_every_uid_of_a_result_is_restored() -> None:
    """Series, slices and findings carry original UIDs; numbers, codes, versions and masks are as they were."""
    before = result()
    after = restore(before, IDENTITY)
    assert after.series_instance_uid == SERIES
    assert after.slices == (FIRST, SECOND)
    assert after.findings[0].sop_instance_uid == SECOND
    assert after.findings[0] == replace(before.findings[0], sop_instance_uid=SECOND)
    assert after.measurements == before.measurements
    assert after.service_version == "1.0.0.1"
    assert after.masks[0].bits is before.masks[0].bits


def test_a_uid_within_text_is_restored() -> None:
    """A UID or the pseudonym in a name or a meaning is replaced too."""
    kind = Code("1", "DCM", f"on {OUT[FIRST]} of {PSEUDONYM.patient_id}")
    before = replace(result(), measurements=(Measurement(kind, 1.0, "1"),))
    assert restore(before, IDENTITY).measurements[0].concept.meaning == f"on {FIRST} of MRN-1"


@pytest.mark.parametrize(
    "changed",
    [
        {"series_instance_uid": "2.25.12345678901234567890"},
        {"series_instance_uid": "Erika"},
        {"slices": (OUT[FIRST], "2.25.7")},
        {"slices": (FIRST,)},
        {"service": "see 2.25.123456789012345678901234567890"},
        {"service": "BTT-ZZZZZZZZZZZZZZZZZZZZZZZZ"},
    ],
)
def test_nothing_unknown_passes(changed: dict[str, object]) -> None:
    """A UID that never left, an original that nobody outside can know, and a foreign pseudonym are refused."""
    with pytest.raises(UnmappedIdentityError) as raised:
        restore(replace(result(), **changed), IDENTITY)  # type: ignore[arg-type]
    assert "2.25" not in str(raised.value)


def returned() -> Dataset:
    """A DICOM object as a service might return it: minted UIDs of its own, references nested three deep."""
    reference, series, evidence, dataset, segment = (Dataset() for _ in range(5))
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CTImageStorage, OUT[SECOND]
    series.SeriesInstanceUID, series.ReferencedSOPSequence = OUT[SERIES], [reference]
    evidence.StudyInstanceUID, evidence.ReferencedSeriesSequence = OUT[STUDY], [series]
    segment.TrackingUID, segment.TextValue = "1.3.6.1.4.1.5962.99.1", f"best on {OUT[SECOND]}"
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66.4", "1.3.6.1.4.1.5962.99.2"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = OUT[STUDY], "1.3.6.1.4.1.5962.99.3"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = PSEUDONYM.patient_name, PSEUDONYM.patient_id
    dataset.PatientIdentityRemoved, dataset.DeidentificationMethod = "YES", "somehow"
    dataset.CurrentRequestedProcedureEvidenceSequence = [evidence]
    dataset.SegmentSequence = [segment]
    return dataset


def test_an_object_is_restored_at_every_depth() -> None:
    """References, text, patient and study are the hospital's again; UIDs that the writer made up stay."""
    dataset = restore_object(returned(), IDENTITY)
    series = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert dataset.StudyInstanceUID == dataset.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID == STUDY
    assert series.SeriesInstanceUID == SERIES
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == SECOND
    assert dataset.SegmentSequence[0].TextValue == f"best on {SECOND}"
    assert dataset.SegmentSequence[0].TrackingUID == "1.3.6.1.4.1.5962.99.1"
    assert (dataset.PatientName, dataset.PatientID, dataset.AccessionNumber) == ("Müller^Änne", "MRN-1", "A1")
    assert (dataset.StudyDate, dataset.PatientSex) == ("20240517", "F")
    assert "PatientIdentityRemoved" not in dataset
    assert "DeidentificationMethod" not in dataset


@pytest.mark.parametrize("keyword", ["ReferencedSOPInstanceUID", "FrameOfReferenceUID", "StudyInstanceUID"])
def test_a_reference_to_something_else_is_refused(keyword: str) -> None:
    """A reference, unlike a UID of the writer's own, must be to what left."""
    dataset = returned()
    item = Dataset()
    setattr(item, keyword, "1.3.6.1.4.1.5962.99.4")
    dataset.SegmentSequence[0].ReferencedImageSequence = [item]
    with pytest.raises(UnmappedIdentityError):
        restore_object(dataset, IDENTITY)
