"""The committed sample study is what its generator makes, and what its truth file says."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless

from sample_data.generate import make_chest_ct

SAMPLE = Path(__file__).parents[2] / "sample_data" / "chest_ct"


def hounsfield(folder: Path) -> np.ndarray:
    files = sorted(folder.glob("*.dcm"))
    return np.stack([dcmread(path).pixel_array.astype(np.int32) - 1024 for path in files])


def test_the_generator_reproduces_the_committed_study(tmp_path: Path) -> None:
    """Same file names, same headers, same voxels, same truth: nobody edited one side alone."""
    make_chest_ct(tmp_path, transfer_syntax=JPEGLSLossless)
    made, kept = ({path.name for path in folder.iterdir()} for folder in (tmp_path, SAMPLE))
    assert made == kept
    assert (tmp_path / "truth.json").read_text() == (SAMPLE / "truth.json").read_text()
    for path in sorted(SAMPLE.glob("*.dcm")):
        ours, theirs = dcmread(tmp_path / path.name), dcmread(path)
        assert ours.file_meta.TransferSyntaxUID == theirs.file_meta.TransferSyntaxUID == JPEGLSLossless
        assert np.array_equal(ours.pixel_array, theirs.pixel_array), path.name
        # The encoder may change its bytes between versions; what it encodes may not.
        del ours.PixelData, theirs.PixelData
        assert ours == theirs, path.name


def test_the_sample_is_small_enough_to_ship() -> None:
    """The whole study stays under 4 MB."""
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 4_000_000


def test_the_truth_describes_the_voxels() -> None:
    """Each nodule is solid at its center and gone outside its diameter; lung volume and emphysema add up."""
    truth = json.loads((SAMPLE / "truth.json").read_text())
    first = dcmread(sorted(SAMPLE.glob("*.dcm"))[0], stop_before_pixels=True)
    volume, spacing = hounsfield(SAMPLE), float(first.PixelSpacing[0])
    x0, y0, z0 = (float(value) for value in first.ImagePositionPatient)
    index = np.indices(volume.shape)
    z, y, x = z0 + index[0] * truth["spacing_mm"], y0 + index[1] * spacing, x0 + index[2] * spacing
    for nodule in truth["nodules"]:
        cx, cy, cz = nodule["center_mm"]
        distance = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2)
        radius = nodule["diameter_mm"] / 2
        assert volume[distance < 0.4 * radius].mean() > -150
        assert volume[(distance > radius + 2) & (distance < radius + 4)].mean() < -700
    airy = (volume < -600) & (np.abs(x) < 125) & (np.abs(y + 5) < 80) & ~((np.abs(x) < 14) & (np.abs(y - 8) < 12))
    litres = airy.sum() * spacing**2 * truth["spacing_mm"] / 1e6
    assert litres == pytest.approx(truth["lung_volume_ml"] / 1000, rel=0.05)
    assert (volume[airy] < -950).mean() == pytest.approx(truth["emphysema_fraction"], abs=0.006)


def test_other_sizes_are_other_studies(tmp_path: Path) -> None:
    """Another grid has its own UIDs, as many slices as asked for, and the same truth as the file beside it."""
    truth = make_chest_ct(tmp_path, slices=5, size=64, spacing_mm=5.0, seed=2)
    images = [dcmread(path) for path in sorted(tmp_path.glob("*.dcm"))]
    assert len(images) == truth.slices == 5
    assert {(image.Rows, image.Columns, image.StudyInstanceUID) for image in images} == {
        (64, 64, truth.study_instance_uid)
    }
    assert len({image.SOPInstanceUID for image in images}) == 5
    assert truth.study_instance_uid != json.loads((SAMPLE / "truth.json").read_text())["study_instance_uid"]
    assert json.loads((tmp_path / "truth.json").read_text()) == json.loads(json.dumps(asdict(truth)))


@pytest.mark.peer("dciodvfy")
def test_dciodvfy_finds_no_error() -> None:
    """An independent validator accepts first and last image as CT Image Storage."""
    for path in (SAMPLE / "ct-001.dcm", SAMPLE / "ct-064.dcm"):
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert "CTImage" in done.stderr
        assert not [line for line in done.stderr.splitlines() if line.startswith("Error")]
