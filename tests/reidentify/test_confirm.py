"""The last gate lets documents of this patient and study pass, and nothing that is not."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from btt_bridge.errors import UnmappedIdentityError
from btt_bridge.records import Arrival, Document, Instance, Series, Study
from btt_bridge.reidentify import confirm
from tests.deidentify.cases import content_of, plain_ct
from tests.reidentify.test_restore import FIRST, IDENTITY, OUT, PSEUDONYM, SECOND, SERIES, STUDY

NOW = datetime(2026, 1, 5, tzinfo=UTC)
OWN, OLDER = "1.3.6.1.4.1.5962.99.2", "1.3.6.1.4.1.5962.98.2"


def study() -> Study:
    instances = tuple(
        Instance(number, Arrival(uid, CTImageStorage, "1.2.840.10008.1.2.1", "CT", "BTT", "10.0.0.1", "x", 1, NOW))
        for number, uid in enumerate((FIRST, SECOND))
    )
    return Study(STUDY, 1, "CT", (Series(SERIES, {}, instances),), NOW, NOW)


def written() -> Dataset:
    """A secondary capture of the study as report writes it."""
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CTImageStorage, SECOND
    dataset = plain_ct(
        SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Änne", PatientID="MRN-1", StudyInstanceUID=STUDY,
        SeriesInstanceUID="1.3.6.1.4.1.5962.99.3", SOPInstanceUID=OWN,
    )  # fmt: skip
    del dataset.FrameOfReferenceUID
    dataset.ReferencedImageSequence = [reference]
    return dataset


def document(dataset: Dataset) -> Document:
    return Document(OWN, dataset.SOPClassUID, "SC", content_of(dataset))


def refer(uid: str, keyword: str = "ReferencedSOPInstanceUID") -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset.ReferencedImageSequence[0], keyword, uid)


def test_documents_of_the_study_pass() -> None:
    """Patient, study, references to the study, to each other and to an earlier revision are all in order."""
    dataset = written()
    confirm([document(dataset)], IDENTITY, study())
    refer(OWN)(dataset)
    confirm([document(dataset)], IDENTITY, study())
    refer(OLDER)(dataset)
    confirm([document(dataset)], IDENTITY, study(), [OLDER])


MUTATIONS: dict[str, Callable[[Dataset], None]] = {
    "another patient's ID": lambda dataset: setattr(dataset, "PatientID", "MRN-2"),
    "another patient's name": lambda dataset: setattr(dataset, "PatientName", "Müller^Anne"),
    "no patient": lambda dataset: delattr(dataset, "PatientID"),
    "the pseudonym as the name": lambda dataset: setattr(dataset, "PatientName", PSEUDONYM.patient_name),
    "the pseudonym in text": lambda dataset: setattr(dataset, "ImageComments", f"of {PSEUDONYM.patient_id}"),
    "another study": lambda dataset: setattr(dataset, "StudyInstanceUID", SERIES),
    "the outgoing study": lambda dataset: setattr(dataset, "StudyInstanceUID", OUT[STUDY]),
    "an outgoing reference": refer(OUT[SECOND]),
    "an outgoing UID in text": lambda dataset: setattr(dataset, "ImageComments", f"see {OUT[FIRST]}"),
    "a reference to nothing of the study": refer("1.3.6.1.4.1.5962.97.1"),
    "an earlier document nobody named": refer(OLDER),
    "a frame of reference of another study": lambda dataset: setattr(
        dataset, "FrameOfReferenceUID", "1.3.6.1.4.1.5962.97.2"
    ),
    "another instance than it goes by": lambda dataset: setattr(dataset, "SOPInstanceUID", "1.3.6.1.4.1.5962.99.9"),
}


@pytest.mark.parametrize("mutation", sorted(MUTATIONS))
def test_anything_else_is_stopped(mutation: str) -> None:
    """One wrong name anywhere stops the whole delivery, and the message repeats none of them."""
    good, dataset = document(written()), written()
    MUTATIONS[mutation](dataset)
    with pytest.raises(UnmappedIdentityError) as raised:
        confirm([good, document(dataset)], IDENTITY, study())
    for value in ("MRN", "ller", "2.25", "1.3.6", "BTT-"):
        assert value not in str(raised.value)


def test_an_outgoing_uid_among_the_pixels_is_found() -> None:
    """The whole of the bytes is searched, not only what is read of them."""
    dataset = written()
    dataset.PixelData = OUT[FIRST].encode().ljust(len(dataset.PixelData), b"\0")
    with pytest.raises(UnmappedIdentityError):
        confirm([document(dataset)], IDENTITY, study())


def test_what_cannot_be_read_is_stopped() -> None:
    """A document that is not whole is never sent."""
    whole = document(written())
    with pytest.raises(UnmappedIdentityError):
        confirm([replace(whole, content=whole.content[:-10])], IDENTITY, study())


@pytest.mark.parametrize(
    ("character_set", "name"),
    [("ISO_IR 100", "Müller^Änne"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"), ("", "Mueller^Aenne")],
)
def test_names_are_compared_as_they_read(character_set: str | list[str], name: str) -> None:
    """The same name in another character set, or with empty components behind it, is the same name."""
    dataset = written()
    dataset.SpecificCharacterSet, dataset.PatientName = character_set, f"{name}^^"
    identity = replace(IDENTITY, patient={**IDENTITY.patient, "PatientName": name})
    confirm([document(dataset)], identity, study())
    assert pydicom.dcmread(io.BytesIO(document(dataset).content)).PatientName == f"{name}^^"
