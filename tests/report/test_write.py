"""What goes to the PACS as a whole: conformant, of one study, and the same each time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from btt_bridge import report
from btt_bridge.dicom import IMPLEMENTATION_CLASS_UID, MANUFACTURER
from btt_bridge.records import Result
from tests.report import cases
from tests.report.conftest import PHANTOM


@pytest.mark.peer("dciodvfy")
@pytest.mark.parametrize("findings", [0, 1, 50])
def test_dciodvfy_finds_no_error_in_what_is_written_of_the_phantom(
    phantom: report.Sources, tmp_path: Path, findings: int
) -> None:
    """SR, SEG and SC conform to their IODs, whatever the number of findings."""
    for document in cases.write(phantom, cases.result(phantom, findings)):
        assert not cases.dciodvfy(document, tmp_path), document.kind


@pytest.mark.peer("dciodvfy")
@pytest.mark.parametrize("series", ["ct_chest", "ct_liver"])
def test_dciodvfy_finds_no_error_in_what_is_written_of_real_series(
    request: pytest.FixtureRequest, tmp_path: Path, series: str
) -> None:
    """Real headers with empty, absent and over-long values do not make our objects wrong."""
    of = request.getfixturevalue(series)
    for document in cases.write(of, cases.result(of, 3)):
        assert not cases.dciodvfy(document, tmp_path), document.kind


def _without_frame_of_reference(ds: Dataset) -> None:
    del ds.FrameOfReferenceUID


def _without_geometry(ds: Dataset) -> None:
    del ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing


def _without_character_set(ds: Dataset) -> None:
    ds.PatientName = ds.ReferringPhysicianName = "Plain^Ascii"
    ds.SpecificCharacterSet = ""


def _with_a_hostile_name(ds: Dataset) -> None:
    ds.PatientName = "<script>alert('x')</script>^\"; DROP TABLE--^{{7*7}}"
    ds.StudyDescription = "</td><img src=x onerror=alert(1)>"


def _without_names(ds: Dataset) -> None:
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber"):
        delattr(ds, keyword)


def _once_lossy(ds: Dataset) -> None:
    ds.LossyImageCompression = "01"
    ds.LossyImageCompressionRatio = "12.5"
    ds.LossyImageCompressionMethod = "ISO_10918_1"


@pytest.mark.peer("dciodvfy")
@pytest.mark.parametrize(
    "change",
    [
        _without_frame_of_reference,
        _without_geometry,
        _without_character_set,
        _with_a_hostile_name,
        _without_names,
        _once_lossy,
    ],
)
def test_odd_sources_make_sound_objects(tmp_path: Path, change: Callable[[Dataset], None]) -> None:
    """What a source lacks or overdoes, our objects say correctly, and identity is as it was."""
    of = cases.sources(cases.altered(PHANTOM, tmp_path / "series", 3, change))
    original = dcmread(next(iter(of.images.values())).path)
    given = cases.result(of, 0 if change is _without_geometry else 1)
    documents = cases.write(of, given)
    assert [document.kind for document in documents] == ["SR", "SEG", "SC"]
    for document in documents:
        assert not cases.dciodvfy(document, tmp_path), document.kind
        ds = dcmread(BytesIO(document.content))
        for keyword in ("PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID"):
            assert ds.get(keyword) == original.get(keyword, ""), keyword
        if document.kind == "SEG":
            assert ("FrameOfReferenceUID" in ds) == bool(
                original.get("FrameOfReferenceUID") and original.get("PixelSpacing")
            )
        if document.kind != "SR":
            assert ds.get("LossyImageCompression", "00") == original.get("LossyImageCompression", "00")


@pytest.mark.peer("dciodvfy")
def test_a_service_that_only_measures_gets_an_sr_and_nothing_else(phantom: report.Sources, tmp_path: Path) -> None:
    """A result without slices, masks and findings is one sound SR, with all of the series as its evidence."""
    given = Result("counting", "1.0.0", "", (), 0, 0, (cases.VOLUME,), (), ())
    (document,) = cases.write(phantom, given)
    assert not cases.dciodvfy(document, tmp_path)
    assert report.read_back(document.content).measurements == (cases.VOLUME,)
    (study,) = dcmread(BytesIO(document.content)).CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence[0].ReferencedSOPSequence) == len(phantom.images)


@pytest.mark.slow
@pytest.mark.peer("DicomSRValidator")
@pytest.mark.parametrize("findings", [0, 2])
def test_the_template_validator_finds_no_error(phantom: report.Sources, tmp_path: Path, findings: int) -> None:
    """PixelMed's validator of TID 1500 accepts a report with findings and one without."""
    assert not cases.dicom_sr_validator(cases.write(phantom, cases.result(phantom, findings))[0], tmp_path)


