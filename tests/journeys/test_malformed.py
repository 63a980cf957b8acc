"""Malformed objects among good ones: each costs itself, and the study goes its way."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from btt_bridge.journey import State
from tests.accept.wire import Wire
from tests.journeys import studies
from tests.journeys.bridge import Bridge
from tests.journeys.studies import Make, Sample
from tests.peers import dcmtk
from tests.peers.server import wait_until

_CT = "1.2.840.10008.5.1.4.1.1.2"


def _element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Return an element in explicit little endian; its length may lie."""
    length = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    long = vr in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    return head + (struct.pack("<HL", 0, length) if long else struct.pack("<H", length)) + value


def _nested(depth: int) -> bytes:
    """Return a sequence of undefined length with another in its item, and so on."""
    opening = _element(0x00081115, b"SQ", b"", 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return opening * depth + closing * depth


def _data_set(path: Path) -> bytes:
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def _in_order(data: bytes, element: bytes, before: int) -> bytes:
    """Put an element in front of the first that has this tag."""
    place = data.index(struct.pack("<HH", before >> 16, before & 0xFFFF))
    return data[:place] + element + data[place:]


#: What is done to the data set of a good slice.
_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "nested-2000-deep": lambda data: _in_order(data, _nested(2000), 0x00081140 if False else 0x00100010),
    "truncated": lambda data: data[: len(data) // 2],
    "truncated-header": lambda data: data[:300],
    "length-beyond-the-end": lambda data: _in_order(data, _element(0x0008103E, b"LO", b"x", 0xFFF0), 0x00081040),
    "bad-vr": lambda data: _in_order(data, _element(0x00091001, b"\x00\xff", b"what"), 0x00100010),
    "more-rows-than-data": lambda data: data.replace(
        _element(0x00280010, b"US", struct.pack("<H", 192)), _element(0x00280010, b"US", struct.pack("<H", 60000))
    ),
    "nothing": lambda _: b"",
    "noise": lambda data: bytes(index * 37 % 251 for index in range(len(data))),
}
