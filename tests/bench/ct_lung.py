"""How well ct-lung does: the figures of its model card, on phantoms and on balls set into a real lung.

python -m tests.bench.ct_lung [--device cuda] [--dicom FOLDER]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from btt_bridge.infer.ct_lung.analysis import Analysis, analyze
from btt_bridge.infer.ct_lung.series import Volume, read
from sample_data.generate import make_chest_ct

SEEDS = range(1, 9)
ROUNDS = 8
DIAMETERS_MM = (4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 26.0)
#: Kind of ball: its density in Hounsfield units.
KINDS = {"solid": 30.0, "on the pleura": 30.0, "on a vessel": 30.0, "ground glass": -600.0}


@dataclass(frozen=True)
class Ball:
    """Something put into a volume: center in voxels, and diameter."""

    center: NDArray[np.float64]
    diameter_mm: float
    kind: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--dicom", type=Path, default=Path(os.environ.get("BTT_TEST_DATA", "../shared/data")) / "ct_chest"
    )
    options = parser.parse_args()
    device = torch.device(options.device)
    phantoms(device)
    if options.dicom.is_dir():
        real(read([path.read_bytes() for path in sorted(options.dicom.glob("*.dcm"))]), device)


def phantoms(device: torch.device) -> None:
    """Print what is found of what the generator planted."""
    print(
        "phantom seed | lung mL (planted) | LAA-950 % (planted) | nodules found | false positives | diameter error mm"
    )
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            truth = make_chest_ct(Path(folder), seed=seed)
            volume = read([path.read_bytes() for path in sorted(Path(folder).glob("*.dcm"))])
        balls = [Ball(to_voxels(volume, nodule.center_mm), nodule.diameter_mm, "") for nodule in truth.nodules]
        found = analyze(volume, device)
        hits, extra = match(volume, balls, found)
        errors = [abs(diameter - ball.diameter_mm) for ball, diameter in hits]
        print(
            f"{seed} | {found.lung_volume_ml:.0f} ({truth.lung_volume_ml:.0f}) | {found.emphysema_percent:.2f} "
            f"({100 * truth.emphysema_fraction:.2f}) | {len(hits)} of {len(balls)} | {extra} | {max(errors):.2f}"
        )


def real(volume: Volume, device: torch.device) -> None:
    """Print what is found in a real scan as it is, and of balls that are set into its lungs."""
    plain = analyze(volume, device)
    print(f"real scan: {plain.lung_volume_ml:.0f} mL, LAA-950 {plain.emphysema_percent:.2f} %, mean "
          f"{plain.mean_density_hu:.0f} HU, {len(plain.nodules)} candidates as it is")  # fmt: skip
    random = np.random.Generator(np.random.PCG64(7))
    for kind, density in KINDS.items():
        tried: dict[float, int] = defaultdict(int)
        errors: dict[float, list[float]] = defaultdict(list)
        extra = 0
        for _ in range(ROUNDS):
            balls = places(volume, plain, kind, random)
            hits, more = match(volume, balls, analyze(with_balls(volume, balls, density, random), device))
            extra += more
            for ball in balls:
                tried[ball.diameter_mm] += 1
            for ball, diameter in hits:
                errors[ball.diameter_mm].append(abs(diameter - ball.diameter_mm))
        sizes = [f"{size:g} mm {len(errors[size])}/{tried[size]}" for size in DIAMETERS_MM]
        off = [error for some in errors.values() for error in some]
        print(
            f"{kind}: {', '.join(sizes)}; {extra / ROUNDS:.1f} others a scan; "
            f"diameter off by {np.median(off):.2f} mm (median)"
        )


def to_voxels(volume: Volume, point_mm: Sequence[float]) -> NDArray[np.float64]:
    axes = np.stack([
        (volume.positions[-1] - volume.positions[0]) / (len(volume.positions) - 1),
        volume.along_column * volume.spacing_mm[1],
        volume.along_row * volume.spacing_mm[2],
    ])  # fmt: skip
    return np.linalg.solve(axes.T, np.asarray(point_mm) - volume.positions[0])


def match(volume: Volume, balls: Sequence[Ball], found: Analysis) -> tuple[list[tuple[Ball, float]], int]:
    """Return each ball that a candidate's center lies in, with that candidate's diameter, and the number of others."""
    spacing = np.array(volume.spacing_mm)
    hits: dict[int, float] = {}
    others = 0
    for nodule in found.nodules:
        distances = [np.linalg.norm((np.array(nodule.center) - ball.center) * spacing) for ball in balls]
        near = [i for i, ball in enumerate(balls) if distances[i] < ball.diameter_mm / 2]
        others += not near
        for i in near:
            hits.setdefault(i, nodule.diameter_mm)
    return [(balls[i], diameter) for i, diameter in hits.items()], others


def places(volume: Volume, plain: Analysis, kind: str, random: np.random.Generator) -> list[Ball]:
    """Choose a place of this kind for one ball of each size, apart from each other."""
    lungs = np.unpackbits(plain.lung_bits, axis=2, count=volume.hu.shape[2]).astype(bool)
    inside = np.argwhere(lungs)
    spacing = np.array(volume.spacing_mm)
    balls: list[Ball] = []
    for diameter in DIAMETERS_MM:
        for _ in range(5000):
            center = inside[random.integers(len(inside))] + random.random(3) - 0.5
            apart = all(
                np.linalg.norm((center - b.center) * spacing) > (diameter + b.diameter_mm) / 2 + 12 for b in balls
            )
            if apart and suits(volume, lungs, center, diameter, kind):
                balls.append(Ball(center, diameter, kind))
                break
    return balls


def suits(volume: Volume, lungs: NDArray[np.bool_], center: NDArray[np.float64], diameter: float, kind: str) -> bool:
    """Tell whether a ball here would lie in bare lung, touch a vessel from it, or stick out of the pleura into it."""
    box, distances = around(volume, center, diameter / 2 + 4)
    near = (distances > diameter / 2 + 1) & (distances < diameter / 2 + 3)
    core = distances < diameter / 2
    dense = volume.hu[box] > -500
    if np.mean(dense[core]) > (0.15 if kind == "on a vessel" else 0.02):
        return False
    outside = ~lungs[box]
    if kind == "on the pleura":
        return bool(0.1 < np.mean(outside[near]) < 0.4 and np.mean(outside[core]) < 0.3)
    if np.any(outside[near | core]):
        return False
    touching = np.mean(dense[near])
    return bool(0.04 < touching < 0.25) if kind == "on a vessel" else bool(touching < 0.03)


def around(
    volume: Volume, center: NDArray[np.float64], reach_mm: float
) -> tuple[tuple[slice, ...], NDArray[np.float64]]:
    """Return the box of voxels around a point, and their distances from it in millimetres."""
    spacing = np.array(volume.spacing_mm)
    low = np.maximum(0, np.floor(center - reach_mm / spacing)).astype(int)
    high = np.minimum(volume.hu.shape, np.ceil(center + reach_mm / spacing) + 1).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), -1)
    return box, np.linalg.norm((grid - center) * spacing, axis=-1)


def with_balls(volume: Volume, balls: Sequence[Ball], density: float, random: np.random.Generator) -> Volume:
    """Blend balls into a copy, their edges a millimetre wide, with the noise of the scan's own order."""
    hu = volume.hu.astype(np.float32)
    for ball in balls:
        box, distances = around(volume, ball.center, ball.diameter_mm / 2 + 2)
        amount = np.clip(ball.diameter_mm / 2 - distances + 0.5, 0, 1)
        inner = density + random.normal(0, 15, amount.shape)
        hu[box] = np.maximum(hu[box], hu[box] * (1 - amount) + inner * amount)
    return replace(volume, hu=np.clip(np.rint(hu), -1024, 3071).astype(np.int16))


if __name__ == "__main__":
    main()
