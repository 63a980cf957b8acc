"""Events as JSON lines of a file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from btt_bridge.config import Sink
from btt_bridge.durable import sync_folder
from btt_bridge.signing import canonical

_TAIL_BYTES = 65536


class FileSink:
    """Appends events to a file as JSON lines, each on stable storage before `emit` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._make()

    @classmethod
    def of(cls, row: Sink) -> Self:
        """Return the sink of a row of settings."""
        return cls(Path(row.place))

    def emit(self, event: Mapping[str, Any]) -> None:
        if not self.path.exists():
            self._make()
        with self.path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _seek_whole_end(file)
            file.write(canonical(dict(event)) + b"\n")
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Hold nothing: the file is opened for each event, so that it may be moved away meanwhile."""

    def _make(self) -> None:
        self.path.touch(mode=0o640)
        sync_folder(self.path.parent)


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
