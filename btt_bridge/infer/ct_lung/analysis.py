"""The whole analysis of one CT volume: lungs, their volume and density, and candidate nodules."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btt_bridge.infer.ct_lung.grid import Spacing, bounds, resample
from btt_bridge.infer.ct_lung.lungs import find_lungs
from btt_bridge.infer.ct_lung.nodules import LARGE_MM, SMALL_MM, Nodule, find_peaks, joined, outline
from btt_bridge.infer.ct_lung.series import Volume

#: Grid for lungs and large nodules, and grid for small ones, millimetres.
COARSE_MM, FINE_MM = 2.0, 1.5
#: Kept around the lungs when the rest of the body is left out.
MARGIN_MM = 10.0
EMPHYSEMA_HU = -950


@dataclass(frozen=True)
class Analysis:
    """What was found, on the voxels of the series."""

    lung_volume_ml: float
    #: Percent of lung voxels below -950 HU.
    emphysema_percent: float
    mean_density_hu: float
    nodules: tuple[Nodule, ...]
    #: (slices, rows, ceil(columns / 8)), packed along columns.
    lung_bits: NDArray[np.uint8]
    nodule_bits: NDArray[np.uint8]


@dataclass(frozen=True)
class _Cut:
    """The box around the lungs."""

    hu: Tensor
    #: First voxel in the whole series.
    corner: tuple[int, int, int]
    spacing: Spacing
    #: Closed lungs, of the same shape as `hu`.
    lungs: Tensor


@torch.inference_mode()
def analyze(volume: Volume, device: torch.device) -> Analysis:
    """Analyze one series; raise MalformedError where it shows no lungs."""
    whole = torch.from_numpy(volume.hu).to(device)
    shape, spacing = _grid(whole.shape, volume.spacing_mm, COARSE_MM)
    coarse = resample(whole, shape)
    mask = find_lungs(coarse, spacing)
    cut = _cut(whole, mask, volume.spacing_mm)
    found = _candidates(cut)
    inside = cut.hu[cut.lungs]
    voxel_mm3 = volume.spacing_mm[0] * volume.spacing_mm[1] * volume.spacing_mm[2]
    spots = torch.zeros_like(cut.lungs)
    for nodule in found:
        spots.view(-1)[nodule.voxels] = True
    return Analysis(
        inside.numel() * voxel_mm3 / 1000,
        100 * int((inside < EMPHYSEMA_HU).sum()) / inside.numel(),
        int(inside.sum(dtype=torch.int64)) / inside.numel(),
        tuple(_moved(nodule, cut.corner) for nodule in found),
        _packed(cut.lungs, cut.corner, volume.hu.shape),
        _packed(spots, cut.corner, volume.hu.shape),
    )


def _grid(shape: torch.Size, spacing: Spacing, step_mm: float) -> tuple[list[int], Spacing]:
    """Return the shape of a grid of about `step_mm` over the same box, and its exact steps."""
    coarse = [max(2, round(size * step / step_mm)) for size, step in zip(shape, spacing, strict=True)]
    steps = [size * step / n for size, step, n in zip(shape, spacing, coarse, strict=True)]
    return coarse, (steps[0], steps[1], steps[2])


def _cut(whole: Tensor, mask: Tensor, spacing: Spacing) -> _Cut:
    """Cut the box around the lungs out of the series, and bring their mask to its voxels."""
    window = []
    for size, coarse, step, (first, last) in zip(whole.shape, mask.shape, spacing, bounds(mask), strict=True):
        low, high = first * size / coarse - MARGIN_MM / step, last * size / coarse + MARGIN_MM / step
        window.append(slice(max(0, int(low)), min(size, int(high))))
    full = resample(mask, whole.shape, window) > 0.5
    corner = (window[0].start, window[1].start, window[2].start)
    return _Cut(whole[tuple(window)].contiguous(), corner, spacing, full)


def _candidates(cut: _Cut) -> list[Nodule]:
    """Search small nodules on a fine grid and large ones on a coarse one, and outline them on the voxels themselves."""
    peaks = []
    for step_mm, diameters_mm in ((FINE_MM, SMALL_MM), (COARSE_MM, LARGE_MM)):
        shape, spacing = _grid(cut.hu.shape, cut.spacing, step_mm)
        inside = resample(cut.lungs, shape) > 0.5
        peaks.append(find_peaks(resample(cut.hu, shape), inside, spacing, diameters_mm))
    return outline(cut.hu, cut.lungs, cut.spacing, joined(peaks))


def _moved(nodule: Nodule, corner: tuple[int, int, int]) -> Nodule:
    """Return the nodule with its center on the whole series."""
    index, row, column = (place + low for place, low in zip(nodule.center, corner, strict=True))
    return replace(nodule, center=(index, row, column))


def _packed(mask: Tensor, corner: tuple[int, int, int], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Put a cut mask into the whole series and pack its columns into bits."""
    bits = np.zeros((shape[0], shape[1], -(-shape[2] // 8)), np.uint8)
    low, high = corner, [place + size for place, size in zip(corner, mask.shape, strict=True)]
    rows = np.zeros((mask.shape[0], mask.shape[1], shape[2]), bool)
    rows[:, :, low[2] : high[2]] = mask.cpu().numpy()
    bits[low[0] : high[0], low[1] : high[1]] = np.packbits(rows, axis=2)
    return bits
