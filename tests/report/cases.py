"""Results as a service would give them, on the phantom and on real series, and what validators say of files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from btt_bridge import report
from btt_bridge.records import (
    Arrival,
    Code,
    Document,
    Finding,
    Instance,
    Mask,
    Measurement,
    Receipt,
    Result,
    Series,
    Study,
)
from tests.peers.server import program

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
LUNG = Code("39607008", "SCT", "Lung")
NODULE = Code("27925004", "SCT", "Nodule")
ANATOMY = Code("123037004", "SCT", "Anatomical structure")
ABNORMAL = Code("49755003", "SCT", "Morphologically abnormal structure")
VOLUME = Measurement(Code("118565006", "SCT", "Volume"), 4812.256789, "mL")
DENSITY = Measurement(Code("112031", "DCM", "Attenuation Coefficient"), -812.5, "[hnsf'U]")
RECEIPT = Receipt(
    "offer", "lease", 1, "node", "ct-lung", "1.0.0", "ab" * 32, "cd" * 32, "ef" * 32, "", "cpu", NOW, NOW
)  # fmt: skip


def study(folder: Path) -> Study:
    """Return the study of one series whose files lie in `folder`, as the journal would."""
    paths = sorted(folder.glob("*.dcm"))
    first = dcmread(paths[0], stop_before_pixels=True, specific_tags=["StudyInstanceUID", "SeriesInstanceUID"])
    instances = tuple(
        Instance(number, Arrival("", "", "", "CT", "BTT_BRIDGE", "127.0.0.1", path.name, path.stat().st_size, NOW))
        for number, path in enumerate(paths, 1)
    )
    series = Series(str(first.SeriesInstanceUID), {}, instances)
    return Study(str(first.StudyInstanceUID), 1, "CT", (series,), NOW, NOW)


def sources(folder: Path) -> report.Sources:
    """Prepare the only series in `folder`."""
    found = study(folder)
    return report.prepare(found, found.series[0].series_instance_uid, folder)


def result(of: report.Sources, findings: int) -> Result:
    """Invent a result with lungs, so many nodules, and a mask for the first of them."""
    images = sorted(of.images.values(), key=lambda image: image.position)
    slices = tuple(image.sop_instance_uid for image in images)
    size = dcmread(images[0].path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
    rows, columns = int(size.Rows), int(size.Columns)
    lungs = _ellipse(rows, columns, 0.3) | _ellipse(rows, columns, 0.7)
    middle = [min(1, place, len(slices) - 1 - place) if len(slices) > 2 else 1 for place in range(len(slices))]
    masks = [mask("lungs", ANATOMY, LUNG, np.stack([lungs * bool(inside) for inside in middle]))]
    found = []
    for number in range(1, findings + 1):
        place = (number * 7) % len(slices)
        row, column = rows * (0.3 + 0.4 * (number % 5) / 5), columns * (0.3 if number % 2 else 0.7)
        image = images[place]
        down, across = image.spacing
        found.append(
            Finding(
                f"nodule-{number}",
                NODULE,
                image.sop_instance_uid,
                (image.position[0] + column * across, image.position[1] + row * down, image.position[2]),
                (row, column),
                4.0 + number / 7,
                33.3 * number,
                1 / (number + 1),
                "nodule-1" if number == 1 else "",
            )
        )
    if found:
        voxels = np.zeros((len(slices), rows, columns), bool)
        row, column = map(int, found[0].center_px)
        voxels[slices.index(found[0].sop_instance_uid), row - 3 : row + 4, column - 2 : column + 3] = True
        masks.append(mask("nodule-1", ABNORMAL, NODULE, voxels))
    return Result(
        "ct-lung", "1.0.0", of.series_instance_uid, slices, rows, columns, (VOLUME, DENSITY), tuple(found), tuple(masks)
    )


def mask(name: str, category: Code, kind: Code, voxels: NDArray[np.bool_]) -> Mask:
    return Mask(name, category, kind, np.packbits(voxels.astype(bool), axis=-1))


def voxels_of(one: Mask, columns: int) -> NDArray[np.bool_]:
    return np.unpackbits(one.bits, axis=-1, count=columns).astype(bool)


def write(of: report.Sources, given: Result, revision: int = 1, **more: object) -> list[Document]:
    arguments: dict[str, object] = {"now": NOW, "institution": "St. Elsewhere", **more}
    batches = report.write(given, RECEIPT, of, revision=revision, **arguments)  # type: ignore[arg-type]
    return list(chain.from_iterable(batches))


def kind(documents: list[Document], wanted: str) -> list[Document]:
    return [document for document in documents if document.kind == wanted]


def altered(folder: Path, target: Path, count: int, change: Callable[[Dataset], object]) -> Path:
    """Copy the first `count` files of a series, each changed by `change`."""
    target.mkdir()
    for path in sorted(folder.glob("*.dcm"))[:count]:
        ds = dcmread(path)
        change(ds)
        ds.save_as(target / path.name)
    return target


def without_masks(given: Result) -> Result:
    return replace(given, masks=(), findings=tuple(replace(finding, mask="") for finding in given.findings))


def dciodvfy(document: Document, folder: Path) -> list[str]:
    """Return what `dciodvfy -new` calls an error."""
    return [line for line in _said(["dciodvfy", "-new"], document, folder) if line.startswith("Error")]


def dicom_sr_validator(document: Document, folder: Path) -> list[str]:
    """Return what PixelMed's DicomSRValidator calls an error, and that it got to the end at all."""
    limits = " ".join(f"-Djdk.xml.xpath{limit}Limit=0" for limit in ("TotalOp", "ExprOp", "ExprGrp"))
    lines = _said(
        ["DicomSRValidator"], document, folder, JAVA_TOOL_OPTIONS=f"{limits} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    )
    assert any("Root Template Validation Complete" in line for line in lines), lines
    return [line for line in lines if line.startswith("Error")]


def dsrdump(document: Document, folder: Path) -> list[str]:
    """Return the lines of `dsrdump`."""
    return _said(["dsrdump"], document, folder)


def _said(command: list[str], document: Document, folder: Path, **environment: str) -> list[str]:
    path = folder / f"{document.sop_instance_uid}.dcm"
    path.write_bytes(document.content)
    done = subprocess.run(
        [program(command[0]), *command[1:], str(path)],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **environment},
        timeout=170,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return (done.stdout + done.stderr).splitlines()


def _ellipse(rows: int, columns: int, across: float) -> NDArray[np.bool_]:
    row, column = np.mgrid[:rows, :columns]
    inside: NDArray[np.bool_] = ((row / rows - 0.5) / 0.3) ** 2 + ((column / columns - across) / 0.15) ** 2 < 1
    return inside
