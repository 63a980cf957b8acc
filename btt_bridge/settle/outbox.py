"""The outbox on its way out: signed events to a sink, in order, at least once, from any point again."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from btt_bridge.ledger import Ledger
from btt_bridge.plugins import EventSink
from btt_bridge.settle.events import envelope
from btt_bridge.signing import Signer, canonical

_TAIL_BYTES = 65536


def drain(ledger: Ledger, sink: EventSink, signer: Signer, *, name: str, source: str, limit: int = 100) -> int:
    """Emit up to `limit` events that the sink called `name` has not had, in order; return how many.

    The position moves after the events are durable at the other side, so that a crash between the two repeats up to
    `limit` of them. Where the sink raises, its place is kept and what follows waits: events must not overtake.
    """
    notices = ledger.notices(ledger.position(name), limit)
    done = 0
    try:
        for notice in notices:
            sink.emit(envelope(notice, source, signer))
            done += 1
    finally:
        if done:
            ledger.set_position(name, notices[done - 1].position)
    return done


class FileSink:
    """Appends events to a file as JSON lines, each on stable storage before `emit` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o640)
        # The name of a new file is as durable as its folder.
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def emit(self, event: Mapping[str, Any]) -> None:
        with self.path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _seek_whole_end(file)
            file.write(canonical(dict(event)) + b"\n")
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


def _seek_whole_end(file: BinaryIO) -> None:
    """Go to the end of the last whole line: what a crash left half written was never confirmed, and comes again."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _TAIL_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            file.seek(start + newline + 1)
            return
        end = start
    file.seek(0)
