"""Where the lungs are: air inside the body, without trachea and bowel, with vessels and pleural nodules filled in."""

from __future__ import annotations

import torch
from torch import Tensor

from btt_bridge.errors import MalformedError
from btt_bridge.infer.ct_lung.grid import Spacing, bounds, components, dilate, erode

#: Between air in the lungs and everything around them, Hounsfield units.
AIR_HU = -400
#: Cuts bronchi off the lungs, and the trachea off both.
BRONCHUS_MM = 4.0
#: Closes vessels, and dents that nodules make in the pleura.
DENT_MM = 10.0
#: Smallest part of the largest lung that counts as a lung, and least volume of all lungs.
LUNG_PART_MIN = 0.12
LUNG_ML_MIN = 300.0
LUNG_MEAN_HU_MIN, LUNG_MEAN_HU_MAX = -975.0, -450.0
#: Gas in stomach and bowel touches the left lung where the diaphragm is thinner than a voxel. This much erosion parts
#: them, and then gas is told by being as empty and as even as no lung is.
DIAPHRAGM_MM = 6.0
GAS_MEAN_HU_MAX = -930.0
GAS_DEVIATION_HU_MAX = 30.0


def find_lungs(volume: Tensor, spacing: Spacing) -> Tensor:
    """Return the closed lungs, vessels and nodules included, on the grid of `volume` (Hounsfield units, near 2 mm)."""
    air = volume < AIR_HU
    air &= ~_gas(volume, erode(air, DIAPHRAGM_MM, spacing), spacing)
    core = _cores(volume, erode(air, BRONCHUS_MM, spacing), spacing)
    # Grown back where there is air, in small steps, so that it follows the lungs' thin edges and not the bronchi.
    grown = core
    for _ in range(3):
        grown = dilate(grown, BRONCHUS_MM / 2, spacing) & air
    return _filled(_closed(grown, spacing))


def _closed(mask: Tensor, spacing: Spacing) -> Tensor:
    """Close dents and holes; a lung that the scan cuts through goes on beyond the cut."""
    beyond = int(DENT_MM / spacing[0]) + 1
    padded = torch.cat([mask[:1].expand(beyond, -1, -1), mask, mask[-1:].expand(beyond, -1, -1)])
    return erode(dilate(padded, DENT_MM, spacing), DENT_MM, spacing)[beyond:-beyond]


def _filled(mask: Tensor) -> Tensor:
    """Fill what the lungs enclose: a mass too large for closing."""
    window = tuple(slice(max(0, low - 1), high + 1) for low, high in bounds(mask))
    labels = components(~mask[window])
    outside = torch.zeros(labels.numel() + 1, dtype=torch.bool, device=mask.device)
    for axis in range(3):
        for end in (0, -1):
            outside[labels.select(axis, end).flatten()] = True
    filled = mask.clone()
    filled[window] |= ~outside[labels]
    return filled


def _gas(volume: Tensor, air: Tensor, spacing: Spacing) -> Tensor:
    """Return gas in stomach and bowel, grown back to where it was before erosion."""
    parts = _Parts(volume, air)
    gas = ~parts.outside & (parts.means < GAS_MEAN_HU_MAX) & (parts.deviations < GAS_DEVIATION_HU_MAX)
    return dilate(parts.of(gas), DIAPHRAGM_MM + spacing[0], spacing)


def _cores(volume: Tensor, air: Tensor, spacing: Spacing) -> Tensor:
    """Return the parts of eroded air that are lungs; raise MalformedError where there are none."""
    parts = _Parts(volume, air)
    lungs = ~parts.outside & (parts.means > LUNG_MEAN_HU_MIN) & (parts.means < LUNG_MEAN_HU_MAX)
    largest = int((parts.sizes * lungs).max())
    if largest * spacing[0] * spacing[1] * spacing[2] / 1000 < LUNG_ML_MIN / 2:
        raise MalformedError("there are no lungs in this series")
    return parts.of(lungs & (parts.sizes >= LUNG_PART_MIN * largest))


class _Parts:
    """The connected components of a mask by label, and what the volume is like in each."""

    def __init__(self, volume: Tensor, mask: Tensor) -> None:
        self._labels = components(mask)
        self.sizes = self._summed(torch.ones_like(volume, dtype=torch.float64))
        values = volume.round().to(torch.float64)
        self.means = self._summed(values) / self.sizes
        self.deviations = (self._summed(values**2) / self.sizes - self.means**2).clamp_min(0).sqrt()
        #: What touches the image's border, and all that the mask leaves out.
        self.outside = torch.zeros(len(self.sizes), dtype=torch.bool, device=volume.device)
        labels = self._labels
        for border in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
            self.outside[border.flatten()] = True
        self.outside[0] = True

    def of(self, chosen: Tensor) -> Tensor:
        """Return the mask of the chosen components."""
        return chosen[self._labels]

    def _summed(self, values: Tensor) -> Tensor:
        # Whole numbers add up to the same sum in any order, so the result does not depend on threads.
        totals = torch.zeros(values.numel() + 1, dtype=torch.float64, device=values.device)
        return totals.scatter_add_(0, self._labels.flatten(), values.flatten())
