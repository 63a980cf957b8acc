"""Reading a series: what is right becomes Hounsfield units in place; what is not is refused, never guessed at."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from btt_bridge.errors import MalformedError
from btt_bridge.infer.benchmark import SIZE, SLICE_MM, SLICES, tiny_chest
from btt_bridge.infer.ct_lung.series import read

Edit = Callable[[int, Dataset], object]


@pytest.fixture(scope="module")
def chest() -> list[bytes]:
    return tiny_chest()


def edited(chest: list[bytes], edit: Edit) -> list[bytes]:
    """Return the series with `edit(index, image)` done to every slice; False drops the slice."""
    out = []
    for index, content in enumerate(chest):
        image = pydicom.dcmread(io.BytesIO(content))
        if edit(index, image) is False:
            continue
        file = io.BytesIO()
        image.save_as(file, enforce_file_format=True)
        out.append(file.getvalue())
    return out


def test_slices_are_ordered_from_foot_to_head(chest: list[bytes]) -> None:
    """The order of arrival plays no part, and positions come out as they stand in the images."""
    straight, shuffled = read(chest), read(chest[::-1][1::2] + chest[::-1][::2])
    assert straight.sop_instance_uids == shuffled.sop_instance_uids
    assert np.array_equal(straight.hu, shuffled.hu)
    assert straight.spacing_mm == (SLICE_MM, 2.0, 2.0)
    assert straight.to_patient(0, 0, 0) == (-SIZE, -SIZE, -(SLICES - 1) / 2 * SLICE_MM)
    assert straight.to_patient(SLICES - 1, 3, 5)[:2] == (-SIZE + 10, -SIZE + 6)
    assert straight.to_patient(SLICES - 1, 0, 0)[2] == (SLICES - 1) / 2 * SLICE_MM
    assert straight.hu.min() == -1000
    assert straight.hu[SLICES // 2, SIZE // 2, SIZE // 2] == 40


def test_a_patient_lying_the_other_way_keeps_head_and_foot(chest: list[bytes]) -> None:
    """With rows that run the other way the normal turns, and slices still come foot to head."""

    def turn(_: int, image: Dataset) -> None:
        image.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]

    volume = read(edited(chest, turn))
    assert volume.positions[0][2] < volume.positions[-1][2]


@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless])
def test_compressed_slices_give_the_same_values(chest: list[bytes], syntax: str) -> None:
    """Lossless compression changes nothing."""

    def compress(_: int, image: Dataset) -> None:
        image.compress(syntax, generate_instance_uid=False)

    assert np.array_equal(read(edited(chest, compress)).hu, read(chest).hu)


def test_real_jpeg_lossless_decodes(test_data: Path) -> None:
    """A real scanner's JPEG Lossless series reads as one volume with air, lung and bone in it."""
    files = sorted((test_data / "ct_chest").glob("*.dcm"))[:40]
    volume = read([path.read_bytes() for path in files])
    assert volume.hu.shape == (40, 512, 512)
    assert volume.spacing_mm == pytest.approx((1.25, 0.703125, 0.703125))
    assert (volume.hu == -1024).any()
    assert (volume.hu > 300).any()


def test_bits_above_those_stored_are_ignored(chest: list[bytes]) -> None:
    """With 12 bits stored, signed or not, what stands above them changes nothing (PS3.5 8.1.1)."""

    def narrow(signed: bool) -> Edit:
        def edit(_: int, image: Dataset) -> None:
            image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, int(signed)
            stored = np.frombuffer(image.PixelData, "<u2").astype(int) - (1024 if signed else 0)
            image.RescaleIntercept = 0 if signed else -1024
            image.PixelData = ((stored & 0x0FFF) | 0xA000).astype("<u2").tobytes()

        return edit

    assert np.array_equal(read(edited(chest, narrow(False))).hu, read(chest).hu)
    assert np.array_equal(read(edited(chest, narrow(True))).hu, read(chest).hu)


