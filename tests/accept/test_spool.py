"""The spool: durable files, limits while receiving, and what is swept after a crash."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from btt_bridge.accept.admission import Sender
from btt_bridge.accept.part10 import Description, skip_head
from btt_bridge.accept.spool import Incoming, Spool, Swept
from btt_bridge.errors import CapacityError, StorageFullError, TooLargeError
from btt_bridge.records import Arrival
from tests.accept.wire import CT, EXPLICIT

Make = Callable[..., Spool]

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
OBJECT = Description(CT, "1.2.3", EXPLICIT, Sender("MODALITY", "BTT_BRIDGE", "127.0.0.1"))


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
    incoming = spool.take(OBJECT)
    incoming.write(memoryview(b"data"))
    incoming.write(b" and more")
    arrival = incoming.seal(NOW)
    file = tmp_path / incoming.path
    with file.open("rb") as opened:
        skip_head(opened)
        assert opened.read() == b"data and more"
    assert (arrival.path, arrival.size_bytes) == (incoming.path, file.stat().st_size)
    assert arrival.received_at == NOW
    assert file.stat().st_mode & 0o077 == 0


def test_names_never_repeat_and_folders_stay_small(tmp_path: Path, make: Make) -> None:
    """Three thousand objects of two processes have as many names, and no folder holds more than 1,024."""
    one, two = make(), make()
    paths = []
    for _ in range(1500):
        for spool in (one, two):
            incoming = spool.take(OBJECT)
            incoming.write(b"x")
            incoming.seal(NOW)
            paths.append(incoming.path)
    assert len(set(paths)) == 3000
    folders = [path for path in tmp_path.glob("*/*") if path.is_dir()]
    assert len(folders) >= 4
    assert max(len(list(folder.iterdir())) for folder in folders) <= 1024


def test_an_object_over_the_limit_is_stopped_while_it_comes(tmp_path: Path, make: Make) -> None:
    """The write that would pass the limit raises, and what was written goes away with the file."""
    spool = make(object_bytes_max=1000)
    incoming = spool.take(OBJECT)
    incoming.write(b"x" * 500)
    with pytest.raises(TooLargeError):
        incoming.write(b"x" * 500)
    incoming.discard()
    assert not (tmp_path / incoming.path).exists()


def test_no_object_is_begun_below_the_reserve_and_one_is_again_above_it(make: Make) -> None:
    """The reserve alone decides, at every object anew."""
    spool = make(free_bytes_min=1 << 60)
    with pytest.raises(StorageFullError):
        spool.take(OBJECT)
    spool.free_bytes_min = 0
    incoming = spool.take(OBJECT)
    assert incoming.size_bytes == 0
    incoming.discard()


def test_a_disk_that_fills_during_an_object_stops_it(make: Make) -> None:
    """A large object looks at the free space as it grows."""
    spool = make()
    incoming = spool.take(OBJECT)
    incoming.write(bytes(4 << 20))
    spool.free_bytes_min = 1 << 60
    incoming.write(bytes(1 << 20))
    with pytest.raises(StorageFullError):
        incoming.write(bytes(8 << 20))
    assert incoming.size_bytes >> 20 == 5
    incoming.discard()


def test_a_full_disk_is_told_as_such(make: Make) -> None:
    """ENOSPC from the operating system is the same answer as the reserve."""
    incoming = Incoming(make(), "nowhere", os.open("/dev/full", os.O_WRONLY))
    incoming.begin(OBJECT)
    with pytest.raises(StorageFullError):
        incoming.write(b"x")
    incoming.discard()


def test_an_orderly_end_leaves_only_what_was_stored(tmp_path: Path) -> None:
    """Files made ahead are gone; a sealed file stays, and the lock, by which the next start looks once more."""
    spool = Spool(tmp_path, 0, 1 << 30)
    incoming = spool.take(OBJECT)
    incoming.write(b"x")
    incoming.seal(NOW)
    spool.close()
    assert _files(tmp_path) == {incoming.path, f"{incoming.path.partition('/')[0]}.lock"}


def test_an_empty_data_set_is_a_file_with_a_head(tmp_path: Path, make: Make) -> None:
    """An object without a byte of data set is whole as well."""
    arrival = make().take(OBJECT).seal(NOW)
    assert (tmp_path / arrival.path).stat().st_size == arrival.size_bytes > 128


def _dead_process(root: Path) -> list[str]:
    """Let a process seal three objects, leave a fourth half written, and be killed; return the four paths."""
    script = (
        "import sys, time; from pathlib import Path\n"
        "from tests.accept.test_spool import NOW, OBJECT; from btt_bridge.accept.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), 0, 1 << 30)\n"
        "for number in range(4):\n"
        "    incoming = spool.take(OBJECT); incoming.write(b'x' * 9)\n"
        "    if number < 3: incoming.seal(NOW)\n"
        "    print(incoming.path, flush=True)\n"
        "time.sleep(60)\n"
    )
    root.mkdir(exist_ok=True)
    command = [sys.executable, "-c", script, str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    paths = [process.stdout.readline().strip() for _ in range(4)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return paths


def test_what_a_dead_process_had_sealed_is_rescued_and_the_rest_swept(tmp_path: Path, make: Make) -> None:
    """Of a killed process's files the indexed stay, the whole are rescued, the half written go; a living one's stay."""
    paths = _dead_process(tmp_path)
    half_done = make().take(OBJECT)
    half_done.write(b"x")
    asked, rescued, done = list[str](), list[Arrival](), list[str]()

    def indexed(batch: Collection[str]) -> set[str]:
        asked.extend(batch)
        return set(paths[:2]) & set(batch)

    swept = make().sweep(indexed, rescued.append, done.append)
    assert set(paths) <= set(asked)
    assert half_done.path not in asked
    assert swept == Swept(rescued=1, removed=len(asked) - 3)
    assert [arrival.path for arrival in rescued] == [paths[2]]
    assert done == [paths[2].partition("/")[0]]
    assert rescued[0].size_bytes == (tmp_path / paths[2]).stat().st_size
    assert {path for path in paths if (tmp_path / path).exists()} == set(paths[:3])
    assert (tmp_path / half_done.path).exists()
    half_done.discard()


def test_a_swept_folder_is_not_swept_again(tmp_path: Path, make: Make) -> None:
    """Once swept, what is left of a dead process is never looked at again."""
    paths = _dead_process(tmp_path)
    spool = make()
    spool.sweep(lambda batch: set(paths), pytest.fail, lambda _: None)
    nothing = spool.sweep(lambda batch: pytest.fail("nothing is left to look at"), pytest.fail, pytest.fail)
    assert nothing == Swept(0, 0)


def test_an_index_that_is_away_costs_nothing(tmp_path: Path, make: Make) -> None:
    """Where one object cannot be rescued now, the others are, and the folder is looked at again."""
    paths = _dead_process(tmp_path)
    rescued: list[str] = []

    def away_for_one(arrival: Arrival) -> None:
        if arrival.path == paths[0]:
            raise CapacityError("the index cannot be written")
        rescued.append(arrival.path)

    swept = make().sweep(lambda batch: set(), away_for_one, pytest.fail)
    assert (swept.rescued, swept.failed, rescued) == (2, 1, paths[1:3])
    assert all((tmp_path / path).exists() for path in paths[:3])
    assert make().sweep(lambda batch: set(), lambda _: None, lambda _: None).rescued == 3


def test_the_lock_goes_only_once_all_is_durable(tmp_path: Path, make: Make) -> None:
    """Where the index cannot make durable what was rescued, the next start rescues it again."""
    _dead_process(tmp_path)

    def fails(_: str) -> None:
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        make().sweep(lambda batch: set(), lambda _: None, fails)
    assert make().sweep(lambda batch: set(), lambda _: None, lambda _: None).rescued == 3
