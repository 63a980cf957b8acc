"""The segments as one DICOM Segmentation: a frame for each slice that holds something of a segment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import SegmentationStorage
from pydicom.valuerep import format_number_as_ds

from btt_bridge.dicom import MANUFACTURER
from btt_bridge.records import Code, Document
from btt_bridge.report.draft import Draft, coded, encoded, put_pixels
from btt_bridge.report.encoding import code_item, put, reference_item, sequence, text, unsigned
from btt_bridge.report.names import uid
from btt_bridge.report.segments import Segment
from btt_bridge.report.sources import Image

_SOURCE = Code("121322", "DCM", "Source image for image processing operation")
_SEGMENTATION = Code("113076", "DCM", "Segmentation")
#: From what numpy calls "big" bit order to what DICOM packs, least significant bit first (PS3.5 8.1.1).
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class _Frame:
    """One frame: of which segment, on which image, at which place along the stack."""

    segment: int
    image: Image
    #: Index of the slice in the result; plus one, it is the dimension index.
    place: int
    #: Packed along columns, as masks are.
    bits: NDArray[np.uint8]


def segmentation(draft: Draft) -> Document | None:
    """Write the SEG; None where there is nothing to segment."""
    if not draft.segments:
        return None
    frames = list(_frames(draft))
    ds = draft.image_dataset("SEG", SegmentationStorage)
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.ContentLabel = "AI_SEGMENTATION"
    ds.ContentDescription = "AI - not for primary diagnosis"
    ds.ContentCreatorName = None
    ds.SegmentationType = "BINARY"
    ds.SegmentsOverlap = "UNDEFINED"
    ds.SegmentSequence = [_segment(draft, number, one) for number, one in enumerate(draft.segments, 1)]
    _describe_pixels(ds, draft, len(frames))
    # Without a Frame of Reference, positions are in no system that anything else is in; sources say where frames are.
    placed = bool(draft.sources.frame_of_reference_uid) and all(frame.image.placed for frame in frames)
    _describe_dimensions(ds, draft, placed=placed)
    _describe_frames(ds, draft, frames, placed=placed)
    put_pixels(ds, _pixels(draft, frames))
    return encoded("SEG", ds)


def _frames(draft: Draft) -> Iterator[_Frame]:
    """Yield the frames that hold something: a frame without a voxel says nothing and costs 32 kB."""
    for number, segment in enumerate(draft.segments, 1):
        for place, bits in segment.frames.items():
            yield _Frame(number, draft.images[place], place, bits)


def _segment(draft: Draft, number: int, segment: Segment) -> Dataset:
    algorithm = Dataset()
    algorithm.AlgorithmFamilyCodeSequence = [coded(Code("123110", "DCM", "Artificial Intelligence"))]
    algorithm.AlgorithmName = draft.result.service
    algorithm.AlgorithmVersion = draft.result.service_version
    algorithm.AlgorithmSource = MANUFACTURER
    item = Dataset()
    item.SegmentNumber = number
    item.SegmentLabel = segment.label
    item.SegmentedPropertyCategoryCodeSequence = [coded(segment.mask.category)]
    item.SegmentedPropertyTypeCodeSequence = [coded(segment.mask.kind)]
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = draft.result.service
    item.SegmentationAlgorithmIdentificationSequence = [algorithm]
    if tracked := draft.tracked(segment):
        # The link between what the SR says and its voxels here.
        item.TrackingID, item.TrackingUID = tracked
    return item


def _describe_pixels(ds: Dataset, draft: Draft, frames: int) -> None:
    ds.Rows, ds.Columns, ds.NumberOfFrames = draft.result.rows, draft.result.columns, frames
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelRepresentation = 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, 1, 0
    if "LossyImageCompression" not in ds:
        ds.LossyImageCompression = "00"


def _describe_dimensions(ds: Dataset, draft: Draft, *, placed: bool) -> None:
    """Frames are ordered by segment, then along the stack (PS3.3 C.7.6.17)."""
    organization = Dataset()
    organization.DimensionOrganizationUID = uid("dimensions", draft.names.instance("SEG"))
    ds.DimensionOrganizationSequence = [organization]
    ds.DimensionIndexSequence = []
    for pointer, group, label in (
        (0x0062000B, 0x0062000A, "Referenced Segment Number"),
        (0x00200032, 0x00209113, "Image Position (Patient)"),
    )[: 2 if placed else 1]:
        index = Dataset()
        index.DimensionOrganizationUID = organization.DimensionOrganizationUID
        index.DimensionIndexPointer = pointer
        index.FunctionalGroupPointer = group
        index.DimensionDescriptionLabel = label
        ds.DimensionIndexSequence.append(index)


def _describe_frames(ds: Dataset, draft: Draft, frames: list[_Frame], *, placed: bool) -> None:
    """Say where each frame lies and what it was made from, for the whole object and for each frame."""
    sources = draft.sources
    used = {frame.image.sop_instance_uid: frame.image for frame in frames}
    references = [reference_item(image.sop_class_uid, image.sop_instance_uid) for image in used.values()]
    series = sequence(0x0008114A, *references) + text(0x0020000E, "UI", sources.series_instance_uid)
    put(ds, 0x00081115, [series])
    shared = b""
    if placed:
        ds.FrameOfReferenceUID = sources.frame_of_reference_uid
        ds.PositionReferenceIndicator = sources.position_reference_indicator
        planes = {_plane(image, sources.slice_thickness) for image in used.values()}
        shared = planes.pop() if len(planes) == 1 else b""
    else:
        ds.PatientOrientation = ""  # type 2C (PS3.3 C.7.6.1): required where no plane says how the patient lies
    put(ds, 0x52009229, [shared])
    items = []
    for frame in frames:
        position = plane = b""
        if placed:
            position = sequence(0x00209113, text(0x00200032, "DS", _decimals(frame.image.position)))
            plane = b"" if shared else _plane(frame.image, sources.slice_thickness)
        index = (frame.segment, frame.place + 1) if placed else (frame.segment,)
        items.append(_frame_item(frame, index, position + plane))
    put(ds, 0x52009230, items)


def _plane(image: Image, slice_thickness: float | None) -> bytes:
    """Encode the Plane Orientation and Pixel Measures functional groups."""
    thickness = text(0x00180050, "DS", format_number_as_ds(slice_thickness)) if slice_thickness else b""
    orientation = text(0x00200037, "DS", _decimals(image.orientation))
    measures = thickness + text(0x00280030, "DS", _decimals(image.spacing))
    return sequence(0x00209116, orientation) + sequence(0x00289110, measures)


def _frame_item(frame: _Frame, index: tuple[int, ...], place: bytes) -> bytes:
    """Encode the functional groups of one frame; `place` holds those of its position and plane."""
    source = (
        reference_item(frame.image.sop_class_uid, frame.image.sop_instance_uid)
        + text(0x0028135A, "CS", "YES")
        + sequence(0x0040A170, code_item(_SOURCE))
    )
    derivation = sequence(0x00082112, source) + sequence(0x00089215, code_item(_SEGMENTATION))
    return (
        sequence(0x00089124, derivation)
        + sequence(0x00209111, unsigned(0x00209157, "UL", *index))
        + place
        + sequence(0x0062000A, unsigned(0x0062000B, "US", frame.segment))
    )


def _decimals(values: tuple[float, ...]) -> str:
    return "\\".join(format_number_as_ds(value) for value in values)


def _pixels(draft: Draft, frames: list[_Frame]) -> bytes:
    """Pack the frames one after the other, without a gap between them (PS3.5 8.1.1)."""
    slices = [frame.bits for frame in frames]
    if draft.result.columns % 8 == 0:
        return b"".join(rows.tobytes() for rows in slices).translate(_REVERSED)
    bits = np.unpackbits(np.stack(slices), axis=-1, count=draft.result.columns)
    return np.packbits(bits, bitorder="little").tobytes()
