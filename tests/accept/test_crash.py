"""Pulling the plug: a listener is killed in mid-transfer, again and again, and nothing acknowledged is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

from btt_bridge.journal import Journal
from tests.accept.wire import Wire
from tests.peers.server import wait_until

_LISTENER = """
import sys, threading
from pathlib import Path
from btt_bridge.accept import serve
from btt_bridge.config import Settings
from btt_bridge.testing import RecordingBell
settings = Settings(data_dir=Path(sys.argv[1]), accept={"port": 0, "free_bytes_min": 0})
serve(settings, RecordingBell(), threading.Event(), lambda port: print(port, flush=True))
"""


class _Victim:
    """A listener in a process of its own."""

    def __init__(self, data_dir: Path) -> None:
        command = [sys.executable, "-c", _LISTENER, str(data_dir)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        lines = iter(self.process.stdout.readline, "")
        self.port = int(next(line for line in lines if line.strip().isdigit()))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def _content(uid: str) -> bytes:
    return random.Random(uid).randbytes(20_000 + hash(uid) % 7)


def _send(port: int, name: str, acknowledged: list[str], enough: threading.Event) -> None:
    """Store objects until the connection breaks; note each that was answered with success."""
    try:
        with Wire(port) as wire:
            wire.associate()
            for number in range(10_000):
                uid = f"1.2.{name}.{number}"
                if wire.store(uid, _content(uid)) == 0:
                    acknowledged.append(uid)
                if len(acknowledged) >= 5:
                    enough.set()
    except (OSError, AssertionError):
        pass


def test_nothing_acknowledged_is_lost_when_the_listener_is_killed(tmp_path: Path) -> None:
    """Ten times: three senders at work, SIGKILL at a random moment. Each 0x0000 is a file and a row, byte for byte;
    after a start nothing is left in the spool that nobody was promised."""
    acknowledged: list[str] = []
    dice = random.Random(1)
    for attempt in range(10):
        victim = _Victim(tmp_path)
        enough, this_time = threading.Event(), list[str]()
        senders = [
            threading.Thread(target=_send, args=(victim.port, f"{attempt}.{number}", this_time, enough))
            for number in range(3)
        ]
        for sender in senders:
            sender.start()
        assert enough.wait(60)
        # Not to wait for something to happen, but to vary in the middle of what the plug is pulled.
        threading.Event().wait(dice.random() * 0.05)
        victim.kill()
        for sender in senders:
            sender.join(60)
        acknowledged += this_time
    last = _Victim(tmp_path)
    try:
        _all_there(tmp_path, acknowledged)
    finally:
        last.kill()


def _all_there(data_dir: Path, acknowledged: list[str]) -> None:
    journal = Journal(f"sqlite:///{data_dir / 'bridge.db'}")
    spool = data_dir / "spool"
    rows = {instance.arrival.sop_instance_uid: instance.arrival for instance in journal.unread(100_000)}
    assert len(acknowledged) >= 50
    assert set(acknowledged) <= rows.keys()
    for uid, arrival in rows.items():
        file = spool / arrival.path
        assert file.stat().st_size == arrival.size_bytes
        assert file.read_bytes().endswith(_content(uid))

    def unindexed() -> set[str]:
        paths = {str(path.relative_to(spool)) for path in spool.glob("*/*/*.dcm") if path.stat().st_size}
        return paths - journal.indexed(paths)

    wait_until(lambda: not unindexed(), "what the dead listeners had not indexed to be swept")
    assert len(list(spool.glob("*.lock"))) == 1, "only the living listener holds its part of the spool"
    journal.engine.dispose()


def test_an_object_repeated_after_a_crash_is_success_and_one_copy(tmp_path: Path) -> None:
    """The answer was lost with the listener; the sender repeats the object and is told that it is there."""
    for _ in range(2):
        victim = _Victim(tmp_path)
        with Wire(victim.port) as wire:
            wire.associate()
            assert wire.store("1.2.3", b"once") == 0
        victim.kill()
    journal = Journal(f"sqlite:///{tmp_path / 'bridge.db'}")
    assert len(journal.unread(10)) == 1
    assert journal.flagged() == []
    journal.engine.dispose()
