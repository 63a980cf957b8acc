"""DIMSE command sets by hand: the C-STORE request that comes in, and the response that goes out (PS3.7 9.3.1)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from btt_bridge.dicom import Encoding
from btt_bridge.errors import MalformedError

C_STORE_RQ = 0x0001
C_CANCEL_RQ = 0x0FFF
#: All requests of PS3.7 Table E.1-1 but those two, C-GET to N-DELETE.
OTHER_REQUESTS = frozenset({0x0010, 0x0020, 0x0021, 0x0030, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150})
_C_STORE_RSP = 0x8001
# Of a message that has no data set; every other value means that one follows.
_NO_DATA_SET = 0x0101

_GROUP_LENGTH = 0x0000
_AFFECTED_SOP_CLASS_UID = 0x0002
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
_COMMAND_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_ERROR_COMMENT = 0x0902
_AFFECTED_SOP_INSTANCE_UID = 0x1000

#: Command sets are always Implicit VR Little Endian (PS3.7 6.3.1).
_ENCODING = Encoding(implicit=True, little=True)
_ELEMENT = struct.Struct("<HHL")
_US = struct.Struct("<H")
#: A P-DATA-TF PDU with one fragment: type and length, then length, presentation context and control header.
_FRAGMENT = struct.Struct(">BxLLBB")
_LAST_OF_COMMAND = 3  # message control header, PS3.8 E.2
# Components with leading zeros are against PS3.5 9.1, and senders have them all the same.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)
_UID_LENGTH_MAX = 64


@dataclass(frozen=True, slots=True)
class Command:
    """What the listener reads of a command set: None for an absent number, "" for an absent or impossible UID."""

    field: int | None
    message_id: int | None
    data_set_type: int | None
    sop_class_uid: str
    sop_instance_uid: str

    @property
    def has_data_set(self) -> bool:
        return self.data_set_type != _NO_DATA_SET


def uid_or_empty(value: bytes) -> str:
    """Return a UID as text without its padding, or "" where it is not one."""
    if len(value) > _UID_LENGTH_MAX + 1:
        return ""
    text = value.rstrip(b"\0 ").decode("latin-1")
    return text if len(text) <= _UID_LENGTH_MAX and _UID.fullmatch(text) else ""


def read_command(encoded: bytes) -> Command:
    """Read a command set; raise MalformedError where it is none."""
    values: dict[int, bytes] = {}
    offset, end = 0, len(encoded)
    while offset < end:
        if end - offset < _ELEMENT.size:
            raise MalformedError("the command set ends within an element")
        group, element, length = _ELEMENT.unpack_from(encoded, offset)
        offset += _ELEMENT.size
        if group != 0 or length > end - offset:
            raise MalformedError("the command set holds an element that it cannot hold")
        values[element] = encoded[offset : offset + length]
        offset += length
    return Command(
        _number(values.get(_COMMAND_FIELD)),
        _number(values.get(_MESSAGE_ID)),
        _number(values.get(_COMMAND_DATA_SET_TYPE)),
        uid_or_empty(values.get(_AFFECTED_SOP_CLASS_UID, b"")),
        uid_or_empty(values.get(_AFFECTED_SOP_INSTANCE_UID, b"")),
    )


def _number(value: bytes | None) -> int | None:
    return int(_US.unpack(value)[0]) if value is not None and len(value) == _US.size else None


def store_response(context_id: int, command: Command, status: int, comment: str = "") -> bytes:
    """Return a C-STORE-RSP as one P-DATA-TF PDU with one fragment (PS3.7 9.3.1.2, PS3.8 9.3.5)."""
    body = b"".join((
        _text(_AFFECTED_SOP_CLASS_UID, "UI", command.sop_class_uid),
        _short(_COMMAND_FIELD, _C_STORE_RSP),
        _short(_MESSAGE_ID_BEING_RESPONDED_TO, command.message_id or 0),
        _short(_COMMAND_DATA_SET_TYPE, _NO_DATA_SET),
        _short(_STATUS, status),
        _text(_ERROR_COMMENT, "LO", comment[:64]),
        _text(_AFFECTED_SOP_INSTANCE_UID, "UI", command.sop_instance_uid),
    ))  # fmt: skip
    body = _ENCODING.element(_GROUP_LENGTH, "UL", struct.pack("<L", len(body))) + body
    return _FRAGMENT.pack(4, len(body) + 6, len(body) + 2, context_id, _LAST_OF_COMMAND) + body


def _short(element: int, value: int) -> bytes:
    return _ENCODING.element(element, "US", _US.pack(value))


def _text(element: int, vr: str, value: str) -> bytes:
    """Encode a text; an element without a value is left out."""
    return _ENCODING.element(element, vr, value.encode("ascii", "replace")) if value else b""
