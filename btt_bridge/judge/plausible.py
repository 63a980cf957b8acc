"""Whether a result fits the images that left, and whether its numbers can be true of a human chest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btt_bridge.errors import ResultRefusedError
from btt_bridge.records import Finding, Mask, Measurement, Result, Slice

_LUNG, _VOLUME = ("SCT", "39607008"), ("SCT", "118565006")
#: Unit, least and greatest value by concept.
RANGES: Mapping[tuple[str, str], tuple[str, float, float]] = {
    _VOLUME: ("mL", 0.0, 12_000.0),
    ("99BTT", "LAA-950"): ("%", 0.0, 100.0),
    ("DCM", "112181"): ("[hnsf'U]", -1024.0, 3071.0),
}
DIAMETER_MM_MIN, DIAMETER_MM_MAX = 0.5, 300.0
#: How far a finding's point may be from its pixel, beyond half the distance between slices, millimetres.
POINT_MM_MAX = 1.5
#: The volume as a part of the ball of the stated diameter; small where that is the longest one of something flat.
VOLUME_RATIO_MIN, VOLUME_RATIO_MAX = 0.02, 1.1
#: How far the stated lung volume may be from that of the lung mask.
LUNG_RATIO_MAX, LUNG_ML_MAX = 0.05, 20.0
#: Slices nearer than this along their normal are at one place.
SAME_PLACE_MM = 1e-3


@dataclass(frozen=True)
class _Stack:
    """The slices of a result, foot to head, as they left."""

    images: Mapping[str, Slice]
    #: Distances between neighbors, millimetres.
    steps_mm: NDArray[np.float64]

    @property
    def step_mm(self) -> float:
        return float(np.median(self.steps_mm)) if len(self.steps_mm) else 0.0


def check(result: Result, slices: Sequence[Slice]) -> None:
    """Raise ResultRefusedError, with a reason, for the first thing that does not hold."""
    stack = _stack(result, slices)
    for measurement in result.measurements:
        _check_measurement(measurement)
    masks = {mask.name: mask for mask in result.masks}
    places = {uid: place for place, uid in enumerate(stack.images)}
    for finding in result.findings:
        image = stack.images.get(finding.sop_instance_uid)
        if image is None:
            raise ResultRefusedError("a finding is on a slice that is not one of the result's")
        _check_place(finding, image, stack.step_mm)
        _check_size(finding)
        _check_mask(finding, masks.get(finding.mask), places[finding.sop_instance_uid])
    _check_lung_volume(result, stack)


def _stack(result: Result, slices: Sequence[Slice]) -> _Stack:
    """Every slice is one of ours, of the named series and of one size, and they run from foot to head."""
    if not result.slices:
        if result.series_instance_uid or result.findings or result.masks:
            raise ResultRefusedError("the result speaks of a series and names no slices of it")
        return _Stack({}, np.zeros(0))
    ours = {one.sop_instance_uid: one for one in slices if one.series_instance_uid == result.series_instance_uid}
    if not ours.keys() >= set(result.slices):
        raise ResultRefusedError("the result speaks of a slice that is not one of ours, or is of another series")
    images = {uid: ours[uid] for uid in result.slices}
    if any((image.rows, image.columns) != (result.rows, result.columns) for image in images.values()):
        raise ResultRefusedError("rows or columns are not those of the images")
    steps = np.diff(_heights_mm(list(images.values())))
    if (steps <= SAME_PLACE_MM).any():
        raise ResultRefusedError("the slices are not in order from foot to head")
    return _Stack(images, steps)


def _heights_mm(images: Sequence[Slice]) -> NDArray[np.float64]:
    """Return where each slice lies along the first one's normal, growing toward the head."""
    if any(image.position is None or image.orientation is None for image in images):
        raise ResultRefusedError("the result speaks of a slice that has no place in the patient")
    positions: Any = [image.position for image in images]
    orientation: Any = images[0].orientation
    normal = np.cross(orientation[:3], orientation[3:])
    # Sagittal and coronal stacks grow to the left and to the back, as LPS does.
    return np.asarray(positions) @ (normal if normal[np.argmax(np.abs(normal))] > 0 else -normal)


def _check_measurement(measurement: Measurement) -> None:
    known = RANGES.get((measurement.concept.scheme, measurement.concept.value))
    if known is None:
        return
    unit, least, greatest = known
    if measurement.unit != unit:
        raise ResultRefusedError("a measurement does not have the unit of its concept")
    if not least <= measurement.value <= greatest:
        raise ResultRefusedError("a measurement is outside what can be")


def _check_place(finding: Finding, image: Slice, step_mm: float) -> None:
    """Point and pixel are one place, inside the image."""
    row, column = finding.center_px
    if not (-0.5 <= row <= image.rows - 0.5 and -0.5 <= column <= image.columns - 0.5):
        raise ResultRefusedError("a finding lies outside its image")
    if image.position is None or image.orientation is None or image.spacing is None:
        raise ResultRefusedError("a finding is on an image that has no place in the patient")
    # PS3.3 C.7.6.2.1.1: rows run along the first direction, and Pixel Spacing begins with the distance between rows.
    along_row, along_column = np.array(image.orientation[:3]), np.array(image.orientation[3:])
    point = np.array(image.position) + along_row * image.spacing[1] * column + along_column * image.spacing[0] * row
    if math.dist(point, finding.center_mm) > POINT_MM_MAX + step_mm / 2:
        raise ResultRefusedError("a finding's point in the patient is not where its pixel is")


def _check_size(finding: Finding) -> None:
    if not 0 <= finding.score <= 1:
        raise ResultRefusedError("a score is not between 0 and 1")
    if not DIAMETER_MM_MIN <= finding.diameter_mm <= DIAMETER_MM_MAX:
        raise ResultRefusedError("a finding's diameter is outside what can be")
    ball_mm3 = math.pi / 6 * finding.diameter_mm**3
    if not VOLUME_RATIO_MIN <= finding.volume_mm3 / ball_mm3 <= VOLUME_RATIO_MAX:
        raise ResultRefusedError("a finding's volume and diameter do not belong together")


def _check_mask(finding: Finding, mask: Mask | None, place: int) -> None:
    if finding.mask and mask is None:
        raise ResultRefusedError("a finding names a mask that is not there")
    if finding.mask_label:
        raise ResultRefusedError("a finding names a label, but masks of packed bits have none")
    if mask is not None and not mask.bits[place].any():
        raise ResultRefusedError("a finding's mask is empty on the slice it is best seen on")


def _check_lung_volume(result: Result, stack: _Stack) -> None:
    """The lung volume is that of the lung mask: a number alone is easily made up, a mask that fits it is not."""
    stated = [m.value for m in result.measurements if (m.concept.scheme, m.concept.value) == _VOLUME]
    masks = [mask for mask in result.masks if (mask.kind.scheme, mask.kind.value) == _LUNG]
    first = next(iter(stack.images.values()), None)
    if len(stated) != 1 or len(masks) != 1 or first is None or first.spacing is None:
        return
    voxels = int(np.bitwise_count(masks[0].bits).sum(dtype=np.int64))
    volume_ml = voxels * first.spacing[0] * first.spacing[1] * stack.step_mm / 1000
    if abs(stated[0] - volume_ml) > LUNG_RATIO_MAX * volume_ml + LUNG_ML_MAX:
        raise ResultRefusedError("the lung volume is not that of the lung mask")
