"""The file rail: pain.001 messages into a folder for the bank's transport, camt.054 notifications out of another."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from btt_bridge import log
from btt_bridge.durable import sync_folder
from btt_bridge.errors import MalformedError, RefusedError
from btt_bridge.records import PaymentOrder, Statement
from btt_bridge.settle.payfi.iso20022 import camt_054, pain_001

_log = log.logger("settle")

_NAME = re.compile(r"[A-Za-z0-9-]{1,33}")


class FileRail:
    """A settlement rail of five folders.

    `out` holds messages for the bank. Whoever carries them there leaves them, or moves them to `taken`; a message is in
    one of the two for ever, and that is how the rail knows that it was handed over. `in` is where notifications are
    put, whole (by a rename); they go on to `done`, or to `refused` where they cannot be read.
    """

    def __init__(self, place: str | Path) -> None:
        self.folder = Path(place)
        for name in ("out", "taken", "in", "done", "refused"):
            (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o750)

    def submit(self, message: str, orders: Sequence[PaymentOrder], at: datetime) -> None:
        """Write a message, unless it was written before."""
        if not _NAME.fullmatch(message):
            raise RefusedError("a message is named by at most 33 letters, digits and hyphens")
        with self._locked():
            # In this order: what is moved between the two looks is seen by the second.
            if any((self.folder / name / f"{message}.xml").exists() for name in ("out", "taken")):
                return
            draft = self.folder / f".{message}.xml"
            with draft.open("wb") as file:
                file.write(pain_001(message, orders, orders[0].debtor.holder, at))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self.folder / "out" / f"{message}.xml")
            sync_folder(self.folder / "out")

    def statements(self) -> Sequence[Statement]:
        """Read every notification that waits; one that cannot be read goes aside, and keeps nobody waiting."""
        found = []
        for path in sorted((self.folder / "in").glob("*.xml")):
            try:
                found.append(Statement(path.name, camt_054(path.read_bytes())))
            except FileNotFoundError:
                continue  # another process has just booked it
            except MalformedError:
                _log.error("notification refused", file=path.name)
                self._move(path.name, "refused")
        return found

    def acknowledge(self, name: str) -> None:
        """Put a notification where it is not read again."""
        self._move(name, "done")

    def _move(self, name: str, folder: str) -> None:
        source = self.folder / "in" / Path(name).name
        # Another process may have booked it as well, and put it away first.
        with suppress(FileNotFoundError):
            source.replace(self.folder / folder / source.name)
            sync_folder(self.folder / folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time look for a message and write it."""
        with (self.folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
