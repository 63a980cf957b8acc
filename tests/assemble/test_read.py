"""Headers are read from whatever was stored, and an object that cannot be read costs only itself."""

from __future__ import annotations

import pickle
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.dataelem import DataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)
from pydicom.valuerep import PersonName

from btt_bridge.assemble import Unreadable, read
from btt_bridge.config import Isolation as IsolationSettings
from btt_bridge.isolate import Isolation
from btt_bridge.records import Header

SAMPLE = Path(__file__).parents[2] / "sample_data" / "chest_ct"
STUDY, SERIES, INSTANCE = "1.2.3", "1.2.3.4", "1.2.3.4.5"
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
Spool = Callable[[bytes], str]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Write bytes as one spooled file and return its path."""

    def write(content: bytes) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.dcm"
        path.write_bytes(content)
        return str(path)

    return write


def one(path: str, depth_max: int = 8, header_bytes_max: int = 2**20) -> Header | Unreadable:
    (answer,) = read([(7, path)], depth_max, header_bytes_max)
    return answer


def header(path: str) -> Header:
    answer = one(path)
    assert isinstance(answer, Header), answer
    return answer


def reason(path: str, **limits: int) -> str:
    answer = one(path, **limits)
    assert isinstance(answer, Unreadable), answer
    assert answer.instance_id == 7
    return answer.reason


def image() -> Dataset:
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 100"
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, INSTANCE
    image.Modality = "CT"
    image.PatientName = "Müller^Jürgen"
    image.SliceThickness = "1.25"
    image.StudyInstanceUID, image.SeriesInstanceUID = STUDY, SERIES
    image.InstanceNumber = "12"
    image.Rows, image.Columns, image.BitsAllocated, image.PixelRepresentation = 2, 3, 16, 1
    image.SmallestImagePixelValue = -5
    image["SmallestImagePixelValue"].VR = "SS"
    image.RevolutionTime = 0.5
    inner = Dataset()
    inner.CodeValue = "T-1"
    image.AnatomicRegionSequence = [inner]
    image.add(DataElement(0x7FE00010, "OW", bytes(12)))
    return image


KEYWORDS = {
    "SpecificCharacterSet": "ISO_IR 100",
    "ImageType": ("ORIGINAL", "PRIMARY"),
    "SOPClassUID": CTImageStorage,
    "SOPInstanceUID": INSTANCE,
    "Modality": "CT",
    "PatientName": "Müller^Jürgen",
    "SliceThickness": 1.25,
    "RevolutionTime": 0.5,
    "StudyInstanceUID": STUDY,
    "SeriesInstanceUID": SERIES,
    "InstanceNumber": 12,
    "Rows": 2,
    "Columns": 3,
    "BitsAllocated": 16,
    "PixelRepresentation": 1,
    "SmallestImagePixelValue": -5,
}


def encoded(data: Dataset, syntax: UID) -> bytes:
    """Return a data set alone, without meta information, as it travels in a C-STORE."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    write_dataset(buffer, data)
    content = buffer.getvalue()
    if syntax == DeflatedExplicitVRLittleEndian:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflater.compress(content) + deflater.flush()
    return content


