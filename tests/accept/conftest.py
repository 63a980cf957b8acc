"""A listener in the test's own process, once with the fast lane and once by pynetdicom's own way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from btt_bridge.accept import listener, serve
from btt_bridge.config import Settings
from btt_bridge.journal import Journal
from btt_bridge.records import Instance
from btt_bridge.testing import RecordingBell
from tests.accept.wire import Wire
from tests.peers.server import wait_until


@dataclass
class Listener:
    """A running listener and what it left on disk."""

    settings: Settings
    bell: RecordingBell = field(default_factory=RecordingBell)
    port: int = 0

    def __post_init__(self) -> None:
        self._stop, self._ready = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(30), "the listener did not start"
        self.journal = Journal(self.settings.journal_url)

    def _run(self) -> None:
        def ready(port: int) -> None:
            self.port = port
            self._ready.set()

        serve(self.settings, self.bell, self._stop, ready)

    def stop(self) -> None:
        """Stop it, and wait until it has."""
        self.ask_to_stop()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the listener did not stop"
        self.journal.engine.dispose()

    def ask_to_stop(self) -> None:
        self._stop.set()

    def wire(self, **options: Any) -> Wire:
        return Wire(self.port, **options)

    def instances(self) -> list[Instance]:
        """Return all that is in use in the index, in order of arrival."""
        return self.journal.unread(100_000)

    def file(self, path: str) -> Path:
        return self.settings.spool_dir / path

    def data_set(self, instance: Instance) -> bytes:
        """Return the data set of a stored object: what follows the meta information."""
        content = self.file(instance.arrival.path).read_bytes()
        assert content[:132] == bytes(128) + b"DICM"
        return content[144 + int.from_bytes(content[140:144], "little") :]

    def used_files(self) -> set[str]:
        """Return the files of the spool that hold anything."""
        root = self.settings.spool_dir
        return {str(path.relative_to(root)) for path in root.glob("*/*/*.dcm") if path.stat().st_size}

    def nothing_left_behind(self) -> None:
        """Wait until every file that holds anything is one that the index knows."""
        known = lambda: self.journal.indexed(self.used_files())  # noqa: E731
        wait_until(lambda: self.used_files() == known(), "unacknowledged files to be gone")


Start = Callable[..., Listener]


@pytest.fixture(params=["lane", "pynetdicom"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By which way the listener serves C-STORE."""
    if request.param == "pynetdicom":
        monkeypatch.setattr(listener, "INTERNALS", "another version")
    return str(request.param)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start listeners on one data folder; each is stopped at the end. Arguments are settings of `accept`."""
    monkeypatch.setattr(listener, "_POLL_SECONDS", 0.01)  # what every stop waits for
    running: list[Listener] = []

    def starter(**accept: Any) -> Listener:
        options = {"port": 0, "free_bytes_min": 0, "stop_seconds": 0.2, **accept}
        running.append(Listener(Settings(data_dir=tmp_path, accept=options)))
        return running[-1]

    yield starter
    for one in running:
        one.stop()
