"""The spool: durable files, limits while receiving, and what is swept after a crash."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from btt_bridge.accept.spool import Incoming, Spool
from btt_bridge.errors import StorageFullError, TooLargeError

Make = Callable[..., Spool]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make spools on one folder, as processes would; each is closed at the end."""
    with contextlib.ExitStack() as closing:

        def maker(free_bytes_min: int = 0, object_bytes_max: int = 1 << 30) -> Spool:
            spool = Spool(tmp_path, free_bytes_min, object_bytes_max)
            closing.callback(spool.close)
            return spool

        yield maker


def _files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_an_object_is_written_where_its_path_says(tmp_path: Path, make: Make) -> None:
    """All buffers of all writes follow each other; names are the spool's own, and only its user reads them."""
    spool = make()
    incoming = spool.take()
    incoming.write([b"head", memoryview(b"data")])
    incoming.write([b" and more"])
    incoming.seal()
    file = tmp_path / incoming.path
    assert file.read_bytes() == b"headdata and more"
    assert incoming.size_bytes == 17
    assert file.stat().st_mode & 0o077 == 0


def test_names_never_repeat_and_folders_stay_small(tmp_path: Path, make: Make) -> None:
    """Three thousand objects of two processes have as many names, and no folder holds more than 1,024."""
    one, two = make(), make()
    paths = []
    for _ in range(1500):
        for spool in (one, two):
            incoming = spool.take()
            incoming.write([b"x"])
            incoming.seal()
            paths.append(incoming.path)
    assert len(set(paths)) == 3000
    folders = [path for path in tmp_path.glob("*/*") if path.is_dir()]
    assert len(folders) >= 4
    assert max(len(list(folder.iterdir())) for folder in folders) <= 1024


def test_an_object_over_the_limit_is_stopped_while_it_comes(tmp_path: Path, make: Make) -> None:
    """The write that would pass the limit raises, and what was written goes away with the file."""
    spool = make(object_bytes_max=100)
    incoming = spool.take()
    incoming.write([b"x" * 100])
    with pytest.raises(TooLargeError):
        incoming.write([b"x"])
    incoming.discard()
    assert not (tmp_path / incoming.path).exists()


def test_no_object_is_begun_below_the_reserve_and_one_is_again_above_it(make: Make) -> None:
    """The reserve alone decides, at every object anew."""
    spool = make(free_bytes_min=1 << 60)
    with pytest.raises(StorageFullError):
        spool.take()
    spool.free_bytes_min = 0
    incoming = spool.take()
    assert incoming.size_bytes == 0
    incoming.discard()


def test_a_disk_that_fills_during_an_object_stops_it(make: Make) -> None:
    """A large object looks at the free space as it grows."""
    spool = make()
    incoming = spool.take()
    incoming.write([bytes(4 << 20)])
    spool.free_bytes_min = 1 << 60
    incoming.write([bytes(1 << 20)])
    with pytest.raises(StorageFullError):
        incoming.write([bytes(8 << 20)])
    assert incoming.size_bytes == 5 << 20
    incoming.discard()


def test_a_full_disk_is_told_as_such(make: Make) -> None:
    """ENOSPC from the operating system is the same answer as the reserve."""
    incoming = Incoming(make(), "nowhere", os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(StorageFullError):
        incoming.write([b"x"])
    incoming.discard()


def test_an_orderly_end_leaves_only_what_was_stored(tmp_path: Path) -> None:
    """Files made ahead and the lock are gone; a sealed file stays."""
    spool = Spool(tmp_path, 0, 1 << 30)
    incoming = spool.take()
    incoming.write([b"x"])
    incoming.seal()
    spool.close()
    assert _files(tmp_path) == {incoming.path}


def _dead_process(root: Path) -> list[str]:
    """Let a process seal three objects, leave a fourth half written, and be killed; return the four paths."""
    script = (
        "import sys, time; from pathlib import Path; from btt_bridge.accept.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), 0, 1 << 30)\n"
        "for number in range(4):\n"
        "    incoming = spool.take(); incoming.write([b'x' * 9])\n"
        "    if number < 3: incoming.seal()\n"
        "    print(incoming.path, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    paths = [process.stdout.readline().strip() for _ in range(4)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return paths


def test_only_what_a_dead_process_left_unindexed_is_swept(tmp_path: Path, make: Make) -> None:
    """Of four files of a killed process the two in the index stay; a living process's files are not touched."""
    paths = _dead_process(tmp_path)
    half_done = make().take()
    half_done.write([b"x"])
    asked: list[str] = []

    def indexed(batch: Collection[str]) -> set[str]:
        asked.extend(batch)
        return set(paths[:2]) & set(batch)

    removed = make().sweep(indexed)
    assert set(paths) <= set(asked)
    assert half_done.path not in asked
    assert removed == len(asked) - 2
    assert {path for path in paths if (tmp_path / path).exists()} == set(paths[:2])
    assert (tmp_path / half_done.path).exists()
    half_done.discard()


def test_a_swept_folder_is_not_swept_again(tmp_path: Path, make: Make) -> None:
    """Once swept, what is left of a dead process is never looked at again."""
    paths = _dead_process(tmp_path)
    spool = make()
    spool.sweep(lambda batch: set(paths))
    assert spool.sweep(lambda batch: pytest.fail("nothing is left to look at")) == 0
