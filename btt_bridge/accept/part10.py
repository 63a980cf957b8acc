"""The head of a DICOM file (PS3.10 Section 7): what the bridge itself puts before the bytes that it received."""

from __future__ import annotations

import struct
from typing import BinaryIO

from btt_bridge.dicom import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    MEDIA_STORAGE_SOP_CLASS_UID,
    MEDIA_STORAGE_SOP_INSTANCE_UID,
    TRANSFER_SYNTAX_UID,
    Encoding,
)
from btt_bridge.errors import MalformedError

_EXPLICIT = Encoding(implicit=False, little=True)
_PREAMBLE = bytes(128) + b"DICM"
#: Preamble, prefix and the whole element (0002,0000), which says how far the rest of the meta information goes.
_START = struct.Struct("<132sHH2sHL")
_VERSION = _EXPLICIT.element(0x00020001, "OB", b"\x00\x01")
_IMPLEMENTATION = _EXPLICIT.element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode()) + _EXPLICIT.element(
    0x00020013, "SH", IMPLEMENTATION_VERSION_NAME.encode()
)


def head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_ae_title: str) -> bytes:
    """Return preamble and file meta information for a data set as it was received."""
    meta = b"".join((
        _VERSION,
        _EXPLICIT.element(MEDIA_STORAGE_SOP_CLASS_UID, "UI", sop_class_uid.encode()),
        _EXPLICIT.element(MEDIA_STORAGE_SOP_INSTANCE_UID, "UI", sop_instance_uid.encode()),
        _EXPLICIT.element(TRANSFER_SYNTAX_UID, "UI", transfer_syntax_uid.encode()),
        _IMPLEMENTATION,
        _EXPLICIT.element(0x00020016, "AE", source_ae_title.encode()),
    ))  # fmt: skip
    return _START.pack(_PREAMBLE, 2, 0, b"UL", 4, len(meta)) + meta


def skip_head(file: BinaryIO) -> None:
    """Move a file that begins with such a head to the first byte of its data set."""
    start = file.read(_START.size)
    if len(start) != _START.size or not start.startswith(_PREAMBLE):
        raise MalformedError("this is not a file of the spool")
    file.seek(int(_START.unpack(start)[-1]), 1)
