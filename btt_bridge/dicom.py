"""DICOM data elements as bytes (PS3.5 Section 7): read strictly and once, written without doubt."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from pydicom._dicom_dict import DicomDictionary

from btt_bridge import __version__
from btt_bridge.errors import MalformedError, TooLargeError
from btt_bridge.records import Keywords

#: VRs whose explicit length takes two bytes (PS3.5 Table 7.1-2); all others, known or yet to come, take four.
SHORT_VRS = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM",
     "UI", "UL", "US"}
)  # fmt: skip
LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
PIXEL_DATA = 0x7FE00010
MEDIA_STORAGE_SOP_CLASS_UID = 0x00020002
MEDIA_STORAGE_SOP_INSTANCE_UID = 0x00020003
TRANSFER_SYNTAX_UID = 0x00020010

#: Our mark on what we write: Implementation Class UID and Version Name of the file meta, and Manufacturer.
IMPLEMENTATION_CLASS_UID = "2.25.52463810431485759653578829353358470727"
IMPLEMENTATION_VERSION_NAME = f"BTT_{__version__}"
MANUFACTURER = "BTT Bridge"

#: Deepest nesting of sequences that is read; assemble refuses far shallower ones by its own setting.
DEPTH_MAX = 64
#: Largest data set that a deflated object may unpack to.
INFLATED_BYTES_MAX = 4 * 2**30

_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_HEADER_BYTES = 8
_SEQUENCES = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")
_SHORT = {vr.encode(): vr for vr in SHORT_VRS}
_LONG = {vr.encode(): vr for vr in LONG_VRS}


class Element(NamedTuple):
    """Where one data element lies, and what it holds."""

    tag: int
    #: As encoded; "" in implicit VR.
    vr: str
    #: First byte of the element.
    start: int
    value_start: int
    value_end: int
    #: First byte after the element.
    end: int
    #: Items of a sequence; None for everything else.
    items: tuple[tuple[Element, ...], ...] | None
    #: Whether items are implicit VR, as those of a UN-encoded sequence always are.
    implicit: bool


@dataclass(frozen=True, slots=True)
class Encoding:
    """How elements are laid out as bytes."""

    implicit: bool
    little: bool

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        """Encode one element of defined length, padding its value to even length (PS3.5 Section 6.2)."""
        if len(value) % 2:
            value += b"\0" if vr in ("UI", "OB", "UN") else b" "
        return self.header(tag, vr, len(value)) + value

    def header(self, tag: int, vr: str, length: int) -> bytes:
        order = "<" if self.little else ">"
        if self.implicit:
            return struct.pack(order + "HHL", tag >> 16, tag & 0xFFFF, length)
        if vr in SHORT_VRS:
            if length > 0xFFFF:
                raise MalformedError("a value is longer than its VR can say")
            return struct.pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length)
        return struct.pack(order + "HH2sHL", tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)

    def sequence(self, tag: int, items: Iterable[bytes]) -> bytes:
        """Encode a sequence, with defined lengths throughout."""
        order = "<" if self.little else ">"
        body = b"".join(struct.pack(order + "HHL", 0xFFFE, 0xE000, len(item)) + item for item in items)
        return self.header(tag, "SQ", len(body)) + body


@dataclass(frozen=True, slots=True)
class Source:
    """One object as received, read into elements; `content` is what their offsets refer to."""

    content: bytes
    meta: dict[int, bytes]
    transfer_syntax_uid: str
    encoding: Encoding
    elements: tuple[Element, ...]


def read(content: bytes) -> Source:
    """Read a DICOM Part 10 file; raise MalformedError for anything that does not add up to its last byte."""
    if content[128:132] != b"DICM":
        raise MalformedError("this is not a DICOM Part 10 file")
    meta, start = read_meta(content)
    syntax = text(meta.get(TRANSFER_SYNTAX_UID, b""))
    if not syntax:
        raise MalformedError("Transfer Syntax UID (0002,0010) has no value")
    if syntax == DEFLATED:
        content, start = _inflated(content[start:]), 0
    encoding = Encoding(implicit=syntax == IMPLICIT_LITTLE, little=syntax != EXPLICIT_BIG)
    if not encoding.implicit and content[start + 4 : start + 6] not in _SHORT | _LONG:
        # Some writers say explicit and mean implicit; what the first element looks like decides.
        encoding, syntax = Encoding(implicit=True, little=True), IMPLICIT_LITTLE
    reader = _Reader(content, encoding)
    elements, end = reader.elements(start, len(content), encoding.implicit, 0)
    if len(content) - end >= _HEADER_BYTES or any(content[end:]):
        raise MalformedError("the data set ends before the object does")
    return Source(content, meta, syntax, encoding, elements)


def text(value: bytes) -> str:
    """Return a value of the default character repertoire without its padding."""
    return value.decode("ascii", "replace").strip(" \0")


def is_own(keywords: Keywords) -> bool:
    """Say whether a bridge wrote this object.

    A PACS may send our results back with the study that they belong to. They are neither a late part of it nor
    anything to route. Manufacturer is the mark that every PACS keeps; file meta information is its own.
    """
    return keywords.get("Manufacturer") == MANUFACTURER


def walk(elements: Iterable[Element]) -> Iterator[Element]:
    """Yield every element at every depth."""
    for element in elements:
        yield element
        for item in element.items or ():
            yield from walk(item)


@cache
def vr_of(tag: int) -> str:
    """Return the VR that PS3.6 gives a tag, "" for a tag it does not know; may be a choice, as "US or SS"."""
    entry = DicomDictionary.get(tag)
    return entry[0] if entry else ""


@cache
def values_max(tag: int) -> int:
    """Return how many values PS3.6 allows a tag at most; 0 for a tag it does not know, -1 where there is no end."""
    entry = DicomDictionary.get(tag)
    most = entry[1].rpartition("-")[2] if entry else "0"
    return int(most) if most.isdigit() else -1


def deflated(data_set: bytes) -> bytes:
    """Return an explicit VR little endian data set as transfer syntax 1.2.840.10008.1.2.1.99 carries it."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = deflater.compress(data_set) + deflater.flush()
    return packed + b"\0" * (len(packed) % 2)


