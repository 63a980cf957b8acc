"""Masks as segments: one for an organ, one for each finding, however many findings share a mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from btt_bridge.records import Finding, Mask
from btt_bridge.report.sources import Image

Frame = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """What one Segment Number stands for."""

    mask: Mask
    #: The finding that it is of, where it is of exactly one.
    finding: Finding | None
    #: Packed bits by index of the slice, for the slices that hold any.
    frames: Mapping[int, Frame]

    @property
    def label(self) -> str:
        return self.finding.name if self.finding else self.mask.name


def segments(masks: Sequence[Mask], findings: Sequence[Finding], images: Sequence[Image]) -> Iterator[Segment]:
    """Yield the segments in the order of their numbers; what holds no voxel is none."""
    for mask in masks:
        # The greatest byte tells as much as any(), in a tenth of the time.
        places = np.flatnonzero(mask.bits.reshape(len(images), -1).max(axis=1, initial=0))
        frames = {int(place): mask.bits[place] for place in places}
        own = [finding for finding in findings if finding.mask == mask.name]
        if len(own) > 1 and all(images[place].placed for place in frames):
            yield from _divided(mask, own, frames, images)
        elif frames:
            yield Segment(mask, own[0] if len(own) == 1 else None, frames)


def _divided(
    mask: Mask, findings: Sequence[Finding], frames: Mapping[int, Frame], images: Sequence[Image]
) -> Iterator[Segment]:
    """Give each voxel of a shared mask to the finding that is nearest, each taken for a ball of its diameter."""
    centers = np.array([finding.center_mm for finding in findings])
    radii = np.array([finding.diameter_mm / 2 for finding in findings])
    shares: list[dict[int, Frame]] = [{} for _ in findings]
    for place, packed in frames.items():
        # A finding is a few rows of its slice.
        held = np.flatnonzero(packed.max(axis=-1))
        within = slice(held[0], held[-1] + 1)
        bits = np.unpackbits(packed[within], axis=-1)
        rows, columns = np.nonzero(bits)
        points = _to_patient(images[place], rows + held[0], columns)
        distances = np.linalg.norm(points[:, None] - centers[None], axis=2) - radii
        owners = distances.argmin(axis=1)
        for number in np.unique(owners):
            mine = owners == number
            share = np.zeros_like(bits)
            share[rows[mine], columns[mine]] = 1
            shares[number][place] = np.zeros_like(packed)
            shares[number][place][within] = np.packbits(share, axis=-1)
    for finding, share_of in zip(findings, shares, strict=True):
        if share_of:
            yield Segment(mask, finding, share_of)


def _to_patient(image: Image, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the patient coordinates of pixels (PS3.3 Equation C.7.6.2.1-1)."""
    across, down = np.array(image.orientation[:3]), np.array(image.orientation[3:])
    place: NDArray[np.float64] = (
        np.array(image.position)
        + columns[:, None] * image.spacing[1] * across
        + rows[:, None] * image.spacing[0] * down
    )
    return place
