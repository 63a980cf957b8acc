"""The folder of accepted objects: one file each, durable before anybody is told, and nothing left of what was not."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import secrets
import threading
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from btt_bridge.accept.part10 import SEAL_BYTES, Description, head, read_sealed, seal
from btt_bridge.durable import sync_folder
from btt_bridge.errors import CapacityError, StorageFullError, TooLargeError
from btt_bridge.records import Arrival

#: Files made ahead, so that their directory entries become durable in one fsync for all of them.
_AHEAD = 64
_FILES_PER_FOLDER = 1024
#: How much may be written of one object between two looks at the free space.
_LOOK_EVERY_BYTES = 8 * 2**20
_PATHS_AT_ONCE = 500
_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class Swept:
    """How many files of dead processes were rescued, were not whole, and could not be looked at or indexed now."""

    rescued: int
    removed: int
    failed: int = 0


class Incoming:
    """One object on its way in: a file that exists already, and that nobody knows of until it is indexed."""

    __slots__ = (
        "_checksum",
        "_descriptor",
        "_head",
        "_looked_at",
        "_seal_at",
        "_spool",
        "described",
        "path",
        "size_bytes",
    )

    def __init__(self, spool: Spool, path: str, descriptor: int) -> None:
        self._spool = spool
        #: Relative to the spool folder.
        self.path = path
        self.described: Description
        self.size_bytes = 0
        self._descriptor = descriptor
        self._head = b""
        self._seal_at = 0
        self._checksum = 0
        self._looked_at = 0

    def begin(self, described: Description) -> None:
        """Say what comes; the head is written with the first bytes."""
        self.described, self._head = described, head(described)
        self._seal_at = len(self._head) - SEAL_BYTES

    def write(self, data: bytes | memoryview) -> None:
        """Append; raise TooLargeError or StorageFullError where the object must not go on."""
        buffers = [self._head, data] if self._head else [data]
        size = len(self._head) + len(data)
        if self.size_bytes + size > self._spool.object_bytes_max:
            raise TooLargeError
        if self.size_bytes + size - self._looked_at > _LOOK_EVERY_BYTES:
            self._spool.look()
            self._looked_at = self.size_bytes
        with _full_disk_told():
            written = os.writev(self._descriptor, buffers)
            if written != size:
                self._write_rest(buffers, written)
        self._head = b""
        self._checksum = zlib.crc32(data, self._checksum)
        self.size_bytes += size

    def _write_rest(self, buffers: list[bytes | memoryview], written: int) -> None:
        rest = memoryview(b"".join(buffers))[written:]
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def seal(self, received_at: datetime) -> Arrival:
        """Bring what was written to stable storage, with what the index is to know of it, by one flush."""
        if self._head:
            self.write(b"")  # the data set is there, and empty
        data_bytes = self.size_bytes - self._seal_at - SEAL_BYTES
        with _full_disk_told():
            os.pwrite(self._descriptor, seal(data_bytes, self._checksum, received_at), self._seal_at)
            os.fdatasync(self._descriptor)
        self._close()
        return self.described.arrival(self.path, self.size_bytes, received_at)

    def discard(self) -> None:
        """Remove the file; to be called for what is not in the index, and only for that."""
        self._close()
        with suppress(OSError):
            os.unlink(self._spool.root / self.path)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Spool:
    """This process's part of the spool: a folder of its own, held by a lock for as long as the process lives."""

    def __init__(self, root: Path, free_bytes_min: int, object_bytes_max: int) -> None:
        self.root = root
        self.free_bytes_min = free_bytes_min
        self.object_bytes_max = object_bytes_max
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._name = secrets.token_hex(6)
        self._lock = _take_lock(root, self._name)
        (root / self._name).mkdir(mode=0o700)
        sync_folder(root)
        self._numbers = itertools.count()
        self._ready: deque[Incoming] = deque()
        self._filling = threading.Lock()

    def look(self) -> None:
        """Raise StorageFullError while the free space is below the reserve."""
        free = os.statvfs(self.root)
        if free.f_bavail * free.f_frsize < self.free_bytes_min:
            raise StorageFullError

    def take(self, described: Description) -> Incoming:
        """Return a file to write an object to, its directory entry durable; raise StorageFullError without room."""
        self.look()
        while True:
            try:
                incoming = self._ready.popleft()
                incoming.begin(described)
                return incoming
            except IndexError:
                with self._filling, _full_disk_told():
                    if not self._ready:
                        self._fill()

    def _fill(self) -> None:
        numbers = list(itertools.islice(self._numbers, _AHEAD))
        name = f"{self._name}/{numbers[0] // _FILES_PER_FOLDER:06}"
        folder = self.root / name
        if not folder.exists():
            folder.mkdir(mode=0o700)
            sync_folder(folder.parent)
        made = []
        try:
            for number in numbers:
                path = f"{name}/{number:010}.dcm"
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                made.append(Incoming(self, path, os.open(self.root / path, flags, 0o600)))
            sync_folder(folder)
        except OSError:
            for incoming in made:
                incoming.discard()
            raise
        self._ready.extend(made)

    def close(self) -> None:
        """Remove the files that were made ahead, and let the folder go; the next start looks at it once more."""
        while self._ready:
            self._ready.popleft().discard()
        os.close(self._lock)

    def sweep(
        self,
        indexed: Callable[[Collection[str]], set[str]],
        rescue: Callable[[Arrival], None],
        done: Callable[[str], None],
    ) -> Swept:
        """Look at what dead processes left without an index row: whole objects are rescued, all else is removed.

        A folder whose lock can be had belongs to nobody any more, so nobody can index its files behind us. `done` makes
        durable what was rescued from it, and only then its lock goes. What cannot be rescued now stays, with the lock.
        """
        rescued = removed = failed = 0
        for lock in self.root.glob("*" + _LOCK):
            with _lock_of_the_dead(lock) as dead:
                if not dead:
                    continue
                name, before = lock.name.removesuffix(_LOCK), failed
                for path in self._unindexed(self.root / name, indexed):
                    try:
                        arrival = self._whole(path)
                        if arrival is None:
                            (self.root / path).unlink(missing_ok=True)
                            removed += 1
                        else:
                            rescue(arrival)
                            rescued += 1
                    except (OSError, CapacityError):
                        failed += 1
                if failed == before:
                    done(name)
                    lock.unlink(missing_ok=True)
        return Swept(rescued, removed, failed)

    def _unindexed(self, folder: Path, indexed: Callable[[Collection[str]], set[str]]) -> Iterator[str]:
        """Yield the files that the index does not know, as they came: of two with one UID, the first holds it."""
        names = sorted(str(path.relative_to(self.root)) for path in folder.glob("*/*.dcm"))
        for paths in _batches(names):
            known = indexed(paths)
            yield from (path for path in paths if path not in known)

    def _whole(self, path: str) -> Arrival | None:
        with open(self.root / path, "rb") as file:
            return read_sealed(file, path)


@contextmanager
def _full_disk_told() -> Iterator[None]:
    """Turn what the operating system says of a full or failing disk into what a sender can be told."""
    try:
        yield
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError from problem
        raise CapacityError("the spool cannot be written") from problem


def _take_lock(root: Path, name: str) -> int:
    """Hold a lock until this process ends, however it ends; it has its name only once it is held."""
    descriptor = os.open(root / f".{name}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.rename(root / f".{name}", root / (name + _LOCK))
    return descriptor


@contextmanager
def _lock_of_the_dead(lock: Path) -> Iterator[bool]:
    """Yield whether the process that held this lock is gone; until the end, nobody else is told the same."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def _batches(paths: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(paths)
    while batch := list(itertools.islice(remaining, _PATHS_AT_ONCE)):
        yield batch
