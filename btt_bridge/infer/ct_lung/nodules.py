"""Candidate nodules: bright blobs in the lungs, told from vessels and pleura by shape, measured on the voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from btt_bridge.infer.ct_lung.grid import Spacing, dilate, erode, smooth

#: Diameters the blob filter is tuned to, millimetres, half an octave apart.
SMALL_MM, LARGE_MM = (4.0, 5.7, 8.0), (11.3, 16.0, 22.6, 30.0)
DIAMETER_MM_MIN, DIAMETER_MM_MAX = 3.5, 32.0
#: Normalized response of the blob filter, Hounsfield units; a solid ball of the filter's size in lung gives about 400.
RESPONSE_MIN = 90.0
#: Least over greatest curvature at the peak: 1 in a ball, 0 along a tube or a sheet.
ROUNDNESS_MIN = 0.3
#: What lies outside the lungs counts as this, and what is brighter than soft tissue counts as soft tissue.
PARENCHYMA_HU, SOFT_HU = -850.0, 100.0
#: Above this a voxel is not taken for bare lung.
GROUND_HU_MAX = -600.0
#: Contrast to the lung around it from which a candidate counts in full.
CONTRAST_HU_FULL = 400.0
#: Peaks that are outlined, and findings that are reported.
PEAKS_MAX, FINDINGS_MAX = 120, 20
SCORE_MIN = 0.55
#: Two candidates that share this part of the smaller one are one.
SHARED_MAX = 0.3


@dataclass(frozen=True)
class Peaks:
    """Where the blob filter answers, strongest first."""

    #: From the corner of the volume, millimetres, (peaks, 3) as slices, rows, columns.
    points_mm: Tensor
    #: The size the filter is tuned to.
    diameters_mm: Tensor
    responses: Tensor
    roundness: Tensor

    def __getitem__(self, chosen: Tensor) -> Peaks:
        return Peaks(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    @property
    def strength(self) -> Tensor:
        strength: Tensor = self.responses * self.roundness
        return strength


@dataclass(frozen=True)
class Nodule:
    """One candidate, outlined on the original voxels."""

    #: Center of mass in voxels: slice, row, column.
    center: tuple[float, float, float]
    volume_mm3: float
    #: 0 to 1: how round it is to the filter, how round and compact in outline, and how it stands out.
    score: float
    #: Flat indices of its voxels.
    voxels: Tensor

    @property
    def diameter_mm(self) -> float:
        """Diameter of the ball of the same volume."""
        return _diameter_mm(self.volume_mm3)


def find_peaks(volume: Tensor, lungs: Tensor, spacing: Spacing, diameters_mm: Sequence[float]) -> Peaks:
    """Return places inside the closed lungs that look like a blob of one of the sizes, on a nearly isotropic grid."""
    # Outside counts as lung, so that chest wall and heart draw no answer, but a nodule that touches them does.
    inside = torch.where(lungs, volume.clamp(-1000.0, SOFT_HU), PARENCHYMA_HU)
    found = [_peaks_of_size(inside, lungs, spacing, diameter) for diameter in diameters_mm]
    return joined(found)


def joined(found: Sequence[Peaks]) -> Peaks:
    """Put peaks together, strongest first, and drop each that lies well inside a stronger one's ball."""
    peaks = Peaks(*(torch.cat([getattr(part, name) for part in found]) for name in Peaks.__dataclass_fields__))
    peaks = peaks[torch.argsort(peaks.strength, descending=True, stable=True)[: 10 * PEAKS_MAX]]
    apart = (peaks.points_mm[:, None] - peaks.points_mm).square().sum(2).sqrt()
    near = (apart < torch.maximum(peaks.diameters_mm, peaks.diameters_mm[:, None]) / 2).cpu()
    kept = torch.ones(len(near), dtype=torch.bool)
    for i in range(len(near)):
        if kept[i]:
            kept[i + 1 :] &= ~near[i, i + 1 :]
    return peaks[kept.nonzero().flatten()[:PEAKS_MAX].to(peaks.responses.device)]