def test_padding_counts_as_air(chest: list[bytes]) -> None:
    """What lies outside the field of view is not tissue of some odd density."""

    def pad(_: int, image: Dataset) -> None:
        image.add_new("PixelPaddingValue", "US", 40 + 1024)

    assert read(edited(chest, pad)).hu[SLICES // 2, SIZE // 2, SIZE // 2] == -1024


def test_a_localizer_in_the_series_is_left_out(chest: list[bytes]) -> None:
    """A scout image travels with many series and is none of their slices."""

    def scout(index: int, image: Dataset) -> None:
        if index == 0:
            image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            image.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    assert len(read(edited(chest, scout)).sop_instance_uids) == SLICES - 1


def setting(keyword: str, value: object, only: int | None = None) -> Edit:
    def edit(index: int, image: Dataset) -> None:
        if only is None or index == only:
            setattr(image, keyword, value)

    return edit


def deleting(keyword: str) -> Edit:
    return lambda _, image: image.__delattr__(keyword)


def moving(index: int, x: float = 0, z: float = 0) -> Edit:
    def edit(at: int, image: Dataset) -> None:
        if at == index:
            image.ImagePositionPatient = [image.ImagePositionPatient[0] + x, image.ImagePositionPatient[1],
                                          image.ImagePositionPatient[2] + z]  # fmt: skip

    return edit


def tilted(index: int, image: Dataset) -> None:
    image.ImagePositionPatient = [-160, -160 + 1.2 * index, image.ImagePositionPatient[2]]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (setting("SeriesInstanceUID", "2.25.9", only=3), "SeriesInstanceUID differs"),
        (setting("FrameOfReferenceUID", "2.25.9", only=3), "FrameOfReferenceUID differs"),
        (setting("PixelSpacing", [2, 1], only=3), "PixelSpacing differs"),
        (setting("PixelSpacing", [9, 9]), "PixelSpacing"),
        (setting("PixelSpacing", None), "PixelSpacing"),
        (setting("Rows", SIZE - 1, only=3), "Rows differs"),
        (setting("Rows", 65535), "Rows and Columns"),
        (setting("Rows", 1000), "cannot be decoded"),
        (setting("ImageOrientationPatient", [1, 0, 0, 0, 0.9, 0.44], only=3), "ImageOrientationPatient differs"),
        (setting("ImageOrientationPatient", [1, 0, 0, 0, 0, -1]), "not axial"),
        (setting("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "right angle"),
        (setting("ImageOrientationPatient", [2, 0, 0, 0, 2, 0]), "right angle"),
        (setting("ImageOrientationPatient", [1, 0, 0]), "6 numbers"),
        (deleting("ImagePositionPatient"), "ImagePositionPatient"),
        (moving(5, z=SLICE_MM), "same position"),
        (moving(5, z=SLICE_MM / 2), "evenly spaced"),
        (moving(5, x=4), "right angle"),
        (tilted, "right angle"),
        (lambda index, _: index != 20, "missing"),
        (lambda index, _: index < 10, "16 to"),
        (lambda index, _: index < 16, "coverage"),
        (setting("SOPClassUID", "1.2.840.10008.5.1.4.1.1.4"), "CT Image"),
        (deleting("SOPInstanceUID"), "SOPInstanceUID"),
        (deleting("PixelData"), "PixelData"),
        (setting("BitsAllocated", 8, only=3), "BitsAllocated"),
        (setting("SamplesPerPixel", 3, only=3), "SamplesPerPixel"),
        (setting("PhotometricInterpretation", "MONOCHROME1", only=3), "PhotometricInterpretation"),
        (setting("HighBit", 11, only=3), "HighBit"),
        (setting("BitsStored", 17, only=3), "HighBit"),
        (setting("NumberOfFrames", 2, only=3), "NumberOfFrames"),
        (setting("RescaleSlope", 0, only=3), "RescaleSlope"),
        (setting("RescaleIntercept", 1e9, only=3), "RescaleIntercept"),
        (deleting("RescaleSlope"), "RescaleSlope"),
        (setting("PixelData", b"\0\0", only=3), "cannot be decoded"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_not_as_it_must_be_is_refused(chest: list[bytes], edit: Edit, reason: str) -> None:
    """Each way in which a series can mislead is named in the refusal, without a value from it."""
    with pytest.raises(MalformedError, match=reason):
        read(edited(chest, edit))


@pytest.mark.parametrize(
    "content", [b"", b"not DICOM at all", bytes(128) + b"DICM", bytes(128) + b"DICM" + b"\xff" * 64]
)
def test_what_is_no_dicom_is_refused(chest: list[bytes], content: bytes) -> None:
    """One unreadable file refuses the series; it does not crash."""
    with pytest.raises(MalformedError):
        read([*chest[:40], content])


def test_the_tiny_chest_is_native(chest: list[bytes]) -> None:
    """The benchmark measures the model, not a codec."""
    assert pydicom.dcmread(io.BytesIO(chest[0])).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
