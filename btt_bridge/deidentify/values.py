"""Single values: moved, mapped, or held against what their VR promises (PS3.5 Table 6.2-1)."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import lru_cache

from pydicom._uid_dict import UID_dictionary
from pydicom.charset import python_encoding

from btt_bridge import dicom
from btt_bridge.deidentify import table

_NUMBER = re.compile(rb" *[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)? *")
_NUMBER_BYTES_MAX = 32
_TERM = re.compile(rb"[A-Z0-9 _]{0,16}")
#: The default repertoire, less what parts the components of a name or the halves of a mail address.
_TECHNICAL = re.compile(rb"[ -<>?A-\[\]_-}]{0,64}")
_UID = re.compile(r"\d+(?:\.\d+)+")
_DATE = re.compile(r"(\d{4})[.:-]?(\d\d)[.:-]?(\d\d)")
_MOMENT = re.compile(r"(\d{8}|\d{6}|\d{4})((?:\d\d){0,3}(?:\.\d{1,6})?)([+-]\d{4})?")
_TIME = re.compile(r"\d\d(?::?\d\d(?::?\d\d(?:\.\d{1,6})?)?)?")
_CODE = re.compile(r"[A-Za-z0-9.:/*%{}\[\]()'_-]{1,16}")
#: What a date that is known to the month or the year is moved from.
_MIDDLE = {4: "0702", 6: "15", 8: ""}
_BYTES = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "AT": 4, "SV": 8, "UV": 8, "OW": 2}
_SINGLE_TEXT_VRS = frozenset({"LT", "ST", "UR", "UT"})


@lru_cache(maxsize=65536)
def outgoing_uid(uid: str, uid_key: bytes) -> str:
    """Return what a UID is called outside: `2.25.` and 128 bits of its HMAC; a registered one keeps its name."""
    if uid in UID_dictionary:
        return uid
    return f"2.25.{int.from_bytes(hmac.digest(uid_key, uid.encode(), 'sha256')[:16], 'big')}"


@lru_cache(maxsize=16384)
def uids(value: bytes) -> tuple[str, ...]:
    """Return the UIDs of a UI value; none where any part is something else."""
    parts = tuple(part.strip(" \0") for part in value.decode("latin-1").rstrip(" \0").split("\\"))
    return parts if all(_UID.fullmatch(part) for part in parts) else ()


@lru_cache(maxsize=4096)
def moved_date(value: bytes, days: int) -> bytes:
    """Move a DA value, or each of several; empty where any is no date."""
    return _each(value, lambda part: _moved_date(part, days))


@lru_cache(maxsize=4096)
def moved_moment(value: bytes, days: int) -> bytes:
    """Move a DT value by whole days, as precise as it was and with its offset; empty where it is no moment."""
    return _each(value, lambda part: _moved_moment(part, days))


@lru_cache(maxsize=4096)
def time_of_day(value: bytes) -> bytes:
    """Return a TM value as it is; empty where it is no time."""
    return _each(value, lambda part: part if _TIME.fullmatch(part) else "")


@lru_cache(maxsize=4096)
def days(value: bytes) -> frozenset[str]:
    """Return the days of a DA or DT value, as YYYYMMDD."""
    return frozenset(re.findall(r"(?<!\d)(\d{8})(?=(?:\d\d){0,3}(?!\d))", value.decode("latin-1")))


@lru_cache(maxsize=65536)
def is_number(value: bytes) -> bool:
    """Whether every part of a DS or IS value is a number; vendors exceed their 16 and 12 bytes, so we allow more."""
    return all(
        len(part) <= _NUMBER_BYTES_MAX and (not part.strip() or _NUMBER.fullmatch(part))
        for part in value.rstrip(b" \0").split(b"\\")
    )


@lru_cache(maxsize=16384)
def is_term(value: bytes) -> bool:
    """Whether every part of a CS value has the characters of a CS."""
    return all(_TERM.fullmatch(part) for part in value.rstrip(b" \0").split(b"\\"))


@lru_cache(maxsize=16384)
def is_technical(value: bytes) -> bool:
    """Whether a text is plain enough to be a technical term: no escape sequence, no other script, no name."""
    return all(_TECHNICAL.fullmatch(part) for part in value.rstrip(b" \0").split(b"\\"))


def is_binary(tag: int, vr: str, length: int) -> bool:
    """Whether a binary value has the length of as many numbers as its attribute may hold."""
    size, most = _BYTES.get(vr, 0), dicom.values_max(tag)
    return bool(size) and length % size == 0 and (most < 0 or length <= size * most)


@lru_cache(maxsize=4096)
def image_type(value: bytes) -> bytes:
    """Return the known terms of an Image Type; each of the first three is required, so an unknown one becomes OTHER."""
    known = table.image_type_terms()
    parts = [part.strip(" \0") for part in value.decode("latin-1").split("\\")]
    kept = [part if part in known else "OTHER" for part in parts[:3]]
    return "\\".join(kept + [part for part in parts[3:] if part in known]).encode()


@lru_cache(maxsize=4096)
def code(value: bytes, scheme: bytes) -> tuple[str, str, str] | None:
    """Return a code of a public scheme with the meaning the scheme gives it, or None.

    The meaning that came with it is free text and is never used; a code we do not know is its own meaning.
    """
    name, number = dicom.text(scheme), dicom.text(value)
    if name not in table.schemes() or not _CODE.fullmatch(number):
        return None
    return number, name, table.meanings().get((name, number), number)


@lru_cache(maxsize=16384)
def readings(vr: str, value: bytes, character_set: bytes) -> frozenset[str]:
    """Return what a text value says, in every way its character sets may be read; of a name, its components too."""
    found: set[str] = set()
    for codec in codecs(character_set):
        try:
            text = value.decode(codec)
        except (UnicodeError, LookupError):
            continue
        for part in (text,) if vr in _SINGLE_TEXT_VRS else text.split("\\"):
            found.add(part.strip(" \0"))
            if vr == "PN":
                found.update(component.strip(" \0") for component in re.split(r"[\^=]", part))
    return frozenset(found - {""})


@lru_cache(maxsize=256)
def codecs(character_set: bytes) -> frozenset[str]:
    """Return the Python codecs of a Specific Character Set (0008,0005), and the one that reads anything."""
    terms = [part.strip() for part in character_set.decode("latin-1").strip(" \0").split("\\")]
    return frozenset(python_encoding.get(term, "latin-1") for term in terms) | {"latin-1"}


def _each(value: bytes, change: Callable[[str], str]) -> bytes:
    parts = [change(part.strip(" \0")) for part in value.decode("latin-1").split("\\")]
    return "\\".join(parts).encode() if all(parts) else b""


def _moved_date(value: str, days: int) -> str:
    found = _DATE.fullmatch(value)
    return _moved(found[1] + found[2] + found[3], days) if found else ""


def _moved_moment(value: str, days: int) -> str:
    found = _MOMENT.fullmatch(value)
    if not found or (found[2] and len(found[1]) < 8):
        return ""
    day = _moved(found[1] + _MIDDLE[len(found[1])], days)
    return day and day[: len(found[1])] + found[2] + (found[3] or "")


def _moved(day: str, days: int) -> str:
    try:
        moved = date(int(day[:4]), int(day[4:6]), int(day[6:])) + timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{moved.year:04}{moved.month:02}{moved.day:02}"
