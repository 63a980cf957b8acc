"""A server as a child process: started, waited for, killed and started again, never left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

#: Before PATH: a virtual environment there has programs of pynetdicom that are named like DCMTK's.
_FOLDERS = ("/usr/bin", "/usr/sbin", "/usr/lib/postgresql/*/bin", "/usr/lib/rabbitmq/bin")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Say whether somebody accepts connections on this port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], T], what: str, seconds: float = 30, pause: float = 0.02) -> T:
    """Look until `condition` is true and return what it returned; raise TimeoutError naming `what` when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"gave up after {seconds:g} s waiting for: {what}")
        time.sleep(pause)


def program(name: str) -> str:
    """Return the path of a peer's program.

    Where it is missing the test fails; it is skipped only where BTT_SKIP_PEERS=1 asks for that outside CI.
    """
    folders = [folder for pattern in _FOLDERS for folder in sorted(glob(pattern), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join(folders)) or shutil.which(name)
    if found:
        return found
    if os.environ.get("BTT_SKIP_PEERS") == "1" and not os.environ.get("CI"):
        pytest.skip(f"{name} is not installed")
    pytest.fail(f"{name} is not installed; docker/install-peers.sh installs it", pytrace=False)


@contextlib.contextmanager
def folder(name: str, owner: str = "") -> Iterator[Path]:
    """Make a temporary folder that ends with the block; root may give it to another user."""
    with tempfile.TemporaryDirectory(prefix=f"btt-{name}-", ignore_cleanup_errors=True) as path:
        if owner:
            shutil.chown(path, user=owner)
        yield Path(path)


class Server:
    """One child process in its own process group; the kernel kills it should the test run itself be killed."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        ready: Callable[[], object],
        user: str = "",
        environment: Mapping[str, str] | None = None,
        seconds: float = 60,
    ) -> None:
        self.name, self.log, self.ready, self.seconds = name, log, ready, seconds
        self.command = _dying_with_us(user) + [str(word) for word in command]
        self.environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and return once it answers; a server that does not is shown with its own last words."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )
        try:
            wait_until(lambda: not self.running or self.ready(), f"{self.name} to answer", self.seconds)
        except TimeoutError as problem:
            self.kill()
            raise RuntimeError(f"{problem}\n{self.last_words()}") from None
        if not self.running:
            raise RuntimeError(f"{self.name} ended at once\n{self.last_words()}")

    def stop(self, seconds: float = 5) -> None:
        """Ask it to end, and end it when it does not."""
        self._signal(signal.SIGTERM)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """Pull the plug: SIGKILL to it and to whatever it started."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def last_words(self, characters: int = 2000) -> str:
        return self.log.read_text(errors="replace")[-characters:]

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def _dying_with_us(user: str) -> list[str]:
    command = [program("setpriv"), "--pdeathsig", "KILL"]
    if user:
        command += ["--reuid", user, "--regid", user, "--clear-groups"]
    return [*command, "--"]


@contextlib.contextmanager
def started(server: Server) -> Iterator[Server]:
    """Run a server for the length of the block."""
    server.start()
    try:
        yield server
    finally:
        server.kill()
