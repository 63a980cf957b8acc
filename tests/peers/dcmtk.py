"""DCMTK's programs: `storescp` as somebody's PACS; `storescu`, `dcmsend` and `echoscu` as somebody's modality."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.peers.server import Server, folder, free_port, listening, program, started


@dataclass(frozen=True)
class StoreSCP:
    """A `storescp` that takes every transfer syntax and keeps what it gets."""

    server: Server
    ae_title: str
    port: int
    output: Path

    def received(self) -> list[Path]:
        """Return the files it has written, oldest first."""
        return sorted((path for path in self.output.iterdir() if path.is_file()), key=lambda path: path.stat().st_mtime)


@contextlib.contextmanager
def storescp(*options: str, ae_title: str = "STORESCP", port: int = 0) -> Iterator[StoreSCP]:
    """Run `storescp +xa` with any further options; `output` holds one file a SOP Instance."""
    port = port or free_port()
    with folder("storescp") as home:
        output = home / "received"
        output.mkdir()
        server = Server(
            "storescp",
            [program("storescp"), "+xa", "-pm", "--fork", "-aet", ae_title, "-od", output, *options, str(port)],
            log=home / "log",
            ready=lambda: listening(port),
        )
        with started(server):
            yield StoreSCP(server, ae_title, port, output)


def storescu(
    port: int,
    files: Sequence[Path | str],
    *options: str,
    called: str = "BTT_BRIDGE",
    calling: str = "MODALITY",
    nagle: bool = False,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """C-STORE files (or folders, with `+sd` and `+r` among the options) and return the finished process.

    Debian's `storescu` leaves Nagle's algorithm on unless TCP_NODELAY is in its environment. It proposes
    uncompressed syntaxes only: `-xs` adds JPEG Lossless, `-xv` JPEG 2000 lossless; `dcmsend` proposes what a file has.
    """
    return _run("storescu", [*options, "-aec", called, "-aet", calling], port, files, nagle, timeout)


def dcmsend(
    port: int,
    files: Sequence[Path | str],
    *options: str,
    called: str = "BTT_BRIDGE",
    calling: str = "MODALITY",
    nagle: bool = False,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """C-STORE files (or folders, with `+sd` among the options), each in the transfer syntax that it has."""
    return _run("dcmsend", [*options, "-aec", called, "-aet", calling], port, files, nagle, timeout)


def echoscu(
    port: int, *options: str, called: str = "BTT_BRIDGE", calling: str = "MODALITY", timeout: float = 30
) -> subprocess.CompletedProcess[str]:
    """C-ECHO, and return the finished process; its return code is 0 where the peer answered success."""
    return _run("echoscu", [*options, "-aec", called, "-aet", calling], port, (), False, timeout)


def _run(
    name: str, options: Sequence[str], port: int, files: Sequence[Path | str], nagle: bool, timeout: float
) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
    if not nagle:
        environment["TCP_NODELAY"] = "1"
    return subprocess.run(
        [program(name), *options, "127.0.0.1", str(port), *map(str, files)],
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        timeout=timeout,
        check=False,
    )
