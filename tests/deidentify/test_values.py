"""Single values move, map or stay as the profile promises, and fall out where they are not what they say."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge.deidentify import values

DAYS = st.integers(-36500, -1)


@given(st.dates(date(1950, 1, 1), date(2099, 12, 31)), DAYS)
def test_a_date_moves_by_whole_days(day: date, days: int) -> None:
    """A DA moves by exactly the shift; one with the old separators too."""
    expected = (day + timedelta(days)).strftime("%Y%m%d").zfill(8).encode()
    assert values.moved_date(day.strftime("%Y%m%d").encode(), days) == expected
    assert values.moved_date(day.strftime("%Y.%m.%d").encode(), days) == expected


@given(st.datetimes(), DAYS, st.sampled_from(["", "+0100", "-0530"]))
def test_a_moment_keeps_its_time_and_offset(moment: object, days: int, offset: str) -> None:
    """A DT moves in its date alone, whatever fraction and offset follow."""
    text = moment.strftime("%Y%m%d%H%M%S.%f").zfill(21)  # type: ignore[attr-defined]
    moved = values.moved_moment(f"{text}{offset}".encode(), days)
    if moved:
        assert moved[8:] == f"{text[8:]}{offset}".encode()
        assert moved[:8] == values.moved_date(text[:8].encode(), days)


@pytest.mark.parametrize(
    ("value", "moved"),
    [
        (b"2024", b"2023"),
        (b"202405", b"202404"),
        (b"20240517", b"20240417"),
        (b"2024051710", b"2024041710"),
        (b"20240517101112.1+0200", b"20240417101112.1+0200"),
        (b"20240517\\20240518 ", b"20240417\\20240418"),
        (b"20241317", b""),
        (b"20240230", b""),
        (b"yesterday", b""),
        (b"2024-05-17T10:11", b""),
        (b"20240517\\unknown", b""),
        (b"", b""),
    ],
)
def test_partial_multiple_and_impossible_moments(value: bytes, moved: bytes) -> None:
    """A moment stays as coarse as it was; what is none is not passed on."""
    # From the middle of its year or month, thirty days back is the month or the year before, or the same year.
    assert values.moved_moment(value, -30) == moved if value != b"2024" else values.moved_moment(value, -366) == moved


@pytest.mark.parametrize("value", [b"00010101", b"00001231", b"99999999"])
def test_a_date_that_cannot_move_does_not_stay(value: bytes) -> None:
    """A date at the edge of the calendar is dropped, not kept."""
    assert values.moved_date(value, -1000) == b""


def test_uids_are_keyed() -> None:
    """The same UID and key give the same outgoing UID, another key another; it is a valid UID of the UUID root."""
    first = values.outgoing_uid("1.2.3.4", b"a" * 32)
    assert first == values.outgoing_uid("1.2.3.4", b"a" * 32)
    assert first != values.outgoing_uid("1.2.3.4", b"b" * 32)
    assert first.startswith("2.25.")
    assert len(first) <= 64
    assert int(first[5:]) < 2**128


def test_only_registered_uids_stay() -> None:
    """CT Image Storage keeps its name; an invented UID under the standard's root does not."""
    assert values.outgoing_uid("1.2.840.10008.5.1.4.1.1.2", b"k" * 32) == "1.2.840.10008.5.1.4.1.1.2"
    assert values.outgoing_uid("1.2.840.10008.4711.19500203", b"k" * 32).startswith("2.25.")


@pytest.mark.parametrize("value", [b"Erika", b"1.2.3 Erika", b"1", b"1.2\\Erika", b"1..2"])
def test_text_is_no_uid(value: bytes) -> None:
    """A UI that holds anything but UIDs gives none."""
    assert values.uids(value) == ()


@pytest.mark.parametrize("value", [b"1.25", b"-1024 ", b" +.5e-3", b"1\\2\\3", b"", b"120\0", b"1.\\"])
def test_numbers(value: bytes) -> None:
    """What scanners write as DS and IS passes."""
    assert values.is_number(value)


@pytest.mark.parametrize("value", [b"Mustermann", b"1,5", b"12 34", b"1\\x", b"nan", b"0x1F", b"1" * 40, b"1\n"])
def test_text_is_no_number(value: bytes) -> None:
    """Text does not pass for a number, nor does a number long enough to hold one."""
    assert not values.is_number(value)


@pytest.mark.parametrize("value", [b"Mustermann^Erika", b"a@b.de", b"M\xfcller", b"\x1b$B;3ED", b"x" * 65, b"a\nb"])
def test_names_are_not_technical(value: bytes) -> None:
    """A technical term holds no name separator, no address sign, no other script and no escape sequence."""
    assert not values.is_technical(value)


def test_image_type_keeps_known_terms_only() -> None:
    """Unknown terms fall out, but the three required values keep their places."""
    assert values.image_type(b"ORIGINAL\\PRIMARY\\AXIAL\\ERIKA\\NORM ") == b"ORIGINAL\\PRIMARY\\AXIAL\\NORM"
    assert values.image_type(b"DERIVED\\PRIMARY\\MUSTERMANN") == b"DERIVED\\PRIMARY\\OTHER"


def test_a_code_gets_the_meaning_of_its_scheme() -> None:
    """The meaning that came along is never used, and a code of a private scheme is no code."""
    assert values.code(b"113100", b"DCM ") == ("113100", "DCM", "Basic Application Confidentiality Profile")
    assert values.code(b"4711", b"DCM") == ("4711", "DCM", "4711")
    assert values.code(b"4711", b"99HOSPITAL") is None
    assert values.code(b"Erika Muster", b"DCM") is None


def test_names_are_read_in_their_character_set() -> None:
    """An ideographic name is found as it reads, component by component, besides its romanization."""
    value = b"Yamada^Tarou=" + "山田^太郎".encode("iso2022_jp")
    read = values.readings("PN", value, b"\\ISO 2022 IR 87")
    assert {"Yamada", "Tarou", "山田", "太郎"} <= read
