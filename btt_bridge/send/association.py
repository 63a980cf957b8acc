"""One association as SCU, in one thread that blocks on its socket: C-STORE of bytes as they are, and nothing else.

The PDUs of the negotiation are pynetdicom's. Its association is not used: a second thread polls, and the answer of
a peer with Nagle's algorithm on (DCMTK and Orthanc as Debian ships them) waits 40 ms for an acknowledgment that the
kernel delays, once an object, unless TCP_QUICKACK is set again before each read.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Sequence

from pynetdicom import build_context
from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)

from btt_bridge.dicom import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, Encoding
from btt_bridge.errors import DeliveryUnreachableError
from btt_bridge.records import Destination

# PDU types, PS3.8 Section 9.3.
_ACCEPT, _REJECT, _DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
_RELEASE = struct.pack(">BxI4x", _RELEASE_RQ, 4)
_ABORTING = struct.pack(">BxI4x", _ABORT, 4)
_PDU_HEADER = struct.Struct(">BxI")
_PDV_HEADER = struct.Struct(">IBB")  # length, presentation context, message control header (PS3.8 Annex E)
_COMMAND, _LAST = 0x01, 0x02
_COMMAND_BYTES_MAX = 65536  # far more than any response has
#: What we offer to take, and the most that we send at once where the peer sets no limit.
_PDU_BYTES_MAX = 131072
#: There is nothing more to learn from a peer that does not answer A-RELEASE.
_RELEASE_SECONDS_MAX = 2.0
_ABORT_SECONDS_MAX = 0.5
_C_STORE_RQ, _MEDIUM, _DATA_SET_PRESENT = 0x0001, 0x0000, 0x0000
_IMPLICIT = Encoding(implicit=True, little=True)
_ACCEPTED = 0x00

Context = tuple[str, str]
"""SOP class and transfer syntax."""


class RejectedError(Exception):
    """The peer answered with A-ASSOCIATE-RJ (PS3.8 Section 9.3.4)."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__(f"result {result}, source {source}, reason {reason}")
        self.result, self.source, self.reason = result, source, reason


