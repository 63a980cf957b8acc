"""The fast lane: bulk C-STORE straight from the socket into the file; everything else goes to pynetdicom.

pynetdicom's upper layer (PS3.8 Section 9.2) keeps the association's state. While that state is "established"
this reads PDUs itself, and gives pynetdicom only those that are not C-STORE. It stands on pynetdicom's
internals; `internals_digest` holds them still, and where they differ the listener does without the lane.
"""

from __future__ import annotations

import hashlib
import inspect
import select
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from pynetdicom import dimse, fsm, transport
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AssociationSocket

from btt_bridge.accept.admission import Admission, Sender
from btt_bridge.accept.command import C_CANCEL_RQ, C_STORE_RQ, OTHER_REQUESTS, Command, read_command, store_response
from btt_bridge.accept.intake import Intake
from btt_bridge.accept.part10 import Description
from btt_bridge.accept.spool import Incoming
from btt_bridge.errors import BridgeError, MalformedError

#: What `internals_digest` returns for the version of pynetdicom that the lane was written against.
INTERNALS = "a601bc1dbee9d2f37714d3ef068ef166c33d3828b5cbf83b494cebd4ca0aca45"

_RELIED_ON: tuple[Any, ...] = (
    DULServiceProvider,
    Association.__init__,
    Association.run_reactor,
    Association._run_reactor,
    Association._abort_blocking,
    Association._abort_nonblocking,
    Association.kill,
    dimse.DIMSEServiceProvider.receive_primitive,
    fsm.StateMachine,
    *(action for _, action, _ in fsm.ACTIONS.values()),
    transport.AssociationSocket,
    transport.RequestHandler,
)

_P_DATA_TF = 4
_COMMAND, _LAST = 1, 2  # bits of the message control header, PS3.8 E.2
_PDU_HEADER = struct.Struct(">BxL")
_PDV_HEADER = struct.Struct(">LBB")
_BUFFER_BYTES = 256 * 1024
#: Far more than the largest command set that the standard has.
_COMMAND_BYTES_MAX = 16 * 1024
#: How long the lane waits for more once pynetdicom serves the association too, before it lets pynetdicom act.
_SHARED_WAIT_SECONDS = 0.02

_SOP_CLASS_NOT_SUPPORTED = 0x0122
_INVALID_SOP_INSTANCE = 0x0117
_CANNOT_UNDERSTAND = 0xC000

# Events and states of the state machine, PS3.8 Table 9-10.
_CONNECTION_CLOSED = "Evt17"
_INVALID_PDU = "Evt19"
_ESTABLISHED = "Sta6"
_CLOSING = "Sta13"


def internals_digest() -> str:
    """Return the SHA-256 of all of pynetdicom's code that the lane relies on, "" where it cannot be read."""
    digest = hashlib.sha256(repr(sorted(fsm.TRANSITION_TABLE.items())).encode())
    try:
        for part in _RELIED_ON:
            digest.update(inspect.getsource(part).encode())
    except OSError:
        return ""
    return digest.hexdigest()


class _End(Exception):  # noqa: N818 - it is no error
    """The lane ends with an event for the state machine, or with none when pynetdicom is already told."""

    def __init__(self, event: str = "") -> None:
        super().__init__(event)
        self.event = event


@dataclass(slots=True, eq=False)
class _Object:
    """One C-STORE from its command to its response."""

    context_id: int
    command: Command
    transfer_syntax_uid: str
    #: None once the object is refused; what still comes of it is read and dropped.
    incoming: Incoming | None = None
    status: int = 0
    comment: str = ""

    def refuse(self, status: int, comment: str) -> None:
        self.status, self.comment = status, comment
        self.drop()

    def drop(self) -> None:
        if self.incoming is not None:
            self.incoming.discard()
            self.incoming = None


