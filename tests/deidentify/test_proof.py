"""The proof finds what the profile would miss, wherever it is put back, and stops no study without a cause."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable

import pydicom
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGLosslessSV1

from btt_bridge.deidentify import Proof, examine, strip
from btt_bridge.deidentify.profile import METHOD
from btt_bridge.errors import IdentityLeakError, MalformedError
from btt_bridge.records import Pseudonym
from tests.deidentify.cases import KEY, PSEUDONYM, Plant, content_of, plain_ct, planted

LENGTH_MIN = 4


def outgoing(original: bytes) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(strip(original, KEY, PSEUDONYM).content))


def written(dataset: pydicom.FileDataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def prove(original: bytes, sent: bytes) -> None:
    proof = Proof(LENGTH_MIN)
    proof.add("000001.dcm", examine(original, sent))
    proof.finish(strip(original, KEY, PSEUDONYM).identifying, PSEUDONYM.shift_days)


def put(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, keyword, value)


def nest(keyword: str, value: object) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        item = Dataset()
        setattr(item, keyword, value)
        dataset.ReferencedImageSequence = [item]

    return change


def add(tag: int, vr: str, value: object) -> Callable[[Dataset], None]:
    return lambda dataset: dataset.add_new(tag, vr, value)


def test_what_the_profile_strips_passes() -> None:
    """A clean object, and one with ninety secrets that were taken out, both pass."""
    for original in (content_of(plain_ct()), planted(Plant())):
        prove(original, strip(original, KEY, PSEUDONYM).content)


MUTATIONS: dict[str, Callable[[Dataset], None]] = {
    "the name where it was": put("PatientName", "Mustermann^Erika"),
    "the name in other letters": put("ManufacturerModelName", "MUSTERMANN"),
    "the name the other way round": put("SeriesDescription", "erika mustermann"),
    "a part of the name in a sentence": put("ImageComments", "seen with Erika today"),
    "the name nested": nest("PatientName", "Mustermann"),
    "the name in a private attribute": add(0x00111001, "LO", "Mustermann"),
    "the name as bytes of no text": add(0x00111001, "OB", b"\1\2Mustermann\0\0"),
    "the name in UTF-16": add(0x00111001, "OB", "Mustermann".encode("utf-16-le")),
    "the name in an overlay": add(0x60000022, "LO", "Mustermann"),
    "the name as the maker's": put("Manufacturer", "Mustermann"),
    "the name in a technical attribute": put("ConvolutionKernel", "Mustermann"),
    "the patient ID where it was": put("PatientID", "MRN-4711-XY"),
    "the patient ID elsewhere": put("StationName", "xx MRN-4711-XY"),
    "the accession number": put("StudyDescription", "order A7001234"),
    "the physician": put("OperatorsName", "Referrer^Rita"),
    "the study date where it was": put("StudyDate", "20240517"),
    "the birth date": put("AcquisitionDate", "19500203"),
    "the study date as people write it": put("ImageComments", "taken on 17.05.2024"),
    "the study date in words": put("ImageComments", "taken on 17 May 2024"),
    "the study date with a time": put("AcquisitionDateTime", "20240517101112"),
    "the study date nested": nest("ContentDate", "20240517"),
    "the study UID": put("StudyInstanceUID", "1.2.826.0.1.3680043.9.7777.1"),
    "the instance UID in a reference": nest("ReferencedSOPInstanceUID", "1.2.826.0.1.3680043.9.7777.1.1"),
    "a UID in text": put("ImageComments", "see 1.2.826.0.1.3680043.9.7777.1.2"),
    "a short ID as the whole of a text": put("StationName", "1"),
}


@pytest.mark.parametrize("mutation", sorted(MUTATIONS))
def test_a_value_that_is_put_back_is_found(mutation: str) -> None:
    """Any identifying value, put anywhere in any of its forms, stops the study, and is not itself in the message."""
    original = content_of(plain_ct())
    dataset = outgoing(original)
    MUTATIONS[mutation](dataset)
    with pytest.raises(IdentityLeakError) as raised:
        prove(original, written(dataset))
    assert "000001.dcm" in str(raised.value)
    for value in ("Mustermann", "Erika", "4711", "A7001234", "Rita", "20240517", "1950", "7777"):
        assert value not in str(raised.value)


def test_names_of_other_scripts_are_found() -> None:
    """An ideographic name is found in its own encoding and in UTF-8, though its characters are few."""
    original = content_of(plain_ct(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎"))
    for encoded in ("山田".encode(), "山田".encode("iso2022_jp"), "太郎".encode("utf-16-le")):
        dataset = outgoing(original)
        dataset.add_new(0x00111001, "LO", b"")
        dataset[0x00111001]._value = encoded + b" " * (len(encoded) % 2)
        dataset[0x00111001].VR = "UN"
        with pytest.raises(IdentityLeakError):
            prove(original, written(dataset))


def test_a_text_among_the_pixels_is_found() -> None:
    """A name written behind the pixels, or among them, is found; pixels that merely look like letters are not."""
    original = content_of(plain_ct())
    dataset = outgoing(original)
    dataset.PixelData = bytes(dataset.PixelData) + b"name: Mustermann, Erika "
    with pytest.raises(IdentityLeakError, match="pixels"):
        prove(original, written(dataset))


@pytest.mark.parametrize("marker", [0xFE, 0xE1, 0xEC])
def test_a_text_in_a_jpeg_segment_is_found(marker: int) -> None:
    """Comment and application segments of a compressed image are text, however short."""
    comment = b"E.Erika"
    segment = bytes([0xFF, marker]) + (len(comment) + 2).to_bytes(2, "big") + comment
    dataset = plain_ct()
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    original = content_of(dataset, JPEGLosslessSV1)
    clean = outgoing(original)
    prove(original, written(clean))
    clean.PixelData = encapsulate([b"\xff\xd8" + segment + b"\xff\xda\x00\x02\xff\xd9"])
    with pytest.raises(IdentityLeakError, match="pixels"):
        prove(original, written(clean))


def test_a_value_of_a_later_object_is_found_in_an_earlier_one() -> None:
    """What identifies need not be known when the object that leaks it is added."""
    first, second = content_of(plain_ct()), content_of(plain_ct(OperatorsName="Nightingale^Florence"))
    dataset = outgoing(first)
    dataset.ImageComments = "done by F. Nightingale"
    proof = Proof(LENGTH_MIN)
    proof.add("000001.dcm", examine(first, written(dataset)))
    proof.finish()
    proof.add("000002.dcm", examine(second, strip(second, KEY, PSEUDONYM).content))
    with pytest.raises(IdentityLeakError, match=r"OperatorsName .* 000001\.dcm"):
        proof.finish()


def test_what_the_profile_met_is_searched_for_too() -> None:
    """Values handed to the end are searched for besides the proof's own; a plain word among them is not."""
    original = content_of(plain_ct())
    proof = Proof(LENGTH_MIN)
    proof.add("000001.dcm", examine(original, strip(original, KEY, PSEUDONYM).content))
    proof.finish({"CHEST", "ACME", "B30f"})
    with pytest.raises(IdentityLeakError):
        proof.finish({METHOD})