def _peaks_of_size(inside: Tensor, lungs: Tensor, spacing: Spacing, diameter_mm: float) -> Peaks:
    # A ball answers the Laplacian of a Gaussian most where sigma is its radius over the square root of three.
    sigma_mm = diameter_mm / 2 / math.sqrt(3)
    smoothed = smooth(inside, [sigma_mm / step for step in spacing])
    response = -(sigma_mm**2) * _laplacian(smoothed, spacing)
    highest = response
    for axis in range(3):
        highest = _highest_of_three(highest, axis)
    places = ((response == highest) & (response > RESPONSE_MIN) & lungs).nonzero()
    last = torch.tensor(inside.shape, device=places.device) - 1
    places = places[((places > 0) & (places < last)).all(1)]
    roundness = _roundness(smoothed, places, spacing)
    steps = torch.tensor(spacing, device=places.device)
    peaks = Peaks((places + 0.5) * steps, torch.full_like(roundness, diameter_mm), response[tuple(places.T)], roundness)
    return peaks[(roundness > ROUNDNESS_MIN).nonzero().flatten()]


def _laplacian(volume: Tensor, spacing: Spacing) -> Tensor:
    result = torch.zeros_like(volume)
    for axis, step in enumerate(spacing):
        size = volume.shape[axis]
        low, mid, high = (volume.narrow(axis, start, size - 2) for start in range(3))
        result.narrow(axis, 1, size - 2).add_(low + high - 2 * mid, alpha=1 / step**2)
    return result


def _highest_of_three(volume: Tensor, axis: int) -> Tensor:
    result = volume.clone()
    size = volume.shape[axis]
    for here, there in ((0, 1), (1, 0)):
        part = result.narrow(axis, here, size - 1)
        torch.maximum(part, volume.narrow(axis, there, size - 1), out=part)
    return result


def _roundness(smoothed: Tensor, places: Tensor, spacing: Spacing) -> Tensor:
    """Return least over greatest curvature at `places`; not positive unless it is a peak in all directions."""
    unit = torch.eye(3, dtype=torch.int64, device=places.device)

    def at(offset: Tensor) -> Tensor:
        return smoothed[tuple((places + offset).T)].to(torch.float64)

    hessian = torch.zeros(len(places), 3, 3, dtype=torch.float64, device=places.device)
    for i in range(3):
        hessian[:, i, i] = (at(unit[i]) + at(-unit[i]) - 2 * at(0 * unit[i])) / spacing[i] ** 2
        for j in range(i):
            cross = at(unit[i] + unit[j]) + at(-unit[i] - unit[j]) - at(unit[i] - unit[j]) - at(unit[j] - unit[i])
            hessian[:, i, j] = hessian[:, j, i] = cross / (4 * spacing[i] * spacing[j])
    curvature = -torch.linalg.eigvalsh(hessian)  # greatest first
    ratio: Tensor = curvature[:, 2] / curvature[:, 0].clamp_min(1e-6)
    return ratio.to(torch.float32)


def outline(hu: Tensor, lungs: Tensor, spacing: Spacing, peaks: Peaks) -> list[Nodule]:
    """Outline each peak on the original voxels and return what is left of them after shape and size, best first."""
    found: list[Nodule] = []
    for diameter in torch.unique(peaks.diameters_mm).tolist():
        chosen = peaks[(peaks.diameters_mm == diameter).nonzero().flatten()]
        found += _outline_size(hu, lungs, spacing, chosen, diameter)
    found = [nodule for nodule in found if nodule.score >= SCORE_MIN]
    found.sort(key=lambda nodule: (-nodule.score, nodule.center))
    return _distinct(found)[:FINDINGS_MAX]


def _distinct(found: Sequence[Nodule]) -> list[Nodule]:
    kept: list[tuple[Nodule, frozenset[int]]] = []
    for nodule in found:
        voxels = frozenset(nodule.voxels.tolist())
        if all(len(voxels & other) <= SHARED_MAX * min(len(voxels), len(other)) for _, other in kept):
            kept.append((nodule, voxels))
    return [nodule for nodule, _ in kept]


def _outline_size(hu: Tensor, lungs: Tensor, spacing: Spacing, peaks: Peaks, diameter_mm: float) -> list[Nodule]:
    """Outline peaks of one filter size together, each in a box of its own."""
    steps = torch.tensor(spacing, device=hu.device)
    boxes = _Boxes(hu.shape, spacing, peaks.points_mm / steps - 0.5, 0.75 * diameter_mm + 2)
    values = hu.flatten()[boxes.indices].to(torch.float32).clamp(-1024.0, SOFT_HU)
    regions, contrasts = _regions(
        values, lungs.flatten()[boxes.indices] & boxes.valid, boxes.distances_mm, diameter_mm, spacing
    )
    found = []
    for i, region in enumerate(regions):
        places = region.nonzero()
        volume = len(places) * math.prod(spacing)
        if not DIAMETER_MM_MIN <= _diameter_mm(volume) <= DIAMETER_MM_MAX:
            continue
        shape = _shape(places.to(torch.float64) * steps, volume, spacing)
        contrast = min(1.0, max(0.0, float(contrasts[i]) / CONTRAST_HU_FULL))
        score = math.sqrt(float(peaks.roundness[i].clamp(0, 1)) * shape * contrast)
        center = places.to(torch.float64).mean(0).cpu() + boxes.corners[i]
        found.append(
            Nodule((float(center[0]), float(center[1]), float(center[2])), volume, score, boxes.indices[i][region])
        )
    return found


