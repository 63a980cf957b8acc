"""What the SR says: the same as the result, in the words of TID 1500."""

from __future__ import annotations

import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom.sr
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from btt_bridge import report
from btt_bridge.errors import MalformedError, UnmappedIdentityError
from btt_bridge.records import Code, Finding
from tests.report import cases


def sr(of: report.Sources, findings: int, **more: object) -> Dataset:
    return dcmread(BytesIO(cases.write(of, cases.result(of, findings), **more)[0].content))  # type: ignore[arg-type]


@pytest.mark.parametrize("findings", [0, 1, 50])
def test_the_sr_says_what_the_result_says(phantom: report.Sources, findings: int) -> None:
    """Every finding and every measurement is in the SR, in order, with its exact numbers, and nothing else."""
    given = cases.result(phantom, findings)
    told = report.read_back(cases.write(phantom, given)[0].content)
    assert told.measurements == given.measurements
    assert told.preliminary
    assert len(told.findings) == findings
    for read, finding in zip(told.findings, given.findings, strict=True):
        assert (read.name, read.kind, read.sop_instance_uid) == (finding.name, finding.kind, finding.sop_instance_uid)
        assert (read.diameter_mm, read.volume_mm3) == (finding.diameter_mm, finding.volume_mm3)
        assert read.score == pytest.approx(finding.score, abs=1e-12)
        assert read.center_px == pytest.approx(finding.center_px, abs=1e-3)


def test_no_finding_is_said_in_so_many_words(phantom: report.Sources) -> None:
    """A report without findings says that the algorithm succeeded and found none."""
    summary = "All algorithms succeeded; with{} findings"
    for findings, expected in ((0, summary.format("out")), (1, summary.format(""))):
        text = str(sr(phantom, findings))
        assert expected in text


def test_numbers_are_short_for_people_and_exact_for_machines(phantom: report.Sources) -> None:
    """Numeric Value is rounded as one reads it aloud; Floating Point Value is the number itself."""
    group = sr(phantom, 0).ContentSequence[-1].ContentSequence[0]
    volume = next(item for item in group.ContentSequence if item.ValueType == "NUM").MeasuredValueSequence[0]
    assert (str(volume.NumericValue), volume.FloatingPointValue) == ("4812.26", 4812.256789)


def test_nobody_takes_it_for_a_final_report(phantom: report.Sources) -> None:
    """Completion, verification and preliminary flags, and the observer: a device that names algorithm and model."""
    ds = sr(phantom, 1)
    assert (ds.CompletionFlag, ds.VerificationFlag, ds.PreliminaryFlag) == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")
    assert "VerifyingObserverSequence" not in ds
    texts = {element.value for element in ds.iterall() if element.keyword in ("TextValue", "CodeMeaning")}
    assert {"Device Observer UID", "Algorithm Name", f"model SHA-256 {'ab' * 32}", "device cpu", "ct-lung"} <= texts


def test_private_codes_say_whose_they_are(phantom: report.Sources) -> None:
    """A measurement in a scheme of the service's own is sent with that scheme's identification, others without."""
    own = replace(cases.VOLUME, concept=Code("LAA-950", "99BTT", "Low attenuation area below -950 HU"))
    ds = dcmread(BytesIO(cases.write(phantom, replace(cases.result(phantom, 0), measurements=(own,)))[0].content))
    (scheme,) = ds.CodingSchemeIdentificationSequence
    assert (scheme.CodingSchemeDesignator, scheme.CodingSchemeName) == ("99BTT", "Codes of the service ct-lung")
    assert "CodingSchemeIdentificationSequence" not in sr(phantom, 0)


def test_evidence_is_every_image_that_was_read(phantom: report.Sources) -> None:
    """The SR lists all slices of its series and the SEG, under one study, so that a reader can start over."""
    given = cases.result(phantom, 1)
    ds = sr(phantom, 1)
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    images, seg = study.ReferencedSeriesSequence
    names = report.Names(phantom.study_instance_uid, "ct-lung", 1)
    assert study.StudyInstanceUID == ds.StudyInstanceUID == phantom.study_instance_uid
    assert images.SeriesInstanceUID == phantom.series_instance_uid
    assert [item.ReferencedSOPInstanceUID for item in images.ReferencedSOPSequence] == list(given.slices)
    assert seg.SeriesInstanceUID == names.series("SEG")
    assert [item.ReferencedSOPInstanceUID for item in seg.ReferencedSOPSequence] == [names.instance("SEG")]