def test_the_preamble_and_the_file_meta_are_searched() -> None:
    """A preamble that is not zeroed, and a name in the file meta information, are found."""
    dataset = plain_ct()
    dataset.file_meta.SourceApplicationEntityTitle = "WARD7PACS"
    original = content_of(dataset)
    sent = strip(original, KEY, PSEUDONYM).content
    with pytest.raises(IdentityLeakError, match="preamble"):
        prove(original, b"x" + sent[1:])
    leaking = outgoing(original)
    leaking.file_meta.SourceApplicationEntityTitle = "WARD7PACS"
    with pytest.raises(IdentityLeakError, match="SourceApplicationEntityTitle"):
        prove(original, written(leaking))


@pytest.mark.parametrize(
    "changed",
    [
        {"PatientName": "Chest^Head"},
        {"PatientName": "X"},
        {"PatientID": "1"},
        {"PatientID": "120"},
        {"PatientID": "1024"},
        {"PatientID": "10008"},
        {"PatientID": "CT"},
        {"InstitutionName": "ACME"},
        {"PatientName": "Acme^Erika"},
        {"SeriesDescription": "CHEST"},
        {"StudyDescription": "ORIGINAL PRIMARY AXIAL"},
        {"StudyID": "3"},
        {"OperatorsName": "B^F"},
        {"PatientName": "ANONYMIZED", "DeviceSerialNumber": "ANONYMIZED"},
        {"PatientName": ""},
        {"AcquisitionDate": "20210821"},
    ],
)
def test_no_study_is_stopped_by_chance(changed: dict[str, str]) -> None:
    """Short, common or technical values, and a day that another one was moved to, do not hold a clean study."""
    original = content_of(plain_ct(**changed))
    prove(original, strip(original, KEY, PSEUDONYM).content)


def test_stripping_twice_passes_twice() -> None:
    """An object that was de-identified by this very profile can be de-identified again."""
    once = strip(content_of(plain_ct()), KEY, PSEUDONYM).content
    prove(once, strip(once, bytes(32), Pseudonym("BTT-Z", "BTT^Z", -30)).content)


def test_an_object_that_cannot_be_read_again_is_refused() -> None:
    """The proof never passes what it could not read."""
    with pytest.raises(MalformedError):
        examine(b"Erika", b"Erika")


def test_what_is_kept_is_small_and_travels() -> None:
    """What the proof keeps of an object is its text, not its pixels, and can be pickled out of a child process."""
    original = content_of(plain_ct(size=256, PixelData=bytes(2 * 256 * 256)), ExplicitVRLittleEndian)
    examined = examine(original, strip(original, KEY, PSEUDONYM).content)
    assert len(pickle.dumps(examined)) < len(original) / 10
    assert pickle.loads(pickle.dumps(examined)) == examined
