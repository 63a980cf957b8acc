"""Sealed parcels: a tar sealed by STREAM AES-256-GCM, its key wrapped for one reader, and the shelf they lie on.

A sealed file is a header of 19 bytes and then chunks of 1 MiB, each with its 16-byte tag. The nonce of a chunk is
prefix (7) | counter (4) | last (1), as in STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015), and the header's
SHA-256 is additional data of every chunk: a parcel cut short, extended, reordered or patched does not open.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tarfile
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, Self

import fsspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from btt_bridge.durable import sync_folder
from btt_bridge.errors import SealBrokenError, StorageFullError, TooLargeError, UnknownError
from btt_bridge.records import Lease, Offer
from btt_bridge.signing import canonical, read_or_make_secret

CHUNK_BYTES = 2**20
KEY_BYTES = 32
MEMBERS_MAX = 100_000
_TAG_BYTES = 16
_PREFIX_BYTES = 7
_MAGIC = b"BTTSEAL\x01" + CHUNK_BYTES.to_bytes(4, "big")
HEADER_BYTES = len(_MAGIC) + _PREFIX_BYTES
_BLOCK = tarfile.BLOCKSIZE
#: A member is one plain file in no folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HPKE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def new_key() -> bytes:
    """Return a fresh key; one seals one parcel and no other."""
    return os.urandom(KEY_BYTES)


# --- sealing --------------------------------------------------------------------------------------------


class Writable(Protocol):
    """Where ciphertext goes: an open file, a draft on a shelf."""

    def write(self, content: memoryview, /) -> Any: ...


class Readable(Protocol):
    """Where ciphertext comes from: an open file, a file of a shelf."""

    def readable(self) -> bool: ...
    def readinto(self, buffer: memoryview, /) -> int: ...
    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *problem: Any) -> None: ...


class ParcelWriter:
    """Seals members one after another as they come; after `close` it knows the ciphertext's digest and size."""

    def __init__(self, file: Writable, key: bytes) -> None:
        header = _MAGIC + os.urandom(_PREFIX_BYTES)
        self._file = file
        self._stream = _Stream(key, header)
        self._plain = bytearray(CHUNK_BYTES)
        self._filled = 0
        self._sealed = bytearray(CHUNK_BYTES + _TAG_BYTES)
        self._hash = hashlib.sha256()
        self._closed = False
        self.size_bytes = 0
        #: SHA-256 of the ciphertext, hex; "" until it is closed.
        self.digest = ""
        self._names: set[str] = set()
        self._emit(memoryview(header))

    def add(self, name: str, content: bytes | bytearray | memoryview) -> None:
        """Append one file; `name` is flat, ASCII and new."""
        if self._closed:
            raise ValueError("this parcel is closed")
        if not _NAME.fullmatch(name) or name in self._names:
            raise ValueError("a member's name is flat, ASCII and used once")
        if len(self._names) >= MEMBERS_MAX:
            raise TooLargeError(f"a parcel holds at most {MEMBERS_MAX} members")
        self._names.add(name)
        view = memoryview(content).cast("B")
        info = tarfile.TarInfo(name)
        info.size = len(view)
        self._append(memoryview(info.tobuf(tarfile.USTAR_FORMAT)))
        self._append(view)
        self._append(memoryview(bytes(-len(view) % _BLOCK)))

    def close(self) -> str:
        """Seal what is left and return the digest; the file itself stays open, for whoever opened it."""
        if not self._closed:
            self._append(memoryview(bytes(2 * _BLOCK)))
            self._flush(last=True)
            self._closed = True
            self.digest = self._hash.hexdigest()
        return self.digest

    def _append(self, view: memoryview) -> None:
        while view:
            # A full chunk waits until more comes, for only then is it known not to be the last.
            if self._filled == CHUNK_BYTES:
                self._flush(last=False)
            taken = min(len(view), CHUNK_BYTES - self._filled)
            self._plain[self._filled : self._filled + taken] = view[:taken]
            self._filled += taken
            view = view[taken:]

    def _flush(self, *, last: bool) -> None:
        sealed = memoryview(self._sealed)[: self._filled + _TAG_BYTES]
        self._stream.seal(memoryview(self._plain)[: self._filled], sealed, last=last)
        self._emit(sealed)
        self._filled = 0

    def _emit(self, sealed: memoryview) -> None:
        self._file.write(sealed)
        self._hash.update(sealed)
        self.size_bytes += len(sealed)


