"""What a report needs of the images it is about: read while the node works, without their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from pydicom import Dataset, config, dcmread
from pydicom.charset import decode_bytes, python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.errors import InvalidDicomError
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS, validate_value

from btt_bridge.errors import MalformedError, UnknownError
from btt_bridge.records import Study

#: Who it is about and which examination: copied as they are, for an archive files and matches by them.
IDENTITY = (
    "PatientName", "PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyInstanceUID", "StudyID",
)  # fmt: skip
#: Further attributes of patient and study: copied where their values are valid, for an object with an invalid
#: value is refused by some archives, and left out (or empty, for type 2) where they are not.
DESCRIPTION = (
    "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize", "PatientWeight",
    "StudyDate", "StudyTime", "StudyDescription", "ReferringPhysicianName",
)  # fmt: skip
#: Type 2 in the Patient and General Study modules: present even when nothing is known.
TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName", "StudyID",
)  # fmt: skip
_ONCE = (
    "SpecificCharacterSet", *IDENTITY, *DESCRIPTION, "TimezoneOffsetFromUTC", "Modality", "SeriesInstanceUID",
    "FrameOfReferenceUID", "PositionReferenceIndicator", "BodyPartExamined", "SliceThickness", "WindowCenter",
    "WindowWidth", "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
_EACH = (
    "SOPClassUID", "SOPInstanceUID", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing",
)  # fmt: skip
_SEXES = ("M", "F", "O")


@dataclass(frozen=True, slots=True)
class Image:
    """One source image: what it is, where its plane lies, and where its file lies."""

    sop_class_uid: str
    sop_instance_uid: str
    path: Path
    #: Image Position (Patient), Image Orientation (Patient) and Pixel Spacing; empty where the image has none.
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]

    @property
    def placed(self) -> bool:
        """Whether its pixels have a place in the patient."""
        return bool(self.position and self.orientation and self.spacing)


@dataclass(frozen=True, slots=True)
class Sources:
    """A series as the report's objects copy from it and refer to it."""

    series_instance_uid: str
    modality: str
    #: Attributes of patient and study in Unicode, ready to be copied into each object.
    common: Dataset
    images: Mapping[str, Image]
    frame_of_reference_uid: str
    position_reference_indicator: str
    body_part_examined: str
    slice_thickness: float | None
    #: The first Window Center and Width, or empty.
    window: tuple[float, ...]
    #: Lossy Image Compression and what belongs to it, or empty where the images never were lossy.
    lossy: Dataset
    #: What the source's times mean; None where it does not say.
    time_zone: timezone | None

    def local(self, moment: datetime) -> datetime:
        """Return a moment in the time zone in which the study's own times are written."""
        return moment.astimezone(self.time_zone)

    @property
    def study_instance_uid(self) -> str:
        return str(self.common.StudyInstanceUID)


def read(study: Study, series_instance_uid: str, spool_dir: Path) -> Sources:
    """Read the headers of one series; raise UnknownError where the study has no such series.

    Raises MalformedError where an image cannot be read any more or is not an image.
    """
    found = [series.instances for series in study.series if series.series_instance_uid == series_instance_uid]
    if not found or not found[0]:
        raise UnknownError("the study has no such series")
    paths = [spool_dir / instance.arrival.path for instance in found[0]]
    try:
        first = dcmread(paths[0], stop_before_pixels=True, specific_tags=list(_ONCE))
        images = [_image(path) for path in paths]
    except (InvalidDicomError, OSError, ValueError, AttributeError, KeyError):
        raise MalformedError("a source image cannot be read") from None
    text = _Text(first)
    window = tuple(numbers[0] for numbers in (text.numbers("WindowCenter"), text.numbers("WindowWidth")) if numbers)
    return Sources(
        series_instance_uid=series_instance_uid,
        modality=text["Modality"],
        common=_common(text),
        images={image.sop_instance_uid: image for image in images},
        frame_of_reference_uid=text["FrameOfReferenceUID"],
        position_reference_indicator=text.valid("PositionReferenceIndicator"),
        body_part_examined=text.valid("BodyPartExamined"),
        slice_thickness=next(iter(text.numbers("SliceThickness")), None),
        window=window if len(window) == 2 and window[1] > 0 else (),
        lossy=_lossy(text),
        time_zone=_time_zone(text["TimezoneOffsetFromUTC"]),
    )


