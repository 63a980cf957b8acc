"""Destinations that misbehave in one way each: an SCP with a fixed answer, and sockets that break the rules."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.events import Event

from btt_bridge.records import Destination

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
SR, SEG, SC = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.7"


@dataclass
class Archive:
    """A C-STORE SCP and what it was sent."""

    destination: Destination
    stored: list[tuple[str, Dataset]] = field(default_factory=list)
    associations: int = 0


@contextlib.contextmanager
def archive(
    status: int | Dataset = 0x0000,
    *,
    sop_classes: Sequence[str] = (SR, SEG, SC),
    syntaxes: Sequence[str] = (EXPLICIT, IMPLICIT),
    calling: Sequence[str] = (),
    require_called: bool = False,
    prepare: Callable[[AE], None] = lambda ae: None,
    called: str = "ARCHIVE",
) -> Iterator[Archive]:
    """Run an SCP that answers every C-STORE with `status`."""
    ae = AE("ARCHIVE")
    ae.require_called_aet = require_called
    ae.require_calling_aet = list(calling)
    for sop_class in sop_classes:
        ae.add_supported_context(sop_class, list(syntaxes))
    prepare(ae)
    found = Archive(Destination("pacs", called, "127.0.0.1", 0))

    def on_store(event: Event) -> int | Dataset:
        found.stored.append((str(event.context.transfer_syntax), event.dataset))
        return status

    def on_established(event: Event) -> None:
        found.associations += 1

    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store), (evt.EVT_ESTABLISHED, on_established)]
    )
    found.destination = Destination("pacs", called, "127.0.0.1", server.socket.getsockname()[1])
    try:
        yield found
    finally:
        server.shutdown()


@contextlib.contextmanager
def rude(behavior: Callable[[socket.socket], None]) -> Iterator[Destination]:
    """Run a listener that does one thing with each connection and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        behavior(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Destination("pacs", "RUDE", "127.0.0.1", server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def read_pdu(connection: socket.socket) -> bytes:
    """Read one whole PDU."""
    header = connection.recv(6, socket.MSG_WAITALL)
    return header + connection.recv(int.from_bytes(header[2:6], "big"), socket.MSG_WAITALL)


def accept_association(connection: socket.socket) -> None:
    """Answer an association request as pynetdicom would, taking its first context as proposed."""
    read_pdu(connection)
    connection.sendall(_ACCEPTANCE)


def _acceptance() -> bytes:
    def item(kind: int, content: bytes) -> bytes:
        return bytes([kind, 0]) + len(content).to_bytes(2, "big") + content

    context = item(0x21, bytes([1, 0, 0, 0]) + item(0x40, EXPLICIT.encode()))
    user = item(0x50, item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3"))
    body = b"\0\1\0\0" + b"RUDE".ljust(16) + b"BTT_BRIDGE".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return b"\2\0" + len(body).to_bytes(4, "big") + body


_ACCEPTANCE = _acceptance()