class _Stream:
    """The nonces of one sealed file, in order."""

    def __init__(self, key: bytes, header: bytes) -> None:
        self._cipher = AESGCM(key)
        self._prefix = header[-_PREFIX_BYTES:]
        self._header_hash = hashlib.sha256(header).digest()
        self._counter = 0

    def seal(self, plain: memoryview, sealed: memoryview, *, last: bool) -> None:
        self._cipher.encrypt_into(self._nonce(last=last), plain, self._header_hash, sealed)

    def open(self, sealed: memoryview, plain: memoryview, *, last: bool) -> None:
        try:
            self._cipher.decrypt_into(self._nonce(last=last), sealed, self._header_hash, plain)
        except InvalidTag:
            raise SealBrokenError from None

    def _nonce(self, *, last: bool) -> bytes:
        nonce = self._prefix + self._counter.to_bytes(4, "big") + bytes([last])
        self._counter += 1
        return nonce


# --- opening --------------------------------------------------------------------------------------------


def digest_of(file: Readable) -> str:
    """Return the SHA-256 (hex) of a file from where it stands to its end."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it asks for no more than we do


def members(file: Readable, key: bytes, digest: str = "", *, bytes_max: int = 2**34) -> Iterator[tuple[str, bytearray]]:
    """Yield the name and content of each member of a sealed file.

    With `digest` the whole ciphertext is proved against it before the first member is released, for which the file
    must be able to seek; leave it out only where the digest was proved while the file was fetched. Raises
    SealBrokenError for a wrong key or any change; who does without `digest` must discard everything on that error.
    Raises TooLargeError where members would come to more than `bytes_max`.
    """
    if digest:
        start = file.tell()
        if digest_of(file) != digest:
            raise SealBrokenError("the parcel's digest is not the one that was promised")
        file.seek(start)
    opened = _Opened(file, key)
    names: set[str] = set()
    left = bytes_max
    header = bytearray(_BLOCK)
    padding = bytearray(_BLOCK)
    while True:
        opened.read_into(memoryview(header))
        if not any(header):
            break
        name, size = _member(header)
        left -= size
        if left < 0 or len(names) >= MEMBERS_MAX:
            raise TooLargeError("the parcel holds more than the configured limit")
        if name in names:
            raise SealBrokenError("the parcel holds two members of one name")
        names.add(name)
        content = bytearray(size)
        opened.read_into(memoryview(content))
        opened.read_into(memoryview(padding)[: -size % _BLOCK])
        yield name, content
    opened.finish()


def _member(header: bytearray) -> tuple[str, int]:
    """Return name and size from a tar header; only plain files with flat names are members."""
    try:
        info = tarfile.TarInfo.frombuf(bytes(header), "ascii", "strict")
    except (tarfile.HeaderError, UnicodeError):
        raise SealBrokenError("the parcel is not framed as it should be") from None
    if info.type != tarfile.REGTYPE or info.size < 0 or not _NAME.fullmatch(info.name):
        raise SealBrokenError("the parcel holds something that is not a plain file")
    return info.name, info.size


class _Opened:
    """The plain bytes of a sealed file, one authenticated chunk at a time."""

    def __init__(self, file: Readable, key: bytes) -> None:
        self._file = file
        header = bytearray(HEADER_BYTES)
        if _fill(file, header) != HEADER_BYTES or not header.startswith(_MAGIC):
            raise SealBrokenError("this is not a sealed parcel")
        self._stream = _Stream(key, bytes(header))
        # One chunk is opened while the next is already read: only then is it known whether it is the last.
        self._ahead, self._behind = (bytearray(CHUNK_BYTES + _TAG_BYTES) for _ in range(2))
        self._ahead_bytes = _fill(file, self._ahead)
        self._buffer = bytearray(CHUNK_BYTES)
        self._plain = memoryview(self._buffer)[:0]

    def read_into(self, target: memoryview) -> None:
        """Fill `target` exactly; the framing never ends inside a record."""
        while target:
            if not self._plain and not self._next():
                raise SealBrokenError("the parcel ends too early")
            taken = min(len(target), len(self._plain))
            target[:taken] = self._plain[:taken]
            target, self._plain = target[taken:], self._plain[taken:]

    def finish(self) -> None:
        """Prove that nothing but the closing zero block follows, and that the last chunk was the last."""
        self.read_into(end := memoryview(bytearray(_BLOCK)))
        if any(end) or self._plain or self._next():
            raise SealBrokenError("the parcel goes on after its end")

    def _next(self) -> bool:
        """Open the next chunk; return whether there was one."""
        if self._ahead_bytes < _TAG_BYTES:
            if self._ahead_bytes:
                raise SealBrokenError
            return False
        sealed = memoryview(self._ahead)[: self._ahead_bytes]
        self._ahead, self._behind = self._behind, self._ahead
        self._ahead_bytes = _fill(self._file, self._ahead)
        plain = memoryview(self._buffer)[: len(sealed) - _TAG_BYTES]
        self._stream.open(sealed, plain, last=self._ahead_bytes == 0)
        self._plain = plain
        return bool(plain)


def _fill(file: Readable, buffer: bytearray) -> int:
    """Read until the buffer is full or the file ends; return how much was read."""
    filled = 0
    with memoryview(buffer) as view:
        while filled < len(buffer) and (read := file.readinto(view[filled:])):
            filled += read
    return filled


# --- wrapping -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WrapKey:
    """An X25519 private key: what is wrapped for its public half, only it unwraps."""

    key: X25519PrivateKey

    @classmethod
    def load(cls, path: Path) -> WrapKey:
        """Read the key at `path`, or make one there that only its owner can read."""
        return cls(X25519PrivateKey.from_private_bytes(read_or_make_secret(path)))

    @classmethod
    def new(cls) -> WrapKey:
        """Make a key that lives in memory only."""
        return cls(X25519PrivateKey.generate())

    @property
    def public(self) -> str:
        """The public key, hex."""
        return self.key.public_key().public_bytes_raw().hex()

    def unwrap(self, wrapped: str, info: bytes) -> bytes:
        """Return the parcel key in `wrapped` (hex); raise SealBrokenError for another reader, purpose or attempt."""
        try:
            key = _HPKE.decrypt(bytes.fromhex(wrapped), self.key, info=info)
        except (InvalidTag, ValueError):
            raise SealBrokenError("this key was not wrapped for this reader and this purpose") from None
        if len(key) != KEY_BYTES:
            raise SealBrokenError("what was wrapped is not a parcel key")
        return key


def wrap(key: bytes, public: str, info: bytes) -> str:
    """Wrap a parcel key by HPKE (RFC 9180, base mode) for the holder of `public`; returns hex."""
    try:
        reader = X25519PublicKey.from_public_bytes(bytes.fromhex(public))
        return _HPKE.encrypt(key, reader, info=info).hex()
    except ValueError:
        raise SealBrokenError("there is no such public key to wrap for") from None


def parcel_info(offer: Offer, lease: Lease) -> bytes:
    """Return what a parcel's key is bound to: one parcel, one lease, one node, until the offer's deadline."""
    return canonical(
        {
            "what": "parcel",
            "offer": offer.offer_id,
            "lease": lease.lease_id,
            "attempt": lease.attempt,
            "fencing_token": lease.fencing_token,
            "node": lease.node_id,
            "parcel": offer.parcel_digest,
            "expiry": offer.deadline.astimezone(UTC).isoformat(),
        }
    )


def result_info(offer: Offer, lease: Lease, output_digest: str) -> bytes:
    """Return what a result's key is bound to: one result of one lease, for the bridge that made the offer."""
    return canonical(
        {
            "what": "result",
            "offer": offer.offer_id,
            "lease": lease.lease_id,
            "attempt": lease.attempt,
            "fencing_token": lease.fencing_token,
            "node": lease.node_id,
            "result": output_digest,
            "bridge": offer.bridge_id,
        }
    )


