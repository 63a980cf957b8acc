"""A DICOM peer by hand: every byte as the test wants it, right or wrong (PS3.8 Section 9.3)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"

ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 2, 3, 4, 5, 6, 7
COMMAND, LAST = 1, 2


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def pdv(context_id: int, control: int, value: bytes) -> bytes:
    return struct.pack(">LBB", len(value) + 2, context_id, control) + value


def command(*elements: tuple[int, bytes | int | str]) -> bytes:
    """Encode a command set; a number is a US, a text is padded."""
    body = b""
    for element, value in elements:
        if isinstance(value, int):
            value = struct.pack("<H", value)
        elif isinstance(value, str):
            value = value.encode() + b"\0" * (len(value) % 2)
        body += struct.pack("<HHL", 0, element, len(value)) + value
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def store_rq(uid: str, sop_class: str = CT, message_id: int = 7, data_set_type: int = 1) -> bytes:
    """Encode a C-STORE-RQ."""
    return command(
        (0x0002, sop_class), (0x0100, 1), (0x0110, message_id), (0x0700, 0), (0x0800, data_set_type), (0x1000, uid)
    )


def echo_rq(message_id: int = 3) -> bytes:
    """Encode a C-ECHO-RQ."""
    return command((0x0002, "1.2.840.10008.1.1"), (0x0100, 0x30), (0x0110, message_id), (0x0800, 0x0101))


def elements(encoded: bytes) -> dict[int, bytes]:
    """Read a command set back."""
    found, offset = {}, 0
    while offset < len(encoded):
        _, element, length = struct.unpack_from("<HHL", encoded, offset)
        found[element] = encoded[offset + 8 : offset + 8 + length]
        offset += 8 + length
    return found


@dataclass
class Wire:
    """One connection."""

    port: int
    calling: str = "MODALITY"
    called: str = "BTT_BRIDGE"
    seconds: float = 20
    #: Presentation context to its result and the transfer syntax that was chosen.
    contexts: dict[int, tuple[int, str]] = field(default_factory=dict)
    max_pdu: int = 0

    def __post_init__(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=self.seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def trickle(self, data: bytes, size: int) -> None:
        """Send in pieces of this size."""
        for start in range(0, len(data), size):
            self.socket.sendall(data[start : start + size])

    def associate(self, proposals: Sequence[tuple[int, str, Iterable[str]]] = ((1, CT, (EXPLICIT,)),)) -> int:
        """Ask for an association; return the type of the PDU that answers."""
        self.send(associate_rq(proposals, self.calling, self.called))
        kind, body = self.receive()
        if kind == ASSOCIATE_AC:
            self._read_acceptance(body)
        return kind

    def _read_acceptance(self, body: bytes) -> None:
        offset = 68
        while offset < len(body):
            kind, length = struct.unpack_from(">BxH", body, offset)
            value = body[offset + 4 : offset + 4 + length]
            if kind == 0x21:
                self.contexts[value[0]] = (value[2], value[8:].rstrip(b"\0").decode())
            if kind == 0x50:
                self.max_pdu = struct.unpack_from(">L", value, 4)[0]
            offset += 4 + length

    def receive(self) -> tuple[int, bytes]:
        """Return the next PDU's type and body; (0, b"") where the connection was closed."""
        try:
            head = self._exactly(6)
            kind, length = struct.unpack(">BxL", head)
            return kind, self._exactly(length)
        except (EOFError, ConnectionError):
            return 0, b""

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def store(self, uid: str, data: bytes, context_id: int = 1, sop_class: str = CT) -> int:
        """C-STORE in two PDUs, and return the status."""
        self.send(pdu(P_DATA, pdv(context_id, COMMAND | LAST, store_rq(uid, sop_class))))
        self.send(pdu(P_DATA, pdv(context_id, LAST, data)))
        return self.status()

    def status(self) -> int:
        """Read a response, and return its status."""
        return int(struct.unpack("<H", self.response()[0x0900])[0])

    def response(self) -> dict[int, bytes]:
        """Read a response whole, however many fragments it comes in."""
        encoded = b""
        while True:
            kind, body = self.receive()
            assert kind == P_DATA, f"a PDU of type {kind} where a response should be"
            encoded += body[6:]
            if body[5] & LAST:
                return elements(encoded)

    def release(self) -> int:
        """Ask for release; return the type of the PDU that answers."""
        self.send(pdu(RELEASE_RQ, bytes(4)))
        return self.receive()[0]

    def ending(self) -> int:
        """Read until the connection is closed; return the type of the last PDU, 0 where there was none."""
        last = 0
        while True:
            kind, _ = self.receive()
            if not kind:
                return last
            last = kind


def associate_rq(proposals: Sequence[tuple[int, str, Iterable[str]]], calling: str, called: str) -> bytes:
    """Encode an A-ASSOCIATE-RQ."""
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for context_id, abstract, transfers in proposals:
        sub = item(0x30, abstract.encode()) + b"".join(item(0x40, uid.encode()) for uid in transfers)
        body += item(0x20, bytes((context_id, 0, 0, 0)) + sub)
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4")
    return pdu(1, body + item(0x50, user))
