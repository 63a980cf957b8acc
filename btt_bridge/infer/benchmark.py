"""How fast this node is, measured by a real service on a tiny made-up chest, and kept while service and device stay."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from btt_bridge import plugins
from btt_bridge.infer.hardware import set_threads

SLICES, SIZE = 60, 160
SLICE_MM, PIXEL_MM = 2.5, 2.0
_UID = "2.25.1"
Array = NDArray[Any]


def measure(name: str, device: str, threads: int) -> int:
    """Return the model operations a second of one service; the first run warms up and does not count."""
    service = plugins.service(name)
    set_threads(device, threads)
    chest = tiny_chest()
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        service.run(chest, device, {})
        seconds = time.perf_counter() - started
    return int(service.operations(SLICES * SIZE * SIZE) / max(seconds, 1e-6))


def remembered(path: Path, key: str) -> int | None:
    """Return what was measured before for this model on this device, or None."""
    known = _kept(path).get(key)
    return known if type(known) is int else None


def remember(path: Path, key: str, benchmark: int) -> None:
    """Keep a measurement beside the others."""
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(_kept(path) | {key: benchmark}), encoding="utf-8")
    os.replace(draft, path)


def _kept(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def tiny_chest() -> list[bytes]:
    """Return CT slices of a body with two lungs, a vessel and a nodule in each: enough for a service to say yes."""
    across = (np.arange(SIZE) - SIZE / 2 + 0.5) * PIXEL_MM
    x, y = across[None, :], across[:, None]
    return [_slice(index, x, y) for index in range(SLICES)]


def _slice(index: int, x: Array, y: Array) -> bytes:
    z = (index - SLICES / 2 + 0.5) * SLICE_MM
    hu = np.where((x / 145) ** 2 + (y / 105) ** 2 < 1, 40, -1000)
    for side in (-1, 1):
        hu = np.where(((x - 65 * side) / 48) ** 2 + (y / 70) ** 2 + (z / 65) ** 2 < 1, -850, hu)
        hu = np.where((x - 60 * side) ** 2 + (y - 10) ** 2 < 9, 40, hu) if abs(z) < 50 else hu
        hu = np.where((x - 75 * side) ** 2 + (y + 20) ** 2 + (z - 10) ** 2 < 36, 30, hu)
    return _encoded(index, z, (hu + 1024).astype("<u2"))


def _encoded(index: int, z: float, stored: Array) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(f"{_UID}.1.{index}")
    image = FileDataset("", Dataset(), file_meta=meta, preamble=bytes(128))
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = _UID, f"{_UID}.2", f"{_UID}.3"
    image.Modality, image.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.ImagePositionPatient = [-SIZE / 2 * PIXEL_MM, -SIZE / 2 * PIXEL_MM, z]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing = [PIXEL_MM, PIXEL_MM]
    image.Rows, image.Columns, image.SamplesPerPixel = SIZE, SIZE, 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.RescaleSlope, image.RescaleIntercept = 1, -1024
    image.PixelData = stored.tobytes()
    out = io.BytesIO()
    image.save_as(out, enforce_file_format=True)
    return out.getvalue()