# --- the shelf ------------------------------------------------------------------------------------------

#: While a draft is written it is flushed to the disk this often, so that little is left to flush at the end.
_SYNC_BYTES = 16 * 2**20
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Shelf:
    """Sealed files by key, in a folder or at an fsspec URL; a file is there whole and durable, or not at all."""

    def __init__(self, url: str) -> None:
        self._system, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")
        self._drafts = f"{self._root}/drafts"
        if isinstance(self._system, LocalFileSystem):
            self._system.makedirs(self._drafts, exist_ok=True)

    def create(self) -> Draft:
        """Open a new file for writing; nobody finds it before `commit` gives it a key."""
        return Draft(self._system, self._root, f"{self._drafts}/{uuid.uuid4().hex}")

    def open(self, key: str) -> Readable:
        """Open a sealed file for reading and seeking; raise UnknownError where there is none."""
        try:
            file: Readable = self._system.open(f"{self._root}/{_checked(key)}", "rb")
        except FileNotFoundError:
            raise UnknownError("there is no such parcel on this shelf") from None
        return file

    def size(self, key: str) -> int | None:
        """Return a sealed file's size, or None where there is no such file."""
        try:
            return int(self._system.size(f"{self._root}/{_checked(key)}"))
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        """Take a file off the shelf, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._system.rm_file(f"{self._root}/{_checked(key)}")

    def sweep(self, older_than: datetime) -> int:
        """Delete drafts left by processes that died before that moment; return how many."""
        swept = 0
        with contextlib.suppress(FileNotFoundError):
            for path in self._system.ls(self._drafts, detail=False):
                with contextlib.suppress(FileNotFoundError):
                    if self._system.modified(path) < older_than:
                        self._system.rm_file(path)
                        swept += 1
        return swept


class Draft:
    """A file of a shelf while it is written; leaving its `with` before `commit` discards it."""

    def __init__(self, system: AbstractFileSystem, root: str, path: str) -> None:
        self._system, self._root, self._path = system, root, path
        self._local = isinstance(system, LocalFileSystem)
        self._file = system.open(path, "wb")
        self._unsynced = 0
        self._flusher = ThreadPoolExecutor(1, "parcel-flush")
        self._flushing: Future[None] | None = None

    def write(self, content: bytes | memoryview, /) -> int:
        """Append; raise StorageFullError where the disk takes no more."""
        try:
            self._file.write(content)
            self._unsynced += len(content)
            if self._local and self._unsynced >= _SYNC_BYTES and (self._flushing is None or self._flushing.done()):
                self._flushed()
                self._flushing = self._flusher.submit(os.fdatasync, self._file.fileno())
                self._unsynced = 0
        except OSError as problem:
            raise StorageFullError("the shelf takes no more") from problem
        return len(content)

    def commit(self, key: str) -> None:
        """Make the file durable and give it its key, in place of whatever had it."""
        target = f"{self._root}/{_checked(key)}"
        try:
            self._flushed()
            self._flusher.shutdown()
            if self._local:
                self._file.flush()
                os.fdatasync(self._file.fileno())
            self._file.close()
            # A rename in a folder, a copy within an object store; whole at once in both.
            self._system.mv(self._path, target)
        except OSError as problem:
            raise StorageFullError("the shelf takes no more") from problem
        if self._local:
            sync_folder(self._root)

    def _flushed(self) -> None:
        """Wait for the flush that runs, and raise what it met: a disk reports a lost write once only."""
        if self._flushing is not None:
            self._flushing.result()

    def discard(self) -> None:
        """Give the file up, unless it has been committed."""
        self._flusher.shutdown()
        if not self._file.closed:
            self._file.close()
            with contextlib.suppress(FileNotFoundError):
                self._system.rm_file(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.discard()


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key) or key == "drafts":
        raise UnknownError("that is not the key of a parcel")
    return key
