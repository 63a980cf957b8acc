"""One listener process: pynetdicom's server with our admission, our limits, and the fast lane where it fits."""

from __future__ import annotations

import gc
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from io import BytesIO
from queue import Queue
from typing import Any, cast
from weakref import WeakKeyDictionary

from pydicom import config
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import ThreadedAssociationServer

from btt_bridge import log
from btt_bridge.accept.admission import VERIFICATION, Admission, Refusal
from btt_bridge.accept.command import uid_or_empty
from btt_bridge.accept.intake import Intake, Ringer
from btt_bridge.accept.lane import INTERNALS, Lane, internals_digest, sender_of
from btt_bridge.accept.part10 import Description
from btt_bridge.accept.spool import Spool
from btt_bridge.config import Accept, Settings
from btt_bridge.dicom import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from btt_bridge.errors import BridgeError, MalformedError
from btt_bridge.journal import Journal
from btt_bridge.plugins import Bell

_log = log.logger("accept")

_STORAGE_SERVICE_CLASS = "1.2.840.10008.4.2"
#: Connections beyond the limit of associations that still get as far as an A-ASSOCIATE-RJ.
_CONNECTIONS_BEYOND = 16
#: The largest A-ASSOCIATE-RQ that 128 presentation contexts with many transfer syntaxes each can need.
_ASSOCIATE_BYTES_MAX = 2**20
_POLL_SECONDS = 0.1
#: Pause before what a dead listener left is looked at again, where the index or the disk did not answer.
_RECOVER_SECONDS = 30.0


def serve(settings: Settings, bell: Bell, stop: threading.Event, ready: Callable[[int], None]) -> None:
    """Listen until `stop` is set; `ready` is told the port. Other processes may serve the same port.

    At the end there are no new associations; running ones get their grace and are then aborted. An object
    in hand is answered once it is durable, or not at all.
    """
    fast = internals_digest() == INTERNALS
    if not fast:
        _log.warning("slow", reason="pynetdicom is not as the fast lane knows it; serving by its own way")
    # pynetdicom's own handlers would format every message for a log that nobody may read.
    _config.LOG_HANDLER_LEVEL = "none"
    with ExitStack() as closing:
        # pydicom would look whether each UID is well formed whenever one is copied, a thousand times an association;
        # `_choose_contexts` looks once.
        closing.callback(setattr, config.settings, "reading_validation_mode", config.settings.reading_validation_mode)
        config.settings.reading_validation_mode = config.IGNORE
        spool = Spool(settings.spool_dir, settings.accept.free_bytes_min, settings.accept.object_bytes_max)
        closing.callback(spool.close)
        journal = Journal(settings.journal_url)
        closing.callback(journal.engine.dispose)
        ringer = Ringer(bell)
        closing.callback(ringer.close)
        intake = Intake(spool, journal, ringer, settings.accept.commit_objects_max)
        threading.Thread(target=_recover, args=(intake, stop), name="recover", daemon=True).start()
        door = Door(settings.accept, intake, fast=fast)
        door.open()
        closing.callback(door.close)
        _log.info("listening", port=door.port, address=settings.accept.host, ae_title=settings.accept.ae_title)
        # What is imported by now stays; the collector need not look through it again and again.
        gc.freeze()
        ready(door.port)
        stop.wait()
    _log.info("stopped", port=door.port)


def _recover(intake: Intake, stop: threading.Event) -> None:
    """Look at what dead listeners left, until all of it could be looked at."""
    while not stop.is_set():
        try:
            swept = intake.recover()
        except Exception as problem:  # the index may be away; it comes back
            _log.warning("sweep", exc_info=problem)
        else:
            if swept.rescued:
                _log.info("rescued", count=swept.rescued, reason="durable when a listener died, and not in the index")
            if swept.removed:
                _log.info("swept", count=swept.removed, reason="a listener that died had not acknowledged these")
            if not swept.failed:
                return
            _log.warning("sweep", count=swept.failed, reason="these could not be read or indexed now")
        stop.wait(_RECOVER_SECONDS)