class _Boxes:
    """Equal boxes of voxels around some centers (slice, row, column)."""

    def __init__(self, shape: Sequence[int], spacing: Spacing, centers: Tensor, reach_mm: float) -> None:
        device = centers.device
        self.indices = torch.zeros(1, dtype=torch.int64, device=device)
        squared = torch.zeros(1, device=device)
        self.valid = torch.ones(1, dtype=torch.bool, device=device)
        middles = centers.round().to(torch.int64)
        reaches = [math.ceil(reach_mm / step) for step in spacing]
        #: First voxel of each box.
        self.corners = middles.cpu() - torch.tensor(reaches)
        for axis, (reach, step) in enumerate(zip(reaches, spacing, strict=True)):
            places = middles[:, axis, None] + torch.arange(-reach, reach + 1, device=device)
            view = [len(centers), 1, 1, 1]
            view[1 + axis] = 2 * reach + 1
            self.indices = self.indices * shape[axis] + places.clamp(0, shape[axis] - 1).view(view)
            self.valid = self.valid & ((places >= 0) & (places < shape[axis])).view(view)
            squared = squared + ((places - centers[:, axis, None]) * step).square().view(view)
        self.distances_mm = squared.sqrt()


def _regions(
    values: Tensor, lungs: Tensor, distances_mm: Tensor, diameter_mm: float, spacing: Spacing
) -> tuple[Tensor, Tensor]:
    """Return the voxels of each peak, vessels cut off, and how far its core stands out from the lung around it."""

    def mean(mask: Tensor) -> Tensor:
        return (values * mask).sum((1, 2, 3), keepdim=True) / mask.sum((1, 2, 3), keepdim=True).clamp_min(1)

    core = mean(distances_mm <= max(diameter_mm / 4, 0.75 * max(spacing)))
    ground = mean(lungs & (values < GROUND_HU_MAX))
    seeds = distances_mm <= max(diameter_mm / 4, *spacing)
    # Halfway between lung and core a blurred edge stands where the sharp one stood.
    whole = (values > (core + ground) / 2) & lungs & (distances_mm <= 0.75 * diameter_mm + 1.5)
    whole = _connected(whole, seeds)
    cut_mm = 0.2 * diameter_mm
    thick = _connected(erode(whole, cut_mm, spacing), seeds)
    trimmed = dilate(thick, cut_mm + 0.7, spacing) & whole
    has_thick = thick.flatten(1).any(1)[:, None, None, None]
    return torch.where(has_thick, trimmed, whole), (core - ground).flatten()


def _connected(regions: Tensor, seeds: Tensor) -> Tensor:
    """Return what of each region hangs together with its seeds, over faces."""
    reached = regions & seeds
    while True:
        grown = reached.clone()
        for axis in (1, 2, 3):
            size = grown.shape[axis]
            low, high = grown.narrow(axis, 0, size - 1), grown.narrow(axis, 1, size - 1)
            low |= reached.narrow(axis, 1, size - 1)
            high |= reached.narrow(axis, 0, size - 1)
        grown &= regions
        if torch.equal(grown, reached):
            return reached
        reached = grown


def _shape(points_mm: Tensor, volume_mm3: float, spacing: Spacing) -> float:
    """Return 1 for a ball, less for what is long, flat or ragged: axis ratio times compactness."""
    offsets = points_mm - points_mm.mean(0)
    # A voxel has extent of its own: without it a region one slice thick would be infinitely flat.
    voxel = torch.diag(torch.tensor(spacing, dtype=torch.float64, device=offsets.device) ** 2 / 12)
    axes = torch.linalg.eigvalsh(offsets.T @ offsets / len(offsets) + voxel).sqrt()
    extent = 2 * float(offsets.norm(dim=1).max()) + min(spacing)
    return float(axes[0] / axes[2]) * min(1.0, _diameter_mm(volume_mm3) / extent)


def _diameter_mm(volume_mm3: float) -> float:
    return math.cbrt(6 * volume_mm3 / math.pi)
