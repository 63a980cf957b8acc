"""The service `ct-lung`: one axial chest CT in; lung volume, LAA-950, mean lung density and candidate nodules out.

Rules in torch, no training and no weights; MODEL_CARD.md says what they were checked on. MalformedError says why a
series is refused. Importing this module imports neither torch nor pydicom, for the bridge asks it for prices.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from btt_bridge.records import Code, Finding, Mask, Measurement, Result

if TYPE_CHECKING:
    from btt_bridge.infer.ct_lung.analysis import Analysis
    from btt_bridge.infer.ct_lung.nodules import Nodule
    from btt_bridge.infer.ct_lung.series import Volume

LUNG = Code("39607008", "SCT", "Lung")
NODULE = Code("27925004", "SCT", "Nodule")
ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
ALTERED = Code("49755003", "SCT", "Morphologically Altered Structure")
VOLUME = Code("118565006", "SCT", "Volume")
DENSITY = Code("112181", "DCM", "Mean Attenuation Coefficient")
#: No standard scheme has a code for it.
EMPHYSEMA = Code("LAA-950", "99BTT", "Low attenuation area below -950 HU")


class CtLung:
    """See the module."""

    name = "ct-lung"
    version = "1.0.0"

    def digest(self) -> str:
        """Return the SHA-256 over the names and bytes of its source files: they are all that decides its output."""
        total = hashlib.sha256()
        for path in sorted(Path(__file__).parent.glob("*.py")):
            content = path.read_bytes()
            total.update(f"{path.name} {len(content)}\n".encode() + content)
        return total.hexdigest()

    def operations(self, voxels: int) -> int:
        """Estimate multiplications and additions: banded matrices for resampling and the blob filter dominate."""
        return 1500 * voxels

    def run(self, instances: Iterable[bytes | bytearray], device: str, timings: dict[str, float]) -> Result:
        """Analyze one series, given as DICOM files in any order."""
        started = time.perf_counter()
        from btt_bridge.infer.ct_lung.series import read

        volume = read(instances)
        timings["decode"] = time.perf_counter() - started
        started = time.perf_counter()
        import torch

        from btt_bridge.infer.ct_lung.analysis import analyze

        analysis = analyze(volume, torch.device(device))
        timings["run"] = time.perf_counter() - started
        return _result(self, volume, analysis)


def _result(service: CtLung, volume: Volume, analysis: Analysis) -> Result:
    return Result(
        service.name,
        service.version,
        volume.series_instance_uid,
        volume.sop_instance_uids,
        volume.hu.shape[1],
        volume.hu.shape[2],
        (
            Measurement(VOLUME, round(analysis.lung_volume_ml, 1), "mL"),
            Measurement(EMPHYSEMA, round(analysis.emphysema_percent, 2), "%"),
            Measurement(DENSITY, round(analysis.mean_density_hu, 1), "[hnsf'U]"),
        ),
        tuple(_finding(number, nodule, volume) for number, nodule in enumerate(analysis.nodules, 1)),
        (
            Mask("lungs", ANATOMY, LUNG, analysis.lung_bits),
            Mask("nodules", ALTERED, NODULE, analysis.nodule_bits),
        ),
    )


def _finding(number: int, nodule: Nodule, volume: Volume) -> Finding:
    index, row, column = nodule.center
    seen_on = min(max(round(index), 0), len(volume.sop_instance_uids) - 1)
    return Finding(
        f"nodule-{number}",
        NODULE,
        volume.sop_instance_uids[seen_on],
        # On the slice it is seen on: point and pixel are one place, so that a viewer may use either.
        volume.to_patient(seen_on, row, column),
        (row, column),
        round(nodule.diameter_mm, 2),
        round(nodule.volume_mm3, 2),
        round(nodule.score, 4),
        "nodules",
    )
