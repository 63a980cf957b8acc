"""Reading headers: from the bytes of a stranger to the keywords that everything downstream decides by."""

from __future__ import annotations

import math
import mmap
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR, keyword_for_tag

from btt_bridge import dicom
from btt_bridge.assemble.walk import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    PIXEL_GROUP,
    UNDEFINED,
    Buffer,
    Element,
    Encoding,
    guess_encoding,
    walk,
)
from btt_bridge.errors import MalformedError, RefusedError, TooLargeError
from btt_bridge.records import Header

#: Longer values are bulk (lookup tables, embedded documents); nobody routes by them.
VALUE_BYTES_MAX: Final = 1024

# PS3.5 Annex A; what is not here is explicit VR little endian, and GE's private syntax differs in its pixels only.
_ENCODINGS: Final = {
    dicom.IMPLICIT_LITTLE: IMPLICIT_LITTLE,
    "1.2.840.113619.5.2": IMPLICIT_LITTLE,
    dicom.EXPLICIT_BIG: EXPLICIT_BIG,
}
_DEFLATED: Final = {dicom.DEFLATED, "1.2.840.10008.1.2.4.95"}

_UID: Final = re.compile(r"[0-9.]{1,64}")
_DECIMAL: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_CONTROLS: Final = dict.fromkeys((*range(32), 127))
_NUMBERS: Final = {
    b"US": "H", b"SS": "h", b"UL": "L", b"SL": "l", b"UV": "Q", b"SV": "q", b"FL": "f", b"FD": "d",
}  # fmt: skip
_CODED_TEXT: Final = frozenset(b"LO LT PN SH ST UC UT".split())  # what Specific Character Set applies to
_PLAIN_TEXT: Final = frozenset(b"AE AS CS DA DS DT IS TM UI UR".split())
_TEXT: Final = _CODED_TEXT | _PLAIN_TEXT
_ONE_VALUE: Final = frozenset(b"LT ST UR UT".split())  # a backslash is text in these (PS3.5 Table 6.2-1)
_DELIMITERS: Final = {0x0A, 0x0C, 0x0D, ord("\\"), ord("^"), ord("=")}  # PS3.5 6.1.2.5.3