def test_a_revision_names_the_report_that_it_replaces(phantom: report.Sources) -> None:
    """Predecessor Documents Sequence leads to the SR of revision 1, which nobody had to keep in order to know."""
    given = cases.result(phantom, 1)
    first = dcmread(BytesIO(cases.write(phantom, given)[0].content))
    names = report.Names(phantom.study_instance_uid, "ct-lung", 1)
    second = dcmread(BytesIO(cases.write(phantom, given, 2, predecessors=[names])[0].content))
    (study,) = second.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (reference,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == first.StudyInstanceUID
    assert series.SeriesInstanceUID == first.SeriesInstanceUID != second.SeriesInstanceUID
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID
    assert "PredecessorDocumentsSequence" not in first


def test_a_finding_keeps_its_tracking_uid_as_long_as_it_keeps_its_place(phantom: report.Sources) -> None:
    """Neither its name nor its rank nor the revision changes a Tracking UID; its place does."""
    given = cases.result(phantom, 2)
    one, two = given.findings
    moved = replace(two, name="nodule-3", center_mm=(two.center_mm[0] + 5, *two.center_mm[1:]))
    later = replace(given, findings=(replace(two, name="nodule-1", mask=""), replace(one, name="nodule-2"), moved))
    before = report.read_back(cases.write(phantom, given)[0].content).findings
    after = report.read_back(cases.write(phantom, later, 2)[0].content).findings
    assert [finding.tracking_uid for finding in after[:2]] == [before[1].tracking_uid, before[0].tracking_uid]
    assert after[2].tracking_uid not in {finding.tracking_uid for finding in before}


def test_two_findings_at_one_place_are_told_apart(phantom: report.Sources) -> None:
    """A Tracking UID names one finding of a report, even where a service put two in one spot."""
    given = cases.result(phantom, 1)
    twin = replace(given.findings[0], name="nodule-2", mask="")
    told = report.read_back(cases.write(phantom, replace(given, findings=(*given.findings, twin)))[0].content)
    assert told.findings[0].tracking_uid != told.findings[1].tracking_uid


def outline(of: report.Sources, finding: Finding) -> np.ndarray:
    given = replace(cases.result(of, 1), findings=(replace(finding, mask=""),))
    ds = dcmread(BytesIO(cases.write(of, given)[0].content))
    region = next(
        item for item in ds.ContentSequence[-1].ContentSequence[1].ContentSequence if item.ValueType == "SCOORD"
    )
    assert region.GraphicType == "POLYLINE"
    return np.array(region.GraphicData).reshape(-1, 2)


def test_the_outline_has_the_measured_diameter_around_the_center(phantom: report.Sources) -> None:
    """A closed polyline whose extent, times the pixel spacing, is the diameter; SCOORD has the column first."""
    finding = replace(cases.result(phantom, 1).findings[0], center_px=(100.0, 50.0), diameter_mm=20.0)
    points = outline(phantom, finding)
    down, across = phantom.images[finding.sop_instance_uid].spacing
    assert points[0].tolist() == points[-1].tolist()
    assert np.ptp(points, axis=0) == pytest.approx([20 / across, 20 / down], rel=0.01)
    assert points[:-1].mean(axis=0) == pytest.approx([50.5, 100.5], abs=0.01)


def test_an_outline_stays_within_its_image(phantom: report.Sources) -> None:
    """A finding at the edge does not point outside the picture, where viewers draw nothing or fail."""
    points = outline(phantom, replace(cases.result(phantom, 1).findings[0], center_px=(0.0, 255.0), diameter_mm=60.0))
    assert points.min() == 0
    assert points.max() == 256


def test_highdicom_reads_it(phantom: report.Sources) -> None:
    """An independent reader of TID 1500 finds the groups by template, tracking UID and segment."""
    ds = cases.write(phantom, cases.result(phantom, 3))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = highdicom.sr.srread(BytesIO(ds.content)).content
    planar = content.get_planar_roi_measurement_groups()
    (whole,) = content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in planar] == ["nodule-1", "nodule-2", "nodule-3"]
    assert [group.finding_sites[0].value.value for group in planar] == [cases.LUNG.value] * 3
    assert whole.finding_type.value == cases.LUNG.value
    assert [measured.value for measured in whole.get_measurements()] == [4812.256789, -812.5]


def test_without_a_mask_the_measurements_stand_by_themselves(phantom: report.Sources) -> None:
    """No SEG, no reference to one: the measurements become a group about no region (TID 1501)."""
    given = cases.without_masks(cases.result(phantom, 1))
    documents = cases.write(phantom, given)
    assert not cases.kind(documents, "SEG")
    assert report.read_back(documents[0].content).measurements == given.measurements
    assert "Referenced Segment" not in str(dcmread(BytesIO(documents[0].content)))


def test_an_image_of_nobody_stops_the_report(phantom: report.Sources) -> None:
    """A result that refers to an image outside the series is not written, in the finding or in the slices."""
    given = cases.result(phantom, 1)
    for wrong in (
        replace(given, findings=(replace(given.findings[0], sop_instance_uid="1.2.3"),)),
        replace(given, slices=("1.2.3", *given.slices[1:])),
    ):
        with pytest.raises(UnmappedIdentityError):
            cases.write(phantom, wrong)


@pytest.mark.parametrize("content", [b"", b"\0" * 200])
def test_what_is_no_report_is_not_read_as_one(content: bytes) -> None:
    """Reading back something else is an error of ours, not of a library."""
    with pytest.raises(MalformedError):
        report.read_back(content)


@pytest.mark.peer("dsrdump")
def test_dsrdump_prints_it(phantom: report.Sources, tmp_path: Path) -> None:
    """DCMTK reads the document tree and prints flags, findings and numbers."""
    lines = "\n".join(cases.dsrdump(cases.write(phantom, cases.result(phantom, 2))[0], tmp_path))
    for expected in ("PRELIMINARY", "UNVERIFIED", 'Diameter")="4.29"', 'Tracking Identifier")="nodule-2"'):
        assert expected in lines
    assert "E: " not in lines
