"""The masks in the SEG are the masks of the result, where the result had them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom.seg
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from btt_bridge import report
from btt_bridge.records import Document, Finding, Result
from tests.report import cases
from tests.report.conftest import PHANTOM


def seg(of: report.Sources, given: Result) -> Document:
    (document,) = cases.kind(cases.write(of, given), "SEG")
    return document


def read(document: Document) -> highdicom.seg.Segmentation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return highdicom.seg.segread(BytesIO(document.content))


def test_highdicom_finds_each_mask_on_its_slices(phantom: report.Sources) -> None:
    """An independent reader gets every voxel back, by segment and by source image, empty slices included."""
    given = cases.result(phantom, 1)
    segments = read(seg(phantom, given)).get_pixels_by_source_instance(
        list(given.slices), assert_missing_frames_are_empty=True
    )
    expected = np.stack([cases.voxels_of(mask, given.columns) for mask in given.masks], axis=-1)
    assert np.array_equal(segments.astype(bool), expected)


@pytest.mark.parametrize("columns", [1, 7, 8, 9, 250])
def test_frames_follow_each_other_bit_by_bit(phantom: report.Sources, columns: int) -> None:
    """Where a row is no whole number of bytes, frames have no gap between them (PS3.5 8.1.1)."""
    random = np.random.default_rng(columns)
    voxels = random.random((len(phantom.images), 5, columns)) < 0.5
    voxels[:, 0, 0] = True
    base = cases.result(phantom, 0)
    given = replace(base, rows=5, columns=columns, masks=(cases.mask("lungs", cases.ANATOMY, cases.LUNG, voxels),))
    ds = dcmread(BytesIO(segmentation_alone(phantom, given)))
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")[: voxels.size]
    assert np.array_equal(bits.reshape(voxels.shape).astype(bool), voxels)
    assert len(ds.PixelData) % 2 == 0


def segmentation_alone(of: report.Sources, given: Result) -> bytes:
    """Write the SEG without pictures, for whose pixels the sizes of this test are not right."""
    (document,) = cases.kind(cases.write(of, given, pictures_max=0), "SEG")
    return document.content


def test_slices_without_a_voxel_have_no_frame(phantom: report.Sources) -> None:
    """Frames are where the mask is, in the order of segment and place, each named by its dimension index."""
    given = cases.result(phantom, 1)
    ds = dcmread(BytesIO(seg(phantom, given).content))
    expected = [
        [number, place + 1]
        for number, mask in enumerate(given.masks, 1)
        for place in range(len(given.slices))
        if mask.bits[place].any()
    ]
    frames = ds.PerFrameFunctionalGroupsSequence
    assert [list(frame.FrameContentSequence[0].DimensionIndexValues) for frame in frames] == expected
    assert [frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber for frame in frames] == [
        n for n, _ in expected
    ]
    assert ds.NumberOfFrames == len(expected) < len(given.masks) * len(given.slices)


def test_each_frame_lies_where_its_source_lies(phantom: report.Sources) -> None:
    """Position and source of every frame are those of its slice, and the references are given both ways."""
    given = cases.result(phantom, 1)
    ds = dcmread(BytesIO(seg(phantom, given).content))
    used = []
    for frame in ds.PerFrameFunctionalGroupsSequence:
        place = frame.FrameContentSequence[0].DimensionIndexValues[1] - 1
        image = phantom.images[given.slices[place]]
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == image.sop_instance_uid
        assert tuple(frame.PlanePositionSequence[0].ImagePositionPatient) == image.position
        used.append(image.sop_instance_uid)
    (series,) = ds.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == phantom.series_instance_uid
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == list(dict.fromkeys(used))
    shared = ds.SharedFunctionalGroupsSequence[0]
    assert tuple(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == image.orientation
    assert tuple(shared.PixelMeasuresSequence[0].PixelSpacing) == image.spacing
    assert ds.FrameOfReferenceUID == phantom.frame_of_reference_uid


def test_a_finding_and_its_segment_share_their_tracking_uid(phantom: report.Sources) -> None:
    """The link from the outline in the SR to the voxels in the SEG, since TID 1410 allows one of the two only."""
    given = cases.result(phantom, 2)
    documents = cases.write(phantom, given)
    told = report.read_back(documents[0].content).findings
    lungs, nodule = dcmread(BytesIO(documents[1].content)).SegmentSequence
    assert (nodule.TrackingID, nodule.TrackingUID) == ("nodule-1", told[0].tracking_uid)
    assert nodule.SegmentAlgorithmType == "AUTOMATIC"
    assert nodule.SegmentedPropertyTypeCodeSequence[0].CodeValue == cases.NODULE.value
    sr = dcmread(BytesIO(documents[0].content))
    assert lungs.TrackingUID in str(sr)


def test_findings_that_share_a_mask_get_a_segment_each(phantom: report.Sources) -> None:
    """Every voxel of a shared mask goes to one finding, the nearest for its size, and none is lost."""
    base = cases.result(phantom, 2)
    large, small = (np.zeros((len(base.slices), base.rows, base.columns), bool) for _ in range(2))
    large[20:24, 100:120, 100:120] = True
    small[21:23, 108:112, 122:126] = True
    spacing = phantom.images[base.slices[0]].spacing

    def moved(finding: Finding, row: float, column: float, diameter_mm: float) -> Finding:
        image = phantom.images[base.slices[21]]
        center = (image.position[0] + column * spacing[1], image.position[1] + row * spacing[0], image.position[2])
        return replace(
            finding, sop_instance_uid=image.sop_instance_uid, center_mm=center, center_px=(row, column),
            diameter_mm=diameter_mm, mask="nodules",
        )  # fmt: skip

    findings = (
        moved(base.findings[0], 109.5, 109.5, 20 * spacing[0]),
        moved(base.findings[1], 109.5, 123.5, 4 * spacing[0]),
    )
    shared = cases.mask("nodules", cases.ABNORMAL, cases.NODULE, large | small)
    given = replace(base, findings=findings, masks=(base.masks[0], shared))
    documents = cases.write(phantom, given)
    items = dcmread(BytesIO(documents[1].content)).SegmentSequence
    told = report.read_back(documents[0].content).findings
    assert [item.SegmentLabel for item in items] == ["lungs", "nodule-1", "nodule-2"]
    assert [item.TrackingUID for item in items[1:]] == [finding.tracking_uid for finding in told]
    arrays = read(documents[1]).get_pixels_by_source_instance(list(given.slices), assert_missing_frames_are_empty=True)
    assert np.array_equal(arrays[..., 1].astype(bool), large)
    assert np.array_equal(arrays[..., 2].astype(bool), small)


def test_an_empty_mask_is_no_segment(phantom: report.Sources) -> None:
    """What holds nothing is left out; where all hold nothing, there is no SEG and the SR knows it."""
    given = cases.result(phantom, 0)
    nothing = replace(given.masks[0], bits=np.zeros_like(given.masks[0].bits))
    other = replace(given.masks[0], name="other")
    assert [
        item.SegmentLabel
        for item in dcmread(BytesIO(seg(phantom, replace(given, masks=(nothing, other))).content)).SegmentSequence
    ] == ["other"]
    documents = cases.write(phantom, replace(given, masks=(nothing,)))
    assert [document.kind for document in documents] == ["SR", "SC"]


def test_slices_of_two_orientations_say_so_frame_by_frame(tmp_path: Path) -> None:
    """Where planes differ, each frame has its own; nothing is shared that is not the same."""

    def tilt(ds: Dataset) -> None:
        if ds.InstanceNumber == 2:
            ds.ImageOrientationPatient = [1, 0, 0, 0, 0.8, 0.6]

    of = cases.sources(cases.altered(PHANTOM, tmp_path / "series", 4, tilt))
    base = cases.result(of, 0)
    everywhere = np.ones((4, base.rows, base.columns), bool)
    given = replace(base, masks=(cases.mask("lungs", cases.ANATOMY, cases.LUNG, everywhere),))
    document = seg(of, given)
    ds = dcmread(BytesIO(document.content))
    planes = {
        tuple(frame.PlaneOrientationSequence[0].ImageOrientationPatient)
        for frame in ds.PerFrameFunctionalGroupsSequence
    }
    assert planes == {(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0.8, 0.6)}
    assert "PlaneOrientationSequence" not in ds.SharedFunctionalGroupsSequence[0]
    assert not cases.dciodvfy(document, tmp_path)
