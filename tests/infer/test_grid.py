"""The torch operators against what they mean, spelled out slowly."""

from __future__ import annotations

import itertools

import pytest
import torch

from btt_bridge.infer.ct_lung.grid import bounds, components, dilate, erode, resample, smooth


def random_mask(seed: int, shape: tuple[int, int, int], part: float) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < part


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("part", [0.2, 0.45, 0.8])
def test_components_are_those_of_a_flood_fill(seed: int, part: float) -> None:
    """Two voxels share a label exactly where a walk over faces joins them."""
    mask = random_mask(seed, (7, 8, 9), part)
    labels = components(mask)
    expected = torch.zeros(mask.shape, dtype=torch.int64)
    count = 0
    for start in map(tuple, mask.nonzero().tolist()):
        if expected[start]:
            continue
        count += 1
        expected[start] = count
        queue = [start]
        while queue:
            place = queue.pop()
            for axis, step in itertools.product(range(3), (-1, 1)):
                near = tuple(p + step * (a == axis) for a, p in enumerate(place))
                if all(0 <= p < n for p, n in zip(near, mask.shape, strict=True)) and mask[near] and not expected[near]:
                    expected[near] = count
                    queue.append(near)
    assert torch.equal(labels > 0, mask)
    pairs = set(zip(labels[mask].tolist(), expected[mask].tolist(), strict=True))
    assert len(pairs) == count
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == count


def test_components_follow_a_spiral() -> None:
    """A long winding path is one component, for all that labels travel along straight runs."""
    mask = torch.zeros(1, 41, 41, dtype=torch.bool)
    row, column, turn = 0, 0, 0
    for length in [40, 40, *(n for k in range(38, 0, -2) for n in (k, k))]:
        for _ in range(length):
            mask[0, row, column] = True
            row, column = row + (0, 1, 0, -1)[turn], column + (1, 0, -1, 0)[turn]
        turn = (turn + 1) % 4
    labels = components(mask)
    assert len(labels[mask].unique()) == 1


@pytest.mark.parametrize("radius_mm", [1.0, 2.0, 3.5])
def test_dilation_is_by_a_ball_in_millimetres(radius_mm: float) -> None:
    """A voxel belongs to the grown mask exactly where some voxel of the mask is near enough, whatever the spacing."""
    spacing = (2.5, 0.7, 1.0)
    mask = random_mask(3, (6, 12, 10), 0.01)
    steps = torch.tensor(spacing)
    points = torch.stack(torch.meshgrid(*(torch.arange(n) for n in mask.shape), indexing="ij"), -1) * steps
    distances = torch.cdist(points.reshape(-1, 3), points[mask]).min(1).values.view(mask.shape)
    assert torch.equal(dilate(mask, radius_mm, spacing), distances <= radius_mm + 1e-4)


def test_erosion_is_dilation_of_the_rest() -> None:
    """What is left lies farther inside than the radius, and a mask that the box cuts does not shrink at the cut."""
    mask = torch.zeros(9, 9, 9, dtype=torch.bool)
    mask[:, 2:7, 2:7] = True
    left = erode(mask, 1.0, (1.0, 1.0, 1.0))
    expected = torch.zeros_like(mask)
    expected[:, 3:6, 3:6] = True
    assert torch.equal(left, expected)


def test_resampling_keeps_planes_and_averages() -> None:
    """A linear ramp stays one within a twentieth of a voxel, away from the border; an integer factor keeps the mean."""
    ramp = torch.arange(48).view(48, 1, 1).expand(48, 6, 6).to(torch.int16)
    for size in (16, 31, 96):
        made = resample(ramp, (size, 6, 6))[:, 2, 2]
        expected = (torch.arange(size) + 0.5) * 48 / size - 0.5
        inner = slice(size // 8, -size // 8)
        assert torch.allclose(made[inner], expected[inner], atol=0.05)
    noise = torch.randint(-1000, 1000, (12, 12, 12), generator=torch.Generator().manual_seed(1), dtype=torch.int16)
    window = (slice(1, 3), slice(0, 2), slice(2, 4))
    assert torch.allclose(resample(noise, (4, 4, 4))[window], resample(noise, (4, 4, 4), window))


def test_smoothing_keeps_a_constant_and_has_the_width_it_says() -> None:
    """A constant stays as it is up to the border; a point becomes a Gaussian of the given sigma."""
    assert torch.allclose(smooth(torch.full((9, 9, 9), -850.0), (2.0, 2.0, 2.0)), torch.tensor(-850.0))
    point = torch.zeros(41, 41, 41)
    point[20, 20, 20] = 1
    spread = smooth(point, (3.0, 2.0, 1.0))
    places = torch.arange(41) - 20.0
    for axis, sigma in enumerate((3.0, 2.0, 1.0)):
        profile = spread.sum([other for other in range(3) if other != axis])
        assert float((profile * places**2).sum().sqrt()) == pytest.approx(sigma, rel=0.02)


def test_bounds_are_tight() -> None:
    """The box holds the mask and nothing around it."""
    mask = torch.zeros(5, 6, 7, dtype=torch.bool)
    mask[1, 2, 3] = mask[3, 4, 6] = True
    assert bounds(mask) == [(1, 4), (2, 5), (3, 7)]
