"""The head of a DICOM file (PS3.10 Section 7) that the bridge puts before the bytes it received.

Its Private Information (0002,0102) says who sent the object and, once all of it is written, how long it is, what its
checksum is and when it came. A file thus tells by itself all that the index has of it: one flush makes an object
durable, and an index that forgot it in a power cut is told again.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from btt_bridge.accept.admission import Sender
from btt_bridge.dicom import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    MEDIA_STORAGE_SOP_CLASS_UID,
    MEDIA_STORAGE_SOP_INSTANCE_UID,
    TRANSFER_SYNTAX_UID,
    Encoding,
)
from btt_bridge.errors import MalformedError
from btt_bridge.records import Arrival

_EXPLICIT = Encoding(implicit=False, little=True)
_PREAMBLE = bytes(128) + b"DICM"
#: Preamble, prefix and the whole element (0002,0000), which says how far the rest of the meta information goes.
_START = struct.Struct("<132sHH2sHL")
_VERSION = _EXPLICIT.element(0x00020001, "OB", b"\x00\x01")
_IMPLEMENTATION = _EXPLICIT.element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode()) + _EXPLICIT.element(
    0x00020013, "SH", IMPLEMENTATION_VERSION_NAME.encode()
)
_SOURCE_AE_TITLE = 0x00020016
_CREATOR = _EXPLICIT.element(0x00020100, "UI", f"{IMPLEMENTATION_CLASS_UID}.1".encode())
_PRIVATE_INFORMATION = 0x00020102
#: Called AE title and peer address, and behind them the seal; the seal is the end of the head.
_SENT = struct.Struct("<16s64s")
#: Bytes of the data set, their CRC-32, and microseconds since the epoch; all zero until the object is whole.
_SEAL = struct.Struct("<QLQ")
SEAL_BYTES = _SEAL.size
_UNSEALED = bytes(SEAL_BYTES)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BLOCK_BYTES = 1 << 20
_ELEMENT = struct.Struct("<HH2sH")
_LONG_ELEMENT = struct.Struct("<HH2s2xL")


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of an object before its first byte."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    sender: Sender

    def arrival(self, path: str, size_bytes: int, received_at: datetime) -> Arrival:
        """Return the row of the index for this object, once it is whole."""
        sender = self.sender
        return Arrival(
            self.sop_instance_uid,
            self.sop_class_uid,
            self.transfer_syntax_uid,
            sender.calling_ae_title,
            sender.called_ae_title,
            sender.address,
            path,
            size_bytes,
            received_at,
        )


def head(described: Description) -> bytes:
    """Return preamble and file meta information for a data set as it was received, not sealed yet."""
    sender = described.sender
    sent = _SENT.pack(sender.called_ae_title.encode(), sender.address.encode())
    meta = b"".join((
        _VERSION,
        _EXPLICIT.element(MEDIA_STORAGE_SOP_CLASS_UID, "UI", described.sop_class_uid.encode()),
        _EXPLICIT.element(MEDIA_STORAGE_SOP_INSTANCE_UID, "UI", described.sop_instance_uid.encode()),
        _EXPLICIT.element(TRANSFER_SYNTAX_UID, "UI", described.transfer_syntax_uid.encode()),
        _IMPLEMENTATION,
        _EXPLICIT.element(_SOURCE_AE_TITLE, "AE", sender.calling_ae_title.encode()),
        _CREATOR,
        _EXPLICIT.element(_PRIVATE_INFORMATION, "OB", sent + _UNSEALED),
    ))  # fmt: skip
    return _START.pack(_PREAMBLE, 2, 0, b"UL", 4, len(meta)) + meta


def seal(size_bytes: int, checksum: int, received_at: datetime) -> bytes:
    """Return what the last bytes of the head become once the whole data set is written."""
    return _SEAL.pack(size_bytes, checksum, (received_at - _EPOCH) // timedelta(microseconds=1))


def read_sealed(file: BinaryIO, path: str) -> Arrival | None:
    """Return what a file of the spool says of itself, or None where it is not whole, byte for byte."""
    try:
        described, sealed, start = _read_head(file)
    except (MalformedError, UnicodeDecodeError, struct.error):
        return None
    size, checksum, microseconds = _SEAL.unpack(sealed)
    found, so_far = 0, 0
    while block := file.read(_BLOCK_BYTES):
        found, so_far = found + len(block), zlib.crc32(block, so_far)
    if sealed == _UNSEALED or (found, so_far) != (size, checksum):
        return None
    return described.arrival(path, start + size, _EPOCH + timedelta(microseconds=microseconds))


def skip_head(file: BinaryIO) -> None:
    """Move a file that begins with such a head to the first byte of its data set."""
    file.seek(_meta_bytes(file), 1)


def _meta_bytes(file: BinaryIO) -> int:
    start = file.read(_START.size)
    if len(start) != _START.size or not start.startswith(_PREAMBLE):
        raise MalformedError("this is not a file of the spool")
    return int(_START.unpack(start)[-1])


def _read_head(file: BinaryIO) -> tuple[Description, bytes, int]:
    """Return what a head describes, its seal, and where the data set begins."""
    meta = file.read(length := _meta_bytes(file))
    if len(meta) != length:
        raise MalformedError("the head of this file is not whole")
    values = _elements(io.BytesIO(meta))
    private = values.get(_PRIVATE_INFORMATION, b"")
    if len(private) != _SENT.size + SEAL_BYTES:
        raise MalformedError("the head of this file does not say who sent it")
    called, address = (part.rstrip(b"\0").decode("ascii") for part in _SENT.unpack_from(private))
    uids = (MEDIA_STORAGE_SOP_CLASS_UID, MEDIA_STORAGE_SOP_INSTANCE_UID, TRANSFER_SYNTAX_UID)
    sop_class, sop_instance, transfer_syntax = (values.get(tag, b"").rstrip(b"\0 ").decode("ascii") for tag in uids)
    calling = values.get(_SOURCE_AE_TITLE, b"").rstrip(b" ").decode("ascii")
    described = Description(sop_class, sop_instance, transfer_syntax, Sender(calling, called, address))
    return described, private[_SENT.size :], _START.size + length


def _elements(meta: BinaryIO) -> dict[int, bytes]:
    """Read file meta information as this bridge writes it: Explicit VR Little Endian, without sequences."""
    values = {}
    while start := meta.read(_ELEMENT.size):
        group, element, vr, length = _ELEMENT.unpack(start)
        if vr == b"OB":
            group, element, _, length = _LONG_ELEMENT.unpack(start + meta.read(_LONG_ELEMENT.size - _ELEMENT.size))
        values[group << 16 | element] = meta.read(length)
    return values
