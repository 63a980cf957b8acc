"""From de-identified CT instances to one volume in Hounsfield units, or a clear refusal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, CTImageStorage, ExplicitVRBigEndian

from btt_bridge.errors import MalformedError

#: What the operators were made and checked for. Anything else is refused, not guessed at.
SLICES_MIN, SLICES_MAX = 16, 4096
PIXELS_MAX = 1024
PIXEL_MM_MIN, PIXEL_MM_MAX = 0.2, 2.0
SLICE_MM_MIN, SLICE_MM_MAX = 0.2, 5.0
COVERAGE_MM_MIN = 40.0
#: Cosine between the slices' normal and the long axis of the body: 20 degrees.
AXIAL_COSINE_MIN = 0.94
#: How unevenly slices may lie, as a part of their distance, and how far they may slip sideways.
UNEVEN_MAX = 0.1
SIDEWAYS_MM_MAX = 1.0
HU_MIN, HU_MAX = -1024, 3071

_WANTED = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ImageType",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelPaddingValue", "RescaleIntercept", "RescaleSlope", "PixelData",
]  # fmt: skip


@dataclass(frozen=True)
class Volume:
    """One CT series in spatial order, foot to head."""

    series_instance_uid: str
    sop_instance_uids: tuple[str, ...]
    #: Hounsfield units, (slices, rows, columns).
    hu: NDArray[np.int16]
    #: Between slices, between rows, between columns, millimetres.
    spacing_mm: tuple[float, float, float]
    #: Image Position (Patient) of each slice.
    positions: NDArray[np.float64]
    #: Unit vectors in which the column index and the row index grow (Image Orientation (Patient)).
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]

    def to_patient(self, index: float, row: float, column: float) -> tuple[float, float, float]:
        """Return the LPS position, in millimetres, of a point given in voxels (PS3.3 C.7.6.2.1.1)."""
        lower = min(int(index), len(self.positions) - 2)
        origin = self.positions[lower] + (index - lower) * (self.positions[lower + 1] - self.positions[lower])
        point = origin + self.along_column * (row * self.spacing_mm[1]) + self.along_row * (column * self.spacing_mm[2])
        return float(point[0]), float(point[1]), float(point[2])


def read(instances: Iterable[bytes | bytearray]) -> Volume:
    """Read one axial CT series; raise MalformedError that says what is not as it must be."""
    images = [image for content in instances if not _is_localizer(image := _parsed(content))]
    if not SLICES_MIN <= len(images) <= SLICES_MAX:
        raise MalformedError(f"a series of {SLICES_MIN} to {SLICES_MAX} axial slices is needed")
    first = images[0]
    for keyword in ("SeriesInstanceUID", "Rows", "Columns", "PixelSpacing", "FrameOfReferenceUID"):
        if any(image.get(keyword) != first.get(keyword) for image in images):
            raise MalformedError(f"{keyword} differs between the slices")
    along_row, along_column, normal = _axes(images)
    positions = np.array([_numbers(image, "ImagePositionPatient", 3) for image in images])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    spacing = (_slice_spacing(positions, normal), *_numbers(first, "PixelSpacing", 2))
    if not all(PIXEL_MM_MIN <= pixel <= PIXEL_MM_MAX for pixel in spacing[1:]):
        raise MalformedError("PixelSpacing is outside what this service was made for")
    return Volume(
        str(first.SeriesInstanceUID),
        tuple(str(images[i].SOPInstanceUID) for i in order),
        _decoded([images[i] for i in order]),
        (float(spacing[0]), float(spacing[1]), float(spacing[2])),
        positions,
        along_row,
        along_column,
    )


def _parsed(content: bytes | bytearray) -> Dataset:
    try:
        image = dcmread(io.BytesIO(content), specific_tags=_WANTED)
        image_class = image.SOPClassUID
    except Exception:
        raise MalformedError("an instance cannot be read") from None
    if image_class != CTImageStorage:
        raise MalformedError("every instance must be of the CT Image SOP class")
    missing = [word for word in ("SOPInstanceUID", "SeriesInstanceUID", "PixelData") if not image.get(word)]
    if missing:
        raise MalformedError(f"{missing[0]} has no value")
    return image


def _is_localizer(image: Dataset) -> bool:
    return "LOCALIZER" in image.get("ImageType", [])


def _numbers(image: Dataset, keyword: str, count: int) -> list[float]:
    try:
        values = [float(value) for value in image[keyword].value]
    except (KeyError, TypeError, ValueError):
        raise MalformedError(f"{keyword} cannot be read") from None
    if len(values) != count or not np.all(np.isfinite(values)):
        raise MalformedError(f"{keyword} must have {count} numbers")
    return values


def _axes(images: Sequence[Dataset]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    orientations = np.array([_numbers(image, "ImageOrientationPatient", 6) for image in images])
    if np.abs(orientations - orientations[0]).max() > 1e-3:
        raise MalformedError("ImageOrientationPatient differs between the slices")
    along_row, along_column = orientations[0, :3], orientations[0, 3:]
    lengths = np.array([np.linalg.norm(along_row), np.linalg.norm(along_column)])
    if np.abs(lengths - 1).max() > 1e-2 or abs(along_row @ along_column) > 1e-2:
        raise MalformedError("ImageOrientationPatient is not two unit vectors at a right angle")
    normal = np.cross(along_row, along_column)
    if abs(normal[2]) < AXIAL_COSINE_MIN:
        raise MalformedError("the slices are not axial")
    # Foot to head, whichever way the rows run.
    return along_row, along_column, normal if normal[2] > 0 else -normal


def _slice_spacing(positions: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    steps = np.diff(positions, axis=0)
    distances = steps @ normal
    spacing = float(np.median(distances))
    if distances.min() < 1e-3:
        raise MalformedError("two slices lie at the same position")
    if not SLICE_MM_MIN <= spacing <= SLICE_MM_MAX or distances.sum() < COVERAGE_MM_MIN:
        raise MalformedError("slice distance or coverage is outside what this service was made for")
    if np.abs(distances - spacing).max() > UNEVEN_MAX * spacing:
        raise MalformedError("the slices are not evenly spaced, or some are missing")
    if np.linalg.norm(steps - np.outer(distances, normal), axis=1).max() > SIDEWAYS_MM_MAX:
        raise MalformedError("the slices are not stacked at a right angle (tilted gantry)")
    return spacing


def _decoded(images: Sequence[Dataset]) -> NDArray[np.int16]:
    rows, columns = int(images[0].get("Rows") or 0), int(images[0].get("Columns") or 0)
    if not (64 <= rows <= PIXELS_MAX and 64 <= columns <= PIXELS_MAX):
        raise MalformedError(f"Rows and Columns must be 64 to {PIXELS_MAX}")
    volume = np.empty((len(images), rows, columns), np.int16)
    for index, image in enumerate(images):
        _check_pixel_description(image)
        try:
            stored = _stored_values(image, rows, columns)
        except Exception:
            raise MalformedError("the pixels of an instance cannot be decoded") from None
        volume[index] = _hounsfield(image, stored)
    return volume


def _check_pixel_description(image: Dataset) -> None:
    bits = image.get("BitsStored")
    expected: dict[str, Any] = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "HighBit": bits - 1 if isinstance(bits, int) else None,
    }
    for keyword, value in expected.items():
        if image.get(keyword) != value:
            raise MalformedError(f"{keyword} is not that of a CT image")
    if (
        not 8 <= bits <= 16
        or image.get("PixelRepresentation") not in (0, 1)
        or int(image.get("NumberOfFrames") or 1) != 1
    ):
        raise MalformedError("BitsStored, PixelRepresentation or NumberOfFrames is not that of a CT image")


def _stored_values(image: Dataset, rows: int, columns: int) -> NDArray[Any]:
    syntax: UID = image.file_meta.TransferSyntaxUID
    signed = image.PixelRepresentation == 1
    if syntax.is_encapsulated or syntax == ExplicitVRBigEndian:
        stored = get_decoder(syntax).as_array(image, raw=True)[0]
        return np.asarray(stored).reshape(rows, columns)
    values = np.frombuffer(image.PixelData, "<i2" if signed else "<u2", count=rows * columns).reshape(rows, columns)
    unused = 16 - int(image.BitsStored)
    # Bits above BitsStored may hold anything (PS3.5 8.1.1); shifting there and back clears them and keeps the sign.
    return (values << unused) >> unused if unused else values


def _hounsfield(image: Dataset, stored: NDArray[Any]) -> NDArray[np.int16]:
    try:
        slope, intercept = float(image.RescaleSlope), float(image.RescaleIntercept)
    except (AttributeError, TypeError, ValueError):
        raise MalformedError("RescaleSlope or RescaleIntercept cannot be read") from None
    if not (np.isfinite([slope, intercept]).all() and 0 < slope <= 100 and abs(intercept) <= 1e5):
        raise MalformedError("RescaleSlope or RescaleIntercept is not that of a CT image")
    units: NDArray[np.float32] = stored * np.float32(slope) + np.float32(intercept)
    padding = image.get("PixelPaddingValue")
    if isinstance(padding, int):
        units[stored == padding] = HU_MIN
    return np.clip(np.rint(units), HU_MIN, HU_MAX).astype(np.int16)
