"""Real scanners' objects come through clean, valid and alike, and real ultrasound is held."""

from __future__ import annotations

import io
import subprocess
from collections import Counter
from pathlib import Path

import pydicom
import pytest

from btt_bridge.deidentify import Proof, examine, strip
from btt_bridge.errors import IdentityLeakError, PixelTextError
from btt_bridge.records import Stripped
from tests.deidentify.cases import KEY, PSEUDONYM


def objects(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.dcm"))]


@pytest.mark.parametrize(("name", "count"), [("ct_chest", 248), ("mr_head", 196), ("ct_liver_seg", 3)])
def test_a_real_study_is_proved_clean(test_data: Path, name: str, count: int) -> None:
    """Every object of a real study is stripped, its pixels to the byte as they were, and the proof passes."""
    proof = Proof(4)
    identifying: set[str] = set()
    study_uids: set[str] = set()
    found = objects(test_data / name)
    assert len(found) == count
    for number, original in enumerate(found):
        result = strip(original, KEY, PSEUDONYM)
        proof.add(str(number), examine(original, result.content))
        identifying |= result.identifying
        if number % 20 == 0:
            before, after = (pydicom.dcmread(io.BytesIO(content)) for content in (original, result.content))
            assert after.PixelData == before.PixelData
            assert after.ImagePositionPatient == before.ImagePositionPatient
            assert after.PixelSpacing == before.PixelSpacing
            assert not any(element.tag.is_private for element in after.iterall())
            study_uids.add(after.StudyInstanceUID)
    assert len(study_uids) == 1
    proof.finish(identifying, PSEUDONYM.shift_days)


@pytest.mark.parametrize("name", ["ct_chest", "mr_head"])
def test_the_proof_is_not_blind_to_a_real_study(test_data: Path, name: str) -> None:
    """One value of the original in one object of a real study is enough to stop it."""
    originals = objects(test_data / name)[:20]
    proof = Proof(4)
    for number, original in enumerate(originals):
        dataset = pydicom.dcmread(io.BytesIO(strip(original, KEY, PSEUDONYM).content))
        if number == 7:
            dataset.ImageComments = f"of {pydicom.dcmread(io.BytesIO(original)).PatientName}."
        stream = io.BytesIO()
        dataset.save_as(stream)
        proof.add(f"{number:06d}.dcm", examine(original, stream.getvalue()))
    with pytest.raises(IdentityLeakError, match=r"000007\.dcm"):
        proof.finish()


def test_real_ultrasound_is_held(test_data: Path) -> None:
    """Ultrasound and color images, which carry text in their pixels, are held, and the reason says why."""
    found = objects(test_data / "us")
    assert found
    for original in found:
        with pytest.raises(PixelTextError, match="may carry text in its pixels"):
            strip(original, KEY, PSEUDONYM)


def errors(content: bytes, path: Path) -> Counter[str]:
    """Return what dciodvfy calls an error."""
    path.write_bytes(content)
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    return Counter(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error"))


@pytest.mark.peer("dciodvfy")
@pytest.mark.parametrize("name", ["ct_chest", "mr_head", "ct_liver_seg"])
def test_stripping_breaks_no_rule(test_data: Path, tmp_path: Path, name: str) -> None:
    """dciodvfy finds no error in a stripped object that it did not find before."""
    found = objects(test_data / name)
    for original in (found[0], found[len(found) // 2]):
        result: Stripped = strip(original, KEY, PSEUDONYM)
        new = errors(result.content, tmp_path / "after.dcm") - errors(original, tmp_path / "before.dcm")
        assert not new