def behind_meta(content: bytes, syntax: str, sop_instance_uid: str = INSTANCE) -> bytes:
    """Return a Part 10 file as the listener writes it: its own meta information, then what it was sent."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, UID(sop_instance_uid)
    meta.TransferSyntaxUID = UID(syntax)
    group = encoded(meta, ExplicitVRLittleEndian)
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(group)) + group + content


def short(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """Return one explicit element as raw bytes."""
    value += b" " * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def nested(depth: int, syntax: UID, *, defined: bool, vr: bytes = b"SQ") -> bytes:
    """Return ContentSequence in ContentSequence, `depth` of them, as raw bytes."""
    content = b""
    for _ in range(depth):
        length = len(content) if defined else 0xFFFFFFFF
        item = struct.pack("<HHL", 0xFFFE, 0xE000, length) + content
        item += b"" if defined else struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        length = len(item) if defined else 0xFFFFFFFF
        explicit = syntax == ExplicitVRLittleEndian
        head = (
            struct.pack("<HH2sHL", 0x40, 0xA730, vr, 0, length)
            if explicit
            else struct.pack("<HHL", 0x40, 0xA730, length)
        )
        content = head + item + (b"" if defined else struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))
    return content


def with_nested(depth: int, syntax: UID, *, defined: bool, vr: bytes = b"SQ") -> bytes:
    data = image()
    del data.PixelData
    return behind_meta(encoded(data, syntax) + nested(depth, syntax, defined=defined, vr=vr), syntax)


# --- every encoding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [*NATIVE, DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit])
@pytest.mark.parametrize("true", NATIVE)
def test_the_encoding_found_counts_more_than_the_one_declared(spool: Spool, true: UID, declared: UID) -> None:
    """The same keywords come out whatever the sender negotiated and whatever it then wrote."""
    assert header(spool(behind_meta(encoded(image(), true), declared))).keywords == KEYWORDS


@pytest.mark.parametrize("window_bits", [-zlib.MAX_WBITS, zlib.MAX_WBITS])
def test_deflated_objects_are_inflated(spool: Spool, window_bits: int) -> None:
    """Raw deflate as the standard has it, and with the zlib header that some writers add."""
    deflater = zlib.compressobj(wbits=window_bits)
    content = deflater.compress(encoded(image(), ExplicitVRLittleEndian)) + deflater.flush()
    assert header(spool(behind_meta(content, DeflatedExplicitVRLittleEndian))).keywords == KEYWORDS


@pytest.mark.parametrize("inner", NATIVE)
def test_a_whole_file_sent_as_a_data_set_is_read_by_its_own_meta(spool: Spool, inner: UID) -> None:
    """Preamble and meta information may come twice; the inner transfer syntax is the true one."""
    file = behind_meta(encoded(image(), inner), inner)
    assert header(spool(behind_meta(file, ImplicitVRLittleEndian))).keywords == KEYWORDS


def test_meta_elements_inside_a_data_set_are_passed_over(spool: Spool) -> None:
    """Group 0002 without a preamble, in front of what was sent."""
    file = behind_meta(encoded(image(), ImplicitVRLittleEndian), ImplicitVRLittleEndian)
    assert header(spool(behind_meta(file[132:], ExplicitVRLittleEndian))).keywords == KEYWORDS


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_file_without_preamble_and_meta_is_read(spool: Spool, syntax: UID) -> None:
    """A bare data set says by its first element how it is written."""
    assert header(spool(encoded(image(), syntax))).keywords == KEYWORDS


def test_an_implicit_element_in_an_explicit_data_set_is_read(spool: Spool) -> None:
    """Some writers change to implicit VR in the middle."""
    content = encoded(image(), ExplicitVRLittleEndian)
    series = bytes.fromhex("20000e00") + b"UI"
    value = b"1.2.3.4\0"
    assert content.count(series) == 1
    at = content.index(series)
    implicit = struct.pack("<HHL", 0x20, 0x0E, len(value)) + value
    content = content[:at] + implicit + content[at + 8 + len(value) :]
    assert header(spool(behind_meta(content, ExplicitVRLittleEndian))).keywords == KEYWORDS


@pytest.mark.parametrize("inner", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("defined", [True, False])
def test_sequences_written_as_un_are_passed_over(spool: Spool, inner: UID, defined: bool) -> None:
    """UN around implicit items (PS3.5 6.2.2), and around explicit ones, which is wrong and happens."""
    data = image()
    del data.PixelData
    content = encoded(data, ExplicitVRLittleEndian)
    items = nested(3, inner, defined=defined)
    items = items[12 if inner == ExplicitVRLittleEndian else 8 :]
    length = len(items) if defined else 0xFFFFFFFF
    content += struct.pack("<HH2sHL", 0x40, 0xA730, b"UN", 0, length) + items
    rest = short(0x0040, 0xA493, b"CS", b"VERIFIED")
    answer = header(spool(behind_meta(content + rest, ExplicitVRLittleEndian)))
    assert answer.keywords == KEYWORDS | {"VerificationFlag": "VERIFIED"}


# --- real objects ---------------------------------------------------------------------------------------


def plain(value: object) -> object:
    if isinstance(value, (MultiValue, list)):
        return tuple(plain(part) for part in value)
    if isinstance(value, (str, PersonName)):
        return str(value).strip()
    return float(value) if isinstance(value, float) or hasattr(value, "original_string") else value


@pytest.mark.parametrize("pattern", ["ct_chest/1-1*.dcm", "ct_liver_seg/**/*.dcm", "us/**/*.dcm", "mr_head/**/*0*.dcm"])
def test_keywords_agree_with_pydicom(test_data: Path, pattern: str) -> None:
    """On real CT, MR and US objects every keyword has the value that pydicom reads."""
    paths = sorted(test_data.glob(pattern))
    assert paths
    answers = read([(index, str(path)) for index, path in enumerate(paths)], 32, 2**26)
    for path, answer in zip(paths, answers, strict=True):
        assert isinstance(answer, Header), answer
        assert len(answer.keywords) > 20
        theirs = dcmread(path, stop_before_pixels=True)
        for keyword, value in answer.keywords.items():
            assert plain(value) == plain(theirs.get(keyword)), (path.name, keyword)
        missing = {
            element.keyword
            for element in theirs
            if element.keyword and element.VR not in ("SQ", "OB", "OW", "UN", "AT") and not element.is_empty
        }
        assert missing <= answer.keywords.keys()


def test_the_sample_study_is_one_series(spool: Spool) -> None:
    """Compressed pixels are passed over; order of answers is order of items."""
    paths = sorted(SAMPLE.glob("*.dcm"))
    answers = read([(index, str(path)) for index, path in enumerate(paths)], 8, 2**16)
    assert [answer.instance_id for answer in answers] == list(range(64))
    assert len({answer.series_instance_uid for answer in answers if isinstance(answer, Header)}) == 1
    assert [answer.keywords["InstanceNumber"] for answer in answers if isinstance(answer, Header)] == list(range(1, 65))


def test_answers_come_back_from_a_child_process(spool: Spool) -> None:
    """`read` runs where it may die: its arguments and answers travel."""
    paths = [str(path) for path in sorted(SAMPLE.glob("*.dcm"))[:3]] + [spool(b"")]
    with Isolation(**IsolationSettings(processes=1).model_dump()) as isolation:
        answers = isolation.run(read, list(enumerate(paths)), 8, 2**20)
    assert answers == read(list(enumerate(paths)), 8, 2**20)
    assert isinstance(answers[3], Unreadable)


# --- values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charset", "raw", "expected"),
    [
        (b"", "Jürgen".encode("latin-1"), "Jürgen"),
        (b"", "Jürgen".encode(), "Jürgen"),
        (b"\\", "Jürgen".encode(), "Jürgen"),
        (b"ISO_IR 192", "王小東".encode(), "王小東"),
        (b"ISO_IR_100", "Jürgen".encode("latin-1"), "Jürgen"),
        (b"ISO-IR 100", "Jürgen".encode("latin-1"), "Jürgen"),
        (b"NO SUCH SET", "Jürgen".encode("latin-1"), "Jürgen"),
        (b"GB18030", "王小東".encode("gb18030"), "王小東"),
        (b"\\ISO 2022 IR 87", b"Yamada=" + "山田".encode("iso2022_jp"), "Yamada=山田"),
        (b"ISO_IR 192", b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_text_follows_the_character_set_or_the_best_guess(
    spool: Spool, charset: bytes, raw: bytes, expected: str
) -> None:
    """Standard, misspelled, absent and wrong character sets: text always comes out, and true where it can."""
    data = image()
    del data.SpecificCharacterSet, data.PatientName
    content = short(0x0008, 0x0005, b"CS", charset) + encoded(data, ExplicitVRLittleEndian)
    at = content.index(bytes.fromhex("18005000"))
    content = content[:at] + short(0x0010, 0x0010, b"PN", raw) + content[at:]
    answer = header(spool(behind_meta(content, ExplicitVRLittleEndian)))
    assert answer.keywords["PatientName"] == expected


def test_a_backslash_byte_inside_a_character_does_not_split_it(spool: Spool) -> None:
    """The second byte of a GBK character may be 0x5C."""
    name = "俓"
    assert b"\\" in name.encode("gb18030")
    data = image()
    data.SpecificCharacterSet, data.PatientName = "GB18030", name
    assert (
        header(spool(behind_meta(encoded(data, ExplicitVRLittleEndian), ExplicitVRLittleEndian))).keywords[
            "PatientName"
        ]
        == name
    )


@pytest.mark.parametrize(
    ("vr", "raw", "expected"),
    [
        ("DS", b"1.25 ", 1.25),
        ("DS", b"1e3\\ -2 ", (1000.0, -2.0)),
        ("DS", b"1,25", None),
        ("DS", b"nan ", None),
        ("DS", b"1e999 ", None),
        ("DS", b"1\\\\2", None),
        ("IS", b"+12\0", 12),
        ("IS", b"12.0", 12),
        ("IS", b"12.5", None),
        ("IS", b"1_2 ", None),
        ("IS", b"twelve", None),
        ("LO", b"a\0\x07b ", "ab"),
        ("LO", b" \0", None),
        ("LO", b"a\\b ", ("a", "b")),
        ("LT", b"a\\b ", "a\\b"),
    ],
)
def test_junk_in_a_value_costs_only_that_value(spool: Spool, vr: str, raw: bytes, expected: object) -> None:
    """Numbers are numbers or are left out; text loses padding and control characters."""
    tag = {"DS": 0x00180060, "IS": 0x00181150, "LO": 0x0008103E, "LT": 0x00204000}[vr]
    keyword = {"DS": "KVP", "IS": "ExposureTime", "LO": "SeriesDescription", "LT": "ImageComments"}[vr]
    data = image()
    del data.PixelData
    content = encoded(data, ExplicitVRLittleEndian) + short(tag >> 16, tag & 0xFFFF, vr.encode(), raw)
    answer = header(spool(behind_meta(content, ExplicitVRLittleEndian)))
    assert answer.keywords.get(keyword) == expected
    assert answer.keywords | {keyword: None} == KEYWORDS | {keyword: None}


def test_what_nobody_routes_by_is_left_out(spool: Spool) -> None:
    """Private attributes, sequences, binary and long values stay in the file; repeating groups have their name."""
    data = image()
    data.private_block(0x0009, "SOMEBODY", create=True).add_new(1, "LO", "private")
    data.add_new(0x00282000, "OB", bytes(64))  # ICC Profile
    data.PatientComments = "x" * 2000
    data.add_new(0x60000010, "US", 7)
    data.add_new(0x60020010, "US", 9)
    answer = header(spool(behind_meta(encoded(data, ExplicitVRLittleEndian), ExplicitVRLittleEndian)))
    assert answer.keywords == KEYWORDS | {"OverlayRows": 7}
    assert pickle.loads(pickle.dumps(answer)) == answer


# --- hostile and broken ---------------------------------------------------------------------------------


@pytest.mark.parametrize("defined", [True, False])
@pytest.mark.parametrize(
    ("syntax", "vr"),
    [(ExplicitVRLittleEndian, b"SQ"), (ImplicitVRLittleEndian, b"SQ"), (ExplicitVRLittleEndian, b"UN")],
)
def test_deep_nesting_is_refused_before_anybody_recurses(spool: Spool, syntax: UID, vr: bytes, defined: bool) -> None:
    """At the limit it is read; one deeper, or 2,000 deep, it is refused, in every way to write a sequence."""
    assert header(spool(with_nested(8, syntax, defined=defined, vr=vr))).keywords == KEYWORDS
    for depth in (9, 2000):
        assert reason(spool(with_nested(depth, syntax, defined=defined, vr=vr))) == "sequences nest deeper than 8"


def test_nesting_behind_the_pixels_is_refused_too(spool: Spool) -> None:
    """The whole object is walked: a later reader would recurse there as well."""
    content = encoded(image(), ExplicitVRLittleEndian) + nested(2000, ExplicitVRLittleEndian, defined=False)
    assert "nest deeper" in reason(spool(behind_meta(content, ExplicitVRLittleEndian)))


def test_padding_behind_the_pixels_is_no_error(spool: Spool) -> None:
    """Files padded with zeros or with junk read as before."""
    content = behind_meta(encoded(image(), ExplicitVRLittleEndian), ExplicitVRLittleEndian)
    for padding in (bytes(1000), b"\xff" * 33):
        assert header(spool(content + padding)).keywords == KEYWORDS


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_truncated_object_is_unreadable_wherever_it_ends(spool: Spool, syntax: UID) -> None:
    """Cut anywhere within an element, pixels included, it is refused; only a cut between two elements cannot show."""
    content, whole = encoded(image(), syntax), behind_meta(b"", syntax)
    refused = sum(isinstance(one(spool(whole + content[:length])), Unreadable) for length in range(0, len(content), 3))
    assert refused > 0.9 * len(range(0, len(content), 3))
    assert "pixel data ends early" in reason(spool(whole + content[:-2]))


def test_encapsulated_pixels_that_end_early_are_unreadable(spool: Spool) -> None:
    """A fragment that reaches past the end is seen without decoding it; a missing last delimiter is forgiven."""
    content = sorted(SAMPLE.glob("*.dcm"))[0].read_bytes()
    assert content.endswith(bytes.fromhex("feffdde000000000"))
    assert isinstance(one(spool(content[:-8])), Header)
    assert "pixel data ends early" in reason(spool(content[:-1000]))


def test_a_broken_sequence_of_known_length_costs_only_itself(spool: Spool) -> None:
    """What does not add up inside is passed over by its length."""
    content = encoded(image(), ExplicitVRLittleEndian)
    junk = b"this is not an item at all"
    broken = struct.pack("<HH2sHL", 0x18, 0x0012, b"SQ", 0, len(junk)) + junk
    at = content.index(bytes.fromhex("18005000"))
    answer = header(spool(behind_meta(content[:at] + broken + content[at:], ExplicitVRLittleEndian)))
    assert answer.keywords == KEYWORDS


def test_a_header_larger_than_the_limit_is_refused(spool: Spool) -> None:
    """Pixels do not count; everything in front of them does, deflated or not."""
    data = image()
    data.add_new(0x00282000, "OB", bytes(5000))
    content = encoded(data, ExplicitVRLittleEndian)
    for made in (
        behind_meta(content, ExplicitVRLittleEndian),
        behind_meta(encoded(data, DeflatedExplicitVRLittleEndian), DeflatedExplicitVRLittleEndian),
    ):
        assert isinstance(one(spool(made), header_bytes_max=6000), Header)
        assert reason(spool(made), header_bytes_max=4000) == "the header is larger than the configured limit"


def test_an_inflating_bomb_is_cut_at_the_limit(spool: Spool) -> None:
    """A megabyte of zeros in a kilobyte of pixels is read; as a header it is refused."""
    data = image()
    data.PixelData = bytes(2**22)
    bomb = encoded(data, DeflatedExplicitVRLittleEndian)
    assert len(bomb) < 2**14
    assert isinstance(one(spool(behind_meta(bomb, DeflatedExplicitVRLittleEndian)), header_bytes_max=2**12), Header)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("StudyInstanceUID", ""), ("SeriesInstanceUID", "1." + "2" * 80), ("StudyInstanceUID", "1.2/../3"),
     ("SeriesInstanceUID", "1.2\\1.3")],
)  # fmt: skip
def test_uids_that_are_none_are_refused(spool: Spool, keyword: str, value: str) -> None:
    """Empty, endless, with other characters, or several: nothing to file an object under."""
    data = image()
    data.add(DataElement(keyword, "UI", value, validation_mode=0))
    assert "must each be a UID" in reason(
        spool(behind_meta(encoded(data, ExplicitVRLittleEndian), ExplicitVRLittleEndian))
    )


def test_an_object_that_is_not_what_was_announced_is_refused(spool: Spool) -> None:
    """The index knows it by another SOP Instance UID than its data set has."""
    content = behind_meta(encoded(image(), ExplicitVRLittleEndian), ExplicitVRLittleEndian, "9.9.9")
    assert "announced" in reason(spool(content))


def test_garbage_never_raises_and_never_speaks(spool: Spool, tmp_path: Path) -> None:
    """A thousand damaged objects: one answer each, and no reason quotes the patient."""
    random_bytes = random.Random(5)
    whole = behind_meta(encoded(image(), ExplicitVRLittleEndian), ExplicitVRLittleEndian)
    items = []
    for number in range(1000):
        damaged = bytearray(whole)
        for _ in range(random_bytes.randrange(1, 12)):
            damaged[random_bytes.randrange(len(damaged))] = random_bytes.randrange(256)
        path = tmp_path / f"damaged-{number}"
        path.write_bytes(damaged[: random_bytes.randrange(len(damaged) // 2, len(damaged))])
        items.append((number, str(path)))
    items.append((1000, str(tmp_path / "absent")))
    answers = read(items, 8, 2**20)
    assert [answer.instance_id for answer in answers] == list(range(1001))
    reasons = {answer.reason for answer in answers if isinstance(answer, Unreadable)}
    assert len(reasons) > 3
    assert not any("ller" in text or "1.2.3" in text or str(tmp_path) in text for text in reasons)
    assert "reading failed with FileNotFoundError" in reasons
