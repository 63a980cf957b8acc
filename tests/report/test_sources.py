"""What is copied from the images a report is about."""

from __future__ import annotations

import shutil
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, config, dcmread
from pydicom.charset import CUSTOMIZABLE_CHARSET_VR
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement

from btt_bridge import report
from btt_bridge.errors import MalformedError, UnknownError
from tests.report import cases
from tests.report.conftest import PHANTOM


def put(ds: Dataset, keyword: str, value: object) -> None:
    """Put a value in as a careless device would, valid or not."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    ds.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        ("ISO_IR 100", "Müller^Käthe"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("GBK", "Zhang^XiaoDong=張^小東"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
def test_names_come_through_in_every_character_set(tmp_path: Path, declared: str | list[str], name: str) -> None:
    """However the scanner encoded a name, our SR, SEG and SC hold it in UTF-8, all its groups."""

    def change(ds: Dataset) -> None:
        for element in list(ds.iterall()):
            if element.VR in CUSTOMIZABLE_CHARSET_VR and not str(element.value).isascii():
                element.value = "ASCII"
        ds.SpecificCharacterSet = declared
        ds.PatientName = name

    of = cases.sources(cases.altered(PHANTOM, tmp_path / "series", 3, change))
    for document in cases.write(of, cases.result(of, 1)):
        ds = dcmread(BytesIO(document.content))
        assert ds.SpecificCharacterSet == "ISO_IR 192"
        assert str(ds.PatientName) == name


@pytest.mark.filterwarnings("ignore:Unknown encoding")
@pytest.mark.parametrize("declared", [None, "", "ISO_IR 6", "NO SUCH SET"])
@pytest.mark.parametrize(("raw", "name"), [("王^小东".encode(), "王^小东"), ("Müller".encode("latin-1"), "Müller")])
def test_undeclared_text_is_read_as_what_it_can_be(tmp_path: Path, declared: str | None, raw: bytes, name: str) -> None:
    """Text beyond ASCII without a usable character set is UTF-8 where it decodes as such, else Latin-1."""

    def change(ds: Dataset) -> None:
        ds.PatientName = "PLACEHOLDER".ljust(len(raw) + len(raw) % 2, "x")[: len(raw) + len(raw) % 2]
        del ds.SpecificCharacterSet

    folder = cases.altered(PHANTOM, tmp_path / "series", 1, change)
    path = next(folder.iterdir())
    content = path.read_bytes()
    at = content.index(b"\x10\x00\x10\x00PN") + 8
    content = content[:at] + raw.ljust(len(raw) + len(raw) % 2) + content[at + len(raw) + len(raw) % 2 :]
    if declared is not None:
        element = b"\x08\x00\x05\x00CS" + len(declared + " " * (len(declared) % 2)).to_bytes(2, "little")
        at = content.index(b"\x08\x00", 132 + 12 + int.from_bytes(content[140:144], "little"))
        content = content[:at] + element + declared.ljust(len(declared) + len(declared) % 2).encode() + content[at:]
    path.write_bytes(content)
    assert str(cases.sources(folder).common.PatientName) == name


def test_identity_is_copied_as_it_is_and_the_rest_where_it_is_valid(tmp_path: Path) -> None:
    """An ID longer than its VR allows still names its patient; a date that is no date would cost the object."""
    wrong = {
        "PatientID": "X" * 70, "StudyDate": "2004.12.12", "PatientSex": "X", "PatientAge": "80", "StudyTime": "25:00",
        "StudyDescription": "D" * 70, "PatientBirthDate": "19240101-19250101",
    }  # fmt: skip

    def change(ds: Dataset) -> None:
        for keyword, value in wrong.items():
            put(ds, keyword, value)
        ds.AccessionNumber = "A-1"

    common = cases.sources(cases.altered(PHANTOM, tmp_path / "series", 1, change)).common
    assert common.PatientID == "X" * 70
    assert common.AccessionNumber == "A-1"
    assert [
        common[keyword].value or "" for keyword in ("StudyDate", "PatientSex", "StudyTime", "PatientBirthDate")
    ] == [""] * 4
    assert "StudyDescription" not in common
    assert "PatientAge" not in common


@pytest.mark.parametrize(
    ("offset", "hours"), [("+0800", 8), ("-0330", -3.5), ("+0000", 0), ("+9900", None), ("", None)]
)
def test_times_are_told_in_the_zone_of_the_study(tmp_path: Path, offset: str, hours: float | None) -> None:
    """Content Time and Study Time of one object are in one time zone, which the object names where the study did."""

    def change(ds: Dataset) -> None:
        put(ds, "TimezoneOffsetFromUTC", offset)

    of = cases.sources(cases.altered(PHANTOM, tmp_path / "series", 1, change))
    ds = dcmread(BytesIO(cases.write(of, cases.result(of, 0))[0].content))
    if hours is None:
        assert "TimezoneOffsetFromUTC" not in ds
        assert ds.ContentTime == f"{cases.NOW.astimezone():%H%M%S.%f}"
    else:
        assert ds.TimezoneOffsetFromUTC == offset
        assert ds.ContentTime == f"{cases.NOW + timedelta(hours=hours):%H%M%S.%f}"


def test_a_series_that_is_not_there_is_said_to_be_unknown(phantom: report.Sources) -> None:
    """A result about another series of the study must not be written about this one."""
    with pytest.raises(UnknownError):
        report.prepare(cases.study(PHANTOM), "1.2.3", PHANTOM)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"not DICOM" * 40)])
def test_an_image_that_cannot_be_read_is_said_to_be_malformed(tmp_path: Path, damage: object) -> None:
    """A file lost or broken since it was accepted stops the report with the bridge's own error."""
    folder = tmp_path / "series"
    shutil.copytree(PHANTOM, folder)
    found = cases.study(folder)
    damage(sorted(folder.glob("*.dcm"))[5])  # type: ignore[operator]
    with pytest.raises(MalformedError):
        report.prepare(found, found.series[0].series_instance_uid, folder)
