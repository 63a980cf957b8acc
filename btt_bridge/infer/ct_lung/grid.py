"""Operators on boxes of voxels in torch: resampling, smoothing, ball morphology, connected components; repeatable."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Spacing = tuple[float, float, float]


def resample(volume: Tensor, shape: Sequence[int], window: Sequence[slice] = (slice(None),) * 3) -> Tensor:
    """Resample a (slices, rows, columns) volume onto `shape`; averages where that is coarser, interpolates where finer.

    Both grids cover the same box, so voxel i of n has its center at (i + 0.5) / n of each axis. Only the `window` of
    the new grid is made.
    """
    # The last axis first: it is the one that matrix multiplication reads in order.
    for axis in (2, 1, 0):
        volume = _along(volume, axis, _triangles(volume.shape[axis], shape[axis])[window[axis]])
    return volume


def smooth(volume: Tensor, sigma: Sequence[float]) -> Tensor:
    """Convolve with a Gaussian of so many voxels along each axis, cut at four sigma."""
    for axis in (2, 1, 0):
        volume = _along(volume, axis, _gaussians(volume.shape[axis], sigma[axis]))
    return volume


def _along(volume: Tensor, axis: int, weights: Tensor) -> Tensor:
    """Multiply one axis by a banded matrix. Faster than convolution on few cores, and in full float32 on CUDA too."""
    weights = weights.to(torch.float32).to(volume.device)
    if axis == 2:
        # Slice by slice, for integer input need not become one large float volume.
        return torch.stack([plane.to(torch.float32) @ weights.T for plane in volume])
    if axis == 1:
        return torch.matmul(weights, volume)
    return (weights @ volume.flatten(1)).view(len(weights), *volume.shape[1:])


def _triangles(source: int, size: int) -> Tensor:
    """Weights of linear resampling, the triangle as wide as the coarser of both steps."""
    step = source / size
    centers = (torch.arange(size, dtype=torch.float64) + 0.5) * step - 0.5
    distances = (torch.arange(source, dtype=torch.float64) - centers[:, None]).abs()
    return _normalized((1 - distances / max(step, 1.0)).clamp_min(0))


def _gaussians(size: int, sigma: float) -> Tensor:
    places = torch.arange(size, dtype=torch.float64)
    distances = (places - places[:, None]) / sigma
    return _normalized(torch.exp(-0.5 * distances**2) * (distances.abs() <= 4))


def _normalized(weights: Tensor) -> Tensor:
    return weights / weights.sum(1, keepdim=True)


def dilate(mask: Tensor, radius_mm: float, spacing: Spacing) -> Tensor:
    """Grow masks by a ball: every voxel no farther than `radius_mm` from one, by exact squared distances.

    The last three axes are those of space.
    """
    limit = radius_mm**2
    far = float(4 * limit + 1)
    squared = torch.where(mask, 0.0, far)
    for axis, step in enumerate(spacing):
        squared = _parabola(squared, axis - 3, step, int(radius_mm / step))
    return squared <= limit + 1e-4


def erode(mask: Tensor, radius_mm: float, spacing: Spacing) -> Tensor:
    """Shrink a mask by a ball; what lies beyond the box counts as inside, so that a cut lung does not shrink there."""
    return ~dilate(~mask, radius_mm, spacing)


def _parabola(squared: Tensor, axis: int, step: float, reach: int) -> Tensor:
    """Add one axis to squared distances: the lower envelope of parabolas within `reach` voxels."""
    result = squared.clone()
    size = squared.shape[axis]
    for offset in range(1, min(reach, size - 1) + 1):
        shifted = squared + (offset * step) ** 2
        low, high = result.narrow(axis, 0, size - offset), result.narrow(axis, offset, size - offset)
        torch.minimum(low, shifted.narrow(axis, offset, size - offset), out=low)
        torch.minimum(high, shifted.narrow(axis, 0, size - offset), out=high)
    return result


def components(mask: Tensor) -> Tensor:
    """Label 6-connected components: voxels of one component share a number from 1 up, all others have 0.

    Labels travel along whole straight runs of the mask, axis by axis, and then each voxel takes the label of the voxel
    that its label stands for, so that few sweeps suffice. Taking the largest gives one result in any order of work.
    """
    places = mask.flatten().nonzero().squeeze(1)
    labels = torch.arange(len(places), device=mask.device)
    runs = [_runs(mask, axis).flatten()[places] for axis in range(3)]
    before = torch.full_like(labels, -1)
    while not torch.equal(before, labels):
        before = labels
        for run in runs:
            highest = torch.zeros(len(places) + 1, dtype=torch.int64, device=mask.device)
            labels = highest.scatter_reduce_(0, run, labels, "amax")[run]
        labels = labels[labels]
    out = torch.zeros(mask.numel(), dtype=torch.int64, device=mask.device)
    out[places] = labels + 1
    return out.view(mask.shape)


def bounds(mask: Tensor) -> list[tuple[int, int]]:
    """Return, for each axis, the first place that a mask reaches and the one after the last."""
    reached = [mask.movedim(axis, 0).flatten(1).any(1).nonzero().flatten() for axis in range(3)]
    return [(int(places[0]), int(places[-1]) + 1) for places in reached]


def _runs(mask: Tensor, axis: int) -> Tensor:
    """Number the straight runs of the mask along one axis, from 1."""
    moved = mask.movedim(axis, -1)
    starts = moved.clone()
    starts[..., 1:] &= ~moved[..., :-1]
    return starts.flatten().cumsum(0).view(moved.shape).movedim(-1, axis)