class Lane(DULServiceProvider):
    """pynetdicom's upper layer service provider, with C-STORE taken out of its hands."""

    _intake: Intake
    _admission: Admission
    _pdu_bytes_max: int
    _connection: socket.socket
    _sender: Sender
    #: Transfer syntax by presentation context, of those for storage.
    _contexts: dict[int, str]
    #: What was received and not yet looked at lies between `_start` and `_end`.
    _buffer: memoryview
    _start: int
    _end: int
    _command: bytearray
    _object: _Object | None
    #: Whether fragments of a data set belong to a message that pynetdicom was given.
    _passing: bool
    #: Whether pynetdicom was given any message; it then needs the reactor to send its responses.
    _shared: bool
    _stopping: bool
    stored: int

    @classmethod
    def adopt(cls, assoc: Association, intake: Intake, admission: Admission, pdu_bytes_max: int) -> None:
        """Give an association that has not started yet a fast lane.

        The association makes its service provider in its constructor, and the lane is that same one with more
        methods, so that nothing of how the two are wired has to be repeated here.
        """
        assoc.dul.__class__ = cls
        lane = cast(Lane, assoc.dul)
        lane._intake, lane._admission, lane._pdu_bytes_max = intake, admission, pdu_bytes_max
        lane._buffer, lane._start, lane._end = memoryview(b""), 0, 0
        lane._command, lane._object = bytearray(), None
        lane._passing = lane._shared = lane._stopping = False
        lane.stored = 0

    def stop(self) -> None:
        """End the association once the object in hand is answered, or dropped; called from another thread."""
        self._stopping = True
        connection = self.socket.socket if self.socket else None
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)

    # --- what the reactor calls -------------------------------------------------------------------------

    def _is_transport_event(self) -> bool:
        if self._end > self._start and self.state_machine.current_state == _ESTABLISHED:
            self._read_pdu_data()
            return True
        return super()._is_transport_event()

    def _read_pdu_data(self) -> None:
        state = self.state_machine.current_state
        if state == _CLOSING and self._buffer:
            self._discard()
            return
        if state != _ESTABLISHED:
            super()._read_pdu_data()
            return
        if not self._shared:
            # Nothing for the association's own thread to do, and it would look a thousand times a second.
            self.assoc._reactor_checkpoint.clear()
        try:
            if not self._buffer:
                self._open()
            while self._pdu():
                pass
        except _End as end:
            self._drop()
            if end.event:
                self.event_queue.put(end.event)
        except BaseException:
            self._drop()
            raise
        finally:
            self.assoc._reactor_checkpoint.set()

    def _discard(self) -> None:
        """Read over what still comes after the end: it begins in the middle of anything."""
        try:
            size = self._connection.recv_into(self._buffer)
        except OSError:
            size = 0
        if not size:
            self.event_queue.put(_CONNECTION_CLOSED)

    def _open(self) -> None:
        """Prepare for the first PDU of the established association."""
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._connection = cast(socket.socket, cast(AssociationSocket, self.socket).socket)
        self._sender = sender_of(self.assoc)
        self._contexts = {
            context_id: str(context.transfer_syntax[0])
            for context_id, context in self.assoc._accepted_cx.items()
            if self._admission.is_storage(str(context.abstract_syntax))
        }
        self._acknowledge_at_once()

    def _drop(self) -> None:
        """Forget what is half done; nothing of it stays behind."""
        if self._object is not None:
            self._object.drop()
            self._object = None
        self._start = self._end = 0

    # --- bytes ------------------------------------------------------------------------------------------

    def _acknowledge_at_once(self) -> None:
        """Ask for acknowledgments without delay; the kernel falls back whenever we have sent something."""
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _need(self, size: int) -> int:
        """Wait for `size` bytes in one piece, no more than the buffer holds; return where they begin."""
        if self._end - self._start < size:
            if self._start + size > _BUFFER_BYTES or self._start == self._end:
                waiting = self._end - self._start
                self._buffer[:waiting] = self._buffer[self._start : self._end]
                self._start, self._end = 0, waiting
            while self._end - self._start < size:
                self._receive()
        start = self._start
        self._start += size
        return start

    def _receive(self) -> None:
        try:
            size = self._connection.recv_into(self._buffer[self._end :])
        except BlockingIOError:
            self._abort()  # silence for longer than the limit
        except OSError:
            raise _End(_CONNECTION_CLOSED) from None
        if size == 0:
            if self._stopping:
                self._abort()
            raise _End(_CONNECTION_CLOSED)
        self._end += size

    def _abort(self) -> NoReturn:
        self.assoc.abort(block=False)
        raise _End

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            part = min(size, _BUFFER_BYTES)
            start = self._need(part)
            parts.append(bytes(self._buffer[start : start + part]))
            size -= part
        return b"".join(parts)

    # --- PDUs and fragments (PS3.8 9.3.5, Annex E) ------------------------------------------------------

    def _pdu(self) -> bool:
        """Read one PDU; return False where pynetdicom should act before the next."""
        if self._shared and self._start == self._end and not self._soon():
            return False
        kind, length = _PDU_HEADER.unpack_from(self._buffer, self._need(_PDU_HEADER.size))
        if length > self._pdu_bytes_max:
            raise _End(_INVALID_PDU)
        if kind == _P_DATA_TF:
            forwarded = self._fragments(length)
            if not forwarded:
                return True
            self._shared = True
        else:
            forwarded = self._read(length)
            if self._object is not None:
                self._object.drop()
                self._object = None
        self._hand_over(_PDU_HEADER.pack(kind, len(forwarded)) + forwarded)
        return False

    def _soon(self) -> bool:
        return bool(select.select([self._connection], [], [], _SHARED_WAIT_SECONDS)[0])

    def _hand_over(self, pdu: bytes) -> None:
        """Do what pynetdicom does with a PDU once it has been read."""
        try:
            decoded, event = self._decode_pdu(bytearray(pdu))
        except Exception:  # pynetdicom names no class for what it cannot decode
            raise _End(_INVALID_PDU) from None
        self.event_queue.put(event)
        self._recv_pdu.put(decoded)

    def _fragments(self, length: int) -> bytes:
        """Take the fragments of one PDU; return those that are pynetdicom's, with their headers."""
        forwarded = bytearray()
        while length:
            if length < _PDV_HEADER.size:
                raise _End(_INVALID_PDU)
            size, context_id, control = _PDV_HEADER.unpack_from(self._buffer, self._need(_PDV_HEADER.size))
            length -= 4 + size
            if size < 2 or length < 0:
                raise _End(_INVALID_PDU)
            if control & _COMMAND:
                forwarded += self._command_fragment(context_id, control, size - 2)
            elif self._object is not None:
                self._data_fragment(self._object, context_id, control, size - 2)
            elif self._passing:
                forwarded += _PDV_HEADER.pack(size, context_id, control) + self._read(size - 2)
                self._passing = not control & _LAST
            else:
                raise _End(_INVALID_PDU)
        return bytes(forwarded)

    def _command_fragment(self, context_id: int, control: int, size: int) -> bytes:
        """Take a piece of a command set; once whole, act on it or return it as one fragment for pynetdicom."""
        if len(self._command) + size > _COMMAND_BYTES_MAX:
            raise _End(_INVALID_PDU)
        self._command += self._read(size)
        if not control & _LAST:
            return b""
        encoded, self._command = bytes(self._command), bytearray()
        try:
            command = read_command(encoded)
        except MalformedError:
            raise _End(_INVALID_PDU) from None
        if command.field == C_CANCEL_RQ:
            return b""  # nothing here takes so long that it could be cancelled
        if self._object is not None or self._passing:
            raise _End(_INVALID_PDU)  # the data set of the message before is still awaited
        if command.field == C_STORE_RQ:
            self._begin(context_id, command)
            return b""
        if command.field not in OTHER_REQUESTS or command.data_set_type is None:
            raise _End(_INVALID_PDU)  # pynetdicom's thread would not survive it
        self._passing = command.has_data_set
        return _PDV_HEADER.pack(len(encoded) + 2, context_id, _COMMAND | _LAST) + encoded

    # --- C-STORE (PS3.7 9.3.1, PS3.4 Annex B) -----------------------------------------------------------

    def _begin(self, context_id: int, command: Command) -> None:
        if context_id not in self.assoc._accepted_cx or command.message_id is None:
            raise _End(_INVALID_PDU)
        self._object = arriving = _Object(context_id, command, self._contexts.get(context_id, ""))
        if not command.sop_class_uid or not arriving.transfer_syntax_uid:
            arriving.refuse(_SOP_CLASS_NOT_SUPPORTED, "this SOP class cannot be stored here")
        elif not command.sop_instance_uid:
            arriving.refuse(_INVALID_SOP_INSTANCE, "Affected SOP Instance UID is not a UID")
        elif not command.has_data_set:
            arriving.refuse(_CANNOT_UNDERSTAND, "there is no data set")
        else:
            try:
                arriving.incoming = self._intake.begin(
                    Description(
                        command.sop_class_uid, command.sop_instance_uid, arriving.transfer_syntax_uid, self._sender
                    )
                )
            except BridgeError as problem:
                arriving.refuse(problem.dicom_status, str(problem))
        if not command.has_data_set:
            self._answer(arriving)

    def _data_fragment(self, arriving: _Object, context_id: int, control: int, size: int) -> None:
        if context_id != arriving.context_id:
            raise _End(_INVALID_PDU)
        while size:
            part = min(size, _BUFFER_BYTES)
            start = self._need(part)
            size -= part
            if arriving.incoming is not None:
                self._write(arriving, arriving.incoming, self._buffer[start : start + part])
        if control & _LAST:
            self._finish(arriving)

    def _write(self, arriving: _Object, incoming: Incoming, data: memoryview) -> None:
        try:
            incoming.write(data)
        except BridgeError as problem:
            arriving.refuse(problem.dicom_status, str(problem))

    def _finish(self, arriving: _Object) -> None:
        if arriving.incoming is not None:
            try:
                self._intake.admit(arriving.incoming)
                self.stored += 1
            except BridgeError as problem:
                arriving.status, arriving.comment = problem.dicom_status, str(problem)
        self._answer(arriving)

    def _answer(self, arriving: _Object) -> None:
        self._object = None
        response = store_response(arriving.context_id, arriving.command, arriving.status, arriving.comment)
        try:
            self._connection.sendall(response)
            self._acknowledge_at_once()
        except OSError:
            raise _End(_CONNECTION_CLOSED) from None


def sender_of(assoc: Association) -> Sender:
    """Return who is at the other end."""
    request = cast(A_ASSOCIATE, assoc.requestor.primitive)
    return Sender(request.calling_ae_title, request.called_ae_title, assoc.requestor.address)