class Door:
    """The server and its open associations."""

    def __init__(self, settings: Accept, intake: Intake, *, fast: bool) -> None:
        self._settings = settings
        self._intake = intake
        self._admission = Admission(settings)
        self._fast = fast
        self._lock = threading.Lock()
        self._open: set[Association] = set()
        #: Bytes of the data set that is being received without the lane.
        self._received: WeakKeyDictionary[Association, int] = WeakKeyDictionary()
        self.port = settings.port

    def open(self) -> None:
        """Bind and listen."""
        settings = self._settings
        entity = AE(settings.ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_pdu_size = settings.pdu_bytes_max
        entity.network_timeout = settings.idle_seconds_max
        entity.acse_timeout = settings.idle_seconds_max
        # Ours counts associations, not connections, and comes first.
        entity.maximum_associations = settings.associations_max + _CONNECTIONS_BEYOND
        entity.add_supported_context(VERIFICATION)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._on_connection),
            (evt.EVT_CONN_CLOSE, self._on_connection_lost),
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_SOP_COMMON, self._on_sop_common),
            (evt.EVT_C_STORE, self._on_c_store),
            (evt.EVT_ESTABLISHED, self._on_established),
            (evt.EVT_RELEASED, self._on_ended),
            (evt.EVT_ABORTED, self._on_ended),
        ]
        if not self._fast:
            handlers.append((evt.EVT_PDU_RECV, self._on_pdu))
        self._server = Server(entity, settings, handlers)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="listener", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Take no more, give what runs its grace, then abort it."""
        self._server.stop()
        self._wait(self._settings.stop_seconds)
        for assoc in self._server.active_associations:
            if isinstance(assoc.dul, Lane):
                assoc.dul.stop()
            else:
                assoc.abort(block=False)
        self._wait(self._settings.stop_seconds)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._server.active_associations and time.monotonic() < deadline:
            time.sleep(0.02)

    # --- association -----------------------------------------------------------------------------------

    def _on_connection(self, event: evt.Event) -> None:
        if self._fast:
            Lane.adopt(event.assoc, self._intake, self._admission, self._settings.pdu_bytes_max)

    def _on_connection_lost(self, event: evt.Event) -> None:
        """Let go of a connection that never asked for anything, as those of monitors do.

        Its association would wait for the request until its time is over, and hold a place so long.
        """
        if event.assoc.requestor.primitive is None:
            waiting: Queue[Any] = event.assoc.dul.to_user_queue
            waiting.put(None)

    def _on_requested(self, event: evt.Event) -> None:
        assoc = event.assoc
        sender = sender_of(assoc)
        refusal = self._admission.refusal(sender) or self._choose_contexts(assoc) or self._enter(assoc)
        if refusal is None:
            return
        _log.warning(
            "association refused", reason=refusal.words, ae_title=sender.calling_ae_title, address=sender.address
        )
        assoc.acse.send_reject(*refusal.value)
        # Waits until the A-ASSOCIATE-RJ is out; the association would close the connection under it.
        assoc.kill()

    def _choose_contexts(self, assoc: Association) -> Refusal | None:
        """Narrow each proposal to the transfer syntax we take, and support exactly what we take of them."""
        supported: dict[str, list[str]] = {}
        request = assoc.requestor.primitive
        for proposed in request.presentation_context_definition_list if request else ():
            abstract_syntax = str(proposed.abstract_syntax or "")
            usable = [uid for uid in proposed.transfer_syntax if uid_or_empty(uid.encode("ascii", "replace"))]
            if not proposed.transfer_syntax:
                return Refusal.MALFORMED
            if not usable or not self._admission.takes(abstract_syntax):
                continue
            proposed.transfer_syntax = [usable[0]]
            supported.setdefault(abstract_syntax, []).append(usable[0])
        assoc.acceptor.supported_contexts = [_context(uid, tuple(found)) for uid, found in supported.items()]
        return None

    def _enter(self, assoc: Association) -> Refusal | None:
        with self._lock:
            self._open = {
                other for other in self._open if other.is_alive() and not (other.is_released or other.is_aborted)
            }
            if len(self._open) >= self._settings.associations_max:
                return Refusal.LOCAL_LIMIT
            self._open.add(assoc)
        return None

    def _on_sop_common(self, event: evt.Event) -> dict[Any, SOPClassCommonExtendedNegotiation]:
        """Tell pynetdicom that every class we took is of the storage service, also those it does not know."""
        supported = {str(context.abstract_syntax) for context in event.assoc.acceptor.supported_contexts}
        return {uid: _of_storage(uid) for uid in supported - {VERIFICATION}}

    def _on_established(self, event: evt.Event) -> None:
        sender = sender_of(event.assoc)
        _log.info("association", ae_title=sender.calling_ae_title, address=sender.address)

    def _on_ended(self, event: evt.Event) -> None:
        if event.assoc.requestor.primitive is None:
            return  # it never was an association
        sender = sender_of(event.assoc)
        count = event.assoc.dul.stored if isinstance(event.assoc.dul, Lane) else None
        _log.info("association ended", ae_title=sender.calling_ae_title, address=sender.address, instances=count)

    # --- without the lane ------------------------------------------------------------------------------

    def _on_pdu(self, event: evt.Event) -> None:
        """Let pynetdicom collect a data set in memory to one fragment past the limit, and drop what comes after.

        The end still passes, and what was collected is then refused by its size, as any object that is too large.
        """
        for item in getattr(event.pdu, "presentation_data_value_items", ()):
            fragment = item.presentation_data_value
            if fragment[0] & 1:
                continue  # of a command
            received = self._received.get(event.assoc, 0)
            if received > self._settings.object_bytes_max:
                item.presentation_data_value = fragment[:1]
            self._received[event.assoc] = 0 if fragment[0] & 2 else received + len(fragment) - 1

    def _on_c_store(self, event: evt.Event) -> int:
        request, sender = cast(C_STORE, event.request), sender_of(event.assoc)
        data_set = cast(BytesIO, request.DataSet).getbuffer()
        sop_class_uid = uid_or_empty(str(request.AffectedSOPClassUID or "").encode())
        sop_instance_uid = uid_or_empty(str(request.AffectedSOPInstanceUID or "").encode())
        transfer_syntax_uid = str(event.context.transfer_syntax)
        try:
            # An empty data set and none at all look the same from here.
            if not sop_instance_uid or not sop_class_uid or not data_set:
                raise MalformedError
            incoming = self._intake.begin(Description(sop_class_uid, sop_instance_uid, transfer_syntax_uid, sender))
            try:
                incoming.write(data_set)
            except BridgeError:
                incoming.discard()
                raise
            self._intake.admit(incoming)
        except BridgeError as problem:
            return problem.dicom_status
        return 0


# A sender proposes the same each time, and some open an association for each image.
@lru_cache(maxsize=1024)
def _context(abstract_syntax: str, transfer_syntaxes: tuple[str, ...]) -> PresentationContext:
    return build_context(abstract_syntax, list(transfer_syntaxes))


@lru_cache(maxsize=1024)
def _of_storage(sop_class_uid: str) -> SOPClassCommonExtendedNegotiation:
    item = SOPClassCommonExtendedNegotiation()
    item.sop_class_uid, item.service_class_uid = UID(sop_class_uid), UID(_STORAGE_SERVICE_CLASS)
    return item


class Server(ThreadedAssociationServer):
    """pynetdicom's server on a port that processes share, with limits on what it takes before it knows anybody."""

    request_queue_size = 128
    daemon_threads = True
    block_on_close = False

    def __init__(self, entity: AE, settings: Accept, handlers: list[Any]) -> None:
        self._limits = settings
        address = (settings.host, settings.port)
        super().__init__(entity, address, settings.ae_title, entity.supported_contexts, evt_handlers=handlers)

    def server_bind(self) -> None:
        cast(socket.socket, self.socket).setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        return GuardedSocket(connection, self._limits), address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return len(self.active_associations) < self._limits.associations_max + _CONNECTIONS_BEYOND

    def stop(self) -> None:
        """Stop listening."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


class GuardedSocket(socket.socket):
    """A connection that never blocks for longer than it may, and breaks when a PDU says it is too long.

    pynetdicom reads a PDU of any length into memory; this follows its reading, from header to header.
    """

    def __init__(self, connection: socket.socket, settings: Accept) -> None:
        super().__init__(fileno=connection.detach())
        whole, part = divmod(settings.idle_seconds_max, 1)
        timeout = struct.pack("@ll", int(whole), int(part * 1e6))
        # The kernel's own timeouts cost nothing; Python's would be one more system call for each read.
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data_bytes_max = settings.pdu_bytes_max
        self._header = b""
        self._body_bytes = 0
        self._lost = False

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        data = super().recv(bufsize, flags)
        position = 0
        while position < len(data):
            if self._body_bytes:
                taken = min(self._body_bytes, len(data) - position)
                self._body_bytes -= taken
            else:
                taken = min(6 - len(self._header), len(data) - position)
                self._header += data[position : position + taken]
                if len(self._header) == 6:
                    self._check_header()
            position += taken
        return data

    def _check_header(self) -> None:
        kind, self._body_bytes = struct.unpack(">BxL", self._header)
        self._header = b""
        if self._lost:
            raise ConnectionAbortedError("there is no telling where the next PDU begins")
        if kind not in range(1, 8):
            # pynetdicom answers the first of these with an A-ABORT, and would go on to answer all that follow.
            self._lost, self._body_bytes = True, 0
        if self._body_bytes > (self._data_bytes_max if kind == 4 else _ASSOCIATE_BYTES_MAX):
            raise ConnectionAbortedError("the PDU is longer than the limit")
