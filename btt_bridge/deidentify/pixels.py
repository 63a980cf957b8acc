"""Which pixels may leave: only those of images that a scanner computed, and that nobody can have written on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom._uid_dict import UID_dictionary

from btt_bridge.deidentify import table

_MODALITIES = frozenset({"CT", "MR", "PT"})
_CAPTURES = ("SCREEN", "CAPTURE", "SAVE", "DOSE", "REPORT", "SNAPSHOT", "PRINT", "SECONDARY")


@dataclass(frozen=True, slots=True)
class ScannerPixels:
    """The default pixel text detector: it reads no pixels, and trusts only what cannot carry text.

    CT, MR and PET images are reconstructed from signals, sixteen bits and gray; text gets into such an object
    only when something draws a picture and calls it one. What that leaves behind is looked for. Projection
    X-ray, ultrasound, angiography and photographs carry text as a matter of course, and are held.
    """

    def may_carry_text(self, keywords: Mapping[str, Any]) -> str:
        return next((reason for reason in _reasons(keywords) if reason), "")


def _reasons(keywords: Mapping[str, Any]) -> tuple[str, ...]:
    sop_class_uid = keywords.get("SOPClassUID", "")
    modality = keywords.get("Modality", "")
    image_type = _values(keywords.get("ImageType"))
    return (
        "" if sop_class_uid in table.sop_classes() else f"{_name(sop_class_uid)} may carry text in its pixels",
        "" if modality in _MODALITIES else "the modality is none whose pixels are known to be plain",
        "" if keywords.get("BurnedInAnnotation", "") in ("", "NO") else "Burned In Annotation (0028,0301) is not NO",
        "Conversion Type (0008,0064) says it was converted" if keywords.get("ConversionType") else "",
        "Image Type (0008,0008) says it is a secondary image or a capture"
        if any(mark in term.upper() for term in image_type for mark in _CAPTURES)
        else "",
        ""
        if keywords.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
        and keywords.get("SamplesPerPixel") == 1
        else "a color image is a drawing, not a reconstruction",
        "eight bits a pixel are a drawing, not a reconstruction" if keywords.get("BitsAllocated") == 8 else "",
        "an overlay lies in unused bits of the pixels" if keywords.get("OverlayBitPosition") else "",
    )


def _values(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _name(sop_class_uid: str) -> str:
    return UID_dictionary[sop_class_uid][0] if sop_class_uid in UID_dictionary else "an object of unknown SOP class"
