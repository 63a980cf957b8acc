"""What all objects of one report share: identity, equipment, names and time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from io import BytesIO

from highdicom.sr import CodedConcept
from pydicom import Dataset, FileDataset, FileMetaDataset, dcmwrite
from pydicom.charset import convert_encodings
from pydicom.uid import UID, ExplicitVRLittleEndian

from btt_bridge import __version__
from btt_bridge.dicom import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MANUFACTURER
from btt_bridge.errors import UnmappedIdentityError
from btt_bridge.records import Code, Document, Mask, Receipt, Result
from btt_bridge.report.names import Names, uid
from btt_bridge.report.segments import Segment, segments
from btt_bridge.report.sources import Image, Sources

#: The Series Number of revision 0 by kind: far above what scanners count, so that a viewer lists ours last.
_SERIES_NUMBERS = {"SR": 9000, "SEG": 9300, "SC": 9600}
_SERIES_DESCRIPTIONS = {"SR": "report", "SEG": "segmentation", "SC": "pictures"}
_MODALITIES = {"SR": "SR", "SEG": "SEG", "SC": "OT"}
#: SNOMED CT's anatomical structure, as a Segmented Property Category (CID 7150), in both of its codes.
_ANATOMY = frozenset({("SCT", "123037004"), ("SCT", "91723000")})


@dataclass(frozen=True)
class Draft:
    """One result on its way to becoming SR, SEG and SC."""

    result: Result
    receipt: Receipt
    sources: Sources
    names: Names
    #: In the time zone of the study.
    now: datetime
    institution: str

    @cached_property
    def images(self) -> tuple[Image, ...]:
        """The slices of the result as they are in the series, in the order of the result."""
        return tuple(self.image(sop_instance_uid) for sop_instance_uid in self.result.slices)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """What the SEG consists of; their order is their numbers, which start at 1."""
        return tuple(segments(self.result.masks, self.result.findings, self.images))

    @cached_property
    def organs(self) -> tuple[Mask, ...]:
        """The masks of anatomy: what was measured, as opposed to what was found in it."""
        return tuple(segment.mask for segment in self.segments if _is_organ(segment.mask))

    def segment_number(self, mask: Mask) -> int:
        """Return the Segment Number of an organ."""
        return next(number for number, segment in enumerate(self.segments, 1) if segment.mask is mask)

    @property
    def site(self) -> Code | None:
        """Where the findings are, when the result leaves no doubt."""
        return self.organs[0].kind if len(self.organs) == 1 else None

    @cached_property
    def tracking(self) -> dict[str, str]:
        """Tracking UID by name of finding.

        A finding is the same finding as long as it lies at the same place to the millimeter, whatever its rank.
        """
        uids: dict[str, str] = {}
        taken: set[str] = set()
        for finding in self.result.findings:
            place = (finding.kind.scheme, finding.kind.value, *(round(mm) for mm in finding.center_mm))
            nth = 0
            while (found := self.names.tracking("finding", *place, nth)) in taken:
                nth += 1
            taken.add(found)
            uids[finding.name] = found
        return uids

    def tracked(self, segment: Segment) -> tuple[str, str] | None:
        """Return what a segment is tracked by: name and UID of its finding, or of its organ."""
        if segment.finding:
            return segment.label, self.tracking[segment.finding.name]
        return (segment.label, self.names.tracking("organ", segment.label)) if _is_organ(segment.mask) else None

    def image(self, sop_instance_uid: str) -> Image:
        """Return a source image; one that is not in the series is not of this patient, for all we know."""
        try:
            return self.sources.images[sop_instance_uid]
        except KeyError:
            raise UnmappedIdentityError("the result refers to an image that is not in the series") from None

    @property
    def device_uid(self) -> str:
        """Who observes, in the SR: this bridge."""
        return uid("device", self.institution)

    def dataset(self, kind: str, sop_class_uid: UID, number: int = 1) -> FileDataset:
        """Begin an object: patient, study, series, equipment and SOP common modules."""
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = sop_class_uid
        meta.MediaStorageSOPInstanceUID = UID(self.names.instance(kind, number))
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
        meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        ds.SpecificCharacterSet = "ISO_IR 192"
        # Said of a data set that was read, this lets raw elements through as they are (see encoding.py).
        ds.set_original_encoding(False, True, convert_encodings("ISO_IR 192"))
        ds.update(self.sources.common)
        ds.SOPClassUID = sop_class_uid
        ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        ds.SeriesInstanceUID = self.names.series(kind)
        ds.SeriesNumber = _SERIES_NUMBERS[kind] + self.names.revision
        ds.SeriesDescription = f"{self.result.service}: AI {_SERIES_DESCRIPTIONS[kind]}, preliminary"[:64]
        ds.Modality = _MODALITIES[kind]
        ds.InstanceNumber = number
        for moment in ("InstanceCreation", "Series", "Content"):
            setattr(ds, f"{moment}Date", f"{self.now:%Y%m%d}")
            setattr(ds, f"{moment}Time", f"{self.now:%H%M%S.%f}")
        if self.sources.time_zone:
            ds.TimezoneOffsetFromUTC = f"{self.now:%z}"
        ds.Manufacturer = MANUFACTURER
        ds.ManufacturerModelName = self.result.service
        ds.DeviceSerialNumber = self.device_uid
        ds.SoftwareVersions = [f"{MANUFACTURER} {__version__}", self.result.service_version]
        if self.institution:
            ds.InstitutionName = self.institution
        if schemes := self._private_schemes():
            ds.CodingSchemeIdentificationSequence = schemes
        return ds

    def _private_schemes(self) -> list[Dataset]:
        """Say whose the private coding schemes are (PS3.3 C.12.1.1.1); their designators begin with 99."""
        concepts = (
            *(measured.concept for measured in self.result.measurements),
            *(finding.kind for finding in self.result.findings),
            *(code for mask in self.result.masks for code in (mask.category, mask.kind)),
        )
        items = []
        for designator in sorted({concept.scheme for concept in concepts if concept.scheme.startswith("99")}):
            item = Dataset()
            item.CodingSchemeDesignator = designator
            item.CodingSchemeName = f"Codes of the service {self.result.service}"[:64]
            items.append(item)
        return items

    def image_dataset(self, kind: str, sop_class_uid: UID, number: int = 1) -> FileDataset:
        """Begin an object that is an image: what the modules of images ask for besides."""
        ds = self.dataset(kind, sop_class_uid, number)
        ds.update(self.sources.lossy)
        if self.sources.body_part_examined:
            ds.BodyPartExamined = self.sources.body_part_examined
        return ds


def _is_organ(mask: Mask) -> bool:
    return (mask.category.scheme, mask.category.value) in _ANATOMY


def coded(code: Code) -> CodedConcept:
    """Return a code as the item of a code sequence (PS3.3 8.8)."""
    return CodedConcept(code.value, code.scheme, code.meaning[:64])


def put_pixels(ds: Dataset, content: bytes) -> None:
    """Put native pixels of at most 8 bits into a data set, padded to even length."""
    ds.add_new(0x7FE00010, "OB", content + b"\0" * (len(content) % 2))


def encoded(kind: str, ds: Dataset) -> Document:
    """Write an object as a Part 10 file."""
    stream = BytesIO()
    dcmwrite(stream, ds, enforce_file_format=True)
    return Document(str(ds.SOPInstanceUID), str(ds.SOPClassUID), kind, stream.getvalue())
