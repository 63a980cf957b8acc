"""A walk over the raw bytes of a data set, without recursion: where each element lies, and that nothing nests too deep.

It follows what senders really write: implicit elements in explicit data sets, sequences as UN (PS3.5 6.2.2), items of
either length form, and a byte order that nobody negotiated.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from btt_bridge import dicom
from btt_bridge.errors import MalformedError

UNDEFINED: Final = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_GROUP: Final = 0x7FE0

#: In an explicit element the length has two bytes, or four after two that are reserved.
SHORT_VRS = frozenset(vr.encode() for vr in dicom.SHORT_VRS)
LONG_VRS = frozenset(vr.encode() for vr in dicom.LONG_VRS)
VRS = SHORT_VRS | LONG_VRS
_OTHER_VRS = frozenset(b"OB OD OF OL OV OW".split())

_TAG_LENGTH = {order: struct.Struct(order + "HHL") for order in "<>"}
_TAG_VR_LENGTH = {order: struct.Struct(order + "HH2sH") for order in "<>"}
_LENGTH = {order: struct.Struct(order + "L") for order in "<>"}

#: What can be read in place: bytes, or a file mapped into memory.
Buffer = bytes | mmap.mmap


@dataclass(frozen=True, slots=True)
class Encoding:
    """How elements are written: with or without their VR, and in which byte order ("<" or ">")."""

    explicit: bool
    order: str


IMPLICIT_LITTLE = Encoding(explicit=False, order="<")
EXPLICIT_LITTLE = Encoding(explicit=True, order="<")
EXPLICIT_BIG = Encoding(explicit=True, order=">")


class Element(NamedTuple):
    """Where one element of the outermost level lies."""

    tag: int
    #: Empty where it is not written.
    vr: bytes
    start: int
    value: int
    #: Of the value; UNDEFINED where a delimiter ends it.
    length: int
    order: str


class _Frame(NamedTuple):
    """An open sequence or item."""

    is_sequence: bool
    #: Where it ends, or 0 where a delimiter says so.
    end: int
    #: Where it ends at the latest: where it ends itself, or the nearest container that knows.
    limit: int
    encoding: Encoding
    #: The items hold fragments of encapsulated pixels instead of data sets (PS3.5 A.4).
    fragments: bool = False


class _BrokenError(Exception):
    """The bytes here are no element."""


def guess_encoding(buffer: Buffer, offset: int, end: int, declared: Encoding) -> Encoding:
    """Return the encoding that fits the first element, the declared one before any other."""
    for encoding in (declared, EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG):
        if _fits(buffer, offset, end, encoding):
            return encoding
    raise MalformedError("no data set begins where one should")


def walk(buffer: Buffer, offset: int, end: int, encoding: Encoding, *, depth_max: int) -> Iterator[Element]:
    """Yield the elements of the outermost level in order, and look into all that they hold.

    Raises MalformedError where sequences nest deeper than `depth_max`, and where an element does not fit. A sequence
    whose length is known may be broken inside; and what follows the pixels may be padding: it ends the walk.
    """
    stack = [_Frame(is_sequence=False, end=end, limit=end, encoding=encoding)]
    tag, pixels_passed = 0, False
    while True:
        frame = stack[-1]
        if offset >= (frame.end or frame.limit):
            if len(stack) == 1 or (frame.fragments and offset == frame.limit):
                return
            if frame.end:
                stack.pop()
                continue
        outermost = len(stack) == 1
        if outermost and tag >> 16 == PIXEL_GROUP:
            pixels_passed = True
        try:
            if frame.is_sequence:
                offset = _step_in_sequence(buffer, offset, stack)
                continue
            element = _header(buffer, offset, frame)
            if outermost:
                if element.tag == 0:
                    return
                tag = element.tag
                yield element
            offset = _step_in_item(buffer, element, stack, depth_max)
        except _BrokenError:
            known = next((place for place in range(len(stack) - 1, 0, -1) if stack[place].end), None)
            if known is not None:
                offset = stack[known].end
                del stack[known:]
            elif pixels_passed:
                return
            else:
                part = "pixel data" if tag >> 16 == PIXEL_GROUP else "data set"
                raise MalformedError(f"the {part} ends early, or its lengths are wrong") from None


def _step_in_sequence(buffer: Buffer, offset: int, stack: list[_Frame]) -> int:
    """Open the next item, pass over the next fragment, or close the sequence; return where to go on."""
    frame = stack[-1]
    if offset + 8 > frame.limit:
        raise _BrokenError
    group, number, length = _TAG_LENGTH[frame.encoding.order].unpack_from(buffer, offset)
    tag, offset = group << 16 | number, offset + 8
    if tag == SEQUENCE_END:
        stack.pop()
        return offset
    if tag != ITEM or (length == UNDEFINED and frame.fragments):
        raise _BrokenError
    end = 0 if length == UNDEFINED else offset + length
    if end > frame.limit:
        raise _BrokenError
    if frame.fragments:
        return end
    encoding = frame.encoding
    if not encoding.explicit and buffer[offset + 4 : offset + 6] in VRS:
        encoding = EXPLICIT_LITTLE  # a sequence written as UN, and yet with VRs in it
    stack.append(_Frame(is_sequence=False, end=end, limit=end or frame.limit, encoding=encoding))
    return offset


def _step_in_item(buffer: Buffer, element: Element, stack: list[_Frame], depth_max: int) -> int:
    """Enter a sequence, pass over any other value, or close the item; return where to go on."""
    frame = stack[-1]
    if element.tag == ITEM_END and len(stack) > 1:
        stack.pop()
        return element.value
    if element.tag >> 16 == 0xFFFE:
        raise _BrokenError
    end = 0 if element.length == UNDEFINED else element.value + element.length
    if end > frame.limit:
        raise _BrokenError
    fragments = not end and (element.vr in _OTHER_VRS or element.tag == dicom.PIXEL_DATA)
    if not fragments and not _is_sequence(buffer, element, frame):
        if not end:
            raise _BrokenError
        return end
    if (len(stack) + 1) // 2 > depth_max:
        raise MalformedError(f"sequences nest deeper than {depth_max}")
    encoding = frame.encoding if element.vr != b"UN" else IMPLICIT_LITTLE
    stack.append(_Frame(True, end, end or frame.limit, encoding, fragments))
    return element.value


def _is_sequence(buffer: Buffer, element: Element, frame: _Frame) -> bool:
    """Say whether any reader would take the value for a sequence."""
    if element.vr == b"SQ":
        return True
    if element.vr not in (b"", b"UN"):
        return False
    if element.length == UNDEFINED:
        return True
    if known := dicom.vr_of(element.tag):
        return known == "SQ"
    item = b"\xfe\xff\x00\xe0" if frame.encoding.order == "<" or element.vr else b"\xff\xfe\xe0\x00"
    return buffer[element.value : element.value + 4] == item


def _header(buffer: Buffer, offset: int, frame: _Frame) -> Element:
    """Read tag, VR and length. Where there is no VR in an explicit data set, the element is an implicit one."""
    explicit, order = frame.encoding.explicit, frame.encoding.order
    if offset + 8 > frame.limit:
        raise _BrokenError
    group, number, vr, length = _TAG_VR_LENGTH[order].unpack_from(buffer, offset)
    tag = group << 16 | number
    if explicit and group != 0xFFFE:
        if vr in SHORT_VRS:
            return Element(tag, vr, offset, offset + 8, length, order)
        if vr in LONG_VRS:
            if offset + 12 > frame.limit:
                raise _BrokenError
            (length,) = _LENGTH[order].unpack_from(buffer, offset + 8)
            return Element(tag, vr, offset, offset + 12, length, order)
        if vr.isalpha() and vr.isupper():  # a VR that nobody knows
            return Element(tag, b"UN", offset, offset + 8, length, order)
    (length,) = _LENGTH[order].unpack_from(buffer, offset + 4)
    return Element(tag, b"", offset, offset + 8, length, order)


def _fits(buffer: Buffer, offset: int, end: int, encoding: Encoding) -> bool:
    if offset + 8 > end:
        return False
    group, _, vr, _ = _TAG_VR_LENGTH[encoding.order].unpack_from(buffer, offset)
    # A data set begins in a low group, 0002 to 0010; in the wrong byte order that is 0200 to 1000.
    if not 0 < group < 0x0100:
        return False
    if encoding.explicit:
        return vr in VRS
    (length,) = _LENGTH[encoding.order].unpack_from(buffer, offset + 4)
    return length == UNDEFINED or offset + 8 + int(length) <= end
