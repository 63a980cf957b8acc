"""Studies of invented patients: one phantom, copied for each test under a name and UIDs of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread

#: Called for each data set of a copy before it is written.
Change = Callable[[Dataset], None]


@dataclass(frozen=True)
class Sample:
    """A study on disk, ready to be sent."""

    files: tuple[Path, ...]
    study_uid: str
    series_uid: str
    sop_uids: tuple[str, ...]
    accession_number: str
    patient_id: str
    patient_name: str

    def first(self) -> Dataset:
        return dcmread(self.files[0])


#: Makes the study of a patient of this name, with a change to each of its objects where one is given.
Make = Callable[..., Sample]


def copy(source: Path, folder: Path, name: str, change: Change | None = None) -> Sample:
    """Write the study in `source` again as that of the patient `name`, who has nothing in common with any other."""
    folder.mkdir(parents=True, exist_ok=True)
    files, sop_uids = [], []
    for path in sorted(source.glob("*.dcm")):
        image = dcmread(path)
        image.StudyInstanceUID, image.SeriesInstanceUID = uid(name, "study"), uid(name, "series")
        image.FrameOfReferenceUID = uid(name, "frame of reference")
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid(name, path.name)
        image.PatientID, image.PatientName = f"FAKE-{name.upper()}", f"{name.capitalize()}ova^Testina"
        image.AccessionNumber = f"ACC{name.upper()}"[:16]
        if change is not None:
            change(image)
        files.append(folder / path.name)
        sop_uids.append(str(image.SOPInstanceUID))
        image.save_as(files[-1], enforce_file_format=True)
    return Sample(
        tuple(files),
        str(image.StudyInstanceUID),
        str(image.SeriesInstanceUID),
        tuple(sop_uids),
        str(image.AccessionNumber),
        str(image.PatientID),
        str(image.PatientName),
    )


def uid(name: str, what: str) -> str:
    """Return a UID that is the same for the same words."""
    digest = hashlib.sha256(f"btt-bridge journeys {name} {what}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def data_set(path: Path) -> bytes:
    """Return what follows the meta information of a file, as it goes over the wire."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]
