"""Only images that a scanner computed may leave; everything that may have been written on is held, with a reason."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    XRayAngiographicImageStorage,
)

from btt_bridge.deidentify import ScannerPixels, strip
from btt_bridge.errors import PixelTextError
from btt_bridge.testing import PlainPixels
from tests.deidentify.cases import KEY, PSEUDONYM, content_of, plain_ct

PLAIN = {
    "SOPClassUID": CTImageStorage, "Modality": "CT", "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"), "BitsAllocated": 16,
    "PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1, "BurnedInAnnotation": "", "ConversionType": "",
}  # fmt: skip


def test_a_scanner_image_is_plain() -> None:
    """CT, and MR by its own class and modality, are let through; so is one that says NO itself."""
    assert ScannerPixels().may_carry_text(PLAIN) == ""
    assert ScannerPixels().may_carry_text(PLAIN | {"SOPClassUID": MRImageStorage, "Modality": "MR"}) == ""
    assert ScannerPixels().may_carry_text(PLAIN | {"BurnedInAnnotation": "NO"}) == ""


@pytest.mark.parametrize(
    "changed",
    [
        {"SOPClassUID": UltrasoundImageStorage},
        {"SOPClassUID": XRayAngiographicImageStorage},
        {"SOPClassUID": ComputedRadiographyImageStorage},
        {"SOPClassUID": SecondaryCaptureImageStorage},
        {"SOPClassUID": EncapsulatedPDFStorage},
        {"SOPClassUID": "1.2.826.0.1.3680043.9.7777.99"},
        {"SOPClassUID": ""},
        {"Modality": "US"},
        {"Modality": "OT"},
        {"Modality": ""},
        {"BurnedInAnnotation": "YES"},
        {"BurnedInAnnotation": "yes"},
        {"ConversionType": "WSD"},
        {"ImageType": ("DERIVED", "SECONDARY")},
        {"ImageType": ("DERIVED", "PRIMARY", "SCREEN SAVE")},
        {"ImageType": ("DERIVED", "PRIMARY", "DOSE_INFO")},
        {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"BitsAllocated": 8},
        {"OverlayBitPosition": True},
    ],
)
def test_what_may_have_been_written_on_is_held(changed: dict[str, Any]) -> None:
    """Each sign that a picture was drawn, not computed, is a reason of its own, and names no value of the object."""
    reason = ScannerPixels().may_carry_text(PLAIN | changed)
    assert reason
    assert "7777" not in reason


def test_the_profile_asks_before_it_strips() -> None:
    """An object that is held raises with the reason; a detector of the hospital's own is asked instead of ours."""
    burned_in = content_of(plain_ct(BurnedInAnnotation="YES"))
    with pytest.raises(PixelTextError, match="Burned In Annotation"):
        strip(burned_in, KEY, PSEUDONYM)
    assert strip(burned_in, KEY, PSEUDONYM, PlainPixels()).content
    with pytest.raises(PixelTextError, match="because"):
        strip(content_of(plain_ct()), KEY, PSEUDONYM, PlainPixels("because"))


def test_an_overlay_in_unused_bits_is_found() -> None:
    """An overlay that is stored in the high bits of the pixels cannot be removed with its group, so it is held."""
    dataset = plain_ct()
    dataset.add_new(0x60020102, "US", 12)
    with pytest.raises(PixelTextError, match="overlay"):
        strip(content_of(dataset), KEY, PSEUDONYM)