class _Text:
    """Attributes as text, decoded leniently: what one device wrote wrongly must not cost a patient the report.

    Values are decoded from their bytes, not through pydicom, which warns about each invalid value and quotes it.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        declared = dataset.get("SpecificCharacterSet", None) or ""
        terms = [declared] if isinstance(declared, str) else list(declared)
        self._encodings = [python_encoding[term] for term in terms if term in python_encoding]

    def __getitem__(self, keyword: str) -> str:
        value = raw(self._dataset, keyword)
        delimiters = PN_DELIMS if _vr(keyword) == "PN" else TEXT_VR_DELIMS
        return self._decoded(value, delimiters).strip(" \0")

    def valid(self, keyword: str) -> str:
        """Return the value, or "" where it is not one that its VR allows."""
        value = self[keyword]
        return value if value and is_valid(_vr(keyword), value) else ""

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Return the numbers of a decimal string, or none."""
        return numbers(self._dataset, keyword)

    def _decoded(self, value: bytes, delimiters: set[int]) -> str:
        try:
            if self._encodings and b"\x1b" in value:
                return decode_bytes(value, self._encodings, delimiters)
            # A value beyond ASCII without a character set is illegal and common; what decodes as UTF-8 is UTF-8.
            undeclared = not self._encodings or self._encodings[0] == "iso8859"
            return value.decode("utf-8" if undeclared else self._encodings[0])
        except UnicodeError:
            return value.decode("iso8859-1")


def raw(dataset: Dataset, keyword: str) -> bytes:
    """Return the bytes of a value as they stand in the file."""
    element = dataset.get_item(_tag(keyword)) if _tag(keyword) in dataset else None
    value = element.value if element is not None else b""
    return value if isinstance(value, bytes) else str(value or "").encode()


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """Return the numbers of a decimal string of any length, or none where one of them is not a number."""
    try:
        return tuple(float(part) for part in raw(dataset, keyword).split(b"\\") if part.strip(b" \0"))
    except ValueError:
        return ()


def is_valid(vr: str, value: str) -> bool:
    """Say whether the standard allows this value for this VR in a data set (queries may hold ranges)."""
    try:
        validate_value(vr, value, config.RAISE)
    except ValueError:
        return False
    return not (vr in ("DA", "TM") and "-" in value)


def _image(path: Path) -> Image:
    header = dcmread(path, stop_before_pixels=True, specific_tags=list(_EACH))
    return Image(
        sop_class_uid=str(header.SOPClassUID),
        sop_instance_uid=str(header.SOPInstanceUID),
        path=path,
        position=_exactly(3, numbers(header, "ImagePositionPatient")),
        orientation=_exactly(6, numbers(header, "ImageOrientationPatient")),
        spacing=_exactly(2, numbers(header, "PixelSpacing")),
    )


def _exactly(count: int, values: Sequence[float]) -> tuple[float, ...]:
    return tuple(values) if len(values) == count else ()


def _common(text: _Text) -> Dataset:
    common = Dataset()
    for keyword in (*IDENTITY, *DESCRIPTION):
        value = text[keyword] if keyword in IDENTITY else text.valid(keyword)
        if keyword == "PatientSex" and value not in _SEXES:
            value = ""
        if value or keyword in TYPE_2:
            common.add(DataElement(_tag(keyword), _vr(keyword), value, validation_mode=config.IGNORE))
    return common


def _lossy(text: _Text) -> Dataset:
    lossy = Dataset()
    if text["LossyImageCompression"] == "01":
        lossy.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if value := text[keyword]:
                lossy.add(DataElement(_tag(keyword), _vr(keyword), value, validation_mode=config.IGNORE))
    return lossy


def _time_zone(offset: str) -> timezone | None:
    """Read Timezone Offset From UTC (0008,0201), as +0800."""
    if not (len(offset) == 5 and offset[0] in "+-" and offset[1:].isdecimal()):
        return None
    distance = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
    if distance >= timedelta(days=1):
        return None
    return timezone(-distance if offset[0] == "-" else distance) if distance else UTC


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return tag


def _vr(keyword: str) -> str:
    return dictionary_VR(_tag(keyword))