class Association:
    """An open association; every wait on the peer ends after `seconds_max`."""

    def __init__(self, destination: Destination, calling: str, contexts: Sequence[Context], seconds_max: float) -> None:
        """Connect and negotiate; raise RejectedError, or DeliveryUnreachableError where there is no clear answer."""
        self._seconds_max = seconds_max
        self._message_id = 0
        try:
            self._socket = socket.create_connection((destination.host, destination.port), seconds_max)
        except OSError:
            raise DeliveryUnreachableError("nobody answers at its address and port") from None
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._negotiate(destination.ae_title, calling, contexts)
        except BaseException:
            self.abort()
            raise

    def accepts(self, context: Context) -> bool:
        """Say whether the peer takes this SOP class in this transfer syntax."""
        return context in self._contexts

    def store(self, context: Context, sop_instance_uid: str, data_set: bytes) -> int:
        """C-STORE an encoded data set in an accepted context and return the status of the answer.

        Raises DeliveryUnreachableError without an answer. Its Error Comment is not read: it may quote the patient.
        """
        self._message_id += 1
        command = _store_request(self._message_id, context[0], sop_instance_uid)
        self._send(self._contexts[context], _COMMAND, command)
        self._send(self._contexts[context], 0, data_set)
        message_id, status = self._answer()
        if message_id != self._message_id:
            raise DeliveryUnreachableError("it answered something else")
        return status

    def release(self) -> None:
        """Close in good order; a peer that does not play along has lost nothing by it."""
        try:
            self._write(_RELEASE)
            self._receive(time.monotonic() + min(self._seconds_max, _RELEASE_SECONDS_MAX))
        except DeliveryUnreachableError:
            pass
        finally:
            self._socket.close()

    def abort(self) -> None:
        """Close at once, also where the peer has stopped reading what was sent before."""
        try:
            self._socket.settimeout(_ABORT_SECONDS_MAX)
            self._socket.sendall(_ABORTING)
        except OSError:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _negotiate(self, called: str, calling: str, contexts: Sequence[Context]) -> None:
        self._write(_association_request(called, calling, contexts))
        kind, body = self._receive(time.monotonic() + self._seconds_max)
        if kind not in (_ACCEPT, _REJECT):
            raise DeliveryUnreachableError("it answered the association request with something else")
        try:
            if kind == _REJECT:
                raise _rejection(body)
            acceptance = A_ASSOCIATE_AC()
            acceptance.decode(body)
            accepted = acceptance.to_primitive()
            results = accepted.presentation_context_definition_results_list
            length_max = accepted.maximum_length_received or _PDU_BYTES_MAX
        except (AssertionError, ValueError, TypeError, KeyError, IndexError, struct.error):
            raise DeliveryUnreachableError("its answer to the association request cannot be read") from None
        self._fragment_bytes_max = max(min(length_max, _PDU_BYTES_MAX) - _PDV_HEADER.size, 2)
        if not results:
            raise DeliveryUnreachableError("its answer to the association request answers nothing")
        taken = {context.context_id for context in results if context.result == _ACCEPTED}
        self._contexts = {context: number for number, context in _numbered(contexts) if number in taken}

    def _send(self, context_id: int, control: int, content: bytes) -> None:
        """Send a command or a data set as P-DATA, in fragments that the peer takes."""
        view, size = memoryview(content), self._fragment_bytes_max
        for start in range(0, len(view), size):
            fragment = view[start : start + size]
            last = _LAST if start + size >= len(view) else 0
            header = _PDU_HEADER.pack(_DATA, len(fragment) + _PDV_HEADER.size)
            self._write(header + _PDV_HEADER.pack(len(fragment) + 2, context_id, control | last) + fragment)

    def _answer(self) -> tuple[int, int]:
        """Read P-DATA until a whole command set is there; return whose answer it is, and its status."""
        deadline = time.monotonic() + self._seconds_max
        command = b""
        while len(command) < _COMMAND_BYTES_MAX:
            kind, pdu = self._receive(deadline)
            if kind != _DATA:
                raise DeliveryUnreachableError("it ended the association without an answer")
            position = _PDU_HEADER.size
            while position + _PDV_HEADER.size <= len(pdu):
                length, _context_id, control = _PDV_HEADER.unpack_from(pdu, position)
                command += pdu[position + _PDV_HEADER.size : position + 4 + length]
                position += 4 + length
                if control & _COMMAND and control & _LAST:
                    return _response(command)
        raise DeliveryUnreachableError("its answer has no end")

    def _write(self, content: bytes) -> None:
        try:
            self._socket.settimeout(self._seconds_max)
            self._socket.sendall(content)
        except TimeoutError:
            raise DeliveryUnreachableError("it stopped taking data") from None
        except OSError:
            raise DeliveryUnreachableError("it closed the connection in mid-transfer") from None

    def _receive(self, deadline: float) -> tuple[int, bytes]:
        """Return the type of the next PDU and the PDU, header and all."""
        header = self._read(_PDU_HEADER.size, deadline)
        kind, length = _PDU_HEADER.unpack(header)
        if length > _PDU_BYTES_MAX:
            raise DeliveryUnreachableError("what it sent is no DICOM")
        return kind, header + self._read(length, deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        content = bytearray()
        while len(content) < size:
            try:
                if (seconds_left := deadline - time.monotonic()) <= 0:
                    raise TimeoutError
                self._socket.settimeout(seconds_left)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                piece = self._socket.recv(size - len(content))
            except TimeoutError:
                raise DeliveryUnreachableError("it accepted the connection and did not answer in time") from None
            except OSError:
                piece = b""
            if not piece:
                raise DeliveryUnreachableError("it closed the connection without an answer")
            content += piece
        return bytes(content)


def _numbered(contexts: Sequence[Context]) -> list[tuple[int, Context]]:
    """Number presentation contexts: odd, from 1 (PS3.8 Section 9.3.2.2)."""
    return [(2 * place + 1, context) for place, context in enumerate(contexts)]


def _association_request(called: str, calling: str, contexts: Sequence[Context]) -> bytes:
    """Encode A-ASSOCIATE-RQ with a context for each transfer syntax, so that the peer may take several."""
    request = A_ASSOCIATE()
    request.application_context_name = APPLICATION_CONTEXT_NAME
    request.calling_ae_title, request.called_ae_title = calling, called
    proposed = []
    for number, (sop_class_uid, transfer_syntax_uid) in _numbered(contexts):
        context = build_context(sop_class_uid, transfer_syntax_uid)
        context.context_id = number
        proposed.append(context)
    request.presentation_context_definition_list = proposed
    length = MaximumLengthNotification()
    length.maximum_length_received = _PDU_BYTES_MAX
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    request.user_information = [length, implementation, version]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    encoded: bytes = pdu.encode()
    return encoded


def _store_request(message_id: int, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Encode the command set of C-STORE-RQ (PS3.7 Table 9.3-1)."""
    body = b"".join((
        _IMPLICIT.element(0x00000002, "UI", sop_class_uid.encode("ascii")),
        _IMPLICIT.element(0x00000100, "US", struct.pack("<H", _C_STORE_RQ)),
        _IMPLICIT.element(0x00000110, "US", struct.pack("<H", message_id & 0xFFFF)),
        _IMPLICIT.element(0x00000700, "US", struct.pack("<H", _MEDIUM)),
        _IMPLICIT.element(0x00000800, "US", struct.pack("<H", _DATA_SET_PRESENT)),
        _IMPLICIT.element(0x00001000, "UI", sop_instance_uid.encode("ascii")),
    ))  # fmt: skip
    return _IMPLICIT.element(0x00000000, "UL", struct.pack("<I", len(body))) + body


def _rejection(pdu: bytes) -> RejectedError:
    rejection = A_ASSOCIATE_RJ()
    rejection.decode(pdu)
    return RejectedError(rejection.result or 0, rejection.source or 0, rejection.reason_diagnostic or 0)


def _response(command: bytes) -> tuple[int, int]:
    """Read Message ID Being Responded To and Status from a command set."""
    values: dict[int, bytes] = {}
    position = 0
    while position + 8 <= len(command):
        group, number, length = struct.unpack_from("<HHI", command, position)
        values[group << 16 | number] = command[position + 8 : position + 8 + length]
        position += 8 + length
    try:
        return int.from_bytes(values[0x00000120], "little"), int.from_bytes(values[0x00000900], "little")
    except KeyError:
        raise DeliveryUnreachableError("its answer has no status") from None