_SPECIFIC_CHARACTER_SET, _PIXEL_REPRESENTATION = 0x00080005, 0x00280103


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object that cannot be read, and why; the reason names attributes, never what they held."""

    instance_id: int
    reason: str


def read(items: Sequence[tuple[int, str]], depth_max: int, header_bytes_max: int) -> list[Header | Unreadable]:
    """Read the headers of spooled objects, given as (index row, path); one answer for each, in order.

    Never raises for what a file holds. It is meant for a child process all the same: nothing here may outlive a
    file that takes too long or too much.
    """
    answers: list[Header | Unreadable] = []
    with warnings.catch_warnings():
        # pydicom warns of each odd character set, and quotes it.
        warnings.simplefilter("ignore")
        for instance_id, path in items:
            try:
                answers.append(_read_one(instance_id, path, depth_max, header_bytes_max))
            except RefusedError as problem:
                answers.append(Unreadable(instance_id, str(problem)))
            except Exception as problem:
                answers.append(Unreadable(instance_id, f"reading failed with {type(problem).__name__}"))
    return answers


def _read_one(instance_id: int, path: str, depth_max: int, header_bytes_max: int) -> Header:
    with open(path, "rb") as file:
        if file.seek(0, 2) == 0:
            raise MalformedError("the object is empty")
        # Mapped, not read: the pixels are passed over without touching them.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            data = _open(buffer, header_bytes_max)
            keywords = _keywords(data.buffer, _outermost(data, depth_max, header_bytes_max))
    study, series, instance = (
        str(keywords.get(name, "")) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    )
    if not all(map(_UID.fullmatch, (study, series, instance))):
        raise MalformedError("Study, Series and SOP Instance UID must each be a UID")
    if data.announced not in ("", instance):
        raise MalformedError("SOP Instance UID is not the one that the sender announced")
    return Header(instance_id, study, series, instance, keywords)


# --- from the file to its elements ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _DataSet:
    """The data set within a file."""

    buffer: Buffer
    offset: int
    encoding: Encoding
    #: SOP Instance UID by the file meta information, which the listener wrote from the request.
    announced: str
    #: Whether `buffer` was cut at the limit while it was being inflated.
    cut: bool


def _open(buffer: Buffer, header_bytes_max: int) -> _DataSet:
    """Find the data set behind preamble and meta information, as often as they come.

    Some senders put a whole Part 10 file where its data set belongs; then theirs stands behind ours, and says
    more truly than the negotiated one how the rest is written.
    """
    offset, syntax, announced, cut = 0, "", "", False
    while True:
        if buffer[offset + 128 : offset + 132] == b"DICM":
            offset += 132
        if buffer[offset : offset + 2] != b"\x02\x00":
            break
        offset, meta = _meta(buffer, offset)
        syntax = _plain(buffer, meta.get(dicom.TRANSFER_SYNTAX_UID)) or syntax
        announced = announced or _plain(buffer, meta.get(dicom.MEDIA_STORAGE_SOP_INSTANCE_UID))
    if syntax in _DEFLATED and (inflated := _inflate(buffer[offset:], header_bytes_max)):
        offset, (buffer, cut) = 0, inflated
    encoding = guess_encoding(buffer, offset, len(buffer), _ENCODINGS.get(syntax, EXPLICIT_LITTLE))
    return _DataSet(buffer, offset, encoding, announced, cut)


def _meta(buffer: Buffer, offset: int) -> tuple[int, dict[int, Element]]:
    """Return where the group 0002 that begins at `offset` ends, and its elements."""
    elements = {}
    encoding = guess_encoding(buffer, offset, len(buffer), EXPLICIT_LITTLE)
    for element in walk(buffer, offset, len(buffer), encoding, depth_max=0):
        if element.tag >> 16 != 2:
            break
        if element.length == UNDEFINED:
            raise MalformedError("the file meta information has no end")
        elements[element.tag] = element
        offset = element.value + element.length
    return offset, elements


def _inflate(data: bytes, size_max: int) -> tuple[bytes, bool] | None:
    """Inflate up to `size_max` bytes and say whether that cut it; None where it is not deflated after all."""
    for window_bits in (-zlib.MAX_WBITS, zlib.MAX_WBITS):  # as PS3.5 A.5 has it, and with the header some add
        engine = zlib.decompressobj(window_bits)
        try:
            return engine.decompress(data, size_max), bool(engine.unconsumed_tail)
        except zlib.error:
            continue
    return None


def _outermost(data: _DataSet, depth_max: int, header_bytes_max: int) -> dict[int, Element]:
    """Walk through all of the data set; return what keywords can be made of, by tag, the last of each.

    Only elements that the standard knows are kept, so that memory has a bound whatever the header is made of.
    """
    elements: dict[int, Element] = {}
    before_pixels = True
    try:
        for element in walk(data.buffer, data.offset, len(data.buffer), data.encoding, depth_max=depth_max):
            before_pixels = before_pixels and element.tag >> 16 != PIXEL_GROUP
            end = element.value + (element.length if element.length != UNDEFINED else 0)
            if before_pixels and end - data.offset > header_bytes_max:
                raise TooLargeError("the header is larger than the configured limit")
            if 0 < element.length <= VALUE_BYTES_MAX and _dictionary(element.tag)[0]:
                elements[element.tag] = element
    except MalformedError:
        if not data.cut:
            raise
        if before_pixels:
            raise TooLargeError("the header is larger than the configured limit") from None
    return elements


# --- from elements to values ----------------------------------------------------------------------------


def _keywords(buffer: Buffer, elements: dict[int, Element]) -> dict[str, Any]:
    charset = _plain(buffer, elements.get(_SPECIFIC_CHARACTER_SET))
    signed = _binary(buffer, elements.get(_PIXEL_REPRESENTATION), b"US") == [1]
    keywords: dict[str, Any] = {}
    for tag, element in elements.items():
        keyword, known = _dictionary(tag)
        vr = _vr(element.vr, known, signed=signed)
        if vr not in _TEXT and vr not in _NUMBERS:
            continue
        values = _binary(buffer, element, vr) if vr in _NUMBERS else _text(buffer, element, vr, charset)
        if values:
            # In a repeating group the first one has the name.
            keywords.setdefault(keyword, values[0] if len(values) == 1 else tuple(values))
    return keywords


@lru_cache(maxsize=8192)
def _dictionary(tag: int) -> tuple[str, bytes]:
    """Return keyword and VR of a tag, repeating groups included; no keyword where the standard has none."""
    try:
        return keyword_for_tag(tag), dictionary_VR(tag).encode()
    except KeyError:
        return "", b"UN"


def _vr(stated: bytes, known: bytes, *, signed: bool) -> bytes:
    """Return how to decode: as written, but text as the kind of text that the dictionary says."""
    if stated not in (b"", b"UN"):
        return known if stated in _TEXT and known in _TEXT else stated
    if known.startswith(b"US or"):
        return b"SS" if signed and b"SS" in known else b"US"
    return known


def _raw(buffer: Buffer, element: Element) -> bytes:
    return buffer[element.value : element.value + element.length]


def _plain(buffer: Buffer, element: Element | None) -> str:
    if element is None or element.length > VALUE_BYTES_MAX:
        return ""
    return _raw(buffer, element).decode("ascii", "replace").strip(" \0")


def _binary(buffer: Buffer, element: Element | None, vr: bytes) -> list[Any]:
    """Return numbers; infinite ones and half ones are none."""
    if element is None:
        return []
    size = struct.calcsize("=" + _NUMBERS[vr])
    values = struct.unpack_from(f"{element.order}{element.length // size}{_NUMBERS[vr]}", buffer, element.value)
    return list(values) if all(map(math.isfinite, values)) else []


def _text(buffer: Buffer, element: Element, vr: bytes, charset: str) -> list[Any]:
    """Return text without padding and control characters; of IS and DS their numbers, or nothing if one is none."""
    raw = _raw(buffer, element)
    text = _decoded(raw, charset) if vr in _CODED_TEXT else raw.decode("ascii", "replace")
    parts = [text] if vr in _ONE_VALUE else text.split("\\")
    values = [(part if part.isprintable() else part.translate(_CONTROLS)).strip() for part in parts]
    if vr == b"IS" or vr == b"DS":
        return _numbers(values, whole=vr == b"IS")
    return values if any(values) else []


def _numbers(values: list[str], *, whole: bool) -> list[int] | list[float]:
    if not all(map(_DECIMAL.fullmatch, values)):
        return []
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        return []
    if not whole:
        return numbers
    return [int(number) for number in numbers] if all(number.is_integer() for number in numbers) else []


def _decoded(raw: bytes, charset: str) -> str:
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    encodings = _encodings(charset)
    if encodings is None:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")
    return decode_bytes(raw, encodings, _DELIMITERS)


@lru_cache(maxsize=256)
def _encodings(charset: str) -> list[str] | None:
    """Return Python's names for Specific Character Set; None where it says nothing that could be followed."""
    names = charset.split("\\")
    try:
        return convert_encodings([name.strip() for name in names]) if any(names) else None
    except (LookupError, ValueError):
        return None
