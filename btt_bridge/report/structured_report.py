"""The findings as a Comprehensive 3D SR after TID 1500, and what such an SR says, read back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage, CTImageStorage, SegmentationStorage
from pydicom.valuerep import format_number_as_ds

from btt_bridge import records
from btt_bridge.dicom import MANUFACTURER
from btt_bridge.errors import MalformedError
from btt_bridge.records import Code, Document, Finding
from btt_bridge.report.draft import Draft, coded, encoded
from btt_bridge.report.encoding import put, reference_item, sequence, text
from btt_bridge.report.names import Names

#: Corners of the outline of a finding: a circle to the eye. A polyline rather than a CIRCLE, because a circle in
#: the patient is none in an image whose pixels are not square, and because viewers draw polylines most reliably.
_CORNERS = 32
_DIAMETER = Code("81827009", "SCT", "Diameter")
_VOLUME = Code("118565006", "SCT", "Volume")
_CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
#: UCUM units that services measure in; the standard wants a meaning beside the symbol (CID 7181).
_UNITS = {
    "1": "no units", "%": "Percent", "mm": "millimeter", "mm2": "square millimeter", "mm3": "cubic millimeter",
    "cm": "centimeter", "cm2": "square centimeter", "cm3": "cubic centimeter", "ml": "milliliter",
    "mL": "milliliter", "l": "liter", "L": "liter", "g": "gram", "g/ml": "gram per milliliter",
    "[hnsf'U]": "Hounsfield unit",
}  # fmt: skip
_PROCEDURES = {
    "CT": codes.CID100.CTUnspecifiedBodyRegion,
    "MR": codes.CID100.MRIUnspecifiedBodyRegion,
    "PT": codes.CID100.PETUnspecifiedBodyRegion,
}

_Group = (
    PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
    | MeasurementsAndQualitativeEvaluations
)


def warm() -> None:
    """Have highdicom read its tables of the standard, which takes it 0.4 s, before anybody waits for a report."""
    ImageRegion("POINT", np.array([[0.0, 0.0]]), SourceImageForRegion(CTImageStorage, "2.25.1"))


def structured_report(draft: Draft, predecessors: Sequence[Names]) -> Document:
    """Write the SR; it names the SEG by its UID alone, so either may be written first."""
    ds = draft.dataset("SR", Comprehensive3DSRStorage)
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "UNVERIFIED"
    ds.PreliminaryFlag = "PRELIMINARY"
    ds.PerformedProcedureCodeSequence = []
    ds.ReferencedPerformedProcedureStepSequence = []
    if predecessors:
        put(ds, 0x0040A360, [_predecessor_item(names) for names in predecessors])
    _list_evidence(ds, draft)
    ds.update(_content(draft))
    return encoded("SR", ds)


def _list_evidence(ds: Dataset, draft: Draft) -> None:
    """List every image that was read, and the segmentation: what a correction would have to start from.

    A result that names no slices was made from the whole series.
    """
    images = draft.images or draft.sources.images.values()
    references = [reference_item(image.sop_class_uid, image.sop_instance_uid) for image in images]
    series = [_series_item(draft.sources.series_instance_uid, references)]
    if draft.segments:
        reference = reference_item(SegmentationStorage, draft.names.instance("SEG"))
        series.append(_series_item(draft.names.series("SEG"), [reference]))
    put(ds, 0x0040A375, [_study_item(draft.sources.study_instance_uid, series)])


def _predecessor_item(names: Names) -> bytes:
    reference = reference_item(Comprehensive3DSRStorage, names.instance("SR"))
    return _study_item(names.study_instance_uid, [_series_item(names.series("SR"), [reference])])


def _study_item(study_instance_uid: str, series: Sequence[bytes]) -> bytes:
    """Encode a hierarchical SOP instance reference (PS3.3 C.17.2.1)."""
    return sequence(0x00081115, *series) + text(0x0020000D, "UI", study_instance_uid)


def _series_item(series_instance_uid: str, references: Sequence[bytes]) -> bytes:
    return sequence(0x00081199, *references) + text(0x0020000E, "UI", series_instance_uid)


def _content(draft: Draft) -> Dataset:
    algorithm = AlgorithmIdentification(
        name=draft.result.service,
        version=draft.result.service_version,
        parameters=[
            f"model SHA-256 {draft.receipt.model_digest}",
            f"input SHA-256 {draft.receipt.input_digest}",
            f"device {draft.receipt.device}",
        ],
        family=codes.DCM.ArtificialIntelligence,
    )
    observer = DeviceObserverIdentifyingAttributes(
        uid=draft.device_uid,
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=draft.result.service,
        physical_location=draft.institution or None,
    )
    report = MeasurementReport(
        ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, observer)),
        _PROCEDURES.get(draft.sources.modality, codes.CID100.ImagingProcedure),
        [_summary(draft, algorithm), *(_finding(draft, finding, algorithm) for finding in draft.result.findings)],
    )
    content: Dataset = report[0]
    return content


def _summary(draft: Draft, algorithm: AlgorithmIdentification) -> _Group:
    """Group what was measured of the whole: of the organ, where there is a mask of it (TID 1411).

    It always says whether something was found, so that a report without findings cannot be taken for a lost one.
    """
    found = "AllAlgorithmsSucceededWithFindings" if draft.result.findings else "AllAlgorithmsSucceededWithoutFindings"
    common: dict[str, Any] = {
        "algorithm_id": algorithm,
        "measurements": [_measurement(*_parts(measured)) for measured in draft.result.measurements] or None,
        "qualitative_evaluations": [
            QualitativeEvaluation(codes.DCM.CADProcessingAndFindingsSummary, getattr(codes.DCM, found))
        ],
    }
    if not draft.organs:
        tracking = TrackingIdentifier(draft.names.tracking("result"), draft.result.service)
        return MeasurementsAndQualitativeEvaluations(tracking, **common)
    organ = draft.organs[0]
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(draft.names.tracking("organ", organ.name), organ.name),
        referenced_segment=ReferencedSegment(
            SegmentationStorage,
            draft.names.instance("SEG"),
            draft.segment_number(organ),
            source_series=SourceSeriesForSegmentation(draft.sources.series_instance_uid),
        ),
        finding_type=coded(organ.kind),
        **common,
    )


def _finding(draft: Draft, finding: Finding, algorithm: AlgorithmIdentification) -> _Group:
    """Group one finding (TID 1410): its outline on the slice where it is best seen, and its numbers.

    The template allows an outline or a segment, not both. Viewers draw outlines; the segment, where there is one,
    carries the same Tracking UID.
    """
    image = draft.image(finding.sop_instance_uid)
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(draft.tracking[finding.name], finding.name),
        referenced_region=ImageRegion(
            "POLYLINE",
            _outline(finding, image.spacing, draft.result.rows, draft.result.columns),
            SourceImageForRegion(image.sop_class_uid, image.sop_instance_uid),
        ),
        finding_type=coded(finding.kind),
        algorithm_id=algorithm,
        finding_sites=[FindingSite(coded(draft.site))] if draft.site else None,
        measurements=[
            _measurement(_DIAMETER, finding.diameter_mm, "mm"),
            _measurement(_VOLUME, finding.volume_mm3, "mm3"),
            _measurement(_CERTAINTY, finding.score * 100, "%"),
        ],
    )


def _outline(finding: Finding, spacing: tuple[float, ...], rows: int, columns: int) -> np.ndarray:
    """Return a closed polyline, (column, row) from the upper left corner of the image (PS3.3 C.10.5.1.2)."""
    down_mm, across_mm = spacing or (1.0, 1.0)
    angles = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    radius = finding.diameter_mm / 2
    row, column = finding.center_px
    # The center of the first pixel is at 0.5 here, and at 0 in an array.
    points = np.stack(
        [
            np.clip(column + 0.5 + np.cos(angles) * radius / across_mm, 0, columns),
            np.clip(row + 0.5 + np.sin(angles) * radius / down_mm, 0, rows),
        ],
        axis=1,
    )
    return np.concatenate([points, points[:1]])


def _parts(measured: records.Measurement) -> tuple[Code, float, str]:
    return measured.concept, measured.value, measured.unit


def _measurement(concept: Code, value: float, unit: str) -> Measurement:
    """Give a number as a person reads it, with the exact value beside it in Floating Point Value (0040,A161)."""
    measurement = Measurement(coded(concept), float(value), CodedConcept(unit, "UCUM", _UNITS.get(unit, unit)))
    measured = measurement[0].MeasuredValueSequence[0]
    measured.FloatingPointValue = float(value)
    measured.NumericValue = format_number_as_ds(round(value, 2) if abs(value) >= 0.1 else float(f"{value:.3g}"))
    return measurement


@dataclass(frozen=True, slots=True)
class ReportedFinding:
    """A finding as an SR tells it."""

    name: str
    tracking_uid: str
    kind: Code
    sop_instance_uid: str
    #: Centre of the outline as (row, column), in pixels as arrays count them.
    center_px: tuple[float, float]
    diameter_mm: float
    volume_mm3: float
    score: float


@dataclass(frozen=True, slots=True)
class Reported:
    """What an SR tells: the same, in the same words, as the result that it was written from."""

    findings: tuple[ReportedFinding, ...]
    measurements: tuple[records.Measurement, ...]
    preliminary: bool


def read_back(content: bytes) -> Reported:
    """Read an SR of ours; raise MalformedError for one that is not."""
    try:
        ds = dcmread(BytesIO(content))
        measured = _child(ds, "126010")
        groups = [child for child in measured.ContentSequence if _name(child).value == "125007"]
        findings = [_reported(group) for group in groups if _has(group, "111030")]
        return Reported(
            findings=tuple(findings),
            measurements=tuple(
                records.Measurement(_name(number), *_value(number))
                for group in groups
                if not _has(group, "111030")
                for number in group.ContentSequence
                if number.ValueType == "NUM"
            ),
            preliminary=ds.PreliminaryFlag == "PRELIMINARY" and ds.VerificationFlag == "UNVERIFIED",
        )
    except (InvalidDicomError, AttributeError, KeyError, IndexError, ValueError, StopIteration):
        raise MalformedError("this is not a measurement report of ours") from None


def _reported(group: Dataset) -> ReportedFinding:
    region = _child(group, "111030")
    corners = np.array(region.GraphicData).reshape(-1, 2)[:-1] - 0.5
    column, row = corners.mean(axis=0)
    kind = _child(group, "121071").ConceptCodeSequence[0]
    number = {_name(child).value: _value(child)[0] for child in group.ContentSequence if child.ValueType == "NUM"}
    return ReportedFinding(
        name=_child(group, "112039").TextValue,
        tracking_uid=str(_child(group, "112040").UID),
        kind=_code(kind),
        sop_instance_uid=str(region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID),
        center_px=(float(row), float(column)),
        diameter_mm=number[_DIAMETER.value],
        volume_mm3=number[_VOLUME.value],
        score=number[_CERTAINTY.value] / 100,
    )


def _children(parent: Dataset, code_value: str) -> Iterator[Dataset]:
    return (child for child in parent.ContentSequence if _name(child).value == code_value)


def _child(parent: Dataset, code_value: str) -> Dataset:
    return next(_children(parent, code_value))


def _has(parent: Dataset, code_value: str) -> bool:
    return any(_children(parent, code_value))


def _name(content: Dataset) -> Code:
    return _code(content.ConceptNameCodeSequence[0])


def _code(code: Dataset) -> Code:
    return Code(str(code.CodeValue), str(code.CodingSchemeDesignator), str(code.CodeMeaning))


def _value(number: Dataset) -> tuple[float, str]:
    measured = number.MeasuredValueSequence[0]
    exact = measured.get("FloatingPointValue", measured.NumericValue)
    return float(exact), str(measured.MeasurementUnitsCodeSequence[0].CodeValue)
