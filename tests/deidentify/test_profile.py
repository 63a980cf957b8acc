"""Whatever identity is planted wherever, stripping takes it out, and leaves what the image needs as it was."""

from __future__ import annotations

import io
import struct
import zlib

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
)

from btt_bridge import dicom
from btt_bridge.deidentify import strip
from btt_bridge.errors import BridgeError, MalformedError
from tests.deidentify.cases import (
    KEY,
    PSEUDONYM,
    Plant,
    content_of,
    implicit_sequence,
    plain_ct,
    planted,
    set_raw,
)

SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGLosslessSV1,
]


def read(content: bytes) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(content))


def stripped(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> pydicom.FileDataset:
    return read(strip(content_of(dataset, syntax), KEY, PSEUDONYM).content)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_no_planted_secret_is_left(syntax: str) -> None:
    """Of ninety secrets, in text, names, dates and UIDs, at every depth and around the data set, none is left."""
    plant = Plant()
    original = planted(plant, syntax)
    outgoing = strip(original, KEY, PSEUDONYM).content
    searched = dicom.read(outgoing).content + outgoing if syntax == DeflatedExplicitVRLittleEndian else outgoing
    assert len(plant.secrets) > 80
    assert plant.left_in(searched) == []


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_planted_secret_that_identifies_is_reported(syntax: str) -> None:
    """What was taken out of identifying attributes is handed on for the proof to search for."""
    plant = Plant()
    told = " ".join(strip(planted(plant, syntax), KEY, PSEUDONYM).identifying)
    for secret, place in plant.secrets.items():
        if place in ("PatientName, family name", "PatientID", "AccessionNumber", "StudyDate", "nested one deep"):
            assert secret in told, place


def test_what_an_image_needs_is_as_it_was() -> None:
    """Geometry, scaling, technique and pixels come through unchanged, to the byte."""
    original = plain_ct()
    outgoing = stripped(original)
    for keyword in (
        "Modality", "Manufacturer", "BodyPartExamined", "SliceThickness", "KVP", "ConvolutionKernel",
        "PatientPosition", "SeriesNumber", "AcquisitionNumber", "InstanceNumber", "ImagePositionPatient",
        "ImageOrientationPatient", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "PixelSpacing",
        "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleIntercept", "RescaleSlope",
        "RescaleType", "PixelData", "StudyTime",
    ):  # fmt: skip
        assert outgoing[keyword].value == original[keyword].value, keyword


def test_who_and_when_are_replaced() -> None:
    """Patient and UIDs go by their outgoing names, dates move together, and what was done is said in codes."""
    outgoing = stripped(plain_ct())
    assert outgoing.PatientName == PSEUDONYM.patient_name
    assert outgoing.PatientID == PSEUDONYM.patient_id
    assert outgoing.StudyDate == outgoing.SeriesDate == "20210821"
    assert outgoing.PatientBirthDate == outgoing.PatientSex == outgoing.AccessionNumber == ""
    assert outgoing.PatientIdentityRemoved == "YES"
    assert outgoing.LongitudinalTemporalInformationModified == "MODIFIED"
    assert [item.CodeValue for item in outgoing.DeidentificationMethodCodeSequence] == ["113100", "113107"]
    assert "SpecificCharacterSet" not in outgoing


def test_uids_map_alike_everywhere() -> None:
    """A UID has one outgoing name in file meta, data set and references, as the map says; the class keeps its own."""
    dataset = plain_ct()
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CTImageStorage, dataset.SOPInstanceUID
    dataset.ReferencedImageSequence = [reference]
    result = strip(content_of(dataset), KEY, PSEUDONYM)
    outgoing = read(result.content)
    mapped = result.uids[dataset.SOPInstanceUID]
    assert outgoing.SOPInstanceUID == outgoing.file_meta.MediaStorageSOPInstanceUID == mapped
    assert outgoing.ReferencedImageSequence[0].ReferencedSOPInstanceUID == mapped
    assert outgoing.SOPClassUID == CTImageStorage
    assert set(result.uids) == {
        dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID
    }  # fmt: skip


def test_the_slice_says_where_the_image_lies() -> None:
    """Geometry is handed on in outgoing UIDs, for whoever judges the findings."""
    result = strip(content_of(plain_ct()), KEY, PSEUDONYM)
    assert result.slice.sop_instance_uid == result.uids["1.2.826.0.1.3680043.9.7777.1.1"]
    assert result.slice.series_instance_uid == result.uids["1.2.826.0.1.3680043.9.7777.1.2"]
    assert (result.slice.rows, result.slice.columns) == (16, 16)
    assert result.slice.position == (-172.0, -156.5, 288.25)
    assert result.slice.orientation == (1, 0, 0, 0, 1, 0)
    assert result.slice.spacing == (0.703125, 0.703125)


def test_stripping_is_repeatable() -> None:
    """The same object, key and pseudonym give the same bytes."""
    content = planted(Plant())
    assert strip(content, KEY, PSEUDONYM) == strip(content, KEY, PSEUDONYM)


def test_an_earlier_deidentification_is_remembered() -> None:
    """Codes of CID 7050 that came with the object stay beside ours; its free text does not."""
    dataset = plain_ct(DeidentificationMethod="by Erika")
    earlier = Dataset()
    earlier.CodeValue, earlier.CodingSchemeDesignator, earlier.CodeMeaning = "113109", "DCM", "by Erika"
    local = Dataset()
    local.CodeValue, local.CodingSchemeDesignator, local.CodeMeaning = "1", "99ERIKA", "by Erika"
    dataset.DeidentificationMethodCodeSequence = [earlier, local]
    outgoing = stripped(dataset)
    assert [item.CodeValue for item in outgoing.DeidentificationMethodCodeSequence] == ["113100", "113107", "113109"]
    assert b"Erika" not in strip(content_of(dataset), KEY, PSEUDONYM).content


def test_a_head_is_flagged() -> None:
    """Nobody removes faces here, so an image of a head says that it may show one; one of a chest does not."""
    assert stripped(plain_ct(BodyPartExamined="HEAD")).RecognizableVisualFeatures == "YES"
    assert "RecognizableVisualFeatures" not in stripped(plain_ct())


def test_functional_groups_keep_their_frames() -> None:
    """Items that belong to frames keep their places even where nothing is left of one."""
    dataset = plain_ct(SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=2)
    dataset.PixelData = dataset.PixelData * 2
    named, placed, position = Dataset(), Dataset(), Dataset()
    named.PatientComments = "Erika"
    position.ImagePositionPatient = [1, 2, 3]
    placed.PlanePositionSequence = [position]
    dataset.PerFrameFunctionalGroupsSequence = [named, placed]
    groups = stripped(dataset).PerFrameFunctionalGroupsSequence
    assert len(groups) == 2
    assert len(groups[0]) == 0
    assert groups[1].PlanePositionSequence[0].ImagePositionPatient == [1, 2, 3]


def test_a_un_encoded_sequence_becomes_a_sequence() -> None:
    """A known sequence in the VR UN is read as such, its references mapped, its names gone."""
    hidden = Dataset()
    hidden.PatientComments = "Erika"
    hidden.ReferencedSOPInstanceUID = "1.2.826.0.1.3680043.9.7777.8"
    dataset = plain_ct()
    set_raw(dataset, 0x00081140, "UN", implicit_sequence(hidden))
    result = strip(content_of(dataset), KEY, PSEUDONYM)
    item = read(result.content).ReferencedImageSequence[0]
    assert item.ReferencedSOPInstanceUID == result.uids["1.2.826.0.1.3680043.9.7777.8"]
    assert len(item) == 1


def test_numbers_of_the_wrong_vr_do_not_turn_into_others() -> None:
    """Text in an attribute of binary numbers, of the right length or not, is emptied, never reinterpreted."""
    dataset = plain_ct()
    set_raw(dataset, 0x00280120, "IS", b"42")
    set_raw(dataset, 0x00180050, "LO", b"Erika")
    outgoing = stripped(dataset)
    assert "PixelPaddingValue" not in outgoing
    assert outgoing.SliceThickness is None


def test_what_lies_behind_the_pixels_does_not_leave() -> None:
    """Bytes behind the pixels that rows and columns account for are no image."""
    dataset = plain_ct()
    pixels = bytes(dataset.PixelData)
    dataset.PixelData = pixels + b"Mustermann, Erika "
    assert stripped(dataset).PixelData == pixels


def test_encapsulated_pixels_pass_untouched() -> None:
    """Fragments and offset table of compressed pixels are the same bytes before and after."""
    dataset = plain_ct()
    original = read(content_of(dataset, JPEGLosslessSV1))
    assert stripped(dataset, JPEGLosslessSV1).PixelData == original.PixelData


def test_a_number_of_frames_that_is_none_is_refused() -> None:
    """Where nobody can say how many pixels there are, none are cut off."""
    content = content_of(plain_ct(NumberOfFrames=10)).replace(b"\x28\0\x08\0IS\x02\x0010", b"\x28\0\x08\0IS\x02\x001A")
    with pytest.raises(MalformedError, match="no number"):
        strip(content, KEY, PSEUDONYM)


@pytest.mark.parametrize("missing", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PixelData", "Rows"])
def test_an_image_without_what_it_needs_is_refused(missing: str) -> None:
    """An object that could not be placed or shown is malformed; the message names the attribute at most."""
    content = content_of(plain_ct())
    dataset = read(content)
    del dataset[missing]
    stream = io.BytesIO()
    dataset.save_as(stream)
    with pytest.raises(MalformedError) as raised:
        strip(stream.getvalue(), KEY, PSEUDONYM)
    assert "7777" not in str(raised.value)


def nested(depth: int) -> bytes:
    """Return an item that holds a sequence that holds an item, so many times over."""
    inner = b""
    for _ in range(depth):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
        inner = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, len(item)) + item
    return inner


def hostile() -> dict[str, bytes]:
    """Return objects that are made to break a reader, by what is wrong with them."""
    whole = content_of(plain_ct())
    meta, pixels = whole.index(b"\x08\x00\x05\x00CS"), whole.index(b"\xe0\x7f\x10\x00")
    length = bytearray(whole)
    length[pixels + 8 : pixels + 12] = b"\xf0\xff\xff\xff"
    rows = bytearray(whole)
    at = whole.index(b"\x28\x00\x10\x00US")
    rows[at + 8 : at + 10] = b"\xff\xff"
    return {
        "empty": b"",
        "no preamble": whole[132:],
        "text": b"Erika Mustermann" * 100,
        "cut in the header": whole[: meta + 40],
        "cut in the pixels": whole[:-20],
        "meta only": whole[:meta],
        "nested 2000 deep": whole[:meta] + nested(2000) + whole[meta:],
        "a length beyond the end": bytes(length),
        "rows times columns beyond the data": bytes(rows),
        "an item end at the top": whole[:pixels] + b"\xfe\xff\x0d\xe0\0\0\0\0" + whole[pixels:],
        "a sequence without an end": whole[:meta]
        + b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff",
        "a deflated bomb cut short": whole[:132]
        + whole[132:meta].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
        + zlib.compress(bytes(1000))[2:20],
        "no transfer syntax": whole.replace(b"1.2.840.10008.1.2.1\0", bytes(20)),
        "pixels as a sequence": whole[:pixels] + b"\xe0\x7f\x10\x00SQ\0\0\0\0\0\0",
    }


@pytest.mark.parametrize("case", sorted(hostile()))
def test_hostile_objects_are_refused(case: str) -> None:
    """Each is refused as malformed, quickly and without taking anything else down."""
    with pytest.raises(MalformedError):
        strip(hostile()[case], KEY, PSEUDONYM)


def test_a_header_in_implicit_vr_against_its_own_word() -> None:
    """An object that says explicit and is implicit is read as what it is, and goes out saying so."""
    content = content_of(plain_ct(), ImplicitVRLittleEndian)
    lying = content.replace(b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.1\0", 1).replace(
        struct.pack("<HH2sH", 2, 0x10, b"UI", 18), struct.pack("<HH2sH", 2, 0x10, b"UI", 20)
    )
    outgoing = read(strip(lying, KEY, PSEUDONYM).content)
    assert outgoing.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert outgoing.PatientName == PSEUDONYM.patient_name


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damage_never_leaks(data: st.DataObject) -> None:
    """Whatever few bytes of a header are damaged, the object is refused, or goes out without one secret."""
    plant, content = Plant(), _PLANTED
    planted(plant)
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        outgoing = strip(bytes(damaged), KEY, PSEUDONYM).content
    except BridgeError:
        return
    # What the damage itself made of a pixel is none of the secrets; what it made of a secret is.
    assert plant.left_in(outgoing) == []


_PLANTED = planted(Plant())
