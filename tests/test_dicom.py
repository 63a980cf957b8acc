"""Elements are read as the standard lays them out, and written so that anybody reads the same."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from btt_bridge import dicom
from btt_bridge.dicom import Encoding
from btt_bridge.errors import MalformedError, TooLargeError
from tests.deidentify.cases import content_of, plain_ct

EXPLICIT = Encoding(implicit=False, little=True)


def tags_of(dataset: Dataset) -> list[int]:
    """Return every tag at every depth, as pydicom sees them."""
    return [int(element.tag) for element in dataset.iterall()]


FILES = {path.name: path for path in Path(pydicom.data.__file__).parent.glob("test_files/*.dcm")}
#: Without a preamble, without a transfer syntax, or cut short: pydicom guesses, or reads what is there.
REFUSED = {
    "ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "MR_truncated.dcm", "meta_missing_tsyntax.dcm",
    "no_meta.dcm", "rtplan_truncated.dcm", "rtstruct.dcm",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_the_same_elements_as_pydicom() -> None:
    """At every depth and in every encoding, for every object that pydicom ships, we see the tags that pydicom sees."""
    assert len(FILES) > 60
    for name, path in FILES.items():
        if name not in REFUSED:
            ours = [element.tag for element in dicom.walk(dicom.read(path.read_bytes()).elements)]
            assert ours == tags_of(pydicom.dcmread(path)), name


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_whole_is_refused(name: str) -> None:
    """An object that does not say how it is encoded, or that is cut short, is malformed rather than guessed at."""
    with pytest.raises(MalformedError):
        dicom.read(FILES[name].read_bytes())


def test_values_lie_where_they_are_said_to() -> None:
    """The offsets of an element cut its value, and nothing else, out of the bytes."""
    source = dicom.read(content_of(plain_ct()))
    by_tag = {element.tag: element for element in source.elements}
    element = by_tag[0x00100020]
    assert dicom.text(source.content[element.value_start : element.value_end]) == "MRN-4711-XY"
    assert source.content[element.start : element.start + 6] == b"\x10\x00\x20\x00LO"
    assert dicom.text(source.meta[dicom.TRANSFER_SYNTAX_UID]) == source.transfer_syntax_uid == dicom.EXPLICIT_LITTLE


@given(st.sampled_from(["LO", "UI", "OB", "UT", "DS", "UN"]), st.binary(max_size=99), st.booleans(), st.booleans())
def test_what_is_written_is_read_back(vr: str, value: bytes, implicit: bool, big: bool) -> None:
    """An element of any VR and encoding reads back as the same tag and value, padded to even length."""
    encoding = Encoding(implicit=implicit, little=not big or implicit)
    syntax = dicom.IMPLICIT_LITTLE if implicit else dicom.EXPLICIT_BIG if big else dicom.EXPLICIT_LITTLE
    meta = EXPLICIT.element(dicom.TRANSFER_SYNTAX_UID, "UI", syntax.encode())
    source = dicom.read(bytes(128) + b"DICM" + meta + encoding.element(0x00100020, vr, value))
    (element,) = source.elements
    read = source.content[element.value_start : element.value_end]
    assert (element.tag, read[: len(value)], len(read) % 2) == (0x00100020, value, 0)


def test_a_sequence_is_written_with_its_items() -> None:
    """Items of a written sequence are read by pydicom as they were meant."""
    item = EXPLICIT.element(0x00081155, "UI", b"1.2.3")
    dataset = plain_ct()
    content = content_of(dataset)
    at = content.index(b"\x10\x00\x10\x00PN")
    content = content[:at] + EXPLICIT.sequence(0x00081140, [item, item]) + content[at:]
    read = pydicom.dcmread(io.BytesIO(content))
    assert [each.ReferencedSOPInstanceUID for each in read.ReferencedImageSequence] == ["1.2.3", "1.2.3"]


def test_a_value_too_long_for_its_vr_is_not_written() -> None:
    """A short VR cannot say a length of 64 KiB, and nothing is cut to make it fit."""
    with pytest.raises(MalformedError):
        EXPLICIT.element(0x00100020, "LO", bytes(65536))


def test_deflated_bytes_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small object that would inflate to a huge one is refused before it does."""
    monkeypatch.setattr(dicom, "INFLATED_BYTES_MAX", 1000)
    meta = EXPLICIT.element(dicom.TRANSFER_SYNTAX_UID, "UI", dicom.DEFLATED.encode())
    with pytest.raises(TooLargeError):
        dicom.read(bytes(128) + b"DICM" + meta + dicom.deflated(bytes(10**6)))


def test_depth_has_a_limit_that_costs_nothing() -> None:
    """Sequences nested beyond the limit are refused however deep they are, and those within it are read."""

    def nested(depth: int) -> bytes:
        inner = b""
        for _ in range(depth):
            inner = struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, 8 + len(inner)) + struct.pack(
                "<HHL", 0xFFFE, 0xE000, len(inner)
            ) + inner  # fmt: skip
        return bytes(128) + b"DICM" + EXPLICIT.element(dicom.TRANSFER_SYNTAX_UID, "UI", b"1.2.840.10008.1.2.1") + inner

    assert len(list(dicom.walk(dicom.read(nested(dicom.DEPTH_MAX)).elements))) == dicom.DEPTH_MAX
    for depth in (dicom.DEPTH_MAX + 1, 3000):
        with pytest.raises(MalformedError):
            dicom.read(nested(depth))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tail: bytes) -> None:
    """Whatever follows a valid file meta, reading ends in elements or in MalformedError."""
    for syntax in (dicom.IMPLICIT_LITTLE, dicom.EXPLICIT_LITTLE, dicom.EXPLICIT_BIG, dicom.DEFLATED):
        meta = EXPLICIT.element(dicom.TRANSFER_SYNTAX_UID, "UI", syntax.encode())
        try:
            source = dicom.read(bytes(128) + b"DICM" + meta + tail)
        except MalformedError:
            continue
        assert all(element.end <= len(source.content) for element in dicom.walk(source.elements))