def read_meta(content: bytes) -> tuple[dict[int, bytes], int]:
    """Read group 0002, always explicit VR little endian, by its elements and not by the length it claims."""
    meta: dict[int, bytes] = {}
    position = 132
    reader = _Reader(content, Encoding(implicit=False, little=True))
    while content[position : position + 2] == b"\x02\x00" and position + _HEADER_BYTES <= len(content):
        element = reader.element(position, len(content), False, DEPTH_MAX)
        meta[element.tag] = content[element.value_start : element.value_end]
        position = element.end
    return meta, position


def _inflated(packed: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = inflater.decompress(packed, INFLATED_BYTES_MAX)
    except zlib.error:
        raise MalformedError("the deflated data set does not inflate") from None
    if inflater.unconsumed_tail:
        raise TooLargeError("the deflated data set is larger than the limit")
    return unpacked


class _Reader:
    """Reads elements of one content. Every length is checked against what encloses it."""

    def __init__(self, content: bytes, encoding: Encoding) -> None:
        self.content = content
        order = "<" if encoding.little else ">"
        self._explicit = struct.Struct(order + "HH2sH")
        self._implicit = struct.Struct(order + "HHL")
        self._length = struct.Struct(order + "L")

    def elements(self, position: int, end: int, implicit: bool, depth: int) -> tuple[tuple[Element, ...], int]:
        """Read elements while a whole one fits before `end`, or up to the end of an item of undefined length."""
        found: list[Element] = []
        while position + _HEADER_BYTES <= end:
            element = self.element(position, end, implicit, depth)
            position = element.end
            if element.tag == _ITEM_END:
                break
            found.append(element)
        return tuple(found), position

    def element(self, start: int, end: int, implicit: bool, depth: int) -> Element:
        group, number, code, length = self._explicit.unpack_from(self.content, start)
        tag, vr, value_start = group << 16 | number, "", start + _HEADER_BYTES
        if not implicit and group != 0xFFFE and code in _SHORT:
            vr = _SHORT[code]
        elif implicit or group == 0xFFFE or not code.isalpha():
            # Where a VR should be and none is, some writers have switched to implicit VR within a sequence.
            length = self._length.unpack_from(self.content, start + 4)[0]
        else:
            vr, value_start = _LONG.get(code, "UN"), start + 12
            if value_start > end:
                raise MalformedError("the data set ends within an element")
            length = self._length.unpack_from(self.content, start + 8)[0]
        if length == _UNDEFINED:
            return self._undefined(tag, vr, start, value_start, end, depth)
        stop = value_start + length
        if stop > end:
            raise MalformedError("a value is longer than what holds it")
        if vr == "SQ" or (vr in ("", "UN") and tag in _SEQUENCES):
            items, last = self._items(value_start, stop, vr != "SQ", depth + 1, defined=True)
            if last != stop:
                raise MalformedError("a sequence ends before its length says")
            return Element(tag, vr, start, value_start, stop, stop, items, vr != "SQ")
        return Element(tag, vr, start, value_start, stop, stop, None, implicit)

    def _undefined(self, tag: int, vr: str, start: int, value_start: int, end: int, depth: int) -> Element:
        if tag >> 16 == 0xFFFE:
            raise MalformedError("an item stands where an element should")
        if tag == PIXEL_DATA and vr != "SQ":
            stop = self._fragments(value_start, end)
            return Element(tag, vr, start, value_start, stop, stop, None, False)
        items, stop = self._items(value_start, end, vr != "SQ", depth + 1, defined=False)
        return Element(tag, vr, start, value_start, stop, stop, items, vr != "SQ")

    def _items(
        self, position: int, end: int, implicit: bool, depth: int, *, defined: bool
    ) -> tuple[tuple[tuple[Element, ...], ...], int]:
        """Read the items of a sequence; a UN-encoded one is implicit VR (PS3.5 Section 6.2.2)."""
        if depth > DEPTH_MAX:
            raise MalformedError("sequences are nested deeper than the limit")
        items: list[tuple[Element, ...]] = []
        while position < end or not defined:
            tag, length, position = self._item(position, end)
            if tag == _SEQUENCE_END:
                break
            stop = end if length == _UNDEFINED else position + length
            if stop > end:
                raise MalformedError("an item is longer than its sequence")
            item, position = self.elements(position, stop, implicit, depth)
            if length != _UNDEFINED and position != stop:
                raise MalformedError("an item ends before its length says")
            items.append(item)
        return tuple(items), position

    def _fragments(self, position: int, end: int) -> int:
        """Return where encapsulated pixel data end, after their delimiter (PS3.5 Section A.4)."""
        while True:
            tag, length, position = self._item(position, end)
            if tag == _SEQUENCE_END:
                return position
            position += length
            if position > end:
                raise MalformedError("a fragment of the pixel data is longer than the object")

    def _item(self, position: int, end: int) -> tuple[int, int, int]:
        if position + _HEADER_BYTES > end:
            raise MalformedError("a sequence ends within an item")
        group, number, length = self._implicit.unpack_from(self.content, position)
        tag = group << 16 | number
        if tag not in (_ITEM, _SEQUENCE_END):
            raise MalformedError("something other than an item stands in a sequence")
        return tag, length, position + _HEADER_BYTES
