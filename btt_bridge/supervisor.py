"""Starts every process of one bridge, starts again what dies, and stops them in order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from btt_bridge import log
from btt_bridge.config import Settings

_log = log.logger("supervisor")

#: Where a bridge is reached: sections of the settings that each have a host and a port.
DOORS: Final = ("accept", "fhir", "web", "exchange")
#: A process that lived this long was well; its next restart does not wait.
_HEALTHY_SECONDS = 10.0
_PAUSE_SECONDS_MAX = 5.0


@dataclass
class _Child:
    """One process that should always be there."""

    name: str
    command: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    pause_seconds: float = 0.1


@dataclass
class Supervisor:
    """The processes that `btt-bridge up` keeps alive; each is also a command of its own."""

    settings: Settings
    settings_file: Path | None
    stop_seconds: float = 20.0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Keep everything alive until `stop` is set, then let all of it finish what is in hand."""
        ports = fixed_ports(self.settings)
        environment = {**os.environ, **ports}
        children = [_Child(name, command) for name, command in self._commands()]
        run_dir = self.settings.data_dir / "run"
        run_dir.mkdir(parents=True, exist_ok=True)
        for door in DOORS:
            (run_dir / f"{door}.port").write_text(ports[_variable(door)])
        try:
            while not self.stop.is_set():
                for child in children:
                    self._keep_alive(child, environment, run_dir)
                self.stop.wait(0.1)
        finally:
            self._stop_all(children)

    def _commands(self) -> list[tuple[str, tuple[str, ...]]]:
        """Doors first: what comes in is durable before anybody is there to work on it."""
        names = [f"listen-{number}" for number in range(self.settings.accept.processes)]
        names += ["fhir"] if self.settings.fhir_door else []
        names += ["exchange"] if self.settings.local_exchange else []
        names += ["work", "web"]
        names += ["node"] if self.settings.local_node else []
        options = ("--settings", str(self.settings_file)) if self.settings_file else ()
        with_us = ("--with-parent", str(os.getpid()))
        return [
            (name, (sys.executable, "-m", "btt_bridge.cli", name.split("-")[0], *options, *with_us)) for name in names
        ]

    def _keep_alive(self, child: _Child, environment: Mapping[str, str], run_dir: Path) -> None:
        now = time.monotonic()
        if child.process is not None:
            if child.process.poll() is None:
                return
            _log.warning("process ended", process=child.name, status=child.process.returncode)
            lived = now - child.started
            child.pause_seconds = 0.1 if lived > _HEALTHY_SECONDS else min(child.pause_seconds * 2, _PAUSE_SECONDS_MAX)
            child.process, child.start_at = None, now + child.pause_seconds
        if now < child.start_at:
            return
        try:
            child.process = subprocess.Popen(child.command, env=dict(environment), stdin=subprocess.DEVNULL)
            child.started = now
            (run_dir / f"{child.name}.pid").write_text(str(child.process.pid))
        except OSError as problem:
            # No memory or no disk for one child must not cost the others; without its note it runs all the same.
            _log.error("process not started", process=child.name, error=type(problem).__name__)
            child.start_at = now + _PAUSE_SECONDS_MAX
            if child.process is None:
                return
        _log.info("process started", process=child.name, pid=child.process.pid)

    def _stop_all(self, children: list[_Child]) -> None:
        grace = max(self.settings.accept.stop_seconds, self.settings.node.stop_seconds)
        deadline = time.monotonic() + self.stop_seconds + grace
        running = [child.process for child in children if child.process is not None]
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def as_it_runs(settings: Settings) -> Settings | None:
    """Return the settings with the ports that `btt-bridge up` noted for its doors; None until all are there."""
    try:
        ports = {door: int((settings.data_dir / "run" / f"{door}.port").read_text()) for door in DOORS}
    except (FileNotFoundError, ValueError):  # not written yet, or only just created
        return None
    sections = {door: getattr(settings, door).model_copy(update={"port": port}) for door, port in ports.items()}
    return settings.model_copy(update=sections)


def fixed_ports(settings: Settings) -> dict[str, str]:
    """Return the ports as environment variables; each 0 becomes a free port that all processes then agree on."""
    held = []
    ports = {}
    for door in DOORS:
        host, port = getattr(settings, door).host, getattr(settings, door).port
        if port == 0:
            # All are held until all are known, so that no two get the same.
            held.append(socket.create_server((host, 0)))
            port = held[-1].getsockname()[1]
        ports[_variable(door)] = str(port)
    for server in held:
        server.close()
    if settings.local_exchange and settings.exchange.port == 0:
        url = f"http://{settings.exchange.host}:{ports[_variable('exchange')]}"
        ports |= {"BTT_DISPATCH__EXCHANGE_URL": url, "BTT_NODE__EXCHANGE_URL": url}
    return ports


def _variable(door: str) -> str:
    return f"BTT_{door.upper()}__PORT"