def test_writing_twice_gives_the_same_bytes(phantom: report.Sources) -> None:
    """After a crash, the same inputs give byte for byte the same objects."""
    given = cases.result(phantom, 2)
    assert cases.write(phantom, given) == cases.write(phantom, given)


def test_another_hour_changes_no_name(phantom: report.Sources) -> None:
    """Written anew at another time, the objects have the same UIDs and replace each other."""
    given = cases.result(phantom, 2)
    first = cases.write(phantom, given)
    second = cases.write(phantom, given, now=cases.NOW + timedelta(hours=3))
    assert [document.sop_instance_uid for document in first] == [document.sop_instance_uid for document in second]
    assert all(one.content != two.content for one, two in zip(first, second, strict=True))


def test_revisions_do_not_overwrite_each_other(phantom: report.Sources) -> None:
    """Each revision is a set of objects of its own, in series of its own."""
    given = cases.result(phantom, 1)
    uids = [document.sop_instance_uid for revision in (1, 2) for document in cases.write(phantom, given, revision)]
    assert len(set(uids)) == len(uids) == 6


def test_the_sr_comes_first_and_names_are_known_beforehand(phantom: report.Sources) -> None:
    """A sender can send the report before the pixels; the documents say of themselves what their bytes say."""
    documents = cases.write(phantom, cases.result(phantom, 2))
    names = report.Names(phantom.study_instance_uid, "ct-lung", 1)
    assert [document.kind for document in documents] == ["SR", "SEG", "SC", "SC"]
    for number, document in ((1, documents[0]), (1, documents[1]), (1, documents[2]), (2, documents[3])):
        ds = dcmread(BytesIO(document.content))
        assert document.sop_instance_uid == ds.SOPInstanceUID == names.instance(document.kind, number)
        assert document.sop_class_uid == ds.SOPClassUID
        assert ds.SeriesInstanceUID == names.series(document.kind)


def test_all_objects_belong_to_the_patient_and_study_of_the_images(ct_chest: report.Sources) -> None:
    """Every attribute of patient and study that the images have is in each object, unchanged; the mark is ours."""
    original = dcmread(next(iter(ct_chest.images.values())).path, stop_before_pixels=True)
    for document in cases.write(ct_chest, cases.result(ct_chest, 1)):
        ds = dcmread(BytesIO(document.content))
        for keyword in (
            "PatientName", "PatientID", "PatientSex", "PatientAge", "PatientBirthDate", "StudyInstanceUID", "StudyDate",
            "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
        ):  # fmt: skip
            assert ds[keyword].value == original[keyword].value, keyword
        assert (ds.Manufacturer, ds.ManufacturerModelName, ds.InstitutionName) == (
            MANUFACTURER,
            "ct-lung",
            "St. Elsewhere",
        )
        assert ds.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
        assert ds.SoftwareVersions[1] == "1.0.0"
        assert (ds.ContentDate, ds.SeriesNumber > 9000) == (f"{cases.NOW.astimezone():%Y%m%d}", True)
